"""Motion of the camera from exact flow of a synthetic road; degenerate pairs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from amlr_jax.models.camera_motion import camera_motion, epipolar_distance, parallax

HEIGHT, WIDTH = 24, 64
CAMERA = np.float32([40, 40, 32, 11])
MOVES = {  # axis-angle and translation
    "forward": ([0, 0.01, 0], [0.05, 0, -1]),
    "sideways": ([0.01, -0.02, 0], [0.6, 0, -0.4]),
    "still": ([0, 0, 0], [0, 0, 0]),
    "turning": ([0, 0.03, 0], [0, 0, 0]),
}
FIND = jax.jit(partial(camera_motion, key=jax.random.key(0), count=150))


def road(rng):
    """Depth of a road with boxes on it, metres."""
    rows = np.arange(HEIGHT)[:, None] - 11
    depth = np.clip(1.6 * 40 / np.maximum(rows, 0.5), 3, 20)
    return np.float32(depth + rng.uniform(0, 1, (HEIGHT, WIDTH)))


def pairs(*names, noise=0.0):
    rng = np.random.default_rng(0)
    depth = np.stack([road(rng)] * len(names))
    turns, shifts = map(np.array, zip(*(MOVES[name] for name in names), strict=True))
    pose = np.tile(np.eye(4), (len(names), 1, 1))
    pose[:, :3, :3] = Rotation.from_rotvec(turns).as_matrix()
    pose[:, :3, 3] = shifts
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([u, v], -1)
    rays = np.dstack([(pixels - CAMERA[2:]) / CAMERA[:2], np.ones_like(u)])
    points = np.einsum("nij,nhwj->nhwi", pose[:, :3, :3], depth[..., None] * rays)
    points += pose[:, None, None, :3, 3]
    flow = CAMERA[:2] * points[..., :2] / points[..., 2:] + CAMERA[2:] - pixels
    flow += rng.normal(0, noise, flow.shape)
    camera = np.tile(CAMERA, (len(names), 1))
    return np.float32(flow), 1 / depth, camera, pose


def find(flow, inverse, camera, trusted=None):
    ones = np.ones(flow.shape[:3], np.float32)
    trusted = ones if trusted is None else trusted
    return FIND(flow, trusted, 0.01 * ones, inverse, camera)


def test_motion_and_scale_are_those_of_the_depth():
    flow, inverse, camera, pose = pairs("forward", "sideways", "still", "turning")
    found = find(flow, inverse, camera)
    assert found.found.tolist() == [True, True, False, False]
    np.testing.assert_allclose(found.pose[:2], pose[:2], atol=1e-4)
    twice = find(flow, inverse / 2, camera)
    np.testing.assert_allclose(twice.pose[:2, :3, 3], 2 * pose[:2, :3, 3], atol=2e-4)
    at = jax.vmap(lambda one, place: one.ravel()[place])(inverse, found.places)
    gap = jnp.abs(at - found.inverse_depth)[found.used]
    assert found.used[:2].sum() > 100 and float(gap.max()) < 1e-3
    np.testing.assert_array_equal(found.pose[2:], np.stack([np.eye(4)] * 2))


def test_outliers_and_noise():
    moves = "sideways", "still", "turning", "forward"
    flow, inverse, camera, pose = pairs(*moves, noise=0.05)
    flow[0, :, ::4] += np.random.default_rng(1).uniform(-9, 9, flow[0, :, ::4].shape)
    found = find(flow, inverse, camera)
    assert found.found.tolist() == [True, False, False, True]
    for k in (0, 3):
        direction = found.pose[k, :3, 3] / jnp.linalg.norm(found.pose[k, :3, 3])
        true = pose[k, :3, 3] / np.linalg.norm(pose[k, :3, 3])
        assert float(direction @ true) > 0.98
    assert found.rigid[0, :, ::4].mean() < 0.5 * found.rigid[0, :, 1::4].mean()


def test_pairs_without_a_motion_are_not_found():
    flow, inverse, camera, _ = pairs(*["forward"] * 4)
    trusted = np.ones(flow.shape[:3], np.float32)
    flow[0] = np.random.default_rng(2).uniform(-20, 20, flow[0].shape)  # no motion
    trusted[1, 1:], trusted[1, 0, 7:] = 0, 0  # seven matches
    flow[2] = np.nan
    trusted[3] = 0  # black frames, of which nothing is seen
    found = find(flow, inverse, camera, trusted)
    assert not found.found.any() and not found.used.any()
    assert all(jnp.isfinite(leaf).all() for leaf in found)


def test_epipolar_distance_of_a_sideways_motion_is_the_difference_of_rows():
    matrix = np.float32([[[0, 0, 0], [0, 0, -1], [0, 1, 0]]])
    first, second = np.float32([[[3, 4]]]), np.float32([[[9, 6.5]]])
    assert float(epipolar_distance(matrix, first, second)[0, 0]) == 2.5


def test_parallax_is_negative_where_no_depth_explains_the_match():
    pose = np.eye(4, dtype=np.float32)[None]
    pose[0, 2, 3] = -1  # forward: pixels move away from the centre
    first = np.float32([[[42, 11], [42, 11], [42, 11]]])
    second = first + np.float32([[[2, 0], [-3, 0], [0, 4]]])
    found = parallax(first, second, pose, CAMERA[None])
    np.testing.assert_allclose(found, [[2, -3, 0]], atol=1e-5)
    pose[0, 2, 3] = 0
    assert not parallax(first, second, pose, CAMERA[None]).any()
