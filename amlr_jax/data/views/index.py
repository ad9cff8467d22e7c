"""The training views, the indices of their stored images, and their cameras."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from amlr_jax.data import intrinsics, recordings, sources
from amlr_jax.data.frames import Frame, Sequences, View
from amlr_jax.data.kitti.sequences import read_sequences
from amlr_jax.data.prepared.shards import Records
from amlr_jax.data.storage import Size, size_name
from amlr_jax.runtime import paths
from amlr_jax.runtime.errors import InputError, counted, preview

# fx / W, fy / H, cx / W, cy / H of every KITTI camera in monodepth2.
_MONODEPTH2 = np.array([0.58, 1.92, 0.5, 0.5])


def read_views(config: ConfigDict, tested: Sequence[Frame]) -> Sequences:
    """The views of `config.data`, without those that show a frame of `tested`.

    Own recordings hold theirs out. Of KITTI the drives of the Eigen test are always
    left out, and the images of both cameras at the time of a test frame. InputError for
    invalid input.
    """
    sources.check_keys(config)
    if config.name == recordings.NAME:
        return recordings.read_sequences(config)
    views = read_sequences(
        paths.expanded(config.root),
        train_list=config.list,
        offsets=tuple(config.offsets),
        min_speed=config.min_speed,
    )._replace(name=config.name)
    shown = {_moment(frame.image) for frame in tested}
    kept = tuple(
        view
        for view in views.train
        if shown.isdisjoint(map(_moment, (view.image, *view.sources)))
    )
    left_out = len(views.train) - len(kept)
    if not kept:
        raise InputError(f"all {left_out} training views show frames of the test")
    if not left_out:
        return views
    note = f"{counted(left_out, 'view')} left out that would show frames of the test"
    return views._replace(train=kept, notes=(*views.notes, note))


def _moment(path: Path) -> tuple[Path, int]:
    """The drive and the number of <drive>/image_0x/data/<number>.png."""
    return path.parents[2], int(path.stem)


def check_views(views: Sequence[View], *, stereo: bool, camera: str) -> None:
    """InputError for views without camera or partner."""
    lost = [view.key for view in views if view.partner is None]
    if stereo and lost:
        raise InputError(
            f"data.stereo=True, but {len(lost)} of {len(views)} views have no image of "
            f"the other camera: {preview(lost)}; complete it, or leave these views out"
        )
    lost = [view.key for view in views if intrinsics.camera_of(view.intrinsics) is None]
    if camera == "file" and lost:
        raise InputError(
            f"{len(lost)} of {len(views)} views have no camera: {preview(lost)}; fx "
            "and fy must be positive, cx and cy finite"
        )


def camera_of(size: Size) -> np.ndarray:
    """monodepth2's camera [4] of an image of height and width `size`.

        fx = 0.58 W, fy = 1.92 H, cx = 0.5 W, cy = 0.5 H

    These are KITTI's focal lengths, and the image's centre as the principal point; on
    2011_09_26 it is 11 pixels of 1242 right of it and 14 of 375 below it. monodepth2
    keeps this camera when it flips an image. With pixel centres at whole numbers the
    mirrored camera differs by one pixel, and that one is used here.
    """
    height, width = size
    return _MONODEPTH2 * (width, height, width, height)


def _require_one_size(views: Sequence[View], sizes: np.ndarray) -> None:
    """`sizes` [N, images of a view, 2]."""
    unlike = np.flatnonzero((sizes != sizes[:, :1]).any(axis=(1, 2))).tolist()
    if len(unlike):
        names = preview(
            f"{views[k].key} ({', '.join(size_name(s) for s in sizes[k])})"
            for k in unlike
        )
        raise InputError(
            f"the images of a view must be of one size; {counted(len(unlike), 'view')} "
            f"with others: {names}"
        )


class Views:
    """A sequence of views, as arrays small enough to send to worker processes.

    A view is a dict: `image` uint8 [H, W, 3], `sources` uint8 [S, H, W, 3],
    `intrinsics` float32 [4] (fx, fy, cx, cy in pixels of `image`), `key`, `index`; with
    stereo also `partner` uint8 [H, W, 3] and `partner_from_target` float32 [3] in
    metres: a point X of this camera is X + `partner_from_target` in the partner's.
    `sizes` are the different heights and widths; one if the images were resized.
    Reading a damaged record raises InputError.

    Args:
      images: the stored images, of `paths`.
      views: have passed `check_views`; an InputError if images of one differ in size.
      file_sizes: height and width of the files, int [len(paths), 2].
      size: of the stored images; None if it is that of the files.
      stereo, camera: as in `check_views`.
    """

    def __init__(
        self,
        images: Records,
        views: Sequence[View],
        paths: Sequence[Path],
        file_sizes: np.ndarray,
        *,
        size: Size | None,
        stereo: bool,
        camera: str,
    ) -> None:
        row_of: dict = {path: row for row, path in enumerate(paths)}
        groups = [
            (v.image, *v.sources, *([v.partner] if stereo else [])) for v in views
        ]
        rows = np.array([[row_of[p] for p in group] for group in groups], np.int32)
        _require_one_size(views, file_sizes[rows])
        offsets = [v.partner_from_target for v in views] if stereo else []
        before = file_sizes[rows[:, 0]]
        after = np.broadcast_to(size, before.shape) if size else before
        cameras = [
            camera_of(new)
            if camera == "monodepth2"
            else intrinsics.resize_intrinsics(view.intrinsics, before=old, after=new)
            for view, old, new in zip(views, before, after, strict=True)
        ]
        self._images, self._rows, self._stereo = images, rows, stereo
        self._partner_from_target = np.array(offsets, np.float32)
        self._keys = tuple(view.key for view in views)
        self._intrinsics = np.array(cameras, np.float32)
        self.sizes = tuple(map(tuple, np.unique(after, axis=0).tolist()))

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, place: int) -> dict:
        if not 0 <= place < len(self):
            raise IndexError(place)  # ends a `for` over the sequence
        target, *others = (self._images[int(k)]["image"] for k in self._rows[place])
        view = {
            "image": target,
            "intrinsics": self._intrinsics[place].copy(),
            "key": self._keys[place],
            "index": int(place),
        }
        if self._stereo:
            view["partner"] = others.pop()
            view["partner_from_target"] = self._partner_from_target[place].copy()
        return {**view, "sources": np.stack(others)}
