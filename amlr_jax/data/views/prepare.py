"""Views for self-supervised training, prepared: an image with its neighbours.

A frame is the target of one view and a source of two others, so each image is kept
once and a view is a row of numbers. The set of images is named by the fingerprint of
its files, as in `prepared`: other cameras or sources on the same files reuse it.
Images are kept resized and decoded, since loading is what training waits for.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from amlr_jax.data.frames import Sequences
from amlr_jax.data.prepared.builder import prepared_builder
from amlr_jax.data.prepared.shards import Records, damaged
from amlr_jax.data.storage import Size, Storage
from amlr_jax.data.views.images import ImagesConfig, ViewImages
from amlr_jax.data.views.index import Index, Views, check_views, index_views
from amlr_jax.runtime.errors import InputError


class PreparedViews:
    """Views with random access: `train[i]` and `test[i]`, see `Views`.

    `offsets` says which frame each of a training view's `sources` is; what those of a
    test view are, the reader of the sequences says.
    """

    def __init__(
        self, sequences: Sequences, images: Records, *, train: Index, test: Index
    ) -> None:
        self.name, self.split = sequences.name, sequences.split
        self.offsets, self.notes = sequences.offsets, sequences.notes
        self.train, self.test = Views(images, train), Views(images, test)


def prepare_views(
    sequences: Sequences,
    *,
    cache: Path,
    bar: Callable,
    size: Size | None = (192, 640),
    decoded: bool = True,
    stereo: bool = False,
    camera: str = "file",
) -> PreparedViews:
    """Prepares the images of `sequences` under `cache`, or reuses what is there.

    They are kept at `size` (height, width; None or (): as they are), as pixels or,
    not `decoded`, as PNG. With `stereo` a training view has its partner. `camera` is
    `file` for the calibration's, or `monodepth2` (`index.camera_of`). `bar` is
    that of `prepared.prepare`.

    Raises InputError for a damaged file, a full disk, a prepared set that has been
    damaged since, and a view whose images differ in size or that lacks its camera or
    partner.
    """
    _check(sequences, size)
    check_views(sequences.train, stereo=stereo, camera=camera)
    check_views(sequences.test, stereo=False, camera=camera)
    paths = _paths(sequences, stereo=stereo)
    storage = Storage(decoded, tuple(size) if size else None)
    name = f"{sequences.name}-{_fingerprint(paths)}{storage.tag}"
    builder = prepared_builder(
        ViewImages,
        ImagesConfig(name=name, paths=paths, storage=storage),
        cache=cache,
        bar=bar,
        title=f"Preparing {sequences.name}",
        total=len(paths),
    )
    sizes = _sizes(builder, len(paths))
    options = {"size": storage.resize, "camera": camera}
    return PreparedViews(
        sequences,
        Records(builder, "images"),
        train=index_views(sequences.train, paths, sizes, stereo=stereo, **options),
        test=index_views(sequences.test, paths, sizes, stereo=False, **options),
    )


def _check(sequences: Sequences, size: Size | None) -> None:
    if not (sequences.train or sequences.test):
        raise InputError(f"data.split={sequences.split} has no view to prepare")
    if size and (len(size) != 2 or min(size) < 1):
        raise InputError(
            f"data.size must be (height, width) in pixels, or (); got {size}"
        )


def _paths(sequences: Sequences, *, stereo: bool) -> tuple[Path, ...]:
    """Every image that the views name, once, in order."""
    views = (*sequences.train, *sequences.test)
    found = {path for view in views for path in (view.image, *view.sources)}
    if stereo:
        found |= {view.partner for view in sequences.train if view.partner}
    return tuple(sorted(found))


def _fingerprint(paths: Sequence[Path]) -> str:
    """Twelve hex digits that change whenever one of the files does."""
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


def _sizes(builder: ViewImages, count: int) -> np.ndarray:
    """Height and width of each image file, int [count, 2], from the runs of them."""
    runs = np.array(builder.info.metadata.get("sizes", ()), int).reshape(-1, 3)
    if runs[:, 0].sum() != count:
        raise damaged(builder.data_dir, "metadata.json is not whole")
    return np.repeat(runs[:, 1:], runs[:, 0], axis=0)
