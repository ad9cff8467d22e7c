"""Points where `geometry` has them, in a file that others read; a road that is flat."""

import io

import cv2
import numpy as np
import pytest

from amlr_jax import geometry
from amlr_jax.data import calibration
from amlr_jax.predict import outputs

RNG = np.random.default_rng(0)
DEPTH = RNG.uniform(1, 80, (6, 8)).astype(np.float32)
IMAGE = RNG.integers(0, 256, (6, 8, 3), np.uint8)
CAMERA = (700.0, 710.0, 3.2, 2.1)


def coordinates(vertices):
    return np.stack([vertices[axis] for axis in "xyz"], axis=-1)


def test_the_points_of_geometry():
    expected = np.asarray(geometry.backproject(DEPTH, np.array(CAMERA)))
    found = coordinates(outputs.points(DEPTH, IMAGE, CAMERA))
    np.testing.assert_allclose(found, expected.reshape(-1, 3), rtol=1e-5, atol=1e-6)
    sparse = coordinates(outputs.points(DEPTH, IMAGE, CAMERA, stride=4))
    np.testing.assert_allclose(
        sparse, expected[::4, ::4].reshape(-1, 3), rtol=1e-5, atol=1e-6
    )


def test_nothing_where_nothing_was_measured():
    depth = DEPTH.copy()
    depth[0, :4] = [0, np.nan, np.inf, -1]
    found = outputs.points(depth, IMAGE, CAMERA)
    np.testing.assert_array_equal(found["z"], DEPTH.ravel()[4:])
    np.testing.assert_array_equal(found["red"], IMAGE.reshape(-1, 3)[4:, 0])
    assert len(outputs.points(0 * DEPTH, IMAGE, CAMERA)) == 0


@pytest.mark.parametrize("depth", [DEPTH, 0 * DEPTH])
def test_the_file_by_its_definition(depth):
    vertices = outputs.points(depth, IMAGE, CAMERA)
    header, _, body = outputs.as_ply(vertices).partition(b"end_header\n")
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    assert lines[2].startswith("comment camera frame, x right, y down, z forward")
    assert f"element vertex {len(vertices)}" in lines
    assert lines[4:7] == [f"property float {axis}" for axis in "xyz"]
    assert lines[7:] == [f"property uchar {c}" for c in ("red", "green", "blue")]
    assert len(body) == 15 * len(vertices)
    if len(vertices):
        np.testing.assert_array_equal(
            np.frombuffer(body[:12], "<f4"), coordinates(vertices)[0]
        )
        assert tuple(body[12:15]) == tuple(IMAGE[0, 0])


def test_a_standard_reader():
    trimesh = pytest.importorskip("trimesh")
    vertices = outputs.points(DEPTH, IMAGE, CAMERA)
    cloud = trimesh.load(io.BytesIO(outputs.as_ply(vertices)), file_type="ply")
    np.testing.assert_array_equal(cloud.vertices, coordinates(vertices))
    np.testing.assert_array_equal(cloud.colors[:, :3], IMAGE.reshape(-1, 3))


def test_a_real_road_is_flat(real_data):
    """KITTI's lane before the car: a plane, 1.65 m below the camera."""
    kitti = real_data / "kitti"
    date, drive = "2011_09_26", "2011_09_26_drive_0013_sync"
    camera = calibration.read_intrinsics(kitti / "raw_data" / date, camera="image_02")
    truth = kitti / "data_depth_annotated" / "val" / drive / "proj_depth/groundtruth"
    path = truth / "image_02" / "0000000045.png"
    depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) / 256
    lane = np.zeros_like(depth)
    lane[240:, 480:700] = depth[240:, 480:700]
    image = np.zeros((*depth.shape, 3), np.uint8)
    points = coordinates(outputs.points(lane, image, camera)).astype(np.float64)
    centre = points.mean(0)
    normal = np.linalg.svd(points - centre)[2][2]
    normal *= np.sign(normal[1])
    # Measured: 2,405 points from 6 to 18 m, 1.0 cm, 1.649 m, (0.013, 1.000, -0.004).
    assert len(points) > 2000
    assert np.std((points - centre) @ normal) < 0.02
    assert centre @ normal == pytest.approx(1.65, abs=0.03)
    np.testing.assert_allclose(normal, [0, 1, 0], atol=0.03)
