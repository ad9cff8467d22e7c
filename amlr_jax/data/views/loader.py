"""Batches of views, with the guarantees of `data.loader`.

What a batch holds depends on (seed, position) alone, and the change of a view on
(seed, epoch, view).
"""

from collections.abc import Iterator
from functools import partial

import numpy as np

from amlr_jax.data.loader import endless
from amlr_jax.data.storage import size_name
from amlr_jax.data.views.augment import ViewAugmentation, augment_view, check
from amlr_jax.data.views.prepare import PreparedViews
from amlr_jax.runtime.errors import InputError


def training_views(
    data: PreparedViews,
    setting: ViewAugmentation,
    *,
    batch_size: int,
    seed: int,
    start: int = 0,
    process: tuple[int, int] = (0, 1),
    workers: int = 0,
    threads: int = 2,
) -> Iterator[dict[str, np.ndarray]]:
    """Endless training batches from batch number `start` on.

    `batch_size` is this process's share; `process` is (index, count). `image` and
    `network_image` are uint8 [B, H, W, 3], `sources` and `network_sources` uint8
    [B, S, H, W, 3] with the sources at `data.offsets`, `intrinsics` float32 [B, 4] in
    pixels of the image, `index` int32 [B] the places in `data.train`; with stereo also
    `partner` uint8 [B, H, W, 3] and `partner_from_target` float32 [B, 3] in metres.
    Close the iterator when done.
    """
    check(setting)
    _check(data)
    return endless(
        data.train,
        partial(_augmented, setting=setting),
        batch_size=batch_size,
        seed=seed,
        start=start,
        process=process,
        workers=workers,
        threads=threads,
    )


def _augmented(
    view: dict, rng: np.random.Generator, *, setting: ViewAugmentation
) -> dict:
    changed = augment_view(view, setting, rng)
    del changed["key"]
    return {**changed, "index": np.int32(view["index"])}


def _check(data: PreparedViews) -> None:
    if not len(data.train):
        raise InputError(f"data.split={data.split} leaves no training view")
    sizes = data.train.sizes
    if len(sizes) > 1:
        names = ", ".join(map(size_name, sizes))
        raise InputError(
            f"a batch holds images of one size, the views are of {names}; set "
            "--config.data.size='(192, 640)'"
        )
