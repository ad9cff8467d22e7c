"""A trace of a few steps by jax.profiler, for TensorBoard and Perfetto."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from amlr_jax.runtime.console import show
from amlr_jax.runtime.errors import InputError

PROFILE = "profile"  # folder in the workdir


def check_window(steps: Sequence[int]) -> tuple[int, int] | None:
    """First and last step to trace, None for (); InputError for anything else."""
    steps = tuple(steps)
    if not steps:
        return None
    whole = all(isinstance(s, int) and not isinstance(s, bool) for s in steps)
    if len(steps) != 2 or not whole or not 1 <= steps[0] <= steps[1]:
        raise InputError(
            "log.profile must be the first and the last step of the trace, whole "
            f"numbers from 1 on as in --config.log.profile='(10,12)'; got {steps}"
        )
    return steps


class Profile:
    """Traces from before the first step of a window to after its last.

    Call `before` and `after` around each step and `close` at the end, which stops a
    trace that is still running. A window that a resumed run has passed is left out;
    one that it starts within is traced from there. With `writes=False`, as in all
    processes but the first, it does nothing.
    """

    def __init__(
        self, folder: Path, steps: Sequence[int] = (), *, writes: bool = True
    ) -> None:
        """`steps` is checked by `check_window`; the trace goes to `folder`/profile."""
        self._folder = folder / PROFILE
        self._window = check_window(steps) if writes else None
        self._since: int | None = None  # first step of the running trace

    def before(self, step: int) -> None:
        """Starts the trace if `step` is in the window."""
        if self._window is None or self._since is not None:
            return
        first, last = self._window
        if first <= step <= last:
            # A link for ui.perfetto.dev would stop here and wait; a file does not.
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
            self._since = step

    def after(self, step: int, values: Any) -> None:
        """Waits for `values` of the last step and writes the trace."""
        if self._since is not None and step >= self._window[1]:
            jax.block_until_ready(values)
            self._stop(step)

    def close(self) -> None:
        """Writes a trace that is still running."""
        if self._since is not None:
            self._stop(None)

    def _stop(self, step: int | None) -> None:
        since, self._since, self._window = self._since, None, None
        jax.profiler.stop_trace()
        until = "the end" if step is None else f"step {step}"
        show(f"Trace of step {since} to {until} in {self._folder}")
