"""The sensors of the car, and their calibration and poses in KITTI's formats.

Frames of reference as in KITTI: `velo` (x forward, y left, z up), `imu` (the same
axes), `cam` (x right, y down, z forward). A pose `a_from_b` [4, 4] takes points of b
to a. The renderer uses the numbers as the calibration files print them, so that a
reader of the files gets exactly the rig of the pictures.
"""

from datetime import datetime, timedelta

import numpy as np
from numpy.typing import ArrayLike

from amlr_jax.street.scene import StreetDrive, rigid, rotation

Array = np.ndarray

HEIGHT, WIDTH = 375, 1242
FOCAL, CX, CY = 721.5377, 609.5593, 172.854  # KITTI, 2011_09_26, rectified
CAMERAS = ("image_02", "image_03")
# Centres of the four cameras right of camera 0, metres; the colour baseline is 0.54.
OFFSETS = (0.0, 0.54, -0.06, 0.48)
VELO_HEIGHT = 1.73  # metres above the road
EARTH = 6378137.0  # metres, the devkit's Mercator radius


def _printed(values: ArrayLike) -> Array:
    """Rounds numbers to the seven digits that a calibration file holds."""
    digits = [float(f"{v:.6e}") for v in np.ravel(values)]
    return np.reshape(digits, np.shape(values))


# Columns: where velo's axes point in a camera that looks straight ahead.
_AXES = np.array([(0, -1, 0), (0, 0, -1), (1, 0, 0.0)])
RECTIFY = _printed(rotation(0.003, -0.004, 0.002))
# The rectified camera looks half a degree down, and the calibration undoes RECTIFY.
VELO_TO_CAM = _printed(RECTIFY.T @ _AXES @ rotation(0.001, 0.009, 0.0).T)
VELO_TO_CAM_T = _printed(RECTIFY.T @ (0.0, -0.08, -0.27))
IMU_TO_VELO = _printed(rotation(-0.0008, 0.0020, 0.0148))
IMU_TO_VELO_T = (-0.81, 0.32, -0.80)
VELO_FROM_IMU = rigid(IMU_TO_VELO, IMU_TO_VELO_T)


def _projection(camera: int) -> Array:
    """KITTI's P_rect [3, 4] of camera 0 to 3; integer pixels are centres."""
    shift = -FOCAL * OFFSETS[camera]
    return _printed([(FOCAL, 0, CX, shift), (0, FOCAL, CY, 0), (0, 0, 1, 0)])


def cam_from_velo(camera: str) -> Array:
    """Rectified camera ("image_02" or "image_03") from lidar [4, 4]."""
    p = _projection(int(camera[-2:]))
    rectified = rigid(RECTIFY, (p[0, 3] / p[0, 0], 0, 0))
    return rectified @ rigid(VELO_TO_CAM, VELO_TO_CAM_T)


def calibration_files() -> dict[str, str]:
    """File name -> text of a recording day's calibration."""
    velo = {"R": VELO_TO_CAM, "T": VELO_TO_CAM_T, "delta_f": (0, 0), "delta_c": (0, 0)}
    cameras: dict = {"corner_dist": 0.0995}
    # Cameras 0 and 1 took no pictures; readers want their lines all the same.
    for k, offset in enumerate(OFFSETS):
        p, size = _projection(k), (WIDTH, HEIGHT)
        rows = {"S": size, "K": p[:, :3], "D": np.zeros(5), "R": np.eye(3)}
        rows |= {"T": (-offset, 0, 0), "S_rect": size, "R_rect": RECTIFY, "P_rect": p}
        cameras |= {f"{key}_{k:02d}": value for key, value in rows.items()}
    return {
        "calib_cam_to_cam.txt": _lines(cameras),
        "calib_velo_to_cam.txt": _lines(velo),
        "calib_imu_to_velo.txt": _lines({"R": IMU_TO_VELO, "T": IMU_TO_VELO_T}),
    }


def _lines(values: dict) -> str:
    numbers = {k: " ".join(f"{x:.6e}" for x in np.ravel(v)) for k, v in values.items()}
    rows = {"calib_time": "01-Jan-2000 00:00:00", **numbers}
    return "".join(f"{key}: {text}\n" for key, text in rows.items())


def world_from_velo(drive: StreetDrive, frame: float) -> Array:
    """Pose of the lidar in the world at a frame [4, 4]."""
    return drive.vehicle(frame, height=VELO_HEIGHT)


def oxts(drive: StreetDrive, frame: int) -> str:
    """A frame's 30 values of KITTI's oxts as one line; frames are 0.1 s apart."""
    first = world_from_velo(drive, 0) @ VELO_FROM_IMU
    east = rigid(rotation(drive.heading, 0, 0), (0, 0, 0))
    east = east @ rigid(np.eye(3), -first[:3, 3])
    poses = [
        east @ world_from_velo(drive, frame + k) @ VELO_FROM_IMU for k in (-1, 0, 1)
    ]
    before, now, after = (pose[:3, 3] for pose in poses)
    r = poses[1][:3, :3]
    yaw, roll = np.arctan2(r[1, 0], r[0, 0]), np.arctan2(r[2, 1], r[2, 2])
    pitch = np.arctan2(-r[2, 0], np.hypot(r[2, 1], r[2, 2]))
    level = rotation(yaw, 0, 0).T
    velocity = (after - before) / 0.2
    push = (after - 2 * now + before) / 0.1**2 + (0, 0, 9.81)
    spin = r.T @ (poses[2][:3, :3] - poses[0][:3, :3]) / 0.2
    rates = np.array([spin[2, 1], spin[0, 2], spin[1, 0]])
    values = [*_degrees(now, drive.place), 115.0 + now[2], roll, pitch, yaw]
    values += [velocity[1], velocity[0], *(level @ velocity)]
    values += [*(r.T @ push), *(level @ push), *rates, *(level @ r @ rates)]
    return " ".join(f"{v:.14g}" for v in [*values, 0.05, 0.02, 4, 10, 4, 4, 0]) + "\n"


def _degrees(position: Array, place: Array) -> tuple[float, float]:
    """Inverse of the devkit's Mercator projection around `place`."""
    scale = np.cos(np.radians(place[0])) * EARTH
    east = scale * np.radians(place[1]) + position[0]
    north = scale * np.log(np.tan(np.pi * (90 + place[0]) / 360)) + position[1]
    latitude = 360 / np.pi * np.arctan(np.exp(north / scale)) - 90
    return latitude, np.degrees(east / scale)


def timestamps(frames: int, *, offset: float) -> str:
    """KITTI's timestamps.txt: ten frames a second, `offset` seconds past noon."""
    start = datetime(2000, 1, 1, 12) + timedelta(seconds=offset)
    times = (start + timedelta(seconds=i / 10) for i in range(frames))
    return "".join(f"{time:%Y-%m-%d %H:%M:%S.%f}000\n" for time in times)
