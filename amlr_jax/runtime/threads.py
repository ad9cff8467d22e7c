"""Threads that read, compute and write ahead, and the memory that they reuse."""

import ctypes
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor

# Of mallopt(3): the option, and the bytes up to which freed memory is kept.
_M_TRIM_THRESHOLD, _TRIM_BYTES = -1, 2**29
_M_MMAP_THRESHOLD, _MMAP_BYTES = -3, 2**25  # the most that glibc takes


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
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def keep_freed_memory() -> None:
    """Lets glibc keep freed memory for the next image; without glibc does nothing.

    By default arrays of an image's size go back to the system when they are freed, and
    each new one is made of new pages, which takes longer than to read a decoded image.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option:
        set_option(_M_TRIM_THRESHOLD, _TRIM_BYTES)
        set_option(_M_MMAP_THRESHOLD, _MMAP_BYTES)
