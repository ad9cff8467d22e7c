"""Compiling: functions kept on disk, a line about each, and running out of memory.

jax itself keeps compiled functions in a folder (its persistent compilation cache), from
which the next start loads them in seconds. It does not replace a damaged file.
"""

import functools
import glob
import platform
import re
import tempfile
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from amlr_jax.runtime import console, files
from amlr_jax.runtime.errors import InputError

FOLDER = "xla"  # in the folder of all caches
ENTRIES = "*-cache"  # jax's names of compiled functions
MOST_BYTES = 8 * 2**30  # of a folder; the oldest entries go first
SHORTEST = 0.5  # seconds of compiling from which a function is kept
GIB = 2**30


def use_cache(caches: Path, *, wanted: bool = True) -> None:
    """Keeps compiled functions in `caches`/xla; call it before the first is compiled.

    A folder that cannot be written is one line, and work goes on without it. Several
    processes may use a folder; of one run rank 0 alone writes. A cache that is set
    already, as by JAX_COMPILATION_CACHE_DIR, stays.

    There is no cache without `wanted`, and for several CPU devices: the collective
    operations of functions that were loaded deadlock there.
    """
    on_cpu = jax.default_backend() == "cpu"
    if not wanted or (on_cpu and jax.device_count() > 1):
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()
        return
    values = jax.config.values
    if (
        not values["jax_enable_compilation_cache"]
        or values["jax_compilation_cache_dir"]
    ):
        return
    folder = caches / FOLDER / _processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        remove_oldest(folder)
    except OSError as error:
        why = error.strerror
        _note(f"compiled functions are not kept: '{folder}' cannot be written ({why})")
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", SHORTEST)
    _handle_errors(folder)


def _note(line: str) -> None:
    console.show(f"[yellow]note[/yellow] {line}")


def _processor() -> str:
    """A folder for this kind of processor: code for another may not run here."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line for line in lines if line.startswith(("model name", "flags", "Feat"))]
    features = " ".join(sorted(set(named))) or platform.processor()
    return f"{platform.machine()}-{zlib.crc32(features.encode()):08x}"


def remove_oldest(folder: Path) -> None:
    """Removes the oldest entries where all have more than `MOST_BYTES`."""
    entries = sorted(folder.glob(ENTRIES), key=lambda p: p.stat().st_mtime)
    sizes = [entry.stat().st_size for entry in entries]
    for place, entry in enumerate(entries):
        if sum(sizes[place:]) > MOST_BYTES:
            files.remove(entry)


def _handle_errors(folder: Path) -> None:
    """Makes jax's warnings one line, and removes entries that it cannot read."""
    pattern = "Error (reading|writing) persistent compilation cache entry for '(.*?)':"
    shown = warnings.showwarning

    def show_warning(message: Any, *rest: Any, **options: Any) -> None:
        found = re.match(pattern, str(message))
        if found is None:
            shown(message, *rest, **options)
            return
        what, name = found.groups()
        if what == "writing":
            _note(f"'{folder}' cannot be written; go on without")
            return
        for entry in folder.glob(f"{glob.escape(name)}-{ENTRIES}"):
            files.remove(entry)
        _note(f"{name} in '{folder}' is damaged; compiling again")

    warnings.filterwarnings("always", message=pattern)
    warnings.showwarning = show_warning


_last = threading.local()  # `loaded`: whether this thread's last function was kept


@functools.cache
def _watch_cache() -> None:
    """Begins to note whether a function comes from the cache."""

    def note(event: str, **_: Any) -> None:
        if event == "/jax/compilation_cache/compile_requests_use_cache":
            _last.loaded = False
        if event == "/jax/compilation_cache/cache_hits":
            _last.loaded = True

    jax.monitoring.register_event_listener(note)


@contextmanager
def announced(what: str, *, show: bool = True) -> Iterator[None]:
    """Context of compiling; says that it begins and how long it took, with `show`."""
    if not show:
        yield
        return
    _watch_cache()
    console.show(f"Compiling {what}")
    start, _last.loaded = time.monotonic(), False
    yield
    how = "Loaded from the cache" if _last.loaded else "Compiled"
    console.show(f"{how} in {time.monotonic() - start:.1f} s: {what}")


def compiled(
    jitted: Any, *arguments: Any, what: str, remedy: str, show: bool = True
) -> tuple[Callable, Any]:
    """`jitted` compiled for such arguments, with a line about it, and its jaxpr.

    A lack of memory, now or in a call, is one line, as in `within_memory`.

    Args:
      arguments: arrays, or `jax.ShapeDtypeStruct`.
      what: what it computes.
      remedy: the keys to change.
      show: as that of `announced`.
    """
    with announced(what, show=show), explained(f"out of memory: {what}; {remedy}"):
        traced = jitted.trace(*arguments)
        made = traced.lower().compile()
    return within_memory(made, what=what, remedy=remedy), traced.jaxpr


def within_memory(
    compiled: Any, *, what: str, remedy: str, limit: int | None = None
) -> Callable:
    """`compiled`, for which a lack of memory is one line: what it needs, what to do.

    Raises InputError at once if it needs more than the device has, which is known for
    GPUs (`limit` in bytes replaces that).

    Args:
      compiled: of `jax.jit(f).lower(...).compile()`.
      what: what it computes.
      remedy: the keys to change.
    """
    need, device = memory_need(compiled), jax.local_devices()[0]
    has = limit or (device.memory_stats() or {}).get("bytes_limit")
    line = f"out of memory: {what} needs {need / GIB:.1f} GiB on each device"
    line += f", {device.device_kind} has {has / GIB:.1f} GiB" if has else ""
    line += f"; {remedy}"
    if has and need > has:
        raise InputError(line)

    def call(*arguments: Any) -> Any:
        with explained(line):
            return compiled(*arguments)

    return call


def memory_need(compiled: Any) -> int:
    """Bytes that a compiled function needs on a device: arguments, results, between."""
    found = compiled.memory_analysis()
    if found is None:
        return 0
    parts = ("argument", "output", "temp", "generated_code")
    total = sum(getattr(found, f"{part}_size_in_bytes", 0) for part in parts)
    return total - found.alias_size_in_bytes


@contextmanager
def explained(line: str) -> Iterator[None]:
    """Raises InputError with this line where XLA runs out of memory."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(line) from error
