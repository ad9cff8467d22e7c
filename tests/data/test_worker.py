"""Reading processes outlive the run's signals, but not the run."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from amlr_jax.data import loader
from amlr_jax.runtime import signals
from amlr_jax.runtime.errors import InputError
from amlr_jax.train import loop
from configs import demo
from tests.conftest import REPOSITORY

# The parent starts a child, prints its number and waits; the child waits for ever.
CHILD = """
import time
from pathlib import Path
from amlr_jax.data import loader
loader.start_worker()
print("ready", flush=True)
time.sleep(1000)
"""
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


def lives(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def family():
    """A run and the number of its reading process."""
    run = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    child = int(run.stdout.readline())
    yield run, child
    run.kill()
    run.communicate()
    if lives(child):
        os.kill(child, signal.SIGKILL)


def test_signals_are_left_to_the_run(family):
    _, child = family
    for one in signals.SIGNALS:
        os.kill(child, one)
    time.sleep(0.2)
    assert lives(child)


def test_ends_when_the_run_is_killed(family):
    run, child = family
    run.kill()
    run.wait()
    deadline = time.monotonic() + 30
    while lives(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not lives(child)


@pytest.mark.parametrize(
    "code, words",
    [("-9", "lack of memory"), ("-7", "/dev/shm"), ("1", "__main__"), ("3", "above")],
)
def test_how_a_worker_ended(code, words):
    class Batches:
        def __next__(self):
            raise RuntimeError(
                f"Worker process was terminated unexpectedly with exit code {code}. "
                "Search the logs"
            )

        def __iter__(self):
            return self

        def close(self):
            pass

    with pytest.raises(InputError, match=f"exit code {code}: .*{words}") as error:
        next(loader._with_worker_errors(Batches()))
    assert ("memory" in str(error.value)) == (code == "-9")


def test_a_script_without_a_main_guard(monkeypatch, tmp_path):
    """A worker imports the script, which would train there."""
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, False)
    with pytest.raises(InputError, match="put it below `if __name__ == "):
        loop.train(demo.get_config(), tmp_path, make_evaluator=None)
    assert not list(tmp_path.iterdir())
