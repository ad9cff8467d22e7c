"""Batches of a data set: shuffled, sharded over processes, exactly resumable.

The content of a batch depends only on (seed, position), and the augmentation of an
example only on (seed, epoch, example): not on the number of threads, workers or
processes, nor on interruptions of the run. The state of the iterator is one number, the
batches consumed, which is in the checkpoint.

Threads make single examples, so that a batch of any size takes all threads; with
`workers`, each process makes whole batches.
"""

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import groupby, islice
from typing import Any, NamedTuple

import cv2
import grain
import numpy as np
from absl import flags

from amlr_jax.data import augment
from amlr_jax.data.augment import Augmentation
from amlr_jax.data.prepared import Prepared
from amlr_jax.runtime import signals
from amlr_jax.runtime.errors import MAIN_GUARD, InputError
from amlr_jax.runtime.rules import AUTO
from amlr_jax.runtime.threads import keep_freed_memory, number_of_threads

# More than any run needs; the length of grain's endless repeat overflows.
EPOCHS = 10**6
_CAUSES = {  # by the exit code of a worker
    "-9": "a kill, mostly for lack of memory; lower data.workers",
    "-7": "a full /dev/shm; lower data.workers",
    "1": f"its error is above. If a script trains at its top level, {MAIN_GUARD}",
}
PARENT_CHECK_SECONDS = 1.0
# Changes an example with draws from a generator.
Change = Callable[[dict, np.random.Generator], dict]
Batch = dict[str, np.ndarray]


class Part(NamedTuple):
    """One of the data sets of a batch.

    `source` is a sequence of examples with their position as `index`, `change` augments
    one. It must be picklable if there are workers. `weight` is the set's part of all
    examples, and `start` the place of its first one among those of all sets.
    """

    source: Any
    change: Change
    weight: float = 1.0
    start: int = 0


def training_part(
    data: Prepared,
    setting: Augmentation,
    *,
    kb_crop: bool,
    weight: float = 1.0,
    start: int = 0,
) -> Part:
    """The augmented training frames of a data set.

    Their batches hold `image` uint8 [B, h, w, 3], `depth` float32 [B, h, w] in metres,
    `intrinsics` float32 [B, 4] in pixels of the image, and `index` int32 [B].
    """
    augment.check_crops(data.train_sizes, setting.crop, kb_crop=kb_crop)
    scale = data.depth_scale
    change = partial(_augmented, setting=setting, depth_scale=scale, kb_crop=kb_crop)
    return Part(data.train, change, weight, start)


def training_batches(
    data: Prepared, setting: Augmentation, *, kb_crop: bool, **options: Any
) -> Iterator[Batch]:
    """`endless` for the frames of one data set, of `training_part`."""
    return endless([training_part(data, setting, kb_crop=kb_crop)], **options)


def _augmented(
    example: dict,
    rng: np.random.Generator,
    *,
    setting: Augmentation,
    depth_scale: float,
    kb_crop: bool,
) -> dict:
    cropped = augment.cropped_example(example, kb_crop=kb_crop)
    return augment.augment(cropped, setting, rng, depth_scale=depth_scale)


def endless(
    parts: Sequence[Part],
    *,
    batch_size: int,
    seed: int,
    start: int = 0,
    process: tuple[int, int] = (0, 1),
    workers: int = 0,
    threads: int | str = AUTO,
) -> Iterator[Batch]:
    """Endless batches of augmented examples; each epoch has a different order.

    The sets of several parts take turns in a fixed pattern, so that their shares of any
    stretch of the run are those of their weights. `index` of an example is its place
    among those of all parts. Close the iterator when done.

    Args:
      parts: the data sets; an example is augmented with the generator of (seed, epoch,
        index).
      batch_size: of this process.
      seed: of the order and of the augmentation.
      start: number of the first batch.
      process: rank and world size. The batches of all ranks, concatenated, are the
        batch of a single process.
      workers: reading processes; 0 reads with threads alone.
      threads: reading threads of a process; "auto": one for each core that the process
        may use, 16 at most, and one in each of several workers.
    """
    keep_freed_memory()
    rank, world_size = process
    repeated = [_repeated(part, seed + place) for place, part in enumerate(parts)]
    examples = grain.MapDataset.mix(repeated, [part.weight for part in parts])
    if not workers:
        own = grain.MapDataset.range(start * batch_size, len(examples) // world_size)
        own = own.map(partial(_place, batch_size=batch_size, process=process))
        own = own.map(examples.__getitem__)
        # Two batches ahead: their examples are being made during the step of another.
        options = _read_options(number_of_threads(threads), least=2 * batch_size)
        return iter(own.to_iter_dataset(options).batch(batch_size))
    # grain 0.2.17 and 0.2.18 read an absl flag, which only app.run() parses.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    batches = examples.batch(batch_size)[rank::world_size][start:]
    each = 1 if threads == AUTO else number_of_threads(threads)
    batches = batches.to_iter_dataset(_read_options(each)).mp_prefetch(
        grain.MultiprocessingOptions(num_workers=workers), worker_init_fn=start_worker
    )
    return _with_worker_errors(iter(batches))


def _repeated(part: Part, seed: int) -> grain.MapDataset:
    """The augmented examples of all epochs, each in another order."""
    seed %= 2**32
    source, change, _, start = part
    change = partial(changed, change=change, seed=seed, count=len(source), start=start)
    examples = grain.MapDataset.source(source).seed(seed).shuffle()
    return examples.repeat(EPOCHS).map_with_index(change)


def _read_options(threads: int, *, least: int = 0) -> grain.ReadOptions:
    """Two elements for each thread, but `least`, are ready or in preparation."""
    return grain.ReadOptions(threads, max(2 * threads, least))


def _place(own: int, *, batch_size: int, process: tuple[int, int]) -> int:
    """Place among the examples of all processes of the one at `own` of a process's."""
    rank, world_size = process
    batch, row = divmod(own, batch_size)
    return (batch * world_size + rank) * batch_size + row


def changed(
    position: int,
    example: dict,
    *,
    change: Change,
    seed: int,
    count: int,
    start: int = 0,
) -> dict:
    """The augmented example at `position` in all epochs of `count` examples."""
    epoch, index = position // count, int(example["index"])
    made = change(example, np.random.default_rng([seed, epoch, index]))
    return made | {"index": np.int32(start + index)}


def _with_worker_errors(batches: grain.DatasetIterator) -> Iterator[Batch]:
    """The batches; a terminated worker process raises an InputError."""
    with closing(batches):
        try:
            yield from batches
        except RuntimeError as error:
            if "Worker process was terminated" not in str(error):
                raise
            text = str(error).split(". ")[0]
            status = re.search(r"exit code (-?\d+)", text)
            cause = _CAUSES.get(status[1] if status else "", "its error is above")
            raise InputError(
                f"data loading stopped: {text}: {cause}. The same command continues "
                "from the newest checkpoint"
            ) from error


def start_worker(index: int = 0, count: int = 1) -> None:
    """Prepares a worker process; grain calls it there (`worker_init_fn`).

    The worker ignores the signals of the run and exits when its parent exits, so that
    a killed run leaves no workers.
    """
    del index, count
    keep_freed_memory()
    cv2.setNumThreads(0)  # the other cores belong to the other workers
    # A terminal or SLURM sends signals to every process of a run. Only the main process
    # handles them: it saves, for which it may need more batches, and ends its workers.
    for ignored in signals.SIGNALS:
        signal.signal(ignored, signal.SIG_IGN)
    parent = os.getppid()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_SECONDS)
    os._exit(1)


def evaluation_batches(
    data: Prepared, *, batch_size: int, kb_crop: bool, threads: int | str = AUTO
) -> Iterator[Batch]:
    """The test frames in order, once; a batch holds frames of one size.

    Each batch is `augment.metric_example` stacked, with `key` an array of strings.
    """
    keep_freed_memory()
    read = partial(test_frame, data, kb_crop=kb_crop)
    dataset = grain.MapDataset.range(len(data.test)).map(read)
    options = _read_options(number_of_threads(threads))
    frames = iter(dataset.to_iter_dataset(options))
    for _, of_one_size in groupby(frames, key=lambda frame: frame["depth"].shape):
        while batch := list(islice(of_one_size, batch_size)):
            yield {name: np.stack([f[name] for f in batch]) for name in batch[0]}


def test_frame(data: Prepared, index: int, *, kb_crop: bool) -> dict:
    """One test frame for evaluation: `augment.metric_example`."""
    options: dict = {"depth_scale": data.depth_scale, "kb_crop": kb_crop}
    return augment.metric_example(data.test[index], **options)
