"""Images grouped and in chunks, and the depth of a batch of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from amlr_jax.runtime.errors import InputError


def chunks(items: Iterable, size: int) -> Iterator[list]:
    """Lists of `size` items; the last may be shorter.

    >>> list(chunks("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    items = iter(items)
    while chunk := list(islice(items, size)):
        yield chunk


def group(items: Iterable, key: Callable[[Any], Any]) -> list[list]:
    """Items of one key together, in the order in which the keys first appear.

    >>> group([1, 3, 2, 5], key=lambda n: n % 2)
    [[1, 3, 5], [2]]
    """
    groups: dict = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def depths(
    predict: Callable[[np.ndarray], np.ndarray],
    images: Sequence[np.ndarray],
    *,
    batch: int,
) -> list[np.ndarray]:
    """Depth [H, W] of each image uint8 [H, W, 3]; all of one size.

    The last image is repeated up to `batch` images, so that a shorter batch is not
    compiled again. InputError if depth is not finite.
    """
    missing = max(batch - len(images), 0)
    filled = np.stack([*images, *[images[-1]] * missing])
    height, width = filled.shape[1:3]
    found = predict(filled)[: len(images)]
    if not np.isfinite(found).all():
        raise InputError(
            f"the network gives depth that is not finite for {width} x {height} pixels"
        )
    return list(found)
