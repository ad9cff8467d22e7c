"""Views prepared for random access: each image is stored once, views are indices.

A frame is the target of one view and a source of two others, so each image is stored
once. The set of images is named by the fingerprint of its files, as in `prepared`:
views of the same files with other cameras or sources reuse it. Images are stored
resized and decoded, because loading limits the speed of training.
"""

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from amlr_jax.data import images
from amlr_jax.data.frames import Contents, Sequences, View, contents
from amlr_jax.data.prepared import shards
from amlr_jax.data.storage import Size, Storage, image_feature
from amlr_jax.data.views.index import Views, check_views
from amlr_jax.runtime.errors import InputError


class PreparedViews(NamedTuple):
    """Training views with random access, `train[i]`, and their files."""

    train: Views
    views: tuple[View, ...]

    def contents(self, part: str) -> Contents:
        """The views of "train"."""
        assert part == "train", "the test frames are of another set"
        return contents(self.views)


def prepare_views(
    sequences: Sequences,
    *,
    cache: Path,
    size: Size | None = (192, 640),
    stereo: bool = False,
    camera: str = "file",
) -> PreparedViews:
    """Prepares the training images of `sequences` under `cache`, or reuses them.

    They are stored at `size` (height, width; None or (): not resized). With `stereo` a
    view has its partner. `camera` is `file` for the calibration's, or `monodepth2`
    (`index.camera_of`).

    Raises InputError for a damaged file, a full disk, a damaged prepared set, and a
    view whose images differ in size or that lacks its camera or partner.
    """
    views = sequences.train
    if not views:
        raise InputError(f"data.split={sequences.split} leaves no training view")
    check_views(views, stereo=stereo, camera=camera)
    found = {path for view in views for path in (view.image, *view.sources)}
    found |= {view.partner for view in views if stereo and view.partner}
    paths = tuple(sorted(found))
    storage = Storage(decoded=True, resize=size or None)
    name = f"{sequences.name}-{_fingerprint(paths)}{storage.tag}"
    config = shards.SetConfig(name=name, source=paths, storage=storage)
    title = f"Preparing {sequences.name}"
    made = shards.prepared_builder(ViewImages, config, cache, title, len(paths))
    images, sizes = shards.Records(made, "images"), _file_sizes(made, len(paths))
    options: dict = {"size": storage.resize, "stereo": stereo, "camera": camera}
    return PreparedViews(Views(images, views, paths, sizes, **options), views)


def _fingerprint(paths: Sequence[Path]) -> str:
    """A hash of the files, twelve hexadecimal digits."""
    common = Path(os.path.commonpath([path.parent for path in paths]))
    digest = hashlib.sha256()
    for path in paths:
        try:
            stat = path.stat()
        except OSError as error:
            text = f"image '{path}' cannot be read: {error.strerror}"
            raise InputError(text) from error
        name = path.relative_to(common).as_posix()
        digest.update(repr((name, stat.st_size, stat.st_mtime_ns)).encode())
    return digest.hexdigest()[:12]


class ViewImages(shards.SetBuilder):
    """The images in the order of the paths; `sizes` of the files, run-length coded."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return self.set_info({"image": image_feature(self.builder_config.storage)})

    def fill(self) -> None:
        """Writes "images"."""
        paths, sizes = self.builder_config.source, []
        if resize := self.builder_config.storage.resize:
            size = 3 * len(paths) * math.prod(resize)
        else:
            size = sum(path.stat().st_size for path in paths)
        records = self._records(paths, sizes)
        split = self.write_split("images", records, count=len(paths), size=size)
        self.info.set_splits(tfds.core.splits.SplitDict([split]))
        runs = [[len(list(group)), *size] for size, group in groupby(sizes)]
        self.info.metadata.update(sizes=runs)

    def _records(self, paths: Sequence[Path], sizes: list[Size]) -> Iterator[bytes]:
        """The records in order; adds the sizes of the files to `sizes`."""
        for size, record in self.read_in_threads(self._record, paths):
            sizes.append(size)
            yield record

    def _record(self, path: Path) -> tuple[Size, bytes]:
        size, pixels = read_pixels(path, self.builder_config.storage.resize)
        return size, self.info.features.serialize_example({"image": pixels})


def read_pixels(path: Path, size: Size | None) -> tuple[Size, np.ndarray]:
    """Height and width of an image file, and its pixels uint8 [h, w, 3] at `size`.

    Resized with Pillow's LANCZOS as in monodepth2, which is antialiased. InputError for
    a file that is not an intact RGB image.
    """
    pixels = images.read_rgb(path)
    if not size:
        return pixels.shape[:2], pixels
    picture = Image.fromarray(pixels).resize(size[::-1], Image.Resampling.LANCZOS)
    return pixels.shape[:2], np.array(picture)


def _file_sizes(builder: ViewImages, count: int) -> np.ndarray:
    """Height and width of each image file, int [count, 2], from their run lengths."""
    runs = np.array(builder.info.metadata.get("sizes", ()), int).reshape(-1, 3)
    if runs[:, 0].sum() != count:
        raise shards.damaged(builder.data_dir, "metadata.json is not whole")
    return np.repeat(runs[:, 1:], runs[:, 0], axis=0)
