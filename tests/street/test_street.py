"""The street: KITTI's layout on disk, geometry that agrees with itself, no leftovers.

The files are read here with plain OpenCV and NumPy and the devkit's formulas, not with
the package's readers, so that both sides cannot share a mistake.
"""

import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from amlr_jax import street
from amlr_jax.street import scene, writer

DRIVES, FRAMES, SEED = 2, 3, 0
SIZE = (375, 1242)
DATE = writer.DATE
CAMERAS = ("image_02", "image_03")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("street") / "kitti"
    options = {"drives": DRIVES, "frames": FRAMES, "seed": SEED}
    assert street.generate(folder, workers=2, **options) == folder
    return folder


def drive_name(drive):
    return f"{DATE}_drive_{drive:04d}_sync"


def raw(root, drive, sensor, frame, ending):
    folder = root / "raw_data" / DATE / drive_name(drive) / sensor / "data"
    return folder / f"{frame:010d}.{ending}"


def image(root, drive, frame, camera="image_02"):
    return cv2.imread(str(raw(root, drive, camera, frame, "png"))).astype(np.float32)


def annotation(root, drive, frame, camera="image_02"):
    folder = root / "data_depth_annotated" / "train" / drive_name(drive)
    path = folder / "proj_depth" / "groundtruth" / camera / f"{frame:010d}.png"
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def calibration(root, name):
    """KITTI's `key: numbers` lines."""
    lines = (root / "raw_data" / DATE / name).read_text().splitlines()
    pairs = (line.split(":", 1) for line in lines)
    return {
        key: np.array(value.split(), float)
        for key, value in pairs
        if key != "calib_time"
    }


def rigid(rotation, translation):
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = np.reshape(rotation, (3, 3)), translation
    return pose


def velo_to_rectified(root):
    velo = calibration(root, "calib_velo_to_cam.txt")
    cam = calibration(root, "calib_cam_to_cam.txt")
    return rigid(cam["R_rect_00"], np.zeros(3)) @ rigid(velo["R"], velo["T"])


def every_frame():
    return [(drive, k) for drive in range(1, DRIVES + 1) for k in range(FRAMES)]


def test_layout_is_complete_and_plainly_readable(root):
    for drive, k in every_frame():
        for camera in CAMERAS:
            assert image(root, drive, k, camera).shape == (*SIZE, 3)
            depth = annotation(root, drive, k, camera)
            assert depth.shape == SIZE
            assert depth.dtype == np.uint16
        points = np.fromfile(raw(root, drive, "velodyne_points", k, "bin"), np.float32)
        points = points.reshape(-1, 4)
        assert 50_000 < len(points) < 130_000
        assert 0 <= points[:, 3].min() <= points[:, 3].max() < 1
        assert len(raw(root, drive, "oxts", k, "txt").read_text().split()) == 30
    for sensor in (*CAMERAS, "velodyne_points", "oxts"):
        folder = raw(root, 1, sensor, 0, "x").parent
        assert len(list(folder.iterdir())) == FRAMES
        stamps = (folder.parent / "timestamps.txt").read_text().splitlines()
        assert len(stamps) == FRAMES
    assert {p.name for p in root.iterdir()} == {
        "raw_data",
        "data_depth_annotated",
        "street.json",
    }


def test_calibration_states_the_published_intrinsics_and_the_baseline(root):
    cam = calibration(root, "calib_cam_to_cam.txt")
    left, right = (cam[f"P_rect_0{k}"].reshape(3, 4) for k in (2, 3))
    np.testing.assert_allclose(left[:, :3], right[:, :3])
    published = [(721.5377, 0, 609.5593), (0, 721.5377, 172.854), (0, 0, 1)]
    np.testing.assert_allclose(left[:, :3], published)
    assert (left[0, 3] - right[0, 3]) / left[0, 0] == pytest.approx(0.54, abs=1e-6)
    np.testing.assert_array_equal(cam["S_rect_02"], (1242, 375))
    for camera, p in zip(CAMERAS, (left, right), strict=True):
        pose = street.exact(1, 0, seed=SEED, camera=camera).world_from_cam
        zero = pose @ rigid(np.eye(3), (p[0, 3] / p[0, 0], 0, 0))
        np.testing.assert_allclose(zero[2, 3], 1.65, atol=0.02)


def test_same_arguments_same_bytes_however_many_processes(root, tmp_path):
    again = street.generate(
        tmp_path / "b", drives=DRIVES, frames=FRAMES, seed=SEED, workers=1
    )
    files = sorted(p.relative_to(root) for p in root.rglob("*") if p.is_file())
    assert files == sorted(
        p.relative_to(again) for p in again.rglob("*") if p.is_file()
    )
    for name in files:
        assert (root / name).read_bytes() == (again / name).read_bytes(), name


@pytest.mark.parametrize("camera", CAMERAS)
def test_annotation_is_the_exact_depth_where_it_is(root, camera):
    for drive, k in every_frame():
        depth = annotation(root, drive, k, camera) / 256.0
        truth = street.exact(drive, k, seed=SEED, camera=camera).depth
        valid = depth > 0
        assert 0.12 < valid.mean() < 0.22
        assert np.abs(depth - truth)[valid].max() <= 0.5 / 256 + 1e-5
        assert 1 < depth[valid].min() <= depth[valid].max() <= 85
        assert not valid[:100].any()
        # The gradient loss needs neighbours that are both valid.
        assert (valid[:, 1:] & valid[:, :-1]).mean() > 0.02
        assert (valid[1:] & valid[:-1]).mean() > 0.01


def nearest_solid(part, origin, directions):
    """Slow and plain: the ray parameter [n] at which each ray meets a solid."""
    slack = -part.planes @ [*origin, 1]
    rate = directions @ part.planes[:, :3].T
    starts = np.cumsum(part.counts) - part.counts
    enter = np.where(rate < 0, slack / rate, -np.inf)
    leave = np.where(rate > 0, slack / rate, np.inf)
    enter = np.maximum.reduceat(enter, starts, axis=1)
    leave = np.minimum.reduceat(leave, starts, axis=1)
    return np.where((enter > 0) & (enter <= leave), enter, np.inf).min(axis=1)


def test_exact_depth_is_that_of_plain_ray_casting():
    truth = street.exact(2, 1, seed=SEED)
    rng = np.random.default_rng(0)
    row, col = rng.integers(375, size=500), rng.integers(1242, size=500)
    ahead = [(col - 609.5593) / 721.5377, (row - 172.854) / 721.5377, np.ones(500)]
    directions = np.stack(ahead, axis=1) @ truth.world_from_cam[:3, :3].T
    part = scene.frame_scene(SEED, 2, 1)
    slow = nearest_solid(part, truth.world_from_cam[:3, 3], directions)
    fast = truth.depth[row, col]
    with np.errstate(invalid="ignore"):
        same = (slow == fast) | (np.abs(slow - fast) < 1e-3 * slow)
    assert same.all()


def test_the_road_lies_below_the_camera():
    truth = street.exact(1, 2, seed=SEED)
    row, col = np.array([300, 330, 360]), np.array([500, 550, 600])
    pixels = np.stack(
        [(col - 609.5593) / 721.5377, (row - 172.854) / 721.5377, [1] * 3]
    )
    points = pixels * truth.depth[row, col]
    height = truth.world_from_cam[2, :3] @ points + truth.world_from_cam[2, 3]
    np.testing.assert_allclose(height, 0.0, atol=1e-3)


def project(points, intrinsics):
    """Pixel columns, rows and depth of camera points [3, n]."""
    u, v, z = intrinsics @ points
    return u / z, v / z, z


def test_lidar_lands_on_the_surfaces_that_the_camera_sees(root):
    p = calibration(root, "calib_cam_to_cam.txt")["P_rect_02"].reshape(3, 4)
    for drive, k in every_frame():
        points = np.fromfile(raw(root, drive, "velodyne_points", k, "bin"), np.float32)
        points = points.reshape(-1, 4).astype(float)
        points = np.column_stack([points[:, :3], np.ones(len(points))])
        u, v, z = p @ velo_to_rectified(root) @ points[points[:, 0] > 1].T
        col, row = np.rint(u / z).astype(int), np.rint(v / z).astype(int)
        shown = (col >= 0) & (col < SIZE[1]) & (row >= 0) & (row < SIZE[0])
        truth = street.exact(drive, k, seed=SEED).depth[row[shown], col[shown]]
        error = np.abs(z[shown] - truth) / z[shown]
        assert shown.sum() > 12_000
        assert np.median(error) < 0.005
        assert (error < 0.05).mean() > 0.85


def mercator_pose(values, scale):
    """The KITTI devkit's pose of the inertial unit [4, 4]."""
    lat, lon, alt, roll, pitch, yaw = values[:6]
    x = scale * np.radians(lon) * 6378137
    y = scale * 6378137 * np.log(np.tan(np.pi * (90 + lat) / 360))
    (cr, cp, cy), (sr, sp, sy) = np.cos([roll, pitch, yaw]), np.sin([roll, pitch, yaw])
    around_x = [(1, 0, 0), (0, cr, -sr), (0, sr, cr)]
    around_y = [(cp, 0, sp), (0, 1, 0), (-sp, 0, cp)]
    around_z = [(cy, -sy, 0), (sy, cy, 0), (0, 0, 1)]
    return rigid(np.linalg.multi_dot([around_z, around_y, around_x]), (x, y, alt))


def test_oxts_gives_the_motion_of_the_camera(root):
    imu = calibration(root, "calib_imu_to_velo.txt")
    cam_from_imu = velo_to_rectified(root) @ rigid(imu["R"], imu["T"])
    p = calibration(root, "calib_cam_to_cam.txt")["P_rect_02"]
    cam_from_imu = rigid(np.eye(3), (p[3] / p[0], 0, 0)) @ cam_from_imu
    for drive in range(1, DRIVES + 1):
        files = [raw(root, drive, "oxts", k, "txt") for k in range(FRAMES)]
        values = [np.array(path.read_text().split(), float) for path in files]
        scale = np.cos(np.radians(values[0][0]))
        poses = [mercator_pose(v, scale) @ np.linalg.inv(cam_from_imu) for v in values]
        truths = [
            street.exact(drive, k, seed=SEED).world_from_cam for k in range(FRAMES)
        ]
        for k in range(1, FRAMES):
            motion = np.linalg.inv(poses[0]) @ poses[k]
            truth = np.linalg.inv(truths[0]) @ truths[k]
            np.testing.assert_allclose(motion, truth, atol=1e-5)
            step = np.linalg.norm(truth[:3, 3]) / k
            assert 0.6 < step < 1.4
            assert values[k][8] * 0.1 == pytest.approx(step, rel=0.2)  # vf


def warp_errors(root, target, source):
    """Mean absolute difference of two pictures, warped and not, where it is fair.

    `target` and `source` are (drive, frame, camera). Fair pixels show a still surface
    that the other picture shows as well.
    """
    here = street.exact(*target[:2], seed=SEED, camera=target[2])
    there = street.exact(*source[:2], seed=SEED, camera=source[2])
    p = calibration(root, "calib_cam_to_cam.txt")["P_rect_02"].reshape(3, 4)[:, :3]
    rows, cols = np.indices(SIZE)
    depth = np.where(np.isfinite(here.depth), here.depth, 1.0).astype(float)
    pixels = np.stack([cols, rows, np.ones(SIZE)]).reshape(3, -1) * depth.ravel()
    motion = np.linalg.inv(there.world_from_cam) @ here.world_from_cam
    moved = motion[:3, :3] @ np.linalg.solve(p, pixels) + motion[:3, 3:]
    u, v, z = (a.reshape(SIZE).astype(np.float32) for a in project(moved, p))
    other = cv2.remap(there.depth, u, v, cv2.INTER_NEAREST)
    blocked = cv2.remap(there.moving.astype(np.uint8), u, v, cv2.INTER_NEAREST) > 0
    fair = np.isfinite(here.depth) & ~here.moving & ~there.moving & ~blocked
    fair &= np.abs(other - z) < 0.03 * z
    first = image(root, target[0], target[1], target[2])
    second = image(root, source[0], source[1], source[2])
    warped = cv2.remap(second, u, v, cv2.INTER_LINEAR)
    assert fair.mean() > 0.4
    return (
        np.abs(warped - first)[fair].mean(),
        np.abs(second - first)[fair].mean(),
    )


@pytest.mark.parametrize("drive", range(1, DRIVES + 1))
def test_exact_geometry_aligns_the_pictures(root, drive):
    left, right = ((drive, 0, camera) for camera in CAMERAS)
    for source in (right, (drive, 1, "image_02")):
        warped, plain = warp_errors(root, left, source)
        assert warped < 0.25 * plain, (source, warped, plain)


def test_cars_move(root):
    moving = [street.exact(d, k, seed=SEED).moving.mean() for d, k in every_frame()]
    assert max(moving) > 0.001
    assert max(moving) < 0.3


def test_drives_and_seeds_differ(root):
    assert np.abs(image(root, 1, 0) - image(root, 2, 0)).mean() > 10
    ours, other = street.exact(1, 0, seed=SEED), street.exact(1, 0, seed=SEED + 1)
    assert not np.array_equal(ours.depth, other.depth)


def test_interrupted_work_leaves_nothing(tmp_path, monkeypatch):
    def stop():
        raise KeyboardInterrupt

    bar = lambda *_: nullcontext(SimpleNamespace(advance=stop))  # noqa: E731
    monkeypatch.setattr(writer, "bar", bar)
    for workers in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            street.generate(tmp_path / "kitti", drives=1, frames=2, workers=workers)
        assert not [p for p in tmp_path.iterdir() if p.suffix != ".lock"]


def test_a_process_that_dies_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(writer.sys, "executable", shutil.which("false"))
    with pytest.raises(RuntimeError, match="renders the street died"):
        street.generate(tmp_path / "kitti", drives=1, frames=2, workers=2)
    assert not [p for p in tmp_path.iterdir() if p.suffix != ".lock"]


def test_second_call_renders_nothing(root, monkeypatch):
    def refuse(*args):
        raise AssertionError("rendered again")

    monkeypatch.setattr(writer, "_write", refuse)
    street.generate(root, drives=DRIVES, frames=FRAMES, seed=SEED)
    with pytest.raises(ValueError, match="root must be new, empty or hold"):
        street.generate(root, drives=DRIVES, frames=FRAMES, seed=SEED + 1)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "holiday.png").write_bytes(b"")
    with pytest.raises(ValueError, match="something else"):
        street.generate(tmp_path, drives=1, frames=1)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.png"]
