"""How fast a run goes: steps, images, waiting for data, memory, share of the peak."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from amlr_jax.train.peaks import peak_flops

WINDOW = 50  # steps over which speeds are taken
GIB = 2**30


class Meter:
    """Figures of the last `window` steps, by the clock of this process.

    The loop starts step k + 1 before it fetches the values of step k, so the time of
    one round is not the device's time for one step; over a window both are the same,
    because the loop is never more than one step ahead. The first round, which
    compiles, ends where the window begins.
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
        """`batch_size` of all processes together; `flops` of a step, see `step_flops`.

        `devices` are those of this process, by default all; `dtype` that of the
        network's activations; `every` the seconds between two times at which `due`.
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
        """Around the wait for the next batch."""
        start = self._clock()
        try:
            yield
        finally:
            self._waited += self._clock() - start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Around what is no training, as an evaluation: it counts for no speed."""
        start = self._clock()
        try:
            yield
        finally:
            self._paused += self._clock() - start

    def step(self) -> None:
        """At the end of each round of the loop."""
        self._marks.append((self._clock() - self._paused, self._waited))

    def skip(self, count: int = 1) -> None:
        """So many steps more had no effect, their gradients being not finite."""
        self._skipped += count

    def due(self) -> bool:
        """Whether `every` seconds have gone since this was last true."""
        now = self._clock()
        if now - self._noted < self._every:
            return False
        self._noted = now
        return True

    def values(self) -> dict[str, float]:
        """What is known by now.

        steps_per_second; images_per_second of all processes; data_wait, the share of
        the time in which the loop waited for a batch, 0 to 1; mfu, `flops` times steps
        a second over the peak of the device; memory_gib and memory_peak_gib, the
        largest of the devices; host_memory_gib, of this process alone;
        skipped_steps since the start of this process.
        """
        return {**self._speeds(), **self._memory(), "skipped_steps": self._skipped}

    def note(self) -> str:
        """Waiting and use in a few words, for a bar with speed; empty if not known."""
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
    """Bytes of this process in memory; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def step_flops(compiled: Any, *, repeats: int = 1) -> float | None:
    """Floating point operations of a compiled step on one device; None if unknown.

    `compiled` is `jax.jit(f).lower(...).compile()`. XLA counts what it has compiled:
    recomputation (remat) is in it, a kernel of another library is not, and the body of
    a loop counts once, so a step that accumulates gradients over `repeats` parts of a
    batch is given that number.
    """
    try:
        analysis = compiled.cost_analysis()
    except jax.errors.JaxRuntimeError:
        return None
    flops = (analysis or {}).get("flops", 0.0)
    return flops * repeats if flops > 0 else None
