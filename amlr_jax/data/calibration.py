"""Text files of numbers: tables, as of poses, and KITTI's calibration files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from amlr_jax.data import images
from amlr_jax.data.frames import Camera
from amlr_jax.runtime.errors import InputError

CAM_TO_CAM = "calib_cam_to_cam.txt"
VELO_TO_CAM = "calib_velo_to_cam.txt"


def read_table(
    path: Path, form: str, *, what: str, widths: Sequence[int], finite: bool = True
) -> np.ndarray:
    """The numbers of a file, a row a line, float64 [N, width]; # starts a comment.

    InputError, which says that a `what` must hold `form`, unless all lines have one of
    the `widths`, and numbers that are, with `finite`, finite.
    """
    text = images.read(path, what=what).decode("utf-8", "replace")
    lines = [line.partition("#")[0].split() for line in text.splitlines()]
    try:
        rows = np.array([line for line in lines if line], np.float64)
    except ValueError:  # of several lengths, or text
        rows = np.empty(0)
    good = rows.ndim == 2 and rows.shape[1] in widths
    if not good or (finite and not np.isfinite(rows).all()):
        odd = (n for n, line in enumerate(lines, 1) if line and len(line) not in widths)
        where = "".join(f" line {n}" for n in [*odd][:1])
        raise InputError(f"{what} '{path}'{where} must hold {form}")
    return rows


def read_rows(path: Path, names: dict[str, int]) -> dict[str, np.ndarray]:
    """The rows "name: numbers" of a file; `names` gives the count of numbers."""
    text = images.read(path, what="KITTI calibration").decode("ascii", "replace")
    rows = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    found = {}
    for name, count in names.items():
        try:
            found[name] = np.array([float(word) for word in rows[name].split()])
        except (KeyError, ValueError):
            found[name] = np.empty(0)
        if len(found[name]) != count or not np.isfinite(found[name]).all():
            raise InputError(
                f"KITTI calibration '{path}' must hold '{name}:' and {count} numbers"
            )
    return found


def read_projection(path: Path, row: str) -> np.ndarray:
    """The projection [3, 4] of a rectified camera."""
    projection = read_rows(path, {row: 12})[row].reshape(3, 4)
    if min(projection[0, 0], projection[1, 1]) <= 0:
        raise InputError(
            f"KITTI calibration '{path}': '{row}' must have positive focal lengths, "
            f"got {projection[0, 0]:g} and {projection[1, 1]:g}"
        )
    return projection


def intrinsics_of(projection: np.ndarray) -> Camera:
    """fx, fy, cx, cy in pixels."""
    p = projection
    return float(p[0, 0]), float(p[1, 1]), float(p[0, 2]), float(p[1, 2])


def camera_from_first(projection: np.ndarray) -> np.ndarray:
    """The offset from the rectified camera 0: t of P = K [I | t], metres."""
    return np.linalg.solve(projection[:, :3], projection[:, 3])


def rectified(date_folder: Path, *, camera: str) -> np.ndarray:
    """P_rect [3, 4] of the camera "image_0N" of a date."""
    return read_projection(date_folder / CAM_TO_CAM, f"P_rect_{camera[-2:]}")


def read_intrinsics(date_folder: Path, *, camera: str) -> Camera:
    """fx, fy, cx, cy in pixels of the rectified camera "image_0N" of a date."""
    return intrinsics_of(rectified(date_folder, camera=camera))


def lidar_projection(date_folder: Path, *, camera: str) -> np.ndarray:
    """The matrix [3, 4] from the lidar's points to pixels: P_rect R_rect_00 T_velo."""
    return rectified(date_folder, camera=camera) @ rectified_from_lidar(date_folder)


def rectified_from_lidar(date_folder: Path) -> np.ndarray:
    """R_rect_00 T_velo [4, 4]: the rectified camera 0 from the lidar, in metres."""
    rows = read_rows(date_folder / CAM_TO_CAM, {"R_rect_00": 9})
    rectify = np.eye(4)
    rectify[:3, :3] = rows["R_rect_00"].reshape(3, 3)
    return rectify @ read_pose(date_folder / VELO_TO_CAM)


def read_pose(path: Path) -> np.ndarray:
    """The pose [4, 4] of a calibration file with rows R and T."""
    rows = read_rows(path, {"R": 9, "T": 3})
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rows["R"].reshape(3, 3), rows["T"]
    return pose
