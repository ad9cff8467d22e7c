"""Geometry against SciPy, OpenCV and PyTorch; properties; degenerate input; KITTI."""

import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys
from functools import partial

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from amlr_jax import geometry
from amlr_jax.data.intrinsics import resize_intrinsics

CAMERA = np.array([58.0, 61.0, 15.3, 9.6], np.float32)  # fx, fy, cx, cy of 20 x 32
HEIGHT, WIDTH = 20, 32
rng = np.random.default_rng(0)
DEPTH = rng.uniform(2.0, 40.0, (2, HEIGHT, WIDTH)).astype(np.float32)
IMAGE = rng.random((2, HEIGHT, WIDTH, 3), np.float32)
POSE = np.asarray(
    geometry.pose_from_axis_angle(
        jnp.array([[0.01, 0.03, -0.02], [0.0, -0.05, 0.01]]),
        jnp.array([[0.2, -0.1, 0.5], [-0.3, 0.0, -0.4]]),
    )
)

vectors = arrays(np.float32, 3, elements=st.floats(-8, 8, width=32))
twists = arrays(np.float32, 6, elements=st.floats(-1.5, 1.5, width=32))


def matrix(camera):
    """[..., 4] as [..., 3, 3]."""
    k = np.zeros((*camera.shape[:-1], 3, 3), np.float32)
    k[..., 0, 0], k[..., 1, 1] = camera[..., 0], camera[..., 1]
    k[..., 0, 2], k[..., 1, 2], k[..., 2, 2] = camera[..., 2], camera[..., 3], 1
    return k


def finite(tree) -> bool:
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))


# ---------------------------------------------------------------- rotations

ANGLES = [0.0, 1e-8, 1e-4, 0.1, 0.49, 0.51, 1.0, 2.0, 3.1, np.pi - 1e-4, 3.1415925]


@pytest.mark.parametrize("angle", [*ANGLES, np.pi, 5.0, 30.0, 1000.0])
def test_rotation_against_scipy_and_opencv(angle):
    axis = np.random.default_rng(1).normal(size=(50, 3))
    v = (angle * axis / np.linalg.norm(axis, axis=-1, keepdims=True)).astype(np.float32)
    actual = geometry.rotation_from_axis_angle(v)
    tolerance = 1e-6 + 2e-7 * angle  # float32 knows the angle no better
    exact = Rotation.from_rotvec(v.astype(np.float64)).as_matrix()
    np.testing.assert_allclose(actual, exact, atol=tolerance)
    opencv = [cv2.Rodrigues(row.astype(np.float64))[0] for row in v]
    np.testing.assert_allclose(actual, opencv, atol=tolerance)
    product = np.einsum("nij,nkj->nik", actual, actual)
    np.testing.assert_allclose(product, np.tile(np.eye(3), (50, 1, 1)), atol=2e-6)


@settings(deadline=None, max_examples=100)
@given(vectors)
def test_rotations_are_orthonormal_with_determinant_1(v):
    r = np.asarray(geometry.rotation_from_axis_angle(v), np.float64)
    np.testing.assert_allclose(r @ r.T, np.eye(3), atol=2e-6)
    np.testing.assert_allclose(np.linalg.det(r), 1.0, atol=2e-6)


@settings(deadline=None, max_examples=50)
@given(vectors, vectors)
def test_pose_times_inverse_is_the_identity(v, t):
    pose = geometry.pose_from_axis_angle(v, t)
    inverse = geometry.inverse_pose(pose)
    for left, right in ((pose, inverse), (inverse, pose)):
        product = np.asarray(left, np.float64) @ np.asarray(right, np.float64)
        np.testing.assert_allclose(product, np.eye(4), atol=2e-5)
    inverted = geometry.pose_from_axis_angle(v, t, invert=True)
    np.testing.assert_array_equal(inverted, inverse)


def test_invert_is_the_order_of_monodepth2():
    v, t = np.array([0.1, -0.4, 0.2]), np.array([1.0, 2.0, -3.0])
    r, point = Rotation.from_rotvec(v).as_matrix(), np.array([0.5, 0.7, 9.0])
    forward = geometry.transform(point, geometry.pose_from_axis_angle(v, t))
    np.testing.assert_allclose(forward, r @ point + t, rtol=1e-5)
    pose = geometry.pose_from_axis_angle(v, t, invert=True)
    back = geometry.transform(point, pose)
    np.testing.assert_allclose(back, r.T @ (point - t), rtol=1e-5)


def test_derivative_at_zero_rotation_is_the_cross_matrix():
    jacobian = jax.jit(jax.jacrev(geometry.rotation_from_axis_angle))(jnp.zeros(3))
    for k, axis in enumerate(np.eye(3)):
        generator = np.cross(np.eye(3), axis)
        np.testing.assert_allclose(jacobian[..., k], generator, atol=1e-7)


RIGID_JACOBIANS = jax.jit(
    lambda six: (
        jax.jacrev(lambda x: geometry.pose_from_axis_angle(x[:3], x[3:]))(six),
        jax.hessian(lambda x: geometry.pose_from_axis_angle(x[:3], x[3:])[0].sum())(
            six
        ),
    )
)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-20, 1e-6, 0.5, np.pi, 6.0])
def test_gradients_of_poses_are_finite(scale):
    six = scale * jnp.array([0.48, -0.6, 0.64, 0.6, 0.8, -1.0])
    assert finite(RIGID_JACOBIANS(six))


# ---------------------------------------------------------------- camera


def test_backproject_by_hand_and_with_a_matrix():
    points = geometry.backproject(DEPTH, CAMERA)
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(matrix(CAMERA)).T
    np.testing.assert_allclose(points, rays * DEPTH[..., None], rtol=1e-4, atol=1e-5)
    again = geometry.backproject(DEPTH, matrix(np.stack([CAMERA, CAMERA])))
    np.testing.assert_array_equal(again, points)


def test_project_against_opencv():
    points = rng.uniform([-5, -5, 1], [5, 5, 30], (100, 3)).astype(np.float32)
    v, t = np.array([0.02, -0.3, 0.1]), np.array([0.1, 0.2, 3.0])
    expected, _ = cv2.projectPoints(points.astype(float), v, t, matrix(CAMERA), None)
    moved = geometry.transform(points, geometry.pose_from_axis_angle(v, t))
    pixels, valid = geometry.project(moved, CAMERA)
    assert valid.all()
    np.testing.assert_allclose(pixels, expected[:, 0], rtol=1e-5, atol=1e-3)


@settings(deadline=None, max_examples=50)
@given(
    arrays(np.float32, (3, 4), elements=st.floats(0.125, 200, width=32)),
    st.floats(20, 2000),
    st.floats(20, 2000),
    st.floats(-10, 1000),
)
def test_project_after_backproject_is_the_identity(depth, fx, fy, centre):
    camera = jnp.array([fx, fy, centre, 0.3 * centre])
    pixels, valid = geometry.project(geometry.backproject(depth, camera), camera)
    v, u = np.mgrid[:3, :4]
    assert valid.all()
    np.testing.assert_allclose(pixels, np.stack([u, v], -1), atol=1e-3)


def test_points_without_a_pixel():
    points = jnp.array(
        [[1, 1, 0], [1, 1, -2], [0, 0, 1e-3], [np.nan, 1, 5], [1, np.inf, 5], [1, 1, 2]]
    )
    pixels, valid = geometry.project(points, CAMERA)
    assert valid.tolist() == [False] * 5 + [True]
    assert finite(pixels) and (pixels[:5] < -1e5).all()

    def loss(points, camera):
        return geometry.project(points, camera)[0].sum()

    by_points, by_camera = jax.grad(loss, (0, 1))(points, jnp.asarray(CAMERA))
    assert finite((by_points, by_camera))
    assert (by_points[:5] == 0).all() and (by_points[5] != 0).all()
    _, far = geometry.project(points, CAMERA, near=3.0)
    assert not far.any()


# ---------------------------------------------------------------- sampling


def torch_sample(image, coordinates, padding, weight=None):
    """`grid_sample` in float64, and its gradients of sum(sample * weight)."""
    torch = pytest.importorskip("torch")
    height, width = image.shape[1:3]
    size = torch.tensor([width - 1, height - 1], dtype=torch.float64)
    i = torch.tensor(image, dtype=torch.float64, requires_grad=True)
    c = torch.tensor(coordinates, dtype=torch.float64, requires_grad=True)
    sample = torch.nn.functional.grid_sample(
        i.permute(0, 3, 1, 2),
        2 * c / size - 1,
        padding_mode=padding,
        align_corners=True,
    ).permute(0, 2, 3, 1)
    if weight is None:
        return sample.detach().numpy()
    (sample * torch.tensor(weight, dtype=torch.float64)).sum().backward()
    return sample.detach().numpy(), i.grad.numpy(), c.grad.numpy()


@pytest.mark.parametrize("channels", [1, 3, 40])
@pytest.mark.parametrize("padding", ["border", "zeros"])
def test_sampling_and_its_gradients_against_torch(padding, channels):
    local = np.random.default_rng(5)
    image = local.random((2, 9, 13, channels), np.float32)
    coordinates = local.uniform(-4, 17, (2, 11, 15, 2)).astype(np.float32)
    weight = local.normal(size=(2, 11, 15, channels)).astype(np.float32)

    def loss(i, c):
        sample = geometry.bilinear_sample(i, c, padding=padding)
        return jnp.sum(sample * weight), sample

    gradients, sample = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(
        image, coordinates
    )
    expected, *expected_gradients = torch_sample(image, coordinates, padding, weight)
    np.testing.assert_allclose(sample, expected, atol=2e-6)
    np.testing.assert_allclose(gradients[0], expected_gradients[0], atol=1e-4)
    np.testing.assert_allclose(gradients[1], expected_gradients[1], atol=1e-4)


@pytest.mark.parametrize("padding", ["border", "zeros"])
def test_gradients_at_whole_numbers_and_at_the_border_against_torch(padding):
    image = np.random.default_rng(6).random((1, 9, 9, 3), np.float32)  # 8 = 2^3: exact
    v, u = np.mgrid[0:9, 0:9].astype(np.float32)
    coordinates = np.stack([u, v], -1)[None]
    weight = np.ones((1, 9, 9, 3), np.float32)

    def loss(coordinates):
        return geometry.bilinear_sample(image, coordinates, padding=padding).sum()

    _, _, expected = torch_sample(image, coordinates, padding, weight)
    np.testing.assert_allclose(jax.grad(loss)(coordinates), expected, atol=1e-5)


def test_sampling_against_opencv_remap():
    local = np.random.default_rng(7)
    coordinates = local.uniform(0.5, 7.5, (1, 40, 50, 2)).astype(np.float32)
    coordinates = np.round(coordinates * 32) / 32  # OpenCV's fixed point
    image = local.random((1, 9, 9, 3), np.float32)
    c = coordinates[0]
    expected = cv2.remap(image[0], c[..., 0], c[..., 1], cv2.INTER_LINEAR)
    actual = geometry.bilinear_sample(image, coordinates)[0]
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_whole_numbers_return_the_pixels_exactly():
    v, u = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    coordinates = np.broadcast_to(np.stack([u, v], -1), (2, HEIGHT, WIDTH, 2))
    for padding in ("border", "zeros"):
        sample = geometry.bilinear_sample(IMAGE, coordinates, padding=padding)
        np.testing.assert_array_equal(sample, IMAGE)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (2, 2)])
@pytest.mark.parametrize("padding", ["border", "zeros"])
def test_tiny_images(size, padding):
    image = np.random.default_rng(8).random((1, *size, 2), np.float32)
    coordinates = np.random.default_rng(9).uniform(-3, 7, (1, 30, 4, 2))
    framed = np.pad(image, ((0, 0), (9, 9), (9, 9), (0, 0)), "edge")
    if padding == "zeros":
        framed = np.pad(image, ((0, 0), (9, 9), (9, 9), (0, 0)))
    expected = torch_sample(framed, coordinates + 9, "border")
    sample = geometry.bilinear_sample(image, coordinates, padding=padding)
    np.testing.assert_allclose(sample, expected, atol=2e-6)


@pytest.mark.parametrize("padding", ["border", "zeros"])
def test_wild_coordinates_do_not_touch_other_samples(padding):
    clean = np.random.default_rng(10).uniform(0.1, 8, (1, 4, 5, 2)).astype(np.float32)
    wild = clean.copy()
    wild[0, 0] = [[np.nan, 3], [3, np.nan], [np.inf, 3], [-np.inf, -np.inf], [1e30, 2]]
    image = IMAGE[:1]
    sample = partial(geometry.bilinear_sample, padding=padding)

    def loss(image, coordinates):
        return jnp.sum(sample(image, coordinates) ** 2)

    actual, expected = sample(image, wild), sample(image, clean)
    np.testing.assert_array_equal(actual[0, 1:], expected[0, 1:])
    np.testing.assert_array_equal(actual[0, 0, :2], np.zeros((2, 3)))
    held = [0.0] * 3 if padding == "zeros" else image[0, 3, -1]
    np.testing.assert_array_equal(actual[0, 0, 2], held)
    to_image, to_wild = jax.jit(jax.grad(loss, (0, 1)))(image, wild)
    assert finite((to_image, to_wild))
    assert (to_wild[0, 0, :2] == 0).all() and (to_wild[0, 0, 2:, 0] == 0).all()
    to_clean = jax.jit(jax.grad(loss, 1))(image, clean)
    np.testing.assert_allclose(to_wild[0, 1:], to_clean[0, 1:], atol=1e-6)


@pytest.mark.parametrize("padding", ["border", "zeros"])
def test_forward_mode_equals_reverse_mode(padding):
    local = np.random.default_rng(11)
    coordinates = jnp.asarray(local.uniform(-2, 10, (2, 7, 5, 2)), jnp.float32)
    steps = local.normal(size=(2, 9, 9, 3)), local.normal(size=(2, 7, 5, 2))
    steps = tuple(jnp.asarray(step, jnp.float32) for step in steps)
    weight = jnp.asarray(local.normal(size=(2, 7, 5, 3)), jnp.float32)

    def loss(image, coordinates):
        sample = geometry.bilinear_sample(image, coordinates, padding=padding)
        return jnp.sum(weight * sample)

    _, forward = jax.jit(partial(jax.jvp, loss))((IMAGE[:, :9, :9], coordinates), steps)
    gradients = jax.jit(jax.grad(loss, (0, 1)))(IMAGE[:, :9, :9], coordinates)
    backward = sum(jnp.vdot(g, s) for g, s in zip(gradients, steps, strict=True))
    np.testing.assert_allclose(forward, backward, rtol=1e-4)


def test_second_derivatives_inside_a_cell():
    image = jnp.asarray([[1.0, 2.0], [4.0, -3.0]])[..., None]  # a b, c d

    def sample(uv):
        return geometry.bilinear_sample(image, uv[None, None])[0, 0, 0]

    twist = 1.0 - 2.0 - 4.0 + -3.0  # a - b - c + d
    expected = [[0.0, twist], [twist, 0.0]]
    np.testing.assert_allclose(jax.hessian(sample)(jnp.array([0.3, 0.6])), expected)


def test_in_image():
    coordinates = jnp.array([[0.0, 0.0], [4.0, 2.0], [4.01, 2.0], [-0.01, 1.0]])
    inside = geometry.in_image(coordinates, height=3, width=5)
    assert inside.tolist() == [True, True, False, False]
    assert geometry.in_image(coordinates, height=3, width=5, margin=0.1).all()
    assert not geometry.in_image(jnp.array([jnp.nan, 1.0]), height=3, width=5)


# ---------------------------------------------------------------- warping


@pytest.mark.parametrize("padding", ["border", "zeros"])
def test_warp_with_the_identity_returns_the_image(padding):
    image = rng.random((2, 192, 640, 3), np.float32)
    depth = rng.uniform(0.5, 80.0, (2, 192, 640)).astype(np.float32)
    camera = np.array([371.2, 368.6, 319.5, 95.5], np.float32)
    warped = geometry.warp(image, depth, np.eye(4), camera, padding=padding)
    np.testing.assert_allclose(warped.image, image, atol=1e-3)
    assert warped.valid.all()


def test_warp_is_its_pieces_and_the_plain_numpy_formula():
    warped = geometry.warp(IMAGE, DEPTH, POSE, CAMERA)
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    k = matrix(CAMERA).astype(np.float64)
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(k).T
    for b in range(2):
        points = rays * DEPTH[b, ..., None] @ POSE[b, :3, :3].T + POSE[b, :3, 3]
        pixels = points @ k.T
        pixels = pixels[..., :2] / pixels[..., 2:]
        expected = torch_sample(IMAGE[b : b + 1], pixels[None], "border")[0]
        np.testing.assert_allclose(warped.image[b], expected, atol=1e-4)
        inside = geometry.in_image(pixels, height=HEIGHT, width=WIDTH)
        np.testing.assert_array_equal(warped.valid[b], inside)


def test_warp_takes_a_source_of_another_camera_and_size():
    half = resize_intrinsics(CAMERA, before=(20, 32), after=(10, 16))
    small = np.random.default_rng(11).random((2, 10, 16, 3), np.float32)
    warped = geometry.warp(
        small, DEPTH, POSE, np.stack([CAMERA] * 2), source_intrinsics=half
    )
    assert warped.image.shape == (2, HEIGHT, WIDTH, 3)
    assert warped.valid.any() and not warped.valid.all()


def wild_depths():
    base = DEPTH[:1]
    one_bad = {k: base.copy() for k in (np.nan, np.inf, -np.inf, 0.0, -5.0, 1e30, 3e38)}
    for value, depth in one_bad.items():
        depth[0, 3, 4] = depth[0, 9, 15] = value
    whole = {f"all {k}": np.full_like(base, k) for k in one_bad}
    return {str(k): v for k, v in (one_bad | whole).items()}


def _warped_loss(depth, six, camera, image):
    pose = geometry.pose_from_axis_angle(six[:3], six[3:])
    warped = geometry.warp(image, depth, pose, camera)
    error = jnp.abs(warped.image - 0.5).mean(-1)
    return jnp.where(warped.valid, error, 0.0).sum() + warped.image.sum(), warped


WARPED_GRADIENTS = jax.jit(jax.grad(_warped_loss, (0, 1, 2, 3), has_aux=True))


@pytest.mark.parametrize("name", wild_depths())
@pytest.mark.parametrize("speed", [0.0, 0.3, 60.0])
def test_wild_depth_stays_where_it_is(name, speed):
    # At 60 m the scene is behind the camera.
    six = jnp.array([0.0, 0.0, 0.0, 0.1, 0.0, -speed])
    rest = six, jnp.asarray(CAMERA), IMAGE[:1]
    gradients, warped = WARPED_GRADIENTS(wild_depths()[name], *rest)
    assert finite(warped) and finite(gradients)
    if name in ("nan", "inf", "-inf", "0.0", "-5.0"):
        assert not warped.valid[0, 3, 4] and gradients[0][0, 3, 4] == 0
    if not name.startswith("all"):
        others = np.ones((1, HEIGHT, WIDTH), bool)
        others[0, 3, 4] = others[0, 9, 15] = False
        clean_gradients, clean = WARPED_GRADIENTS(DEPTH[:1], *rest)
        for left, right in (
            (warped.image, clean.image),
            (gradients[0], clean_gradients[0]),
        ):
            np.testing.assert_allclose(left[others], right[others], atol=1e-4)


def test_low_precision_comes_out_as_float32():
    low = [jnp.asarray(a, jnp.bfloat16) for a in (IMAGE, DEPTH, POSE, CAMERA)]
    high = [a.astype(jnp.float32) for a in low]
    left, right = jax.jit(geometry.warp)(*low), jax.jit(geometry.warp)(*high)
    assert left.image.dtype == jnp.float32
    np.testing.assert_allclose(left.image, right.image, atol=1e-6)
    loss = jax.grad(lambda d: geometry.warp(low[0], d, *low[2:]).image.sum())
    gradient = jax.jit(loss)(low[1])
    assert gradient.dtype == jnp.bfloat16 and finite(gradient)
    rotation = geometry.rotation_from_axis_angle(jnp.zeros(3, jnp.float16))
    assert rotation.dtype == jnp.float32


@pytest.mark.slow
def test_jit_and_vmap_equal_neither():
    plain = geometry.warp(IMAGE, DEPTH, POSE, CAMERA)
    jitted = jax.jit(geometry.warp)(IMAGE, DEPTH, POSE, CAMERA)
    mapped = jax.vmap(geometry.warp, (0, 0, 0, None))(IMAGE, DEPTH, POSE, CAMERA)
    for other in (jitted, mapped):
        np.testing.assert_allclose(other.image, plain.image, atol=1e-4)
        np.testing.assert_array_equal(other.valid, plain.valid)
    more = [np.stack([a, a]) for a in (IMAGE, DEPTH, POSE)]
    deep = geometry.warp(*more, CAMERA)
    np.testing.assert_allclose(deep.image[1], plain.image, atol=1e-4)


def test_gradient_of_the_warp_is_that_of_finite_differences():
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    smooth = np.sin(u / 9.0) + np.cos(v / 7.0)
    image = jnp.asarray(np.stack([smooth] * 3, -1), jnp.float32)

    @jax.jit
    def loss(six, scale):
        pose = geometry.pose_from_axis_angle(six[:3], six[3:])
        warped = geometry.warp(image, 10.0 * scale * jnp.ones_like(u), pose, CAMERA)
        return jnp.mean(warped.image[5:-5, 8:-8] ** 2)

    six, scale = jnp.array([0.0, 0.01, 0.0, 0.3, 0.2, 0.1]), jnp.float32(1.0)
    gradient = jax.grad(loss, (0, 1))(six, scale)
    for k, step in enumerate(2e-3 * np.eye(7)):
        up = loss(six + step[:6], scale + step[6])
        down = loss(six - step[:6], scale - step[6])
        expected = (up - down) / 4e-3
        actual = gradient[0][k] if k < 6 else gradient[1]
        np.testing.assert_allclose(actual, expected, rtol=0.05, atol=2e-3)


# ---------------------------------------------------------------- errors

BAD = {
    "rotation_from_axis_angle": [(np.ones(4),)],
    "pose_from_axis_angle": [(np.ones((2, 3)), np.ones(3))],
    "inverse_pose": [(np.ones((3, 4)),)],
    "backproject": [
        (np.ones(3), CAMERA),
        (DEPTH, CAMERA[:3]),
        (DEPTH, np.ones((3, 4))),
        (DEPTH, np.ones((2, HEIGHT, 4))),
    ],
    "transform": [(DEPTH, POSE), (np.ones((5, 3)), POSE), (np.ones(3), np.eye(3))],
    "project": [(DEPTH, CAMERA), (np.ones((5, 3)), np.ones((2, 4)))],
    "bilinear_sample": [
        (IMAGE, np.ones((2, 5, 3))),
        (IMAGE, np.ones((3, 5, 5, 2))),
        (IMAGE[0], np.ones((2, 5, 5, 2))),
        (IMAGE[0], np.ones((5, 2))),
        (np.ones((0, 4, 3)), np.ones((4, 4, 2))),
        (np.ones((4, 4)), np.ones((4, 4, 2))),
    ],
    "warp": [
        (IMAGE, DEPTH[0], POSE[0], CAMERA),
        (IMAGE, DEPTH[..., None], POSE, CAMERA),
        (IMAGE, DEPTH, POSE[[0, 0, 0]], CAMERA),
    ],
}


@pytest.mark.parametrize("name", BAD)
def test_shapes_that_do_not_fit(name):
    for arguments in BAD[name]:
        with pytest.raises(ValueError, match=r"`.*`.*got"):
            getattr(geometry, name)(*arguments)


def test_other_errors():
    with pytest.raises(ValueError, match="'border' or 'zeros', got 'edge'"):
        geometry.bilinear_sample(IMAGE, np.ones((2, 1, 1, 2)), padding="edge")
    with pytest.raises(ValueError, match=r"\(3,\)"):
        geometry.in_image(np.ones(3), height=3, width=3)


# ---------------------------------------------------------------- the room itself


def modules():
    path, prefix = geometry.__path__, geometry.__name__ + "."
    names = [m.name for m in pkgutil.iter_modules(path, prefix)]
    return [geometry, *map(importlib.import_module, names)]


def test_doctests():
    results = [doctest.testmod(module) for module in modules()]
    assert sum(r.attempted for r in results) > 20
    assert not any(r.failed for r in results)


def test_options_are_keyword_only():
    options = {"invert", "near", "padding", "source_intrinsics"}
    options |= {"width", "height", "margin", "radius"}
    options |= {"where", "iterations", "huber", "bounds"}
    for name in set(geometry.__all__) - {"Warped"}:
        for parameter in inspect.signature(getattr(geometry, name)).parameters.values():
            keyword = parameter.kind is parameter.KEYWORD_ONLY
            assert keyword == (parameter.name in options), (name, parameter)


def test_a_sharded_batch_is_not_gathered():
    code = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from amlr_jax.geometry import warp
mesh = Mesh(np.array(jax.devices()), ("data",))
batch = NamedSharding(mesh, PartitionSpec("data"))
loss = lambda d, p, i: warp(i, d, p, jnp.array([9.0, 9.0, 8.0, 4.0])).image.sum()
step = jax.jit(jax.value_and_grad(loss, (0, 1)), in_shardings=(batch,) * 3)
poses = jnp.broadcast_to(jnp.eye(4), (8, 4, 4))
shapes = jnp.ones((8, 8, 16)), poses, jnp.ones((8, 8, 16, 3))
text = step.lower(*shapes).compile().as_text()
assert "all-reduce" in text and len(jax.devices()) == 8
assert not any(k in text for k in ("all-gather", "all-to-all", "collective-permute"))
"""
    environment = {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": ":".join(p for p in sys.path if p),
    }
    command = [sys.executable, "-c", code]
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


# ---------------------------------------------------------------- KITTI

DATE, DRIVE = "2011_09_26", "2011_09_26_drive_0013_sync"


class Kitti:
    """One drive: its files, and what its calibration says, in float64."""

    def __init__(self, root):
        self.raw = root / "kitti" / "raw_data" / DATE
        self.annotated = root / "kitti" / "data_depth_annotated" / "val" / DRIVE
        cameras = self._calibration("calib_cam_to_cam.txt")
        p = cameras["P_rect_02"].reshape(3, 4)
        self.camera = p[[0, 1, 0, 1], [0, 1, 2, 2]]
        rectified = np.eye(4)
        rectified[:3, :3] = cameras["R_rect_00"].reshape(3, 3)
        rectified[:3, 3] = np.linalg.solve(p[:, :3], p[:, 3])
        self.cam_from_velo = rectified @ self._rigid("calib_velo_to_cam.txt")
        self.cam_from_imu = self.cam_from_velo @ self._rigid("calib_imu_to_velo.txt")

    def _calibration(self, name):
        rows = (line.split(":", 1) for line in (self.raw / name).open())
        dates = ("calib_time", "corner_dist")
        return {k: np.array(v.split(), float) for k, v in rows if k not in dates}

    def _rigid(self, name):
        rows, pose = self._calibration(name), np.eye(4)
        pose[:3, :3], pose[:3, 3] = rows["R"].reshape(3, 3), rows["T"]
        return pose

    def image(self, frame):
        path = self.raw / DRIVE / "image_02" / "data" / f"{frame:010d}.png"
        return cv2.imread(str(path)).astype(np.float32) / 255

    def depth_png(self, frame):
        folder = self.annotated / "proj_depth" / "groundtruth" / "image_02"
        path = folder / f"{frame:010d}.png"
        return cv2.imread(str(path), cv2.IMREAD_UNCHANGED) / 256.0

    def lidar_depth(self, frame, *, offset):
        """The nearest point of each pixel, after `offset` is taken from (u, v)."""
        path = self.raw / DRIVE / "velodyne_points" / "data" / f"{frame:010d}.bin"
        points = np.fromfile(path, np.float32).reshape(-1, 4)[:, :3]
        points = geometry.transform(points[points[:, 0] >= 0], self.cam_from_velo)
        pixels, front = geometry.project(points, self.camera)
        pixels, z = np.rint(pixels).astype(int) - offset, np.asarray(points[:, 2])
        height, width = self.image(frame).shape[:2]
        seen = geometry.in_image(pixels, height=height, width=width) & front
        depth = np.full((height, width), np.inf, np.float32)
        u, v = pixels[np.asarray(seen)].T
        np.minimum.at(depth, (v, u), z[np.asarray(seen)])
        return np.where(np.isfinite(depth), depth, 0.0)

    def world_from_imu(self, frame):
        """Position by Mercator's projection at the drive's latitude, as the devkit."""
        path = self.raw / DRIVE / "oxts" / "data" / f"{frame:010d}.txt"
        latitude, longitude, altitude, *angles = map(float, path.read_text().split())
        scale = 6378137.0 * np.cos(np.deg2rad(49.0135))
        north = np.log(np.tan(np.deg2rad(45 + latitude / 2)))
        pose = np.eye(4)
        pose[:3, 3] = scale * np.deg2rad(longitude), scale * north, altitude
        pose[:3, :3] = Rotation.from_euler("ZYX", angles[2::-1]).as_matrix()
        return pose

    def next_from_this(self, frame):
        """The pose of the camera's frame t in its frame t + 1."""
        after, now = self.world_from_imu(frame + 1), self.world_from_imu(frame)
        motion = np.linalg.inv(after) @ now
        return self.cam_from_imu @ motion @ np.linalg.inv(self.cam_from_imu)


@pytest.mark.parametrize("frame", [40, 100])
def test_lidar_projected_by_the_calibration_is_the_depth_of_the_sample(
    real_data, frame
):
    kitti = Kitti(real_data)
    expected = kitti.depth_png(frame)
    # The sample has monodepth2's offset of one pixel; without it, nothing fits.
    actual = kitti.lidar_depth(frame, offset=1)
    close = np.abs(actual - expected) < 1 / 256
    assert (expected > 0).sum() > 10_000
    assert close[expected > 0].mean() > 0.999
    assert close[actual > 0].mean() > 0.999
    shifted = np.abs(kitti.lidar_depth(frame, offset=0) - expected) < 1 / 256
    assert shifted[expected > 0].mean() < 0.01


@pytest.mark.parametrize("frame", range(40, 47))
def test_the_right_pose_explains_the_next_frame_and_the_wrong_sign_does_not(
    real_data, frame
):
    kitti = Kitti(real_data)
    target, source = kitti.image(frame), kitti.image(frame + 1)
    depth, pose = kitti.lidar_depth(frame, offset=0), kitti.next_from_this(frame)
    assert pose[2, 3] < -0.9  # the car drives forward: points come nearer
    poses = {"none": np.eye(4), "right": pose, "wrong": np.linalg.inv(pose)}
    warped = {
        k: geometry.warp(source, depth, p, kitti.camera) for k, p in poses.items()
    }
    valid = np.logical_and.reduce([w.valid for w in warped.values()])
    assert valid.sum() > 10_000
    error = {
        k: float(np.abs(w.image - target)[valid].mean()) for k, w in warped.items()
    }
    assert error["none"] / error["right"] > 1.3  # measured: 1.32 to 1.61
    assert error["wrong"] / error["none"] > 1.05  # measured: 1.08 to 1.27
