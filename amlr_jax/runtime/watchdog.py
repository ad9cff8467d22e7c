"""A run of several processes that hangs ends, instead of waiting for ever.

When one process is stuck, the others wait for it inside a collective operation. One
that is dead or stopped is found by jax itself, by its heartbeats, and jax ends the
others; one that still sends them, as with a reader that hangs, only by its steps.
"""

import contextlib
import faulthandler
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from amlr_jax.runtime.signals import REQUEUE

FIRST = 4  # times the patience until the first beat: the step compiles
TICKS = 20  # looks at the clock within the patience
GRACE = 20.0  # seconds to end in order


class Watchdog:
    """Ends this process if it has not called `beat` for `patience` seconds.

    Then all threads' stacks go to stderr, of which the one that hangs tells why, and
    the status is `status`; nothing is saved. It counts ticks and not the time of day,
    so a process that was stopped and goes on (SIGSTOP, SIGCONT) is not ended for it.
    Its thread cannot run while C code holds Python's lock; jax waits without.
    """

    def __init__(
        self, *, patience: float, active: bool = True, status: int = REQUEUE
    ) -> None:
        """With `active=False`, as for a single process, it does nothing."""
        self._patience, self._active, self._status = patience, active, status
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
        """A step is done."""
        self._left = TICKS

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Around what may take longer, as an evaluation; then the patience is anew."""
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
        if self._pauses:
            return
        self._left -= 1
        if self._left <= 0:
            self._end()

    def _end(self) -> None:
        message = (
            f"error: no step within {self._patience:g} s (parallel.patience): this "
            "process or another of the run hangs. The same command goes on from the "
            "newest checkpoint. Where each thread is:"
        )
        _say(message)
        faulthandler.dump_traceback(file=2, all_threads=True)
        os._exit(self._status)


@contextmanager
def ending_in_time(
    *, active: bool, seconds: float = GRACE, status: int = REQUEUE
) -> Iterator[None]:
    """After an exception inside, this process ends within `seconds`, whatever waits.

    The exception passes, and what is closed on its way waits for saving, for which
    other processes are needed. Where all had the same exception that is soon over;
    otherwise they wait for this one in a collective operation, or are gone, and this
    process ends with a message and `status` when the time is over. With
    `active=False`, as for a single process, the exception passes and that is all.
    """
    try:
        yield
    except Exception as error:
        if active:
            _end_after(seconds, status, error)
        raise


def _end_after(seconds: float, status: int, error: Exception) -> None:
    reason = (str(error).splitlines() or [""])[0]

    def end() -> None:
        _say(
            f"error: {type(error).__name__}: {reason}. Not all processes of the run "
            f"came to an end together within {seconds:g} s, so this one does not wait. "
            "The same command goes on from the newest checkpoint"
        )
        os._exit(status)

    # A daemon, because Python joins all other threads before what it does at exit.
    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def _say(message: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"\n{message}\n".encode())
