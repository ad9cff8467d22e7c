"""The place that an environment gives a process."""

import os

import pytest

from amlr_jax.runtime import cluster
from amlr_jax.runtime.cluster import Rank, from_environment
from amlr_jax.runtime.errors import InputError

OURS = {
    "JAX_COORDINATOR_ADDRESS": "node1:1234",
    "JAX_NUM_PROCESSES": "4",
    "JAX_PROCESS_ID": "3",
}
SLURM = {
    "SLURM_JOB_ID": "17",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}


@pytest.fixture(autouse=True)
def place(monkeypatch):
    """`from_environment` with these variables and none of this machine's."""
    for name in (*OURS, *SLURM, "OMPI_COMM_WORLD_SIZE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("JAX_LOCAL_DEVICE_IDS", raising=False)

    def find(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return from_environment()

    return find


def test_nothing_is_set(place):
    assert place() is None


def test_ours(place):
    assert place(**OURS) == Rank(4, 3, "node1:1234")


@pytest.mark.parametrize("count", [OURS, SLURM])
def test_one_process_is_none(place, count):
    alone = {"JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0", "SLURM_NTASKS": "1"}
    assert place(**count | {k: v for k, v in alone.items() if k in count}) is None


@pytest.mark.parametrize("missing", OURS)
def test_half_set(place, missing):
    with pytest.raises(InputError, match=f"=.* without {missing}: several"):
        place(**{k: v for k, v in OURS.items() if k != missing})


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"JAX_PROCESS_ID": "4"}, "JAX_PROCESS_ID must be from 0 to .* = 3, got 4"),
        ({"JAX_PROCESS_ID": "-1"}, "JAX_PROCESS_ID must be a whole number from 0"),
        ({"JAX_NUM_PROCESSES": "0"}, "JAX_NUM_PROCESSES must be .* from 1, got '0'"),
        ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES must be .*, got 'two'"),
        ({"JAX_COORDINATOR_ADDRESS": "node1"}, "must be HOST:PORT .* got 'node1'"),
        ({"JAX_COORDINATOR_ADDRESS": ":80"}, "must be HOST:PORT .* got ':80'"),
        ({"JAX_COORDINATOR_ADDRESS": "a:b"}, "must be HOST:PORT .* got 'a:b'"),
    ],
)
def test_out_of_range(place, changes, words):
    with pytest.raises(InputError, match=words):
        place(**OURS | changes)


def test_slurm_is_left_to_jax(place):
    assert place(**SLURM) == Rank(4)


def test_slurm_without_srun_is_one_process(place):
    """In a batch script itself, or a shell of salloc."""
    assert place(**{k: v for k, v in SLURM.items() if "STEP" not in k}) is None


def test_ours_go_before_slurm(place):
    assert place(**SLURM, **OURS).coordinator == "node1:1234"


@pytest.mark.parametrize(
    "visible, tasks, number, devices",
    [
        ("0,1", "2(x2)", "1", (1,)),  # one a GPU
        ("0,1,2,3,4,5,6,7", "1(x2)", "0", tuple(range(8))),  # one a machine
        ("0,1,2,3", "2", "1", (2, 3)),
        ("5", "2(x2)", "1", (0,)),  # each sees its own alone, --gpus-per-task
        ("0,1", "2,1", "1", None),  # not the same number everywhere: jax's choice
        ("", "2(x2)", "1", None),
    ],
)
def test_gpus_of_a_slurm_task(place, visible, tasks, number, devices):
    changes = {"CUDA_VISIBLE_DEVICES": visible, "SLURM_STEP_TASKS_PER_NODE": tasks}
    changes["SLURM_LOCALID"] = number
    assert place(**SLURM | changes).devices == devices


def test_slurm_tasks_that_do_not_divide_the_gpus(place):
    with pytest.raises(InputError, match="must divide its 3 GPUs, got 2"):
        place(**SLURM, CUDA_VISIBLE_DEVICES="0,1,2")


def test_open_mpi_is_left_to_jax(place):
    assert place(OMPI_COMM_WORLD_SIZE="2") == Rank(2)
    assert place(OMPI_COMM_WORLD_SIZE="1") is None


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 8 cores with control groups of the given quotas."""
    for name in (cluster.ADDRESS, cluster.COUNT):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 8, raising=False)

    def of(own="", **quotas):
        (tmp_path / "proc/self").mkdir(parents=True, exist_ok=True)
        (tmp_path / "proc/self/cgroup").write_text(f"1:cpu:/old\n0::/{own}\n")
        for group, quota in quotas.items():
            folder = tmp_path / "sys/fs/cgroup" / group.replace("__", "/")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "cpu.max").write_text(quota + "\n")
        return cluster.cores(root=tmp_path)

    return of


def test_cores_of_a_machine_without_limits(machine, tmp_path):
    assert cluster.cores(root=tmp_path / "nothing") == 8
    assert machine(own="slice/run", slice="max 100000") == 8


@pytest.mark.parametrize(
    ("own", "quotas", "want"),
    [
        ("pod", {"pod": "400000 100000"}, 4),
        ("pod/box", {"pod": "250000 100000", "pod__box": "max 100000"}, 2),
        ("pod/box", {"pod": "600000 100000", "pod__box": "150000 50000"}, 3),
        ("pod", {"pod": "50000 100000"}, 1),
        ("pod", {"pod": "3200000 100000", "other": "100000 100000"}, 8),
        ("../..", {"pod": "100000 100000"}, 8),
    ],
)
def test_cores_within_the_quota_of_the_control_groups(machine, own, quotas, want):
    assert machine(own=own, **quotas) == want


def test_cores_of_a_container_whose_group_is_the_root(machine, tmp_path):
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("300000 100000\n")
    assert machine() == 3


@pytest.mark.parametrize(
    ("address", "count", "want"),
    [("localhost:1234", "4", 2), ("localhost:1234", "16", 1), ("node1:1234", "4", 8)],
)
def test_processes_of_one_machine_share_its_cores(
    machine, monkeypatch, address, count, want
):
    monkeypatch.setenv(cluster.ADDRESS, address)
    monkeypatch.setenv(cluster.COUNT, count)
    assert machine() == want


def test_affinity_of_this_process(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5})
    assert cluster._affinity() == 3
