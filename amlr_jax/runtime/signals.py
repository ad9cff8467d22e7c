"""Signals that ask a run to save and stop, at the same step in all processes.

SLURM, Kubernetes and a shutdown send SIGTERM; `sbatch --signal` sends SIGUSR1 or
SIGUSR2 before the time limit; Ctrl-C is SIGINT; a terminal or an SSH session that ends
sends SIGHUP (unless `nohup` made the command ignore it, which stays so).
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from amlr_jax.runtime import distributed
from amlr_jax.runtime.console import watcher
from amlr_jax.runtime.errors import REQUEUE

GRACE = 3.0  # seconds for an orderly end before the first step
CTRL_C = 128 + signal.SIGINT
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
_SHOW_CURSOR = b"\x1b[?25h"


class Interrupted(SystemExit):
    """Ends a command with status 75 (start it again) or 130 (Ctrl-C)."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(status)
        self.message = message

    def __str__(self) -> str:
        return self.message


def _install(handler: Any, signals: tuple) -> dict[signal.Signals, Any]:
    """Sets a handler, except of a SIGHUP that nohup ignores; returns those before."""
    if threading.current_thread() is not threading.main_thread():
        return {}  # Python allows no handlers there
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signals = tuple(one for one in signals if one is not signal.SIGHUP)
    return {one: signal.signal(one, handler) for one in signals}


def _restore(before: dict[signal.Signals, Any]) -> None:
    for one, handler in before.items():
        if handler is not None:  # None: not of Python, cannot be put back
            signal.signal(one, handler)


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Around a whole run: a signal outside of `Interrupt` ends it with the same status.

    There is nothing to save before the first step and after the last one, but SLURM
    must start the run again, which it does by the status. In several processes that
    have joined, the signal waits for the first step, where all stop together.
    """
    ours, timers = os.getpid(), []

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        one = signal.Signals(number)
        if os.getpid() != ours:  # a forked helper, which its parent ends
            signal.signal(one, signal.SIG_DFL)
            os.kill(os.getpid(), one)
        elif distributed.has_joined() and one is not signal.SIGINT:
            os.kill(ours, signal.SIGTERM)
        else:
            message = f"{one.name}: nothing to save; the same command starts again"
            say(message)
            status = CTRL_C if one is signal.SIGINT else REQUEUE
            if not Interrupt.began:  # an import may catch what is raised here
                timers.append(threading.Timer(GRACE, os._exit, [status]))
                timers[-1].daemon = True
                timers[-1].start()
            raise Interrupted(message, status=status)

    before = _install(end, SIGNALS)
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        _restore(before)


def say(message: str) -> None:
    """To stderr by a system call, because a handler may interrupt any print."""
    with suppress(OSError):
        os.write(2, f"\n{message}\n".encode())


class Interrupt:
    """Handlers of the signals that ask this process, or another one, to save and stop.

    In a single process a signal sets a flag. In several, jax handles SIGTERM so that
    all agree on a step that none has begun; that handler stays, and the other signals
    are forwarded to it. The previous handlers come back on exit. Outside the main
    thread, where Python allows no handlers, nothing is installed.
    """

    began = False  # whether the steps of this process have begun

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None  # the first that came
        self._before: dict[signal.Signals, Any] = {}
        self._several = self._ctrl_c_came = False

    def __enter__(self) -> "Interrupt":
        import jax

        Interrupt.began = True
        self._several = jax.process_count() > 1
        # Our handler of SIGTERM would replace that of jax, which cannot be called.
        own = SIGNALS[1:] if self._several else SIGNALS
        self._before = _install(self._handle, own)
        return self

    def __exit__(self, *_: object) -> None:
        _restore(self._before)
        self._before = {}

    @property
    def pending(self) -> bool:
        """Whether a signal came to this process; others may not know yet."""
        return self._signal is not None

    def requested(self, step: int) -> bool:
        """Whether to save after `step` and stop; the same in all processes.

        Each process must call it after each step. It becomes true a second or two
        after the signal.
        """
        if self._several:
            from jax.experimental import multihost_utils

            return multihost_utils.reached_preemption_sync_point(step)
        return self.pending

    def stop(self, step: int) -> NoReturn:
        """Prints and raises `Interrupted`; `step` must be saved."""
        name = (self._signal or signal.SIGTERM).name
        ctrl_c = self._signal is signal.SIGINT
        message = f"{name}: saved step {step}; the same command goes on from there"
        if distributed.is_first():
            watcher.print(message, soft_wrap=True)
        raise Interrupted(message, status=CTRL_C if ctrl_c else REQUEUE)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if number == signal.SIGINT:
            self._ctrl_c()
        first, self._signal = not self.pending, self._signal or signal.Signals(number)
        if first and self._several:
            os.kill(os.getpid(), signal.SIGTERM)

    def _ctrl_c(self) -> None:
        if self._ctrl_c_came:
            if os.isatty(2):
                with suppress(OSError):
                    os.write(2, _SHOW_CURSOR)  # which the bar has hidden
            os._exit(CTRL_C)
        self._ctrl_c_came = True
        say("Ctrl-C: saving after this step; once more ends at once, unsaved")
