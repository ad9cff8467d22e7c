"""Signals that ask a run to save and stop, at the same step in all processes.

SLURM, Kubernetes and a shutdown send SIGTERM; `sbatch --signal` sends SIGUSR1 or
SIGUSR2 before the time limit; Ctrl-C is SIGINT.
"""

import os
import signal
import threading
from types import FrameType
from typing import Any, NoReturn

import jax
from jax.experimental import multihost_utils

from amlr_jax.runtime.console import watcher
from amlr_jax.runtime.distributed import is_first
from amlr_jax.runtime.errors import REQUEUE

CTRL_C = 128 + signal.SIGINT
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
_SHOW_CURSOR = b"\x1b[?25h"
_SAVING = b"\nCtrl-C: saving after this step; once more ends at once, unsaved\n"


class Interrupted(SystemExit):
    """Ends a command with status 75 (start it again) or 130 (Ctrl-C)."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(status)
        self.message = message

    def __str__(self) -> str:
        return self.message


class Interrupt:
    """Handlers of the signals that ask this process, or another one, to save and stop.

    In a single process a signal sets a flag. In several, jax handles SIGTERM so that
    all agree on a step that none has begun; that handler stays, and the other signals
    are forwarded to it. The previous handlers come back on exit. Outside the main
    thread, where Python allows no handlers, nothing is installed.
    """

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None  # the first that came
        self._before: dict[signal.Signals, Any] = {}
        self._several = self._ctrl_c_came = False

    def __enter__(self) -> "Interrupt":
        self._several = jax.process_count() > 1
        if threading.current_thread() is threading.main_thread():
            # Our handler of SIGTERM would replace that of jax, which cannot be called.
            for one in SIGNALS[1:] if self._several else SIGNALS:
                self._before[one] = signal.signal(one, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for one, handler in self._before.items():
            if handler is not None:  # None: not of Python, cannot be put back
                signal.signal(one, handler)
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
            return multihost_utils.reached_preemption_sync_point(step)
        return self.pending

    def stop(self, step: int) -> NoReturn:
        """Prints and raises `Interrupted`; `step` must be saved."""
        name = (self._signal or signal.SIGTERM).name
        ctrl_c = self._signal is signal.SIGINT
        message = f"{name}: saved step {step}; the same command goes on from there"
        if is_first():
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
        """Uses only system calls, because a handler may interrupt any print."""
        if self._ctrl_c_came:
            if os.isatty(2):
                os.write(2, _SHOW_CURSOR)  # which the bar has hidden
            os._exit(CTRL_C)
        self._ctrl_c_came = True
        os.write(2, _SAVING)
