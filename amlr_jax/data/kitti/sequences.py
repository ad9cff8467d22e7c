"""Neighbouring and stereo images of KITTI for self-supervised training.

Views of raw drives: by list (monodepth2's format), or every frame of the drives that
hold no Eigen test frame. Both colour cameras are used; the partner of a left view is
the right image of the same time, and vice versa.
"""

from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from amlr_jax.data import calibration, lists, splits
from amlr_jax.data.frames import Camera, Sequences, View
from amlr_jax.data.kitti import files, oxts
from amlr_jax.runtime.errors import InputError, counted, preview

SPLIT = "eigen_zhou_like"
# Forward and leftward speed in metres a second, counted from 0 (KITTI, dataformat.txt).
_SPEED = slice(8, 10)


Images = dict[int, Path]  # of one camera, by number


class StereoCamera(NamedTuple):
    """A camera, and the offset to its partner's frame."""

    intrinsics: Camera
    partner_from_target: tuple[float, float, float]


def read_sequences(
    root: Path,
    *,
    split: str = SPLIT,
    train_list: str = "",
    offsets: Sequence[int] = (-1, 1),
    sides: str = "lr",
    min_speed: float = 0.0,
) -> Sequences:
    """The views under `root` that have a neighbour at each of `offsets`.

    `eigen_zhou_like` is every frame of every drive without an Eigen test frame, as
    Zhou et al. (CVPR 2017) choose drives. `min_speed` in m/s leaves out frames in
    which the car is slower, by the drive's oxts; `train_list` names the frames instead
    and requires all of their files. Test frames come from `kitti.read_layout`.
    """
    files.check_root(root, depth=False)
    _check_choice(split, offsets, sides)
    if train_list:
        listed = _listed(root, train_list, offsets)
        return Sequences("kitti", "list", tuple(offsets), listed, ())
    tested = splits.eigen_test(with_depth=False)
    drives = [drive for drive in files.drives(root) if drive not in tested]
    if not drives:
        raise InputError(
            f"no training drive under '{root / 'raw_data'}': data.split={split} leaves "
            f"out the {len(tested)} drives of the Eigen test, and there is no other"
        )
    views: list[View] = []
    notes: list[str] = []
    for drive in drives:
        views += _of_drive(root, drive, offsets, sides, min_speed, notes)
    if not views:
        raise InputError(
            f"no frame of {preview(drives)} has neighbours at {tuple(offsets)} and "
            f"moves at {min_speed:g} m/s or more"
        )
    return Sequences("kitti", split, tuple(offsets), tuple(views), (), tuple(notes))


def _check_choice(split: str, offsets: Sequence[int], sides: str) -> None:
    if split != SPLIT:
        raise InputError(f"data.split must be {SPLIT}, or use a list; got '{split}'")
    if not offsets or 0 in offsets or len(set(offsets)) != len(offsets):
        raise ValueError(f"`offsets` must be different and not 0, got {offsets}.")
    if not sides or set(sides) - set("lr"):
        raise ValueError(f"`sides` must be of 'l' and 'r', got '{sides}'.")


def _of_drive(root, drive, offsets, sides, min_speed, notes) -> Iterator[View]:
    cameras = [files.CAMERA_OF_SIDE[side] for side in sides]
    pairs = {camera: read_pair(root, drive, camera) for camera in cameras}
    both = {c: files.image_files(root, drive, c) for c in (files.LEFT, files.RIGHT)}
    standing = 0
    for camera in cameras:
        own, other = both[camera], both[partner_of(camera)]
        for number in sorted(own):
            key = files.DriveFrame(drive, number, camera).key
            view = view_of(key, number, own, other, offsets, pairs[camera])
            if view and min_speed and speed(root, drive, number) < min_speed:
                standing += 1
            elif view:
                yield view
    if standing:
        notes.append(
            f"{counted(standing, 'frame')} of {drive} slower than {min_speed:g} m/s"
        )


def _listed(root: Path, path: str, offsets: Sequence[int]) -> tuple[View, ...]:
    """The views of a list; a neighbour that is missing is an InputError."""
    images = cache(partial(files.image_files, root))
    pair = cache(partial(read_pair, root))
    rows = files.read_list(path)
    views, lost = [], []
    for row in rows:
        own, other = (
            images(row.drive, camera) for camera in (row.camera, partner_of(row.camera))
        )
        step = next((o for o in (0, *offsets) if row.number + o not in own), None)
        if step is None:
            known = pair(row.drive, row.camera)
            views.append(view_of(row.key, row.number, own, other, offsets, known))
        else:
            lost.append(f"{row.key} at {step:+d}" if step else row.key)
    lists.report_lost(path, lost, total=len(rows))
    return tuple(view for view in views if view)


def view_of(
    key: str,
    number: int,
    own: Images,
    other: Images,
    offsets: Sequence[int],
    pair: StereoCamera,
) -> View | None:
    """The view of image `number` of `own`, None where a neighbour is missing."""
    if any(number + step not in own for step in (0, *offsets)):
        return None
    sources = tuple(own[number + step] for step in offsets)
    partner = other.get(number)
    place = pair.partner_from_target if partner else None
    return View(key, own[number], sources, pair.intrinsics, partner, place)


def partner_of(camera: str) -> str:
    """The other colour camera."""
    return files.RIGHT if camera == files.LEFT else files.LEFT


def read_pair(root: Path, drive: str, camera: str) -> StereoCamera:
    """The cameras of a drive, from P_rect of its date.

    An offset whose x is not negative for the left camera, or positive for the right
    one, is an InputError: the two cameras of the file are exchanged.
    """
    path = files.date_folder(root, drive) / calibration.CAM_TO_CAM
    rows = (f"P_rect_{name[-2:]}" for name in (camera, partner_of(camera)))
    return pair_of(path, *rows, left=camera == files.LEFT)


def pair_of(
    path: Path, target_row: str, partner_row: str, *, left: bool
) -> StereoCamera:
    """The camera `target_row` and its partner, of one calibration file."""
    target, partner = (
        calibration.read_projection(path, row) for row in (target_row, partner_row)
    )
    first = calibration.camera_from_first
    x, y, z = map(float, first(partner) - first(target))
    if (x < 0) != left or x == 0:
        raise InputError(
            f"KITTI calibration '{path}': the right camera must be to the right of the "
            f"left one; '{target_row}' and '{partner_row}' give x = {x:g} m"
        )
    return StereoCamera(calibration.intrinsics_of(target), (x, y, z))


def speed(root: Path, drive: str, frame: int) -> float:
    """The horizontal speed of the car in metres a second, from oxts."""
    return float(np.hypot(*oxts.read_record(root, drive, frame)[_SPEED]))
