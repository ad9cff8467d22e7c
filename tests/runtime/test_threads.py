"""Results come in order, and arrays reuse the memory of freed ones."""

import platform
import resource
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from amlr_jax.runtime import threads


def test_in_order_and_never_far_ahead():
    taken, lock = [], threading.Lock()

    def items():
        for number in range(20):
            with lock:
                taken.append(number)
            yield number

    with ThreadPoolExecutor(4) as pool:
        found = threads.in_order(pool, lambda n: n * n, items(), ahead=3)
        for number, square in enumerate(found):
            assert square == number**2
            assert len(taken) <= number + 4


def test_what_a_worker_raises_arrives_and_what_waits_is_not_begun():
    begun, error_was_seen = [], threading.Event()

    def divide(number):
        begun.append(number)
        if number > 1:
            error_was_seen.wait(timeout=30)
        return 1 // number

    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(ZeroDivisionError):
            list(threads.in_order(pool, divide, [1, 0, 2, 3, 4], ahead=4))
        error_was_seen.set()
    assert {3, 4}.isdisjoint(begun)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_arrays_of_a_thread_reuse_freed_memory():
    """At most the first examples take new pages; by default most do."""

    def pages(arrays=100, size=2_300_000):
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        for _ in range(arrays):
            [np.ones(size, np.uint8) for _ in range(4)]
        taken = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before
        return taken / (arrays * 4 * size / resource.getpagesize())

    threads.keep_freed_memory()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(pages).result() < 0.05
