"""Rank and world size of this process, from the environment, and its cores."""

import os
from pathlib import Path
from typing import NamedTuple

from amlr_jax.runtime.errors import InputError

# jax itself reads only the address; the scripts in launch/ set all three.
ADDRESS, COUNT, ID = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
# What jax needs to find the processes of a SLURM step, besides the world size.
SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")
SLURM_COUNT, OMPI_COUNT = "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"


class Rank(NamedTuple):
    """This process among those of a run; None where jax finds the value itself."""

    world_size: int
    rank: int | None = None
    coordinator: str | None = None  # HOST:PORT of rank 0
    devices: tuple[int, ...] | None = None  # indices into the visible ones


def from_environment() -> Rank | None:
    """The rank that the environment gives; None for a single process."""
    ours = {name: os.environ.get(name) for name in (ADDRESS, COUNT, ID)}
    if ours[COUNT] is not None or ours[ID] is not None:
        return _ours(ours)
    if all(name in os.environ for name in SLURM):
        count = _number(SLURM_COUNT, least=1)
        return Rank(count, devices=_slurm_devices()) if count > 1 else None
    if OMPI_COUNT in os.environ:
        count = _number(OMPI_COUNT, least=1)
        return Rank(count) if count > 1 else None
    if ours[ADDRESS] is not None:
        return _ours(ours)
    return None


def _ours(found: dict[str, str | None]) -> Rank | None:
    missing = [name for name, value in found.items() if not value]
    if missing:
        given = ", ".join(f"{name}={value}" for name, value in found.items() if value)
        raise InputError(
            f"{given or 'the environment'} without {', '.join(missing)}: several "
            "processes need all three, a single one none; set or unset them"
        )
    count, process = _number(COUNT, least=1), _number(ID, least=0)
    if process >= count:
        raise InputError(
            f"{ID} must be from 0 to {COUNT} - 1 = {count - 1}, got {process}"
        )
    host, _, port = str(found[ADDRESS]).rpartition(":")
    if not host or not port.isdigit():
        raise InputError(
            f"{ADDRESS} must be HOST:PORT of process 0, got '{found[ADDRESS]}'"
        )
    return Rank(count, process, found[ADDRESS]) if count > 1 else None


def _number(name: str, *, least: int) -> int:
    text = os.environ.get(name, "")
    if not text.isdigit() or int(text) < least:
        raise InputError(f"{name} must be a whole number from {least}, got '{text}'")
    return int(text)


def _slurm_devices() -> tuple[int, ...] | None:
    """This task's share of the GPUs that are visible to it.

    By default jax takes the GPU with the task's local number, even where the task is
    alone on its node or sees only its own GPU.
    """
    visible = len(
        [d for d in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if d]
    )
    tasks = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "").partition("(")[0]
    if "JAX_LOCAL_DEVICE_IDS" in os.environ or not visible or not tasks.isdigit():
        return None
    if visible == 1:
        return (0,)
    if visible % int(tasks):
        raise InputError(
            f"SLURM tasks on a node must divide its {visible} GPUs, got {tasks}; set "
            "--ntasks-per-node to 1 or to their number"
        )
    share = visible // int(tasks)
    first = _number("SLURM_LOCALID", least=0) * share
    return tuple(range(first, first + share))


def cores(*, root: Path = Path("/")) -> int:
    """The number of cores that this process may use, at least 1.

    The least of its CPU affinity and the quotas of its control groups (version 2, as
    Docker and Kubernetes set them), divided among the processes of a run that
    `launch/multiprocess.sh` starts on one machine. `root` is where /proc and /sys are.
    """
    known = getattr(os, "process_cpu_count", None) or _affinity  # since Python 3.13
    local = os.environ.get(ADDRESS, "").startswith("localhost:")
    share = _number(COUNT, least=1) if local and COUNT in os.environ else 1
    return max(int(min(known(), *_quotas(root))) // share, 1)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> list[float]:
    """Cores that each control group of this process allows; infinity among them."""
    found = [float("inf")]
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return found
    groups = root / "sys/fs/cgroup"
    for own in (line[3:].strip("/") for line in lines if line.startswith("0::")):
        for group in (groups / own, *(groups / own).parents):
            if group.is_relative_to(groups) and (group / "cpu.max").is_file():
                quota, period = (group / "cpu.max").read_text().split()
                found += [int(quota) / int(period)] if quota != "max" else []
    return found
