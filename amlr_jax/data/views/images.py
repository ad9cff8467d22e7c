"""The tensorflow-datasets builder of the images that views are made of."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from amlr_jax.data import images
from amlr_jax.data.prepared.builder import SetBuilder, SetConfig
from amlr_jax.data.prepared.shards import write_split
from amlr_jax.data.storage import Size, Storage, encode_png, image_feature

_THREADS = 16  # more would hold many images and wait for the disk


@dataclasses.dataclass(kw_only=True)
class ImagesConfig(SetConfig):
    """Names a set of images, each once, by the fingerprint of its files."""

    paths: tuple[Path, ...] = dataclasses.field(default=(), repr=False)


class ViewImages(SetBuilder):
    """The images in the order of `paths`; `sizes` of the files as runs of a size."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return self.set_info({"image": image_feature(self.builder_config.storage)})

    def _download_and_prepare(self, dl_manager, download_config=None) -> None:
        """What tfds calls to fill a folder that it renames when all is written."""
        del dl_manager, download_config
        paths, storage = self.builder_config.paths, self.builder_config.storage
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
    picture = images.decode_image(path, data)
    if how.resize:
        picture = picture.resize(how.resize[::-1], Image.Resampling.LANCZOS)
    kept = np.array(picture)
    return kept if how.decoded else encode_png(kept)


def _bytes_of(paths: Sequence[Path], storage: Storage) -> int:
    if storage.resize:
        return 3 * len(paths) * storage.resize[0] * storage.resize[1]
    return sum(path.stat().st_size for path in paths)
