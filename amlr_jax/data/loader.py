"""Batches of a prepared data set: shuffled, sharded by process, resumable exactly.

What a batch holds depends on (seed, position) alone, and the change of a frame on
(seed, epoch, frame): not on the number of threads, workers or processes, and not on
where the run was interrupted. So the state of the iterator is one number, the batches
consumed, and it travels in the checkpoint.

Batches are made ahead of the step: two by the reading threads, or one by each worker
process. The loop fetches the next batch and puts it on the device while the device is
at work on the last, so nothing else need run ahead there.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from typing import Any

import grain
import numpy as np
from absl import flags

from amlr_jax.data import worker
from amlr_jax.data.augment import (
    Augmentation,
    augment,
    check,
    cropped_example,
    metric_example,
)
from amlr_jax.data.prepared import Prepared
from amlr_jax.runtime.errors import InputError

# More than any run; grain's own endless repeat overflows its length.
EPOCHS = 10**6
# An example and the generator to draw from, to the example as it goes into a batch.
Change = Callable[[dict, np.random.Generator], dict]


class _Metric(grain.transforms.Map):
    def __init__(self, *, depth_scale: float, kb_crop: bool) -> None:
        self._options = {"depth_scale": depth_scale, "kb_crop": kb_crop}

    def map(self, example: dict) -> dict:
        return metric_example(example, **self._options)


class Draw(grain.transforms.MapWithIndex):
    """Changes by a generator of its own for each (seed, epoch, example)."""

    def __init__(self, change: Change, *, seed: int, examples: int) -> None:
        self._change, self._seed, self._examples = change, seed, examples

    def map_with_index(self, index: int, example: dict) -> dict:
        """The example at a place of all epochs, laid end to end."""
        epoch = index // self._examples
        rng = np.random.default_rng([self._seed, epoch, int(example["index"])])
        return self._change(example, rng)


class _Batches:
    """The batches, with the end of a worker process as an error of one line."""

    def __init__(self, batches: grain.DatasetIterator) -> None:
        self._batches = batches
        self.close = batches.close

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        try:
            return next(self._batches)
        except RuntimeError as error:
            if "Worker process was terminated" not in str(error):
                raise
            text = str(error).split(". ")[0]
            raise InputError(
                f"data loading stopped: {text}. -9 is a kill, mostly for want of "
                "memory, -7 a full /dev/shm: lower data.workers. The same command goes "
                "on from the newest checkpoint"
            ) from error


def training_batches(
    data: Prepared,
    setting: Augmentation,
    *,
    batch_size: int,
    seed: int,
    kb_crop: bool,
    start: int = 0,
    process: tuple[int, int] = (0, 1),
    workers: int = 0,
    threads: int = 2,
) -> Iterator[dict[str, np.ndarray]]:
    """Endless training batches from batch number `start` on.

    `batch_size` is this process's share; `process` is (index, count): the processes'
    shares one behind the other are the batch of a single process. `image` is uint8
    [B, h, w, 3], `depth` float32 [B, h, w] metres, `intrinsics` float32 [B, 4] in
    pixels of the image, `index` int32 [B] the places in `data.train`. Close the
    iterator when done.
    """
    check(setting)
    options = {"depth_scale": data.depth_scale, "kb_crop": kb_crop}
    return endless(
        data.train,
        partial(_augmented, setting=setting, **options),
        batch_size=batch_size,
        seed=seed,
        start=start,
        process=process,
        workers=workers,
        threads=threads,
    )


def _augmented(
    example: dict,
    rng: np.random.Generator,
    *,
    setting: Augmentation,
    depth_scale: float,
    kb_crop: bool,
) -> dict:
    cropped = cropped_example(example, kb_crop=kb_crop)
    return augment(cropped, setting, rng, depth_scale=depth_scale)


def endless(
    source: Any,
    change: Change,
    *,
    batch_size: int,
    seed: int,
    start: int,
    process: tuple[int, int],
    workers: int,
    threads: int,
) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches of a sequence of examples, from batch number `start` on.

    Each epoch has an order of its own. `change` must be picklable for `workers`, and
    an example has its place in `source` as `index`. The others: `training_batches`.
    """
    if not 0 <= seed < 2**32:
        raise InputError(f"seed must be from 0 to 2**32 - 1, got {seed}")
    index, count = process
    dataset = (
        grain.MapDataset.source(source)
        .seed(seed)
        .shuffle()
        .repeat(EPOCHS)
        .map_with_index(Draw(change, seed=seed, examples=len(source)))
        .batch(batch_size)[index::count][start:]
    )
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2)
    batches = dataset.to_iter_dataset(options)
    if workers:
        # grain 0.2.17 and 0.2.18 read a flag of theirs that only app.run() parses.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        batches = batches.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers),
            worker_init_fn=worker.prepare,
        )
    return _Batches(iter(batches))


def evaluation_batches(
    data: Prepared, *, batch_size: int, kb_crop: bool, threads: int = 2
) -> Iterator[dict[str, np.ndarray]]:
    """The test frames in order, once; a batch holds frames of one size."""
    dataset = grain.MapDataset.source(data.test).map(
        _Metric(depth_scale=data.depth_scale, kb_crop=kb_crop)
    )
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2)
    frames = iter(dataset.to_iter_dataset(options))
    for _, alike in groupby(frames, key=lambda frame: frame["depth"].shape):
        waiting: list[dict] = []
        for frame in alike:
            waiting.append(frame)
            if len(waiting) == batch_size:
                yield _stacked(waiting)
                waiting = []
        if waiting:
            yield _stacked(waiting)


def test_frame(data: Prepared, index: int, *, kb_crop: bool) -> dict:
    """One test frame as evaluated, with its `key`."""
    example = data.test[index]
    frame = metric_example(example, depth_scale=data.depth_scale, kb_crop=kb_crop)
    return {**frame, "key": example["key"].decode()}


def _stacked(frames: list[dict]) -> dict[str, np.ndarray]:
    return {name: np.stack([f[name] for f in frames]) for name in frames[0]}
