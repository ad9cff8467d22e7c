"""KITTI odometry: the left colour images of a sequence, its poses and its camera.

ROOT/sequences/NN/image_2/NNNNNN.{png,jpg}   ROOT/sequences/NN/calib.txt
ROOT/poses/NN.txt
"""

from pathlib import Path

import numpy as np

from amlr_jax.data import calibration
from amlr_jax.data.frames import Camera
from amlr_jax.data.kitti.files import numbered_images
from amlr_jax.runtime.errors import InputError, preview

TEST = (9, 10)  # the sequences on which papers measure


def read_sequence(
    root: Path, number: int
) -> tuple[tuple[Path, ...], np.ndarray, Camera]:
    """Images, poses [N, 4, 4] (`read_poses`) and camera of a sequence.

    InputError if one of them is missing, or if an image has no pose.
    """
    folder = root / "sequences" / f"{number:02d}"
    path, place = root / "poses" / f"{number:02d}.txt", folder / "image_2"
    poses, found = read_poses(path), numbered_images(place)
    if not found:
        raise InputError(
            f"no images in '{place}'; expected sequences/NN/image_2 with NNNNNN.png"
        )
    lost = sorted(set(range(len(poses))) - set(found))
    if lost or len(found) != len(poses):
        missing = f"; missing: {preview(lost)}" if lost else ""
        raise InputError(
            f"'{path}' has {len(poses)} poses and '{place}' {len(found)} "
            f"images{missing}"
        )
    projection = calibration.read_projection(folder / "calib.txt", "P2")
    ordered = tuple(found[frame] for frame in range(len(poses)))
    return ordered, poses, calibration.intrinsics_of(projection)


def read_poses(path: Path) -> np.ndarray:
    """camera_0 from camera_i, [N, 4, 4] in metres: 12 numbers a line, row-major."""
    form = "12 numbers a line"
    rows = calibration.read_table(path, form, what="poses", widths=(12,))
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3] = rows.reshape(-1, 3, 4)
    return poses
