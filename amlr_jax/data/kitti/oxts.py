"""Poses of a camera of a raw drive, from the inertial unit and the calibration.

    world_from_imu = [Rz(yaw) Ry(pitch) Rx(roll) | x, y, z]
    x = s r lon,  y = s r ln tan(pi/4 + lat/2),  z = alt,  s = cos(lat of frame 0)
    cam_from_imu   = shift(P_rect) R_rect_00 cam_from_velo velo_from_imu

Angles in radians, r = 6378137 m: the Mercator projection of KITTI's development kit
(Geiger et al., "Vision meets Robotics", IJRR 2013). All in float64: the northing is
six million metres, the motion between frames about one metre.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from amlr_jax.data import calibration
from amlr_jax.data.kitti import files
from amlr_jax.runtime.errors import InputError, preview

IMU_TO_VELO = "calib_imu_to_velo.txt"
EARTH = 6378137.0  # metres
VALUES = 30  # of a record: latitude, longitude, altitude, roll, pitch, yaw, ...


def camera_poses(
    root: Path, drive: str, frames: Sequence[int], *, camera: str = files.LEFT
) -> np.ndarray:
    """first_from_i of a rectified camera at `frames`, float64 [N, 4, 4] in metres.

    The first pose is the identity. Raises InputError for a record or a calibration
    that is missing or damaged.
    """
    records = np.stack([read_record(root, drive, frame) for frame in frames])
    imu_from_cam = np.linalg.inv(camera_from_imu(root, drive, camera=camera))
    world_from_cam = world_from_imu(records) @ imu_from_cam
    poses = np.linalg.inv(world_from_cam[0]) @ world_from_cam
    poses[:, 3] = (0, 0, 0, 1)
    return poses


def read_record(root: Path, drive: str, frame: int) -> np.ndarray:
    """The record of a frame, float64 [30]."""
    path = record_path(root, drive, frame)
    form = f"{VALUES} finite numbers"
    table = calibration.read_table(path, form, what="oxts record", widths=(VALUES,))
    record = table[0]
    if abs(record[0]) >= 90:
        raise InputError(
            f"oxts record '{path}': the latitude must be between -90 and 90 degrees, "
            f"got {record[0]:g}"
        )
    return record


def record_path(root: Path, drive: str, frame: int) -> Path:
    """The file of a frame's record."""
    folder = files.drive_folder(root, drive) / "oxts" / "data"
    names = (f"{frame:0{digits}d}.txt" for digits in (10, 9, 6))
    there = (folder / name for name in names if (folder / name).is_file())
    return next(there, folder / f"{frame:010d}.txt")


def require_records(root: Path, drive: str, frames: Sequence[int]) -> None:
    """Raises InputError naming the frames without a record."""
    lost = [f for f in frames if not record_path(root, drive, f).is_file()]
    if lost:
        folder = record_path(root, drive, lost[0]).parent
        raise InputError(
            f"{len(lost)} of {len(frames)} frames of {drive} have no oxts record in "
            f"'{folder}': {preview(f'{f:010d}.txt' for f in lost)}"
        )


def world_from_imu(records: np.ndarray) -> np.ndarray:
    """Poses [N, 4, 4] of records [N, 30]; x is east and y north, in metres."""
    latitude, longitude = np.radians(records[:, 0]), np.radians(records[:, 1])
    scale = np.cos(latitude[0]) * EARTH
    poses = np.tile(np.eye(4), (len(records), 1, 1))
    poses[:, :3, :3] = Rotation.from_euler("xyz", records[:, 3:6]).as_matrix()
    poses[:, 0, 3] = scale * longitude
    poses[:, 1, 3] = scale * np.log(np.tan(np.pi / 4 + latitude / 2))
    poses[:, 2, 3] = records[:, 2]
    poses[:, :3, 3] -= poses[0, :3, 3].copy()  # small numbers keep their digits
    return poses


def camera_from_imu(root: Path, drive: str, *, camera: str = files.LEFT) -> np.ndarray:
    """The rectified camera's frame from the inertial unit's, [4, 4]."""
    date = files.date_folder(root, drive)
    shift, projection = np.eye(4), calibration.rectified(date, camera=camera)
    shift[:3, 3] = calibration.camera_from_first(projection)
    lidar_from_imu = calibration.read_pose(date / IMU_TO_VELO)
    return shift @ calibration.rectified_from_lidar(date) @ lidar_from_imu
