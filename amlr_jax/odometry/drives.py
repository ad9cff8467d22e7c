"""Drives whose images and true poses are there: KITTI odometry, raw KITTI, the street.

The street is rendered in the layout of raw KITTI, oxts and calibration included.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from amlr_jax.data.kitti import files, odometry, oxts
from amlr_jax.runtime.errors import InputError, preview


class Drive(NamedTuple):
    """Consecutive images of one camera, and where it was."""

    name: str
    images: tuple[Path, ...]
    truth: np.ndarray  # first_from_i, float64 [N, 4, 4] in metres
    source: str  # of the poses
    notes: tuple[str, ...] = ()


def find_sequences(root: Path, numbers: Sequence[int] = odometry.TEST) -> list[Drive]:
    """Sequences of KITTI odometry, left colour images; InputError if not whole.

    Their poses are those of camera 0, 6 cm beside; as in the papers, that is left so.
    """
    found = []
    for number in numbers:
        views = odometry.read_sequences(root, train=(), test=(number,)).test
        path = root / "poses" / f"{number:02d}.txt"
        truth = odometry.read_poses(path)
        require_pairs(f"sequence {number:02d}", len(truth))
        images = tuple(view.image for view in views) + views[-1].sources
        found.append(Drive(f"{number:02d}", images, truth, f"poses/{path.name}"))
    return found


def find_drives(root: Path, names: Sequence[str] = ()) -> list[Drive]:
    """Raw drives by name, without `_sync` if you like; none named: all with oxts.

    Of a drive with gaps it is the longest run of consecutive left images. InputError
    for a drive that is not there or lacks images, records or calibration.
    """
    files.check_root(root, depth=False)
    there = files.drives(root)
    if names:
        known = dict.fromkeys(_known(name, there) for name in names)
        return [_drive(root, name) for name in known]
    found = [_drive(root, name) for name in drives_with_poses(root)]
    if not found:
        raise InputError(
            f"no drive under '{root / 'raw_data'}' has oxts records, "
            f"{oxts.IMU_TO_VELO} of its date, and two consecutive left images"
        )
    return found


def drives_with_poses(root: Path) -> list[str]:
    """The raw drives of which poses can be made."""
    return [
        name
        for name in files.drives(root)
        if (files.drive_folder(root, name) / "oxts" / "data").is_dir()
        and (files.date_folder(root, name) / oxts.IMU_TO_VELO).is_file()
        and len(longest_run(files.image_files(root, name, files.LEFT))) > 1
    ]


def longest_run(numbers) -> list[int]:
    """The first longest run of consecutive numbers."""
    numbers = np.array(sorted(numbers), int)
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    return max(runs, key=len).tolist()


def first_frames(drive: Drive, count: int) -> Drive:
    """The drive without what is beyond its first `count` frames."""
    if len(drive.images) <= count:
        return drive
    note = f"the first {count} of {len(drive.images)} frames"
    notes = (*drive.notes, note)
    return drive._replace(
        images=drive.images[:count], truth=drive.truth[:count], notes=notes
    )


def require_pairs(name: str, frames: int) -> None:
    """Raises InputError for a drive without a step."""
    if frames < 2:
        raise InputError(
            f"{name} has {frames} consecutive frame{'' if frames == 1 else 's'}; "
            "odometry needs at least 2"
        )


def _known(name: str, there: Sequence[str]) -> str:
    full = name if name.endswith("_sync") else f"{name}_sync"
    if full not in there:
        known = preview(there) or "none"
        raise InputError(f"--drives names '{name}', which is not there; it has {known}")
    return full


def _drive(root: Path, name: str) -> Drive:
    images = files.image_files(root, name, files.LEFT)
    frames = longest_run(images)
    require_pairs(name, len(frames))
    oxts.require_records(root, name, frames)
    notes = ()
    if len(frames) < len(images):
        notes = (
            f"frames {frames[0]} to {frames[-1]}, the longest run without a gap: "
            f"{len(frames)} of {len(images)} images",
        )
    truth = oxts.camera_poses(root, name, frames)
    return Drive(name, tuple(images[f] for f in frames), truth, "oxts", notes)
