"""What happens to runs of days: the real command, a fault, and the same command again.

Lost may be what came after the last checkpoint, and nothing else: the run that goes on
ends as the one that nothing happened to. The files of a checkpoint and a full disk are
in `checkpoints/test_faults`.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from amlr_jax.runtime.errors import REQUEUE
from tests import devices, tiny_kitti
from tests.conftest import REPOSITORY
from tests.launch import scripts
from tests.train.test_loop import assert_same_state, command, rows, saved_state

pytestmark = pytest.mark.slow

STEPS = 24
CHANGES = ("--config.batch_size=4", f"--config.steps={STEPS}")
CHANGES += ("--config.checkpoint.every_steps=5", "--config.eval.pictures=0")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny_kitti.write(tmp_path_factory.mktemp("kitti"))


@pytest.fixture(scope="module")
def cache(root):
    return root.parent / "cache"


@pytest.fixture(scope="module")
def whole(root, cache, tmp_path_factory):
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = run(root, cache, folder)
    assert done.returncode == 0, done.stderr
    return folder


def start(
    root, cache, folder, *more, count: int = 1, alone: bool = True, **variables
) -> subprocess.Popen:
    return subprocess.Popen(
        command(root, cache, folder, *CHANGES, *more),
        cwd=REPOSITORY,
        env=devices.environment(count, alone=alone) | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(root, cache, folder, *more) -> subprocess.CompletedProcess:
    process = start(root, cache, folder, *more)
    out, err = process.communicate(timeout=600)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def wait_for(folder, step: int, *processes: subprocess.Popen) -> None:
    """Until `step` is written."""
    deadline, path = time.monotonic() + 300, folder / "metrics.jsonl"
    while not path.is_file() or len(path.read_text().splitlines()) < step:
        for process in processes:
            assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_ends_like(whole, folder) -> None:
    """Every line of the record, every bit of the state, and the metrics."""
    assert rows(folder) == rows(whole)
    assert_same_state(saved_state(folder), saved_state(whole))
    one, other = ((f / "evaluation.json").read_text() for f in (folder, whole))
    assert json.loads(one) == json.loads(other)


def stopped(root, cache, folder, *more, after: int, count: int = 1) -> str:
    """A run that is asked to stop once step `after` is written; what it said."""
    process = start(root, cache, folder, *more, count=count)
    wait_for(folder, after, process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == REQUEUE, err
    return out + err


def test_stopped_killed_and_its_reader_killed(root, cache, whole, tmp_path):
    """Three faults of one run. A stop loses nothing: the step under way is saved."""
    folder = tmp_path / "run"
    said = stopped(root, cache, folder, after=random.randint(1, 7))
    last = rows(folder)[-1]["step"]
    assert last < STEPS
    assert f"SIGTERM: saved step {last}; the same command goes on" in said

    process = start(root, cache, folder)
    wait_for(folder, 12, process)
    process.kill()
    out, _ = process.communicate()
    assert f"Resuming from step {last} of {STEPS}" in out
    assert not (folder / "evaluation.json").exists()
    written = len((folder / "metrics.jsonl").read_text().splitlines())

    process = start(root, cache, folder, "--config.data.workers=1")
    wait_for(folder, written + 1, process)
    os.kill(reader_of(process.pid), signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    if process.returncode:  # or it had all batches that it needed
        assert process.returncode == 1
        assert any(line.startswith("error: ") for line in err.splitlines())
        assert "Traceback" not in err
    assert run(root, cache, folder).returncode == 0
    assert_ends_like(whole, folder)


def reader_of(parent: int) -> int:
    """The child process that reads: the one that grain has started by spawn."""
    found = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(parent)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = [line for line in found.stdout.splitlines() if "spawn_main" in line]
    assert lines, found.stdout
    return int(lines[-1].split()[0])


def test_newest_checkpoint_damaged(root, cache, whole, tmp_path):
    """Lost is what came after the one before; nothing else."""
    folder = shutil.copytree(whole, tmp_path / "run")
    newest = max((folder / "checkpoints").iterdir())
    largest = max(newest.rglob("*"), key=lambda p: p.is_file() and p.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    again = run(root, cache, folder)
    assert again.returncode == 0, again.stderr
    assert f"quarantined as 'bad.{newest.name}', going on from step 20" in again.stdout
    assert_ends_like(whole, folder)


def test_config_file_lost_and_another_config(root, cache, whole, tmp_path):
    """The checkpoints know the config that made them."""
    folder = shutil.copytree(whole, tmp_path / "run")
    (folder / "config.json").unlink()
    done = run(root, cache, folder, "--config.optimizer.peak=0.5")
    assert done.returncode == 1
    assert re.search("another run .optimizer.peak was .*now 0.5", done.stderr)


def test_one_device_then_four_then_one(root, cache, whole, tmp_path):
    """Sums in another order differ in the last digits, and so do the steps after."""
    folder = shutil.copytree(whole, tmp_path / "run")
    for step in (20, 24):
        shutil.rmtree(folder / "checkpoints" / f"{step:08d}")
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:15]))
    fsdp = ("--config.parallel.fsdp=2", "--config.parallel.fsdp_min_size=1000")
    said = stopped(root, cache, folder, *fsdp, after=18, count=4)
    assert "Resuming from step 15" in said and "parameters on 4 cpu" in said
    assert run(root, cache, folder).returncode == 0
    assert [row["step"] for row in rows(folder)] == list(range(1, STEPS + 1))
    for got, want in zip(rows(folder), rows(whole), strict=True):
        assert got["total"] == pytest.approx(want["total"], rel=1e-4)
        assert got["learning_rate"] == want["learning_rate"]


def several(root, cache, folder, *more, count: int = 2) -> list[subprocess.Popen]:
    address = f"127.0.0.1:{devices.free_port()}"
    common = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(count)}
    return [
        start(root, cache, folder, *more, alone=False, **common, JAX_PROCESS_ID=str(i))
        for i in range(count)
    ]


def test_a_process_killed_ends_the_other_and_the_run_goes_on(
    root, cache, whole, tmp_path
):
    """Within the heartbeat, with a message; started again, two end as one would."""
    folder = tmp_path / "run"
    both = several(root, cache, folder, "--config.parallel.heartbeat=10")
    wait_for(folder, 12, *both)
    both[1].kill()
    killed = time.monotonic()
    _, err = both[0].communicate(timeout=60)
    both[1].communicate()
    assert time.monotonic() - killed < 60
    assert both[0].returncode != 0
    assert "error" in err.lower()
    again = scripts.run(
        "multiprocess.sh",
        *("--cpu", "--processes=2", f"--workdir={folder}"),
        *tiny_kitti.flags(root, cache=cache),
        *CHANGES,
        PYTHON=sys.executable,
        JAX_DISABLE_MOST_OPTIMIZATIONS="true",
    )
    assert again.returncode == 0, again.stderr
    assert "2 cpu" in again.stdout and "Resuming from step" in again.stdout
    second = (folder / "logs" / "process_1.log").read_text().splitlines()
    assert not [line for line in second if "[Gloo]" not in line]  # rank 0 speaks
    assert [row["step"] for row in rows(folder)] == list(range(1, STEPS + 1))
    for got, want in zip(rows(folder), rows(whole), strict=True):
        assert got["total"] == pytest.approx(want["total"], rel=1e-4)
    assert (folder / "checkpoints" / f"{STEPS:08d}").is_dir()
    assert json.loads((folder / "evaluation.json").read_text())["step"] == STEPS
