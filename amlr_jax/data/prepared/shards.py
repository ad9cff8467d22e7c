"""array_record shards: written in one pass, read with what is damaged named.

The writer of tensorflow-datasets keeps a split of more than 1 GB in a temporary file
that only TensorFlow can open, and sorts all of it in memory. Our frames come in order,
so each goes straight to its shard, and memory holds one of them.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate, islice, pairwise
from pathlib import Path

import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter

from amlr_jax.runtime.errors import InputError

SHARD_BYTES = 512 * 2**20  # about so large is a shard


def write_split(
    template,
    records: Iterable[bytes | None],
    *,
    count: int,
    size: int,
) -> tfds.core.SplitInfo:
    """Writes `count` records, about `size` bytes together; None is left out.

    `template` is the tensorflow-datasets file name template of the split. Raises
    RuntimeError if a file cannot be written, a full disk included.
    """
    number = max(1, min(-(-size // SHARD_BYTES), count))
    bounds = [count * k // number for k in range(number + 1)]
    records, lengths, total = iter(records), [], 0
    for shard, (first, last) in enumerate(pairwise(bounds)):
        path = template.sharded_filepath(shard_index=shard, num_shards=number)
        part = islice(records, last - first)
        length, written = _write_shard(path, part)
        lengths.append(length)
        total += written
    return tfds.core.SplitInfo(
        name=template.split,
        shard_lengths=lengths,
        num_bytes=total,
        filename_template=template,
    )


def _write_shard(path, records: Iterator[bytes | None]) -> tuple[int, int]:
    length = written = 0
    writer = ArrayRecordWriter(str(path), "group_size:1")
    try:
        for record in records:
            if record is not None:
                writer.write(record)
                length += 1
                written += len(record)
    finally:
        writer.close()
    return length, written


class Records:
    """A split as a sequence of decoded examples; a damaged record is an InputError.

    Holds the files and the features and not the builder, which a worker process would
    have to make anew.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str) -> None:
        info = builder.info.splits[split]
        self._folder = Path(builder.data_dir)
        self._features = builder.info.features
        self._paths = [Path(path) for path in info.filepaths]
        self._ends = list(accumulate(info.shard_lengths))
        lost = [path.name for path in self._paths if not path.is_file()]
        if lost:
            raise self._damaged(f"{', '.join(lost[:3])} missing")
        try:
            self._source = ArrayRecordDataSource(self._paths)
        # array_record knows only ValueError and RuntimeError.
        except (ValueError, RuntimeError, OSError) as error:
            raise self._damaged(str(error)) from error
        if len(self._source) != len(self):
            raise self._damaged(f"{len(self._source)} of {len(self)} records")

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < len(self):
            raise IndexError(index)  # ends a `for` over the sequence
        try:
            return self._features.deserialize_example_np(self._source[index])
        # The readers below have no exception of their own: a shard cut off gives
        # RuntimeError or a record of None, a flipped bit RuntimeError or cv2.error.
        except Exception as error:
            shard = self._paths[bisect_right(self._ends, index)]
            text = f"{shard.name}, record {index}: {error}"
            raise self._damaged(text) from error

    def _damaged(self, text: str) -> InputError:
        return damaged(self._folder, text)


def damaged(folder, text: str) -> InputError:
    """What to say of a prepared set in which something is not as it was written."""
    return InputError(
        f"prepared data in '{folder}' is damaged ({' '.join(text.split())}); delete "
        "that folder and run the same command again: it is prepared anew"
    )
