"""Signals: a flag in one process, one common step in two."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from amlr_jax.runtime.errors import REQUEUE
from amlr_jax.runtime.signals import CTRL_C, Interrupt, Interrupted, ending_at_once
from tests.conftest import REPOSITORY
from tests.train import processes


@pytest.mark.parametrize(
    ("name", "status"),
    [("SIGTERM", REQUEUE), ("SIGUSR1", REQUEUE), ("SIGUSR2", REQUEUE)]
    + [("SIGHUP", REQUEUE), ("SIGINT", CTRL_C)],
)
def test_a_signal_is_heard_after_the_step(name, status, capsys):
    before = signal.getsignal(getattr(signal, name))
    with Interrupt() as interrupt:
        assert not interrupt.pending
        assert not interrupt.requested(1)
        os.kill(os.getpid(), getattr(signal, name))
        assert interrupt.pending
        assert interrupt.requested(2)
        with pytest.raises(Interrupted, match=f"^{name}: saved step 2; ") as stopped:
            interrupt.stop(2)
    assert stopped.value.code == status
    assert "the same command goes on from there" in capsys.readouterr().err
    assert signal.getsignal(getattr(signal, name)) is before


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGINT"])
def test_a_signal_before_the_first_step(name, capfd):
    """Nothing is to be saved, and the status is the one of later."""
    one = getattr(signal, name)
    before = signal.getsignal(one)
    with (
        pytest.raises(Interrupted, match="nothing to save") as stopped,
        ending_at_once(),
    ):
        with Interrupt():
            pass  # its handlers come in between, and go
        os.kill(os.getpid(), one)
        pytest.fail("went on")
    assert stopped.value.code == (CTRL_C if name == "SIGINT" else REQUEUE)
    assert f"{name}: nothing to save; the same command" in capfd.readouterr().err
    assert signal.getsignal(one) is before


SWALLOWS = """
import os, signal, time
from amlr_jax.runtime import signals
signals.GRACE = 0.3
with signals.ending_at_once():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except BaseException:
        pass
    time.sleep(60)
"""


def test_a_signal_that_an_import_swallows():
    done = subprocess.run(
        [sys.executable, "-c", SWALLOWS], cwd=REPOSITORY, timeout=30, check=False
    )
    assert done.returncode == REQUEUE


def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending_at_once(), Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupt.pending
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_forked_helper_ends_as_without_a_handler(capfd):
    with ending_at_once():
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    assert not capfd.readouterr().err


def test_the_statuses():
    assert (REQUEUE, CTRL_C) == (75, 130)


def test_a_repeated_signal_does_no_harm():
    with Interrupt() as interrupt:
        for one in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), one)
        with pytest.raises(Interrupted, match="SIGUSR1"):
            interrupt.stop(1)


def test_outside_the_main_thread_nothing_is_installed():
    before = signal.getsignal(signal.SIGTERM)
    found = []

    def inside():
        with Interrupt() as interrupt:
            found.append(signal.getsignal(signal.SIGTERM))
            found.append(interrupt.requested(1))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [before, False]


TWICE = """
import os, signal
from amlr_jax.runtime.signals import Interrupt
with Interrupt() as interrupt:
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    print("still here", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    print("too far")
"""


def test_the_second_ctrl_c_ends_at_once():
    done = subprocess.run(
        [sys.executable, "-c", TWICE],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == CTRL_C
    assert done.stdout == "still here\n"
    assert "once more ends at once" in done.stderr


STEPS = """
import os, time
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from amlr_jax.runtime.signals import Interrupt
mesh = Mesh(np.array(jax.devices()), ("data",))
split = NamedSharding(mesh, PartitionSpec("data"))
add = jax.jit(lambda x: x.sum(), out_shardings=NamedSharding(mesh, PartitionSpec()))
one = jax.make_array_from_process_local_data(split, np.ones(1, np.float32))
with Interrupt() as interrupt:
    for step in range(1, 2000):
        assert float(add(one)) == 2.0
        time.sleep(0.01)
        if step == 5:
            print("running")
        if interrupt.requested(step):
            print("stopped at", step)
            interrupt.stop(step)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_to_one_of_two_stops_both_at_one_step(name):
    both = processes.start(STEPS)
    try:
        for process in both:
            processes.read_until(process, "running")
        both[1].send_signal(getattr(signal, name))
    finally:
        printed = processes.finish(both)
    assert [process.returncode for process in both] == [REQUEUE, REQUEUE], printed
    steps = [p.partition("stopped at ")[2].split()[0] for p in printed]
    assert steps[0] == steps[1]
    assert f"SIGTERM: saved step {steps[0]}; the same command" in printed[0]
