"""Batches of views, with the guarantees of `loader`.

What a batch holds depends on (seed, position) alone, and the change of a view on
(seed, epoch, view).
"""

from collections.abc import Iterator

import grain
import numpy as np
from absl import flags

from amlr_jax.data.loader import EPOCHS, _Batches
from amlr_jax.data.storage import size_name
from amlr_jax.data.view_augment import ViewAugmentation, augment_view, check
from amlr_jax.data.views import PreparedViews
from amlr_jax.errors import InputError


class _Augment(grain.transforms.MapWithIndex):
    """Draws from a generator of its own for each (seed, epoch, view)."""

    def __init__(self, setting: ViewAugmentation, *, seed: int, views: int) -> None:
        self._setting, self._seed, self._views = setting, seed, views

    def map_with_index(self, index: int, view: dict) -> dict:
        epoch = index // self._views
        rng = np.random.default_rng([self._seed, epoch, view["index"]])
        changed = augment_view(view, self._setting, rng)
        del changed["key"]
        return {**changed, "index": np.int32(view["index"])}


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
    pixels of the image, `index` int32 [B]; with stereo also `partner` uint8
    [B, H, W, 3] and `partner_from_target` float32 [B, 3] in metres. Close the iterator
    when done.
    """
    check(setting)
    _check(data, seed)
    index, count = process
    dataset = (
        grain.MapDataset.source(data.train)
        .seed(seed)
        .shuffle()
        .repeat(EPOCHS)  # a new order in each epoch
        .map_with_index(_Augment(setting, seed=seed, views=len(data.train)))[
            index::count
        ]
        .batch(batch_size)[start:]
    )
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2)
    batches = dataset.to_iter_dataset(options)
    if workers:
        # grain 0.2.17 and 0.2.18 read a flag of theirs that only app.run() parses.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    return _Batches(iter(batches))


def _check(data: PreparedViews, seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise InputError(f"seed must be from 0 to 2**32 - 1, got {seed}")
    if not len(data.train):
        raise InputError(f"data.split={data.split} leaves no training view")
    sizes = data.train.sizes
    if len(sizes) > 1:
        names = ", ".join(map(size_name, sizes))
        raise InputError(
            f"a batch holds images of one size, the views are of {names}; set "
            "--config.data.size='(192, 640)'"
        )
