"""Speed of a run: steps, data wait, memory, MFU; and profiler traces."""

import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from amlr_jax.runtime import workdir
from amlr_jax.runtime.console import show
from amlr_jax.runtime.errors import InputError

WINDOW = 50  # steps over which speeds are averaged
GIB = 2**30


class Meter:
    """Speeds over the last `window` steps, by the clock of this process.

    The loop starts step k + 1 before it fetches the values of step k. Over a window the
    mean time of an iteration is still the device's time per step, because the loop is
    at most one step ahead. The window begins after the first iteration.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        flops: float | None = None,
        dtype: str = "float32",
        devices: Sequence[Any] | None = None,
        window: int = WINDOW,
        every: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`batch_size` is the global one; `flops` those of a step (`step_flops`).

        `devices` are those of this process, by default all; `dtype` is that of the
        network's activations; `due` is true once in `every` seconds.
        """
        self._devices = jax.local_devices() if devices is None else devices
        self._batch_size, self._flops = batch_size, flops
        self._peak = peak_flops(self._devices[0].device_kind, dtype)
        self._clock, self._every = clock, every
        self._waited = self._paused = 0.0  # seconds since the start
        self._marks: deque[tuple[float, float]] = deque(maxlen=window + 1)
        self._noted = clock()
        self._skipped = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Context of the wait for the next batch."""
        start = self._clock()
        try:
            yield
        finally:
            self._waited += self._clock() - start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Context of other work, such as an evaluation; excluded from the speeds."""
        start = self._clock()
        try:
            yield
        finally:
            self._paused += self._clock() - start

    def step(self) -> None:
        """Marks the end of an iteration of the loop."""
        self._marks.append((self._clock() - self._paused, self._waited))

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

    def values(self) -> dict[str, float]:
        """The values known so far.

        steps_per_second; images_per_second of all processes; data_wait, the share of
        time spent waiting for a batch, 0 to 1; mfu, `flops` times steps per second over
        the peak of the device; memory_gib and memory_peak_gib, the largest of the
        devices; host_memory_gib of this process; skipped_steps since its start.
        """
        return {**self._speeds(), **self._memory(), "skipped_steps": self._skipped}

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
        if self._flops and self._peak:
            values["mfu"] = self._flops * rate / self._peak
        return values

    def _memory(self) -> dict[str, float]:
        found = [stats for d in self._devices if (stats := d.memory_stats())]
        values = {}
        for name, key in (
            ("memory_gib", "bytes_in_use"),
            ("memory_peak_gib", "peak_bytes_in_use"),
        ):
            sizes = [stats[key] for stats in found if key in stats]
            if sizes:
                values[name] = max(sizes) / GIB
        host = host_memory()
        return values if host is None else {**values, "host_memory_gib": host / GIB}


def host_memory() -> int | None:
    """Resident bytes of this process; None where the system has no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def step_flops(compiled: Any, *, repeats: int = 1) -> float | None:
    """Floating point operations of a compiled step on one device; None if unknown.

    `compiled` is `jax.jit(f).lower(...).compile()`. XLA's count includes recomputation
    (remat), leaves out kernels of other libraries, and counts the body of a loop once.
    So a step that accumulates gradients over `repeats` parts passes that number.
    """
    try:
        analysis = compiled.cost_analysis()
    except jax.errors.JaxRuntimeError:
        return None
    flops = (analysis or {}).get("flops", 0.0)
    return flops * repeats if flops > 0 else None


# Peak of dense matrix products in 1e12 flop/s: (bfloat16, float32), without structured
# sparsity. float32 is TF32 where the GPU has it, XLA's default there. Sources: NVIDIA's
# data sheets; for RTX the white papers GA102 and Ada (Appendix A), with float32
# accumulation. V100 and T4 have no bfloat16. Names are `jax.Device.device_kind`; the
# instances of a divided GPU ("... MIG 1g.18gb") have no entry.
_PEAKS = (
    (r"A100[- ].*", 312.0, 156.0),
    (r"H100 80GB HBM3", 989.4, 494.7),  # SXM
    (r"H100 PCIe", 756.0, 378.0),
    (r"H100 NVL", 835.5, 417.5),
    (r"H200", 989.4, 494.7),
    (r"H200 NVL", 835.5, 417.5),
    (r"B200", 2250.0, 1125.0),
    (r"L40S", 362.0, 183.0),
    (r"L4", 121.0, 60.0),
    (r"V100-SXM[23]-.*", None, 15.7),
    (r"V100-PCIE-.*", None, 14.0),
    (r"T4", None, 8.1),
    (r"GeForce RTX 3090", 71.0, 35.6),
    (r"GeForce RTX 4090", 165.2, 82.6),
)


def peak_flops(device_kind: str, dtype: str) -> float | None:
    """Floating point operations per second of one device; None if unknown.

    `dtype` is that of the matrix products, float32 or bfloat16.
    """
    name = re.sub(r"^(NVIDIA|Tesla) ", "", device_kind)
    if "MIG" in name:
        return None
    for pattern, bfloat16, float32 in _PEAKS:
        if re.fullmatch(pattern, name):
            peak = bfloat16 if dtype == "bfloat16" else float32
            return None if peak is None else 1e12 * peak
    return None


def check_window(steps: Sequence[int]) -> tuple[int, int] | None:
    """First and last step to trace, None for (); InputError for other values."""
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

    Call `before` and `after` around each step, and `close` at the end, which stops a
    running trace. A window before the start of a resumed run is left out; of one that
    has begun the rest is traced. With `writes=False`, as in all ranks but 0, it does
    nothing.
    """

    def __init__(
        self, folder: Path, steps: Sequence[int] = (), *, writes: bool = True
    ) -> None:
        """`steps` is checked by `check_window`; the trace goes to `folder`/profile."""
        self._folder = folder / workdir.PROFILE
        self._window = check_window(steps) if writes else None
        self._since: int | None = None  # first step of the running trace

    def before(self, step: int) -> None:
        """Starts the trace if `step` is in the window."""
        if self._window is None or self._since is not None:
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
        since, self._since, self._window = self._since, None, None
        jax.profiler.stop_trace()
        until = "the end" if step is None else f"step {step}"
        show(f"Trace of step {since} to {until} in {self._folder}")
