"""The common parts of prepared sets: builder, lock, and array_record shards.

The writer of tensorflow-datasets keeps a split of more than 1 GB in a temporary file
that only TensorFlow can open, and sorts it in memory. Here examples are in order, so
each is written directly to its shard, with one example in memory.
"""

import abc
import contextlib
import dataclasses
import io
import os
import shutil
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, islice, pairwise
from pathlib import Path
from typing import Any, TypeVar

import tensorflow_datasets as tfds
from absl import logging
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter

from amlr_jax.data.storage import AS_THE_FILES, Storage
from amlr_jax.runtime import paths
from amlr_jax.runtime.console import bar
from amlr_jax.runtime.errors import InputError
from amlr_jax.runtime.locking import only_one
from amlr_jax.runtime.threads import in_order, keep_freed_memory, number_of_threads

SHARD_BYTES = 512 * 2**20  # approximate size of a shard


def cache_folder(given: str) -> Path:
    """`config.data.cache`; by default $AMLR_JAX_CACHE, or amlr_jax in ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    default = os.environ.get("AMLR_JAX_CACHE") or Path(home) / "amlr_jax"
    return paths.expanded(given or default).absolute()


@dataclasses.dataclass(kw_only=True)
class SetConfig(tfds.core.BuilderConfig):
    """Name, storage and source (a layout, or paths of images) of a prepared set."""

    storage: Storage = AS_THE_FILES
    # No repr, because tfds logs the whole configuration.
    source: Any = dataclasses.field(default=None, repr=False)
    advance: Callable[[], None] | None = dataclasses.field(default=None, repr=False)


class _LocalInfo(tfds.core.DatasetInfo):
    """A description that tensorflow-datasets does not look up in its public bucket.

    The look-up would send the name of the user's set, and leave a folder in /tmp.
    """

    def initialize_from_bucket(self) -> None:
        pass


class SetBuilder(tfds.core.GeneratorBasedBuilder):
    """Base of builders that write their splits in `fill`.

    tensorflow-datasets gives them a temporary folder, which it renames at the end.
    """

    def set_info(self, features: dict) -> tfds.core.DatasetInfo:
        """The description of a set whose examples keep the order of writing."""
        return _LocalInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    _split_generators = _generate_examples = None  # not used, see above

    @abc.abstractmethod
    def fill(self) -> None:
        """Writes the splits and describes them in `info`."""

    def _download_and_prepare(
        self, dl_manager: Any, download_config: Any = None
    ) -> None:
        del dl_manager, download_config
        keep_freed_memory()
        # Not in a generator: one that an error leaves suspended is closed whenever
        # garbage is collected, and waits for its threads there.
        with ThreadPoolExecutor(number_of_threads()) as self._pool:
            self.fill()

    def read_in_threads(self, read: Callable, items: Iterable) -> Iterator:
        """`read` of each item, in order; a few are read ahead."""
        for found in in_order(self._pool, read, items, ahead=number_of_threads()):
            self.builder_config.advance()
            yield found

    def write_split(
        self, name: str, records: Iterable[bytes], *, count: int, size: int
    ) -> tfds.core.SplitInfo:
        """Writes `count` records of about `size` bytes in total.

        Raises RuntimeError if a file cannot be written, for example on a full disk.
        """
        template = self._get_filename_template(name)
        number = max(1, min(-(-size // SHARD_BYTES), count))
        bounds = [count * k // number for k in range(number + 1)]
        # A fast level: an image's file does not shrink, and its sparse depth easily.
        decoded = self.builder_config.storage.decoded
        options = f"group_size:1,{'uncompressed' if decoded else 'zstd:-3'}"
        records, lengths, total = iter(records), [], 0
        for shard, (first, last) in enumerate(pairwise(bounds)):
            path = template.sharded_filepath(shard_index=shard, num_shards=number)
            part = islice(records, last - first)
            length, written = _write_shard(path, part, options)
            lengths.append(length)
            total += written
        return tfds.core.SplitInfo(
            name=name,
            shard_lengths=lengths,
            num_bytes=total,
            filename_template=template,
        )


def _write_shard(path: Path, records: Iterator[bytes], options: str) -> tuple[int, int]:
    lengths = []
    with contextlib.closing(ArrayRecordWriter(str(path), options)) as writer:
        for record in records:
            writer.write(record)
            lengths.append(len(record))
    return len(lengths), sum(lengths)


Builder = TypeVar("Builder", bound=SetBuilder)


def prepared_builder(
    kind: type[Builder], config: SetConfig, cache: Path, title: str, total: int
) -> Builder:
    """The builder of a set under `cache`, which is prepared if it does not exist.

    A bar with this title shows the files. With several processes one prepares and the
    others wait. Raises InputError as `kind` does, and for a full disk and a damaged
    prepared set.
    """
    builder = _opened(kind, config, cache)
    if not builder.is_prepared():
        path, doing = cache / f"{config.name}.lock", f"prepare {config.name}"
        with only_one(path, doing=doing, key="data.cache"):
            builder = _opened(kind, config, cache)
            if not builder.is_prepared():
                with bar(title, total) as progress:
                    _fill(builder, cache, progress.advance)
    return builder


def is_prepared(kind: type[Builder], config: SetConfig, cache: Path) -> bool:
    """Whether the set exists under `cache`."""
    return _opened(kind, config, cache).is_prepared()


def _opened(kind: type[Builder], config: SetConfig, cache: Path) -> Builder:
    # tfds warns that the configuration is not in its catalogue.
    logging.set_verbosity(logging.ERROR)
    try:
        return kind(data_dir=cache, config=config, file_format="array_record")
    # tfds has no specific exception for a damaged JSON of an earlier preparation.
    except Exception as error:
        raise damaged(cache / kind.name / config.name, str(error)) from error


def _fill(builder: SetBuilder, cache: Path, advance: Callable) -> None:
    # This process holds the lock, so an unfinished folder is from a killed process.
    for folder in Path(builder.data_dir).parent.glob("incomplete.*"):
        shutil.rmtree(folder, ignore_errors=True)
    # Ours replaces the bars of tfds and its messages on stdout.
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.builder_config.advance = advance
            builder.download_and_prepare()
    except InputError:
        raise
    # array_record reports a full disk, and tfds everything else, as RuntimeError.
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"cannot prepare the data under '{cache}': {' '.join(str(error).split())}; "
            "choose another folder with --config.data.cache=DIR"
        ) from error


class Records:
    """A split as a sequence of decoded examples; a damaged record is an InputError.

    Holds the files and the features but not the builder, so that it is picklable for
    worker processes.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str) -> None:
        info = builder.info.splits[split]
        self._folder = Path(builder.data_dir)
        self._features = builder.info.features
        self._paths = [Path(path) for path in info.filepaths]
        self._ends = list(accumulate(info.shard_lengths))
        lost = [path.name for path in self._paths if not path.is_file()]
        if lost:
            raise damaged(self._folder, f"{', '.join(lost[:3])} missing")
        try:
            self._source = ArrayRecordDataSource(self._paths)
        # array_record raises only ValueError and RuntimeError.
        except (ValueError, RuntimeError, OSError) as error:
            raise damaged(self._folder, str(error)) from error
        if len(self._source) != len(self):
            text = f"{len(self._source)} of {len(self)} records"
            raise damaged(self._folder, text)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < len(self):
            raise IndexError(index)  # ends a `for` over the sequence
        try:
            return self._features.deserialize_example_np(self._source[index])
        # The readers have no specific exception: a truncated shard gives
        # RuntimeError or a record of None, a flipped bit RuntimeError or cv2.error.
        except Exception as error:
            shard = self._paths[bisect_right(self._ends, index)]
            text = f"{shard.name}, record {index}: {error}"
            raise damaged(self._folder, text) from error


def damaged(folder: str | Path, text: str) -> InputError:
    """The error for a damaged prepared set."""
    return InputError(
        f"prepared data in '{folder}' is damaged ({' '.join(text.split())}); delete "
        "that folder and run the same command again to prepare the data"
    )
