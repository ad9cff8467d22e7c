"""Precision and layouts that all pure functions on arrays share."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax import geometry, losses, metrics

rng = np.random.default_rng(0)
DEPTH, OTHER = (rng.uniform(1.0, 9.0, (2, 8, 9)).astype(np.float32) for _ in range(2))
IMAGE, VIEW = (rng.random((2, 8, 9, 3)).astype(np.float32) for _ in range(2))
CAMERA = np.array([8.0, 8.0, 4.0, 3.5], np.float32)
POINTS = rng.uniform(1.0, 2.0, (2, 5, 3)).astype(np.float32)
PIXELS = rng.uniform(0.0, 7.0, (2, 4, 5, 2)).astype(np.float32)

OF_DEPTHS = {
    "scale_invariant": losses.scale_invariant_loss,
    "silog": losses.silog_loss,
    "gradient": losses.gradient_loss,
    "l1": losses.l1_loss,
    "berhu": losses.berhu_loss,
    "log_l1": losses.log_l1_loss,
    "depth_metrics": metrics.depth_metrics,
    "median_scale": metrics.median_scale,
    "median_scaled": lambda p, t: metrics.median_scaled(p, t, max_depth=80.0),
}
OF_IMAGES = {
    "ssim": losses.ssim,
    "components": losses.ssim_components,
    "ssim_loss": losses.ssim_loss,
    "multiplicative": losses.multiplicative_ssim_loss,
    "additive": losses.additive_ssim_loss,
    "photometric": losses.photometric_error,
    "ssim_a": lambda x, y, **o: losses.photometric_error(x, y, kind="ssim_a", **o),
    "parts": losses.photometric_components,
}


def selected(errors, identity):
    key = jax.random.key(0)
    return losses.minimum_reprojection(errors, identity, key=key).error


# Functions of two arrays.
CALLS = {
    **{name: (function, DEPTH, OTHER) for name, function in OF_DEPTHS.items()},
    **{name: (function, IMAGE, VIEW) for name, function in OF_IMAGES.items()},
    "smoothness": (losses.smoothness_loss, DEPTH, IMAGE),
    "minimum": (selected, DEPTH, OTHER),
    "backproject": (geometry.backproject, DEPTH, CAMERA),
    "project": (lambda p, k: geometry.project(p, k)[0], POINTS, CAMERA),
    "transform": (geometry.transform, POINTS, np.eye(4, dtype=np.float32)),
    "pose": (geometry.pose_from_axis_angle, POINTS, POINTS),
    "sample": (geometry.bilinear_sample, IMAGE, PIXELS),
    "reproject": (
        lambda d, k: geometry.reproject(d, np.eye(4, dtype=np.float32), k)[0],
        DEPTH,
        CAMERA,
    ),
    "warp": (
        lambda i, d: geometry.warp(i, d, np.eye(4, dtype=np.float32), CAMERA).image,
        IMAGE,
        DEPTH,
    ),
}
every_call = pytest.mark.parametrize("name", CALLS)


def slope(function, x, y):
    def total(x):
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(function(x, y)))

    return jax.grad(total)(x)


@pytest.mark.slow
@every_call
def test_strict_dtype_promotion(name):
    """Also of inputs that mix dtypes."""
    function, x, y = CALLS[name]
    with jax.numpy_dtype_promotion("strict"):
        jax.eval_shape(partial(slope, function), x, y)
        jax.eval_shape(function, x.astype(jnp.bfloat16), y)


@pytest.mark.slow
@every_call
def test_float64_is_kept_and_float32_stays(name):
    function, x, y = CALLS[name]
    slope_of = jax.jit(partial(slope, function))
    with jax.enable_x64(True):
        for one, other, kind in (
            (np.float64, np.float64, jnp.float64),
            (np.float32, np.float64, jnp.float64),
            (np.float32, np.float32, jnp.float32),
        ):
            out = jax.eval_shape(function, x.astype(one), y.astype(other))
            assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {jnp.dtype(kind)}
        exact = slope_of(x.astype(float), y.astype(float))
    rough = slope_of(x, y)
    scale = np.abs(exact).max()
    np.testing.assert_allclose(rough, exact, rtol=2e-3, atol=2e-3 * scale + 1e-6)


@pytest.mark.parametrize(
    "name", [*OF_DEPTHS, *OF_IMAGES, "smoothness", "backproject", "reproject"]
)
def test_integers_are_no_float_images_and_unsigned_ones_no_depth(name):
    """Of what is refused, every way to pass it is."""
    function, x, y = CALLS[name]
    for kind in (np.uint8, np.uint16):
        for call in (function, jax.jit(function)):
            with pytest.raises(TypeError, match="divide"):
                call(np.asarray(200 * x).astype(kind), y)
            if name in OF_DEPTHS or name in OF_IMAGES:
                with pytest.raises(TypeError, match=f"`(y|target)` is {kind.__name__}"):
                    call(x, np.asarray(200 * y).astype(kind))


def test_integer_images_in_smoothness():
    for kind in (np.uint8, np.int32):
        with pytest.raises(TypeError, match="`image` is .*divide it by 255"):
            losses.smoothness_loss(DEPTH, (255 * IMAGE).astype(kind))


@pytest.mark.parametrize("name", OF_IMAGES)
def test_integer_images_with_their_range_are_read(name):
    x, y = (np.round(255 * image) for image in (IMAGE, VIEW))
    whole = OF_IMAGES[name](x.astype(np.uint8), y.astype(np.uint8), data_range=255)
    unit = OF_IMAGES[name](np.float32(x / 255), np.float32(y / 255))
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(unit), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("name", OF_IMAGES)
@pytest.mark.parametrize("shape", [(2, 3, 8, 9), (3, 8, 9), (8, 64, 64), (2, 8, 9, 16)])
def test_other_layouts_of_images_are_refused(name, shape):
    x = np.ones(shape, np.float32)
    for call in (OF_IMAGES[name], jax.jit(OF_IMAGES[name])):
        with pytest.raises(ValueError, match=r"H, W, C\].*moveaxis.*None"):
            call(x, x)


@pytest.mark.parametrize(
    "call",
    [
        lambda d: losses.gradient_loss(d, d),
        lambda d: losses.silog_loss(d, d, per_image=True),
        lambda d: losses.l1_loss(d, d, per_image=True),
        lambda d: losses.berhu_loss(d, d, per_image=True),
        lambda d: losses.smoothness_loss(d, d[..., None]),
        lambda d: metrics.depth_metrics(d, d),
        lambda d: metrics.median_scale(d, d),
        lambda d: geometry.backproject(d, CAMERA),
        lambda d: geometry.reproject(d, np.eye(4), CAMERA),
    ],
)
@pytest.mark.parametrize("shape", [(2, 8, 9, 1), (8, 9, 1)])
def test_depth_with_a_channel_axis_is_refused(call, shape):
    depth = np.ones(shape, np.float32)
    for function in (call, jax.jit(call)):
        with pytest.raises(ValueError, match=r"channel axis.*\[..., 0\]"):
            function(depth)
    call(depth[..., 0])


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_first_images_are_not_sampled(channels):
    with pytest.raises(ValueError, match="channels first.*moveaxis"):
        geometry.bilinear_sample(np.ones((2, channels, 8, 9)), PIXELS)
    geometry.bilinear_sample(np.ones((2, 8, 9, 64)), PIXELS)  # feature maps are
