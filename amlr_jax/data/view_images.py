"""The tensorflow-datasets builder of the images that views are made of."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from amlr_jax.data import images
from amlr_jax.data.shards import write_split
from amlr_jax.data.storage import (
    AS_THE_FILES,
    Size,
    Storage,
    _png,
    array,
    image_file,
)

_THREADS = 16  # more would hold many images and wait for the disk


class Files(NamedTuple):
    """The images of a set of views, each once; named as the parts of a `Layout`."""

    name: str
    train: tuple[Path, ...]
    test: tuple[Path, ...] = ()


@dataclasses.dataclass(kw_only=True)
class ImagesConfig(tfds.core.BuilderConfig):
    """Names a set of images by the fingerprint of its files."""

    # Not shown: tfds logs the whole configuration.
    layout: Files | None = dataclasses.field(default=None, repr=False)
    storage: Storage = AS_THE_FILES
    advance: Callable[[], None] | None = dataclasses.field(default=None, repr=False)


class ViewImages(tfds.core.GeneratorBasedBuilder):
    """The images in the order of `Files`; `sizes` of the files as runs of a size."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        decoded = self.builder_config.storage.decoded
        features = {"image": array(3, np.uint8) if decoded else image_file()}
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager):
        raise RuntimeError("_download_and_prepare writes the split itself")

    _generate_examples = _split_generators

    def _download_and_prepare(self, dl_manager, download_config=None) -> None:
        """What tfds calls to fill a folder that it renames when all is written."""
        del dl_manager, download_config
        paths, storage = self.builder_config.layout.train, self.builder_config.storage
        sizes: list[Size] = []
        split = write_split(
            self._get_filename_template("images"),
            self._records(paths, sizes),
            count=len(paths),
            size=_bytes_of(paths, storage),
        )
        self.info.set_splits(tfds.core.splits.SplitDict([split]))
        runs = [[len(list(group)), *size] for size, group in groupby(sizes)]
        self.info.metadata.update(sizes=runs)

    def _records(self, paths: Sequence[Path], sizes: list[Size]) -> Iterator[bytes]:
        """The records in order; Pillow works in threads, a few images ahead."""
        workers = min(os.cpu_count() or 1, _THREADS)
        ahead = 4 * workers  # so many images are in memory
        with ThreadPoolExecutor(workers) as pool:
            for first in range(0, len(paths), ahead):
                for size, record in pool.map(self._record, paths[first:][:ahead]):
                    sizes.append(size)
                    self.builder_config.advance()
                    yield record

    def _record(self, path: Path) -> tuple[Size, bytes]:
        data = images.read(path, what="image")
        size = images.check_image(path, data)
        kept = stored_image(path, data, self.builder_config.storage)
        return size, self.info.features.serialize_example({"image": kept})


def stored_image(path: Path, data: bytes, how: Storage) -> bytes | np.ndarray:
    """A checked image file as it is kept: its bytes, its pixels, or a PNG of them.

    Resized with Pillow's LANCZOS as monodepth2 does: its support grows as the image
    shrinks, so that every pixel of the file counts.
    """
    if not (how.decoded or how.resize):
        return data
    with images._opened(path, data, what="image") as picture:
        images._guarded(path, "image", picture.load)
        if how.resize:
            picture = picture.resize(how.resize[::-1], Image.Resampling.LANCZOS)
        kept = np.array(picture)
    return kept if how.decoded else _png(kept)


def _bytes_of(paths: Sequence[Path], storage: Storage) -> int:
    if storage.resize:
        return 3 * len(paths) * storage.resize[0] * storage.resize[1]
    return sum(path.stat().st_size for path in paths)
