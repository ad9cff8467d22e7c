"""The processes of launch/multiprocess.sh start and end together.

A real run of two is in `train/test_run_faults`.
"""

import signal
import subprocess
import sys
import time

import pytest

from tests import tiny_kitti
from tests.launch.scripts import LAUNCH, MAIN, environment, executable, run

# Stands for Python; K is the process, and what it does is the test's.
PROGRAM = """
K=$JAX_PROCESS_ID
echo "process $K of $JAX_NUM_PROCESSES at $JAX_COORDINATOR_ADDRESS"
echo "fault of $K" >&2
{does}
"""
OPTIONS = ["--cpu", "--processes=3", "--port=5000", "--grace=1", *MAIN]


@pytest.fixture
def program(tmp_path):
    """Makes the stand-in."""

    def make(does: str) -> str:
        return str(executable(tmp_path / "program", PROGRAM.format(does=does)))

    return make


def logs(folder) -> list[str]:
    return [(folder / "logs" / f"process_{k}.log").read_text() for k in range(3)]


def test_all_well(program, tmp_path):
    done = run(
        "multiprocess.sh", *OPTIONS, f"--workdir={tmp_path}", PYTHON=program("exit 0")
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "process 0 of 3 at localhost:5000\n"
    assert done.stderr == "fault of 0\n"
    for k, log in enumerate(logs(tmp_path)):
        assert f"process {k} of 3" in log
        assert f"fault of {k}" in log


@pytest.mark.parametrize(
    "does, status",
    [
        ("[ $K = 1 ] && exit 3; sleep 100", 3),
        ("[ $K = 0 ] && exit 4; trap '' TERM; sleep 100", 4),
        ("[ $K = 2 ] && kill -KILL $$; sleep 100", 137),
    ],
)
def test_one_fails(program, tmp_path, does, status):
    began = time.monotonic()
    done = run(
        "multiprocess.sh", *OPTIONS, f"--workdir={tmp_path}", PYTHON=program(does)
    )
    assert done.returncode == status
    assert time.monotonic() - began < 30  # grace of 1 second, not sleep's 100
    assert f"ended with status {status}; see {tmp_path}/logs/process_" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_passed_on(program, tmp_path, number):
    # `sleep` in pieces: bash handles a signal between commands.
    does = f"trap 'exit {75 + number}' {int(number)}; while :; do sleep 0.05; done"
    process = subprocess.Popen(
        [LAUNCH / "multiprocess.sh", *OPTIONS, f"--workdir={tmp_path}"],
        env=environment(PYTHON=program(does)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "process 0" in process.stdout.readline()
    deadline = time.monotonic() + 20
    while "".join(logs(tmp_path)).count("fault") < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.2)  # from its line to its trap
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 75 + number


def test_a_workdir_that_cannot_be_written(program, tmp_path):
    (tmp_path / "file").write_text("")
    folder = f"--workdir={tmp_path}/file/run"
    done = run("multiprocess.sh", *OPTIONS, folder, PYTHON=program("exit 0"))
    assert done.returncode == 2
    assert "cannot be written" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_real_run_that_one_process_cannot_start(kitti_root, tmp_path):
    """All processes end, with the reason, when process 1 cannot start."""
    flags = tiny_kitti.flags(kitti_root, cache=tmp_path / "cache")
    folder = tmp_path / "run"
    python = executable(
        tmp_path / "python",
        '[ "${JAX_PROCESS_ID:-0}" = 1 ] && set -- "$@" --config.seed=7\n'
        f'exec {sys.executable} "$@"',
    )
    done = run(
        "multiprocess.sh", "--cpu", "--processes=2", *flags, f"--workdir={folder}",
        PYTHON=str(python),
    )  # fmt: skip
    assert done.returncode == 1
    assert "process 1 on" in done.stderr
    assert "another config than process 0 (seed is 7, there 0)" in done.stderr
    assert "Traceback" not in done.stderr
