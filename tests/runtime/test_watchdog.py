"""A run that hangs ends, with a message; one that goes on does not."""

import os
import subprocess
import sys
import time

import pytest

from amlr_jax.runtime.errors import InputError
from amlr_jax.runtime.signals import REQUEUE
from amlr_jax.runtime.watchdog import TICKS, Watchdog, ending_in_time
from tests.conftest import REPOSITORY
from tests.train import processes


def run(program: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


HANGS = """
import threading
from amlr_jax.runtime.watchdog import Watchdog
def the_place_it_hangs_at():
    threading.Event().wait()
with Watchdog(patience=0.3) as watchdog:
    watchdog.beat()
    print("beaten", flush=True)
    the_place_it_hangs_at()
"""


def test_a_hung_run_ends_and_says_where():
    done = run(HANGS)
    assert done.returncode == REQUEUE
    assert done.stdout == "beaten\n"
    assert "no step within 0.3 s (parallel.patience)" in done.stderr
    assert "the_place_it_hangs_at" in done.stderr


def test_a_first_step_that_never_comes_ends_too():
    done = run(HANGS.replace("watchdog.beat()", "pass").replace("0.3", "0.1"))
    assert done.returncode == REQUEUE


LIVES = """
import time
from amlr_jax.runtime.watchdog import Watchdog
with Watchdog(patience=0.8) as watchdog:
    for _ in range(12):
        watchdog.beat()
        time.sleep(0.1)
    with watchdog.paused(), watchdog.paused():
        time.sleep(1.6)
with Watchdog(patience=0.05, active=False) as watchdog:
    time.sleep(0.3)
print("alive")
"""


def test_a_run_that_beats_or_pauses_lives():
    done = run(LIVES)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


def looks_until_the_end(watchdog, ended) -> int:
    ended.clear()
    for look in range(1, 1000):
        watchdog._look()
        if ended:
            return look
    raise AssertionError("it never ended")


def test_the_first_beat_may_take_longer(monkeypatch):
    """Four times the patience, and once after each beat and each pause."""
    ended = []
    monkeypatch.setattr(Watchdog, "_end", lambda self: ended.append(self))
    watchdog = Watchdog(patience=1.0)
    with watchdog.paused():
        watchdog._look()
    assert looks_until_the_end(watchdog, ended) == 4 * TICKS
    watchdog.beat()
    assert looks_until_the_end(watchdog, ended) == TICKS
    with watchdog.paused():
        watchdog._look()
    assert looks_until_the_end(watchdog, ended) == TICKS


def test_exceptions_pass_where_nothing_is_to_end():
    for error in (InputError("a path"), ValueError("b"), SystemExit(3)):
        with pytest.raises(type(error)), ending_in_time(active=False):
            raise error


ONE_FAILS = """
import time
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from amlr_jax.runtime.watchdog import ending_in_time
mesh = Mesh(np.array(jax.devices()), ("data",))
split = NamedSharding(mesh, PartitionSpec("data"))
add = jax.jit(lambda x: x.sum(), out_shardings=NamedSharding(mesh, PartitionSpec()))
one = jax.make_array_from_process_local_data(split, np.ones(1, np.float32))
with ending_in_time(active=True, seconds=2.0):
    for step in range(1, 10000):
        if step == 5 and index == FAILING:
            raise OSError("no space left")
        float(add(one))
"""


@pytest.mark.parametrize("failing", [0, 1])
def test_an_exception_in_one_of_two_ends_both(failing):
    """Which jax alone would leave waiting, for 300 s by default."""
    start = time.monotonic()
    both = processes.start(ONE_FAILS.replace("FAILING", str(failing)))
    printed = processes.finish(both)
    assert all(process.returncode for process in both)
    assert both[failing].returncode == REQUEUE
    assert "OSError: no space left" in printed[failing]
    assert "The same command goes on" in printed[failing]
    assert time.monotonic() - start < 60
