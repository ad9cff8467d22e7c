"""The lidar's depth is that of monodepth2's rule, on real scans to the last code."""

import math

import cv2
import numpy as np
import pytest

from amlr_jax.data import calibration
from amlr_jax.data.depth_files import lidar_depth, read_scan

# Pixels are x / z and y / z: depth is the first axis with `forward`, else the third.
PLAIN = np.eye(3, 4)


def slow(points, matrix, shape, forward):
    """The rule again, a point at a time in plain Python."""
    image = np.zeros(shape)
    for point in points:
        if point[0] < 0:
            continue
        a, b, c = (math.fsum(row * [*point, 1.0]) for row in matrix)
        u, v = round(a / c) - 1, round(b / c) - 1
        value = point[0] if forward else c
        if 0 <= v < shape[0] and 0 <= u < shape[1]:
            old = image[v, u]
            image[v, u] = value if old == 0 else min(old, value)
    return np.maximum(image, 0)


@pytest.mark.parametrize("forward", [True, False])
def test_equals_a_loop(forward):
    rng = np.random.default_rng(0)
    points = rng.uniform([-5, -20, -3], [60, 20, 3], (400, 3)).astype(np.float32)
    matrix = np.array([[9, -60, 0, 0.3], [5, 0, -60, 0.1], [1, 0, 0, -0.2]])
    matrix = matrix.astype(np.float64)
    got = lidar_depth(points, matrix, (12, 20), forward=forward)
    want = slow(points.astype(np.float64), matrix, (12, 20), forward)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert 30 < np.count_nonzero(got) < 240


def test_all_real_scans_to_the_last_code(real_data):
    """The sample's depth was made by this rule, with the camera's z."""
    date = real_data / "kitti" / "raw_data" / "2011_09_26"
    matrix = calibration.lidar_projection(date, camera="image_02")
    scans = sorted(date.glob("*/velodyne_points/data/*.bin"))
    truth = real_data / "kitti" / "data_depth_annotated"
    assert len(scans) == 15
    for scan in scans:
        (path,) = truth.glob(f"val/*/proj_depth/groundtruth/image_02/{scan.stem}.png")
        codes = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        points = read_scan(scan.read_bytes())
        depth = lidar_depth(points, matrix, codes.shape, forward=False)
        np.testing.assert_array_equal(np.rint(depth * 256), codes)
        ahead = lidar_depth(points, matrix, codes.shape)
        np.testing.assert_array_equal(ahead > 0, codes > 0)
        # The scanner is 0.27 m behind the camera.
        assert 0.2 < np.median((ahead - depth)[codes > 0]) < 0.35


def test_halves_round_to_even_and_count_from_one():
    points = np.array([[2.5, 3.5, 1.0], [1.0, 1.0, 1.0], [0.4, 1.0, 1.0]])
    depth = lidar_depth(points, PLAIN, (5, 5), forward=False)
    assert np.argwhere(depth).tolist() == [[0, 0], [3, 1]]


def test_nearest_point_wins_and_none_behind():
    points = np.array([[4.0, 4.0, 2.0], [2.0, 2.0, 1.0], [-2.0, -2.0, -1.0]])
    depth = lidar_depth(points, PLAIN, (3, 3), forward=False)
    assert depth[1, 1] == 1.0
    assert np.count_nonzero(depth) == 1


def test_degenerate_points_are_left_out():
    points = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [np.inf, 1.0, 1.0]])
    assert not lidar_depth(points, PLAIN, (3, 3)).any()
    assert lidar_depth(np.empty((0, 3)), PLAIN, (3, 3)).shape == (3, 3)


def test_misuse():
    with pytest.raises(ValueError, match="multiple of 16"):
        read_scan(b"\0" * 15)
