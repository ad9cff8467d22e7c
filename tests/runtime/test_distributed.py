"""Processes that find each other, and end together."""

import os
import socket
import subprocess
import sys
import time

import pytest

from amlr_jax.runtime import distributed
from tests.conftest import REPOSITORY

START = """
import sys
import time
from amlr_jax.runtime import distributed
from amlr_jax.runtime.errors import InputError
distributed.start(heartbeat=10, patience=int(sys.argv[1]))
first = distributed.is_first()
with distributed.ending_together():
"""
TOGETHER = """
    import jax
    assert jax.process_count() == 2
    assert first == (jax.process_index() == 0)
    assert not distributed.is_alone()
    print(distributed.from_first("word", f"of {jax.process_index()}"))
    if first:
        time.sleep(1)
    distributed.meet("end", seconds=30)
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return free.getsockname()[1]


def run(program: str, *, ids=(0, 1), patience: int = 60, port: int = 0) -> list:
    """The ended processes of a run of two, with their output."""
    port = port or free_port()
    places = [
        {
            "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
            "JAX_NUM_PROCESSES": "2",
            "JAX_PROCESS_ID": str(number),
        }
        for number in ids
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", START + program, str(patience)],
            cwd=REPOSITORY,
            env=os.environ | place | {"JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for place in places
    ]
    try:
        outputs = [process.communicate(timeout=100) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [
        subprocess.CompletedProcess(p.args, p.returncode, *said)
        for p, said in zip(processes, outputs, strict=True)
    ]


def test_a_run_that_ends_well():
    for done in run(TOGETHER):
        assert done.returncode == 0, done.stderr
        assert done.stdout == "of 0\n"
        assert not done.stderr


@pytest.mark.parametrize("failing", [0, 1])
def test_a_users_mistake_ends_both_with_its_reason(failing):
    program = f"""
    if first == ({failing} == 0):
        raise InputError("no data at 'x'")
    distributed.meet("never", seconds=90)
"""
    began = time.monotonic()
    both = run(program)
    assert time.monotonic() - began < 60  # seconds in truth; not the barrier's 90
    assert both[failing].stderr == "error: no data at 'x'\n"
    other = both[1 - failing].stderr
    assert f"error: ended, because process {failing} on " in other
    assert "failed: no data at 'x'" in other
    assert [done.returncode for done in both] == [1, 1]


def test_a_crash_shows_its_traceback_once():
    program = """
    if first:
        {}["missing"]
    distributed.meet("never", seconds=90)
"""
    first, second = run(program)
    assert "KeyError: 'missing'" in first.stderr
    assert "Traceback" not in second.stderr
    assert "process 0 on" in second.stderr
    assert (first.returncode, second.returncode) == (1, 1)


def test_a_crash_without_a_terminal_is_told_all_the_same():
    program = """
    if first:
        import os
        os.close(2)
        {}["missing"]
    distributed.meet("never", seconds=90)
"""
    first, second = run(program)
    assert "failed: 'missing'" in second.stderr
    assert (first.returncode, second.returncode) == (1, 1)


def test_a_status_all_agree_on_is_kept():
    for done in run("    sys.exit(75)\n"):
        assert done.returncode == 75, done.stderr


@pytest.mark.parametrize(
    "number, words",
    [
        (0, ["not all 2 processes have come", "logs of the others"]),
        (1, ["no process 0 at localhost:", "firewall", "JAX_COORDINATOR_ADDRESS"]),
    ],
)
def test_a_process_that_waits_in_vain(number, words):
    (done,) = run("    pass", ids=(number,), patience=2)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: process {number} waited 2 s: ")
    for word in words:
        assert word in line


def test_a_port_that_is_taken():
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::", 0))
        taken.listen()
        (done,) = run("    pass", ids=(0,), port=taken.getsockname()[1])
    assert done.returncode == 1
    assert "InputError: process 0 cannot listen at port" in done.stderr
    assert "choose another in JAX_COORDINATOR_ADDRESS" in done.stderr


def test_alone_nothing_is_started():
    assert distributed.is_alone()
    assert distributed.is_first()
    assert distributed.from_first("a", "text") == "text"
    distributed.meet("b")
    with pytest.raises(KeyError), distributed.ending_together():
        raise KeyError
