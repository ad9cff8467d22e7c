"""Speed of a run: steps, data wait, memory, MFU, goodput; and profiler traces."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from amlr_jax.runtime import workdir
from amlr_jax.runtime.console import show
from amlr_jax.train.flops import peak_flops

WINDOW = 50  # steps over which speeds are averaged
# What a run spends time on besides its steps: set-up and initial state, compilation,
# waiting for data, checkpoints, and evaluation with pictures and report.
OTHER_WORK = ("starting", "compiling", "waiting", "saving", "evaluating")
GIB = 2**30


class Meter:
    """Speeds over the last `window` steps, and what the time of the run is spent on.

    The loop starts step k + 1 before it fetches the values of step k. Over a window the
    mean time of an iteration is still the device's time per step, because the loop is
    at most one step ahead. The window begins after the first iteration.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        dtype: str = "float32",
        devices: Sequence[Any] | None = None,
        window: int = WINDOW,
        every: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts the clock of the run. `batch_size` is that of all processes.

        `dtype` is that of the network's matrix products; `devices` are those of this
        process, by default all; `due` is true once in `every` seconds.
        """
        self.flops: int | None = None  # of a step on all devices: `flops.model_flops`
        self._devices = jax.local_devices() if devices is None else devices
        self._batch_size = batch_size
        peak = peak_flops(self._devices[0].device_kind, dtype)
        self._peak = peak and peak * len(self._devices) * jax.process_count()
        self._clock, self._every = clock, every
        self._spent = dict.fromkeys(OTHER_WORK, 0.0)  # seconds
        self._marks: deque[tuple[float, float]] = deque(maxlen=window + 1)
        self._started = self._noted = clock()
        self._skipped = 0

    @contextmanager
    def spending(self, kind: str, *, beside: Any = ()) -> Iterator[None]:
        """Context of one kind of `OTHER_WORK`; all but "waiting" lowers no speed.

        It does not count if an array of the tree `beside` is still being computed at
        its end, since the device was busy all the while.
        """
        start = self._clock()
        try:
            yield
        finally:
            if all(array.is_ready() for array in jax.tree.leaves(beside)):
                self._spent[kind] += self._clock() - start

    def step(self) -> None:
        """Marks the end of an iteration of the loop."""
        waited = self._spent["waiting"]
        paused = sum(self._spent.values()) - waited
        self._marks.append((self._clock() - paused, waited))

    def skip(self, count: int = 1) -> None:
        """Counts steps that were skipped."""
        self._skipped += count

    def due(self) -> bool:
        """Whether `every` seconds have passed since this was last true."""
        now = self._clock()
        if now - self._noted < self._every:
            return False
        self._noted = now
        return True

    def values(self) -> dict[str, Any]:
        """The values known so far.

        steps_per_second; images_per_second of all processes; data_wait, the share of
        time in which the device waited for a batch, 0 to 1; tflops_per_second, the
        model FLOPs of all devices in 1e12 a second; mfu, its share of their peak;
        memory_gib and memory_peak_gib, the largest of the devices; host_memory_gib of
        this process; skipped_steps since its start; goodput, see there.
        """
        speeds = {**self._speeds(), **self._memory(), "skipped_steps": self._skipped}
        return {**speeds, "goodput": self.goodput()}

    def goodput(self) -> dict[str, float]:
        """Shares of the time since the start: `steps`, and each of `OTHER_WORK`."""
        seconds = max(self._clock() - self._started, 1e-9)
        shares = {kind: spent / seconds for kind, spent in self._spent.items()}
        return {"steps": 1.0 - sum(shares.values()), **shares}

    def summary(self) -> str:
        """One line on the time of the run."""
        seconds = self._clock() - self._started
        shares = [f"{kind} {share:.0%}" for kind, share in self.goodput().items()]
        return f"Time of the run: {seconds:.0f} s, of them {', '.join(shares)}"

    def note(self) -> str:
        """Data wait and MFU for the progress bar; empty if not known."""
        speeds = self._speeds()
        if not speeds:
            return ""
        note = f"data {speeds['data_wait']:.0%}"
        return note + (f", MFU {speeds['mfu']:.0%}" if "mfu" in speeds else "")

    def _speeds(self) -> dict[str, float]:
        if len(self._marks) < 2:
            return {}
        (start, waited_before), (end, waited) = self._marks[0], self._marks[-1]
        if end <= start:
            return {}
        rate = (len(self._marks) - 1) / (end - start)
        values = {
            "steps_per_second": rate,
            "images_per_second": rate * self._batch_size,
            "data_wait": (waited - waited_before) / (end - start),
        }
        if self.flops:
            values["tflops_per_second"] = self.flops * rate / 1e12
            if self._peak:
                values["mfu"] = self.flops * rate / self._peak
        return values

    def _memory(self) -> dict[str, float]:
        found = [stats for d in self._devices if (stats := d.memory_stats())]
        keys = {"memory_gib": "bytes_in_use", "memory_peak_gib": "peak_bytes_in_use"}
        sizes = {n: [s[key] for s in found if key in s] for n, key in keys.items()}
        values = {name: max(some) / GIB for name, some in sizes.items() if some}
        host = host_memory()
        return values if host is None else {**values, "host_memory_gib": host / GIB}


def host_memory() -> int | None:
    """Resident bytes of this process; None where the system has no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


class Profile:
    """Traces from before the first step of a window to after its last.

    Call `before` and `after` around each step, and `close` at the end, which stops a
    running trace. A window before the start of a resumed run is left out; of one that
    has begun the rest is traced. With `writes=False`, as in all ranks but 0, it does
    nothing.
    """

    def __init__(
        self, folder: Path, steps: Sequence[int] = (), *, writes: bool = True
    ) -> None:
        """`steps` is (first, last) or (); the trace goes to `folder`/profile."""
        self._folder = folder / workdir.PROFILE
        self._window = tuple(steps) if writes else ()
        self._since: int | None = None  # first step of the running trace

    def before(self, step: int) -> None:
        """Starts the trace if `step` is in the window."""
        if not self._window or self._since is not None:
            return
        first, last = self._window
        if first <= step <= last:
            # A file, because a link for ui.perfetto.dev would block here.
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
            self._since = step

    def after(self, step: int, values: Any) -> None:
        """Waits for `values` of the last step and writes the trace."""
        if self._since is not None and self._window and step >= self._window[1]:
            jax.block_until_ready(values)
            self._stop(step)

    def close(self) -> None:
        """Writes a trace that is still running."""
        if self._since is not None:
            self._stop(None)

    def _stop(self, step: int | None) -> None:
        since, self._since, self._window = self._since, None, ()
        jax.profiler.stop_trace()
        until = "the end" if step is None else f"step {step}"
        show(f"Trace of step {since} to {until} in {self._folder}")
