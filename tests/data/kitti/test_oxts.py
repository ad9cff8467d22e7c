"""Camera poses from oxts: against the street that wrote them, and on a real drive."""

import cv2
import numpy as np
import pytest

from amlr_jax.data import calibration
from amlr_jax.data.kitti import files, oxts
from amlr_jax.runtime.errors import InputError
from amlr_jax.street import rig, scene

DATE, NUMBER, FRAMES = "2000_01_01", 3, 12
DRIVE = f"{DATE}_drive_{NUMBER:04d}_sync"
REAL = "2011_09_26_drive_0013_sync"


@pytest.fixture
def root(tmp_path):
    """A drive of the street without its pictures."""
    folder = files.drive_folder(tmp_path, DRIVE) / "oxts" / "data"
    folder.mkdir(parents=True)
    for name, text in rig.calibration_files().items():
        (files.date_folder(tmp_path, DRIVE) / name).write_text(text)
    for frame in range(FRAMES):
        text = rig.oxts(scene.StreetDrive(0, NUMBER), frame)
        oxts.record_path(tmp_path, DRIVE, frame).write_text(text)
    return tmp_path


def true_poses(camera, frames):
    """Of the scene itself, without any file."""
    drive, cam = scene.StreetDrive(0, NUMBER), np.linalg.inv(rig.cam_from_velo(camera))
    world = [rig.world_from_velo(drive, k) @ cam for k in frames]
    return np.stack([np.linalg.solve(world[0], pose) for pose in world])


@pytest.mark.parametrize("camera", rig.CAMERAS)
@pytest.mark.parametrize("frames", [range(FRAMES), range(4, 9)])
def test_the_street_as_it_is(root, camera, frames):
    found = oxts.camera_poses(root, DRIVE, frames, camera=camera)
    np.testing.assert_allclose(found, true_poses(camera, frames), atol=2e-6)
    np.testing.assert_allclose(found[0], np.eye(4), atol=1e-12)
    assert 0.7 < found[1, 2, 3] < 1.5  # ahead is z, about a metre a frame


def test_mercator_and_heading():
    """On a sphere: a degree of latitude is pi / 180 of its radius."""
    records = np.zeros((4, 30))
    records[:, 0] = 49.0
    records[1, 0] += 1e-5
    records[2, 1] = 1e-5
    records[3, 2:6] = 2.0, 0.0, 0.0, np.pi / 2
    found = oxts.world_from_imu(records)
    metres = np.radians(1e-5) * oxts.EARTH
    np.testing.assert_allclose(found[1, :3, 3], (0, metres, 0), atol=1e-6)
    east = metres * np.cos(np.radians(49))
    np.testing.assert_allclose(found[2, :3, 3], (east, 0, 0), atol=1e-6)
    np.testing.assert_allclose(found[3, :3, 3], (0, 0, 2))
    # Yaw counts from east, counter-clockwise: the unit's x axis now points north.
    np.testing.assert_allclose(found[3, :3, 0], (0, 1, 0), atol=1e-12)


def test_roll_and_pitch_are_in_kittis_order():
    record = np.zeros((1, 30))
    record[0, 3:6] = 0.1, -0.2, 0.7
    expected = scene.rotation(0.7, -0.2, 0.1)
    found = oxts.world_from_imu(record)[0, :3, :3]
    np.testing.assert_allclose(found, expected, atol=1e-15)


@pytest.mark.parametrize(
    "text", ["", "1 2 3", "a " * 30, "nan " * 30, "91 " + "0 " * 29, "0 " * 31]
)
def test_records_that_are_none(root, text):
    oxts.record_path(root, DRIVE, 2).write_text(text)
    with pytest.raises(InputError, match=r"oxts record '.*0000000002\.txt'"):
        oxts.camera_poses(root, DRIVE, range(5))


def test_what_is_missing_is_named(root):
    oxts.record_path(root, DRIVE, 1).unlink()
    with pytest.raises(InputError, match="oxts record '.*01.txt' cannot be read"):
        oxts.camera_poses(root, DRIVE, range(3))
    with pytest.raises(InputError, match=r"1 of 3 frames of .*: 0000000001\.txt"):
        oxts.require_records(root, DRIVE, range(3))
    oxts.require_records(root, DRIVE, (0, 2))
    (files.date_folder(root, DRIVE) / oxts.IMU_TO_VELO).unlink()
    with pytest.raises(InputError, match="calib_imu_to_velo.txt' cannot be read"):
        oxts.camera_poses(root, DRIVE, (0, 2))


# ---------------------------------------------------------------- the real drive


@pytest.fixture
def real(real_data):
    return real_data / "kitti"


def test_real_speed(real):
    """What is driven is what the unit says of its speed, which no position enters."""
    poses = oxts.camera_poses(real, REAL, range(40, 72))
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    records = [oxts.read_record(real, REAL, k) for k in range(40, 72)]
    speed = np.hypot(*np.array(records)[:, 8:10].T)
    # Its frames are 0.1033 s apart on average.
    assert steps.sum() == pytest.approx(0.1033 * speed[1:].sum(), rel=0.01)
    sideways = np.abs(np.diff(poses[:, :2, 3], axis=0)).max()
    assert sideways < 0.1 and np.diff(poses[:, 2, 3]).min() > 1.0


def photometric(real, frame, pose):
    """Mean difference of a frame and the next where the lidar hit: warped, as it is."""
    image, after = (
        cv2.imread(str(files.image_path(real, REAL, files.LEFT, k))).astype(np.float32)
        for k in (frame, frame + 1)
    )
    path = files.depth_files(real)[REAL][frame]
    depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) / 256.0
    fx, fy, cx, cy = calibration.read_intrinsics(
        files.date_folder(real, REAL), camera=files.LEFT
    )
    v, u = np.nonzero(depth)
    z = depth[v, u]
    points = np.stack([(u - cx) / fx * z, (v - cy) / fy * z, z, np.ones_like(z)])
    x, y, w, _ = pose @ points
    x, y = ((fx * x / w + cx), (fy * y / w + cy))
    height, width = depth.shape
    seen = (w > 0) & (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    x, y, u, v = (a[seen].astype(np.float32)[None] for a in (x, y, u, v))
    here = cv2.remap(image, u, v, cv2.INTER_LINEAR)
    return [
        float(np.abs(cv2.remap(after, *place, cv2.INTER_LINEAR) - here).mean())
        for place in ((x, y), (u, v))
    ]


def test_real_images_agree_with_the_poses(real):
    """The next frame, fetched by depth and pose, is nearer than as it is."""
    for frame in range(40, 71):
        poses = oxts.camera_poses(real, REAL, (frame, frame + 1))
        right, unmoved = photometric(real, frame, np.linalg.inv(poses[1]))
        wrong, _ = photometric(real, frame, poses[1])
        assert right < 0.8 * unmoved, frame
        assert wrong > unmoved, frame
