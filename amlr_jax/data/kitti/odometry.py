"""KITTI odometry: sequences 0 to 8 to train on, 9 and 10 with poses to test.

ROOT/sequences/NN/image_{2,3}/NNNNNN.{png,jpg}   ROOT/sequences/NN/calib.txt
ROOT/poses/NN.txt
"""

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np

from amlr_jax.data import images, lists
from amlr_jax.data.frames import Sequences, View
from amlr_jax.data.kitti.files import numbered_images
from amlr_jax.data.kitti.sequences import StereoCamera, pair_of, view_of
from amlr_jax.runtime.errors import InputError, preview

TRAIN = tuple(range(9))
TEST = (9, 10)
CAMERA_OF_SIDE = {"l": "image_2", "r": "image_3"}


def read_sequences(
    root: Path,
    *,
    train: Sequence[int] = TRAIN,
    test: Sequence[int] = TEST,
    train_list: str = "",
    offsets: Sequence[int] = (-1, 1),
    sides: str = "lr",
) -> Sequences:
    """Training views with a neighbour at each of `offsets`; test views for poses.

    A test view is a left image with the next one as its only source: N - 1 in a
    sequence of N; `poses/NN.txt` must hold N poses. Raises InputError naming missing
    files.
    """
    if train_list:
        training = _listed(root, train_list, offsets)
    else:
        training = tuple(v for n in train for v in _views(root, n, offsets, sides))
    for number in test:
        _check_poses(root, number)
    tested = tuple(view for n in test for view in _views(root, n, (1,), "l"))
    split = "list" if train_list else "odometry"
    return Sequences("kitti_odometry", split, tuple(offsets), training, tested)


def read_poses(path: Path) -> np.ndarray:
    """camera_0 from camera_i, [N, 4, 4] in metres: 12 numbers a line, row-major."""
    text = images.read(path, what="poses").decode("ascii", "replace")
    rows = [line.split() for line in text.splitlines() if line.strip()]
    bad = next((n for n, row in enumerate(rows, 1) if len(row) != 12), None)
    try:
        numbers = np.array(rows, np.float64) if bad is None else None
    except ValueError:
        numbers = None
    if numbers is None or not len(rows) or not np.isfinite(numbers).all():
        where = f" line {bad}" if bad else ""
        raise InputError(f"poses '{path}'{where} must hold 12 numbers a line")
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3] = numbers.reshape(-1, 3, 4)
    return poses


def _views(root: Path, number: int, offsets, sides: str) -> list[View]:
    views = []
    for side in sides:
        own, other = (_files(root, number, s) for s in (side, _other(side)))
        if not own:
            raise InputError(
                f"no images in '{_folder(root, number, side)}'; expected "
                "sequences/NN/image_2 and image_3 with NNNNNN.png under data.root"
            )
        pair = _pair(root, number, side)
        found = (_view(number, side, n, own, other, offsets, pair) for n in sorted(own))
        views += [view for view in found if view]
    return views


def _listed(root: Path, path: str, offsets) -> tuple[View, ...]:
    """The views of a list `sequence frame l|r`; all of their files must exist."""
    listing = lists.read_list(path)
    if listing.kind != "odometry":
        raise InputError(
            f"list '{path}' must have lines 'sequence frame l|r', got the format of "
            f"{listing.kind}"
        )
    images, pair = cache(partial(_files, root)), cache(partial(_pair, root))
    views, lost = [], []
    for row in listing.rows:
        number, side = int(row.folder), row.side
        both = images(number, side), images(number, _other(side))
        known = pair(number, side)
        view = _view(number, side, row.frame, *both, offsets, known)
        views.append(view)
        lost += [] if view else [f"{number} {row.frame} {side}"]
    lists.report_lost(path, lost, total=len(listing.rows))
    return tuple(view for view in views if view)


def _view(number: int, side: str, frame: int, *neighbours) -> View | None:
    key = f"{number:02d}/{frame:06d}{'r' if side == 'r' else ''}"
    return view_of(key, frame, *neighbours)


def _pair(root: Path, number: int, side: str) -> StereoCamera:
    path = root / "sequences" / f"{number:02d}" / "calib.txt"
    rows = (f"P{CAMERA_OF_SIDE[s][-1]}" for s in (side, _other(side)))
    return pair_of(path, *rows, left=side == "l")


def _check_poses(root: Path, number: int) -> None:
    path = root / "poses" / f"{number:02d}.txt"
    poses, found = read_poses(path), _files(root, number, "l")
    lost = sorted(set(range(len(poses))) - set(found))
    if lost or len(found) != len(poses):
        missing = f"; missing: {preview(lost)}" if lost else ""
        raise InputError(
            f"'{path}' has {len(poses)} poses and '{_folder(root, number, 'l')}' "
            f"{len(found)} images{missing}"
        )


def _files(root: Path, number: int, side: str) -> dict[int, Path]:
    return numbered_images(_folder(root, number, side))


def _folder(root: Path, number: int, side: str) -> Path:
    return root / "sequences" / f"{number:02d}" / CAMERA_OF_SIDE[side]


def _other(side: str) -> str:
    return "r" if side == "l" else "l"
