"""The sensors of the car and KITTI's way of writing them down.

Frames of reference as in KITTI: `velo` (x forward, y left, z up), `imu` (the same
axes), `cam` (x right, y down, z forward). A pose `a_from_b` [4, 4] takes points of b
to a. The renderer uses the numbers as the calibration files print them, so that a
reader of the files gets the very rig that took the pictures.
"""

import numpy as np

from amlr_jax.street.scene import rotation

HEIGHT, WIDTH = 375, 1242
FOCAL, CX, CY = 721.5377, 609.5593, 172.854  # KITTI, 2011_09_26, rectified
CAMERAS = ("image_02", "image_03")
# Centres of the colour cameras right of camera 0, metres; the baseline is 0.54.
CAMERA_OFFSET = {"image_02": -0.06, "image_03": 0.48}
VELO_HEIGHT = 1.73  # metres above the road
EARTH = 6378137.0  # metres, the devkit's Mercator radius


def _printed(values):
    """What is left of numbers after a calibration file: seven digits."""
    return np.array([float(f"{v:.6e}") for v in np.ravel(values)]).reshape(
        np.shape(values)
    )


def _rigid(turn, move):
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, move
    return pose


# Columns: where velo's axes point in a camera that looks straight ahead.
_AXES = np.array([(0, -1, 0), (0, 0, -1), (1, 0, 0.0)])
RECTIFY = _printed(rotation(0.003, -0.004, 0.002))
# The rectified camera looks half a degree down, and the calibration undoes RECTIFY.
VELO_TO_CAM = _printed(RECTIFY.T @ _AXES @ rotation(0.001, 0.009, 0.0).T)
VELO_TO_CAM_T = _printed(RECTIFY.T @ (0.0, -0.08, -0.27))
IMU_TO_VELO = _printed(rotation(-0.0008, 0.0020, 0.0148))
IMU_TO_VELO_T = np.array((-0.81, 0.32, -0.80))


def cam_from_velo(camera):
    """Rectified camera from lidar [4, 4]."""
    rectified = _rigid(RECTIFY, 0.0) @ _rigid(VELO_TO_CAM, VELO_TO_CAM_T)
    column = projection(camera)[0, 3]
    return _rigid(np.eye(3), (column / projection(camera)[0, 0], 0, 0)) @ rectified


def velo_from_imu():
    """Lidar from inertial unit [4, 4]."""
    return _rigid(IMU_TO_VELO, IMU_TO_VELO_T)


def projection(camera):
    """KITTI's P_rect [3, 4] of a camera, pixels; integer pixels are centres."""
    shift = -FOCAL * CAMERA_OFFSET[camera] if camera in CAMERA_OFFSET else 0.0
    return _printed([(FOCAL, 0, CX, shift), (0, FOCAL, CY, 0), (0, 0, 1, 0)])


def calibration_files():
    """File name -> text of a recording day's calibration."""
    time = "calib_time: 01-Jan-2000 00:00:00\n"
    velo = _lines([("R", VELO_TO_CAM), ("T", VELO_TO_CAM_T)])
    velo += _lines([("delta_f", (0, 0)), ("delta_c", (0, 0))])
    imu = _lines([("R", IMU_TO_VELO), ("T", IMU_TO_VELO_T)])
    return {
        "calib_cam_to_cam.txt": time + _lines([("corner_dist", 0.0995)]) + _cameras(),
        "calib_velo_to_cam.txt": time + velo,
        "calib_imu_to_velo.txt": time + imu,
    }


def _cameras():
    """All four cameras; 0 and 1 took no pictures, readers want their lines anyhow."""
    text = ""
    for k, offset in enumerate((0.0, 0.54, *CAMERA_OFFSET.values())):
        name = f"image_{k:02d}"
        p = projection(name) if name in CAMERAS else _grey_projection(offset)
        size = (WIDTH, HEIGHT)
        rows = [("S", size), ("K", p[:, :3]), ("D", np.zeros(5)), ("R", np.eye(3))]
        rows += [("T", (-offset, 0, 0)), ("S_rect", size), ("R_rect", RECTIFY)]
        text += _lines([(f"{key}_{k:02d}", v) for key, v in [*rows, ("P_rect", p)]])
    return text


def _grey_projection(offset):
    p = projection("image_00")
    p[0, 3] = -FOCAL * offset
    return p


def _lines(rows):
    return "".join(
        f"{key}: {' '.join(f'{v:.6e}' for v in np.ravel(value))}\n"
        for key, value in rows
    )


DATAFORMAT = """\
lat:   latitude of the oxts-unit (deg)
lon:   longitude of the oxts-unit (deg)
alt:   altitude of the oxts-unit (m)
roll:  roll angle (rad), 0 = level, positive = left side up
pitch: pitch angle (rad), 0 = level, positive = front down
yaw:   heading (rad), 0 = east, positive = counter clockwise
vn ve: velocity towards north and east (m/s)
vf vl vu: velocity forward, leftward and upward (m/s)
ax ay az: acceleration along the vehicle's axes (m/s^2)
af al au: acceleration forward, leftward and upward (m/s^2)
wx wy wz: angular rate around the vehicle's axes (rad/s)
wf wl wu: angular rate around forward, leftward and upward (rad/s)
pos_accuracy vel_accuracy: accuracy of position (m) and velocity (m/s)
navstat numsats posmode velmode orimode: receiver status (integers)
"""


def oxts_line(world_from_velo, origin, place, heading, *, seconds=0.1):
    """The 30 values of KITTI's oxts as one line.

    Args:
      world_from_velo: three poses [4, 4]: one frame before, the frame, one after.
      origin: world position [3] of the inertial unit that lies at `place`.
      place: (latitude, longitude) in degrees of `origin`.
      heading: angle of the world's x axis from east, radians.
      seconds: between the three.

    Returns:
      str, with its line end.
    """
    east = _rigid(rotation(heading, 0, 0), 0.0)
    centre = _rigid(np.eye(3), -np.asarray(origin))
    poses = [east @ centre @ pose @ velo_from_imu() for pose in world_from_velo]
    before, now, after = (pose[:3, 3] for pose in poses)
    r = poses[1][:3, :3]
    yaw, pitch, roll = _angles(r)
    level = rotation(yaw, 0, 0).T
    velocity = (after - before) / (2 * seconds)
    push = (after - 2 * now + before) / seconds**2 + (0, 0, 9.81)
    spin = r.T @ (poses[2][:3, :3] - poses[0][:3, :3]) / (2 * seconds)
    rates = np.array([spin[2, 1], spin[0, 2], spin[1, 0]])
    values = [*_to_degrees(now, place), 115.0 + now[2], roll, pitch, yaw]
    values += [velocity[1], velocity[0], *(level @ velocity)]
    values += [*(r.T @ push), *(level @ push), *rates, *(level @ r @ rates)]
    text = [f"{v:.14g}" for v in [*values, 0.05, 0.02]]
    return " ".join([*text, "4", "10", "4", "4", "0"]) + "\n"


def _angles(r):
    """Yaw, pitch and roll of a rotation [3, 3]."""
    pitch = np.arctan2(-r[2, 0], np.hypot(r[2, 1], r[2, 2]))
    return np.arctan2(r[1, 0], r[0, 0]), pitch, np.arctan2(r[2, 1], r[2, 2])


def _to_degrees(position, place):
    """Inverse of the devkit's Mercator projection around `place`."""
    scale = np.cos(np.radians(place[0])) * EARTH
    east = scale * np.radians(place[1]) + position[0]
    north = scale * np.log(np.tan(np.pi * (90 + place[0]) / 360)) + position[1]
    latitude = 360 / np.pi * np.arctan(np.exp(north / scale)) - 90
    return latitude, np.degrees(east / scale)


def timestamps(frames, *, offset):
    """KITTI's timestamps.txt: ten frames a second, `offset` seconds past noon."""
    lines = []
    for i in range(frames):
        nanos = round(offset * 1000) * 10**6 + i * 10**8
        minutes, rest = divmod(nanos, 60 * 10**9)
        time = f"{12 + minutes // 60:02d}:{minutes % 60:02d}"
        lines.append(f"2000-01-01 {time}:{rest // 10**9:02d}.{rest % 10**9:09d}\n")
    return "".join(lines)
