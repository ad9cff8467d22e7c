"""Ends a run of several processes that hangs.

If one process hangs, the others wait for it in a collective operation. jax detects a
dead or stopped process by its heartbeats. A process that still sends them, as one whose
data reader hangs, is detected here by the steps that do not come.
"""

import faulthandler
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from amlr_jax.runtime.signals import REQUEUE, say

FIRST = 4  # times the patience until the first step, which compiles
TICKS = 20  # checks within the patience
GRACE = 20.0  # seconds for an orderly end


class Watchdog:
    """Ends this process if `beat` was not called for `patience` seconds.

    It prints the stacks of all threads to stderr and exits with 75; nothing is saved.
    It counts ticks instead of reading a clock, so a process that was stopped and
    continued (SIGSTOP, SIGCONT) is not ended. Its thread does not run while C code
    holds Python's global lock; jax releases that lock when it waits.
    """

    def __init__(self, *, patience: float, active: bool = True) -> None:
        """With `active=False`, for a single process, it does nothing."""
        self._patience, self._active = patience, active
        self._left = FIRST * TICKS
        self._pauses = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Watchdog":
        if self._active:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._active:
            self._thread.join()

    def beat(self) -> None:
        """Call it after each step."""
        self._left = TICKS

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Around longer work, as an evaluation; the patience starts again after it."""
        self._pauses += 1
        try:
            yield
        finally:
            self._left = max(self._left, TICKS)
            self._pauses -= 1

    def _watch(self) -> None:
        while not self._ended.wait(self._patience / TICKS):
            self._look()

    def _look(self) -> None:
        self._left -= not self._pauses
        if self._left <= 0:
            self._end()

    def _end(self) -> None:
        say(
            f"error: no step within {self._patience:g} s (parallel.patience): this "
            "process or another of the run hangs. The same command goes on from the "
            "newest checkpoint. Where each thread is:"
        )
        faulthandler.dump_traceback(file=2, all_threads=True)
        os._exit(REQUEUE)


@contextmanager
def ending_in_time(*, active: bool, seconds: float = GRACE) -> Iterator[None]:
    """Ends this process at most `seconds` after an exception inside.

    Closing a run waits for a save that needs all processes. If they all have the same
    exception, this is soon over. Otherwise they wait for this process in a collective
    operation, or are gone, and it exits with a message and status 75 after `seconds`.
    With `active=False`, for a single process, the exception only passes.
    """
    try:
        yield
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        line = (
            f"error: {type(error).__name__}: {reason}. Not all processes of the run "
            f"came to an end together within {seconds:g} s, so this one does not wait. "
            "The same command goes on from the newest checkpoint"
        )

        def end() -> None:
            say(line)
            os._exit(REQUEUE)

        if active:  # a daemon, because Python joins all other threads at exit
            timer = threading.Timer(seconds, end)
            timer.daemon = True
            timer.start()
        raise
