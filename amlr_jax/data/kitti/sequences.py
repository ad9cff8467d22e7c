"""Neighbouring and stereo images of KITTI for self-supervised training.

Views of raw drives: by list (monodepth2's format), or every frame of the drives that
hold no Eigen test frame. Both colour cameras are used; the partner of a left view is
the right image of the same time, and vice versa.
"""

from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np

from amlr_jax.data import calibration, lists, splits
from amlr_jax.data.frames import Camera, Sequences, View
from amlr_jax.data.kitti import files, oxts
from amlr_jax.data.kitti.files import DriveFrame
from amlr_jax.runtime.errors import InputError, counted, preview

SPLIT = "eigen_zhou_like"
# Forward and leftward speed in metres a second, counted from 0 (KITTI, dataformat.txt).
_SPEED = slice(8, 10)


def read_sequences(
    root: Path,
    *,
    train_list: str = "",
    offsets: Sequence[int] = (-1, 1),
    min_speed: float = 0.0,
) -> Sequences:
    """The views under `root` that have a neighbour at each of `offsets`.

    They are every frame of every drive without an Eigen test frame, as Zhou et al.
    (CVPR 2017) choose drives. `min_speed` in m/s leaves out frames in which the car is
    slower, by the drive's oxts; `train_list` names the frames instead and requires all
    of their files. Test frames come from `kitti.read_layout`.
    """
    files.check_root(root, depth=False)
    if not offsets or 0 in offsets or len(set(offsets)) != len(offsets):
        raise InputError(f"data.offsets must be different and not 0, got {offsets}")
    reader, notes = _Reader(root, offsets), list[str]()
    if train_list:
        return Sequences("kitti", "list", tuple(offsets), reader.listed(train_list), ())
    tested = splits.eigen_test(with_depth=False)
    drives = [drive for drive in files.drives(root) if drive not in tested]
    if not drives:
        raise InputError(
            f"no training drive under '{root / 'raw_data'}': the {len(tested)} drives "
            "of the Eigen test are left out; data.list=FILE takes frames of any drive"
        )
    views: list[View] = []
    for drive in drives:
        views += reader.of_drive(drive, min_speed, notes)
    if not views:
        raise InputError(
            f"no frame of {preview(drives)} has neighbours at {tuple(offsets)} and "
            f"moves at {min_speed:g} m/s or more"
        )
    return Sequences("kitti", SPLIT, tuple(offsets), tuple(views), (), tuple(notes))


class _Reader:
    """Makes views; caches the listings of folders and the calibrations."""

    def __init__(self, root: Path, offsets: Sequence[int]) -> None:
        self._root, self._offsets = root, offsets
        self._images = cache(partial(files.image_files, root))
        self._pair = cache(partial(read_pair, root))

    def of_drive(
        self, drive: str, min_speed: float, notes: list[str]
    ) -> Iterator[View]:
        """The views of a drive; `notes` counts those that are left out as slow."""
        standing = 0
        for camera in (files.LEFT, files.RIGHT):
            for number in sorted(self._images(drive, camera)):
                frame = DriveFrame(drive, number, camera)
                if self._lacks(frame) is not None:
                    continue
                if min_speed and speed(self._root, drive, number) < min_speed:
                    standing += 1
                else:
                    yield self._view(frame)
        if standing:
            count = counted(standing, "frame")
            notes.append(f"{count} of {drive} slower than {min_speed:g} m/s")

    def listed(self, path: str) -> tuple[View, ...]:
        """The views of a list; a neighbour that is missing is an InputError."""
        rows = files.read_list(path)
        steps = [(row.key, self._lacks(row)) for row in rows]
        lost = [f"{k} at {n:+d}" if n else k for k, n in steps if n is not None]
        lists.report_lost(path, lost, total=len(rows))
        return tuple(map(self._view, rows))

    def _lacks(self, frame: DriveFrame) -> int | None:
        """The offset of the first image that is not there, 0 of its own."""
        own = self._images(frame.drive, frame.camera)
        steps = (0, *self._offsets)
        return next((step for step in steps if frame.number + step not in own), None)

    def _view(self, frame: DriveFrame) -> View:
        drive, number, camera, _ = frame
        own, (intrinsics, offset) = (
            self._images(drive, camera),
            self._pair(drive, camera),
        )
        sources = tuple(own[number + step] for step in self._offsets)
        partner = self._images(drive, partner_of(camera)).get(number)
        place = offset if partner else None
        return View(frame.key, own[number], sources, intrinsics, partner, place)


def partner_of(camera: str) -> str:
    """The other colour camera."""
    return files.RIGHT if camera == files.LEFT else files.LEFT


def read_pair(
    root: Path, drive: str, camera: str
) -> tuple[Camera, tuple[float, float, float]]:
    """A camera of a drive and `View.partner_from_target`, from P_rect of its date.

    An offset whose x is not negative for the left camera, or positive for the right
    one, is an InputError: the two cameras of the file are exchanged.
    """
    date = files.date_folder(root, drive)
    target, partner = (
        calibration.rectified(date, camera=name)
        for name in (camera, partner_of(camera))
    )
    first = calibration.camera_from_first
    x, y, z = map(float, first(partner) - first(target))
    if (x < 0) != (camera == files.LEFT) or x == 0:
        raise InputError(
            f"KITTI calibration '{date / calibration.CAM_TO_CAM}': the right camera "
            f"must be to the right of the left one; that of {camera} gives x = {x:g} m"
        )
    return calibration.intrinsics_of(target), (x, y, z)


def speed(root: Path, drive: str, frame: int) -> float:
    """The horizontal speed of the car in metres a second, from oxts."""
    return float(np.hypot(*oxts.read_record(root, drive, frame)[_SPEED]))
