"""Drives with images and true poses: KITTI odometry, raw KITTI, the street.

The street is rendered in the layout of raw KITTI, oxts and calibration included.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from amlr_jax.data import calibration
from amlr_jax.data.kitti import files, odometry, oxts
from amlr_jax.runtime.errors import InputError, counted, preview


class Drive(NamedTuple):
    """Consecutive images of one camera, and its trajectory."""

    name: str
    images: tuple[Path, ...]
    truth: np.ndarray  # first_from_i, float64 [N, 4, 4] in metres
    source: str  # of the poses
    notes: tuple[str, ...] = ()
    camera: tuple[float, ...] | None = None  # fx, fy, cx, cy in pixels of the files


def find(
    root: Path, *, sequences: Sequence[str] = (), names: Sequence[str] = ()
) -> list[Drive]:
    """The sequences of KITTI odometry or the raw drives under `root`.

    Args:
      root: folder of KITTI odometry or of raw KITTI.
      sequences: numbers, as 09 and 10; the default where `root` has poses.
      names: of raw drives, or "all"; all are the default elsewhere.

    Raises:
      InputError: what is asked for is not there or not whole.
    """
    if sequences and names:
        raise InputError("give --sequences or --drives, not both")
    if not root.is_dir():
        raise InputError(f"--root '{root}' is no folder")
    wrong = [word for word in sequences if not word.isdecimal()]
    if wrong:
        raise InputError(f"--sequences must be numbers as 09,10; got {preview(wrong)}")
    if sequences or (not names and (root / "poses").is_dir()):
        numbers = dict.fromkeys(map(int, sequences)) or odometry.TEST
        return [_sequence(root, number) for number in numbers]
    files.check_root(root, depth=False)
    if names and list(names) != ["all"]:
        known = files.drives(root)
        full = dict.fromkeys(_full_name(name, known) for name in names)
        return [raw_drive(root, name) for name in full]
    found = drives_with_poses(root)
    if not found:
        raise InputError(
            f"no drive under '{root / 'raw_data'}' has oxts records, "
            f"{oxts.IMU_TO_VELO} of its date, and two consecutive left images"
        )
    return [raw_drive(root, name) for name in found]


def _sequence(root: Path, number: int) -> Drive:
    """Left colour images; the poses are those of camera 0, 6 cm beside, as in papers"""
    images, truth, camera = odometry.read_sequence(root, number)
    require_steps(f"sequence {number:02d}", len(truth))
    return Drive(
        f"{number:02d}", images, truth, f"poses/{number:02d}.txt", camera=camera
    )


def _full_name(name: str, known: Sequence[str]) -> str:
    full = name if name.endswith("_sync") else f"{name}_sync"
    if full not in known:
        there = preview(known) or "none"
        raise InputError(f"--drives names '{name}', which is not there; it has {there}")
    return full


def drives_with_poses(root: Path) -> list[str]:
    """The raw drives with what poses are computed from."""
    return [
        name
        for name in files.drives(root)
        if (files.drive_folder(root, name) / "oxts" / "data").is_dir()
        and (files.date_folder(root, name) / oxts.IMU_TO_VELO).is_file()
        and len(longest_run(files.image_files(root, name, files.LEFT))) > 1
    ]


def raw_drive(root: Path, name: str, *, limit: int | None = None) -> Drive:
    """The longest run of consecutive left images of a raw drive, or its first `limit`.

    Raises InputError for a drive that lacks images, records or calibration.
    """
    images = files.image_files(root, name, files.LEFT)
    run = longest_run(images)
    require_steps(name, len(run))
    frames, notes = run[:limit], []
    oxts.require_records(root, name, frames)
    if len(run) < len(images):
        notes.append(
            f"frames {run[0]} to {run[-1]}, the longest run without a gap: "
            f"{len(run)} of {len(images)} images"
        )
    if len(frames) < len(run):
        notes.append(f"the first {len(frames)} of {len(run)} frames")
    truth = oxts.camera_poses(root, name, frames)
    paths = tuple(images[frame] for frame in frames)
    date = files.date_folder(root, name)
    camera = calibration.read_intrinsics(date, camera=files.LEFT)
    return Drive(name, paths, truth, "oxts", tuple(notes), camera)


def longest_run(numbers) -> list[int]:
    """The first longest run of consecutive numbers."""
    numbers = np.array(sorted(numbers), int)
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    return max(runs, key=len).tolist()


def require_steps(name: str, frames: int) -> None:
    """Raises InputError for a drive without a step."""
    if frames < 2:
        raise InputError(
            f"{name} has {counted(frames, 'consecutive frame')}; "
            "odometry needs at least 2"
        )
