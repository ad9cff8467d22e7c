"""Threads that read, compute and write ahead, and the memory that they reuse."""

import ctypes
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor

from amlr_jax.runtime.cluster import cores
from amlr_jax.runtime.rules import AUTO

# Python runs one thread at a time, which is a tenth of the work on an example.
MOST_THREADS = 16
# Of mallopt(3): the option, and the bytes up to which freed memory is kept.
_M_TRIM_THRESHOLD, _TRIM_BYTES = -1, 2**29
_M_MMAP_THRESHOLD, _MMAP_BYTES = -3, 2**25  # the most that glibc takes


def number_of_threads(threads: int | str = AUTO) -> int:
    """The number itself, or for "auto" that of the cores, 16 at most."""
    return min(cores(), MOST_THREADS) if threads == AUTO else int(threads)


def in_order(
    pool: Executor, function: Callable, items: Iterable, *, ahead: int
) -> Iterator:
    """`function` of each item, in order; up to `ahead` results are computed in advance.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(2) as pool:
    ...     list(in_order(pool, abs, [-1, -2, 3], ahead=1))
    [1, 2, 3]
    """
    waiting: deque = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # of a result that is an error, or is not wanted any more
        for future in waiting:
            future.cancel()


def keep_freed_memory() -> None:
    """Lets glibc keep freed memory for the next image; without glibc does nothing.

    By default arrays of an image's size go back to the system when they are freed, and
    each new one is made of new pages, which takes longer than to read a decoded image.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option:
        set_option(_M_TRIM_THRESHOLD, _TRIM_BYTES)
        set_option(_M_MMAP_THRESHOLD, _MMAP_BYTES)
