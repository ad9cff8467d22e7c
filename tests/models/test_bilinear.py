"""Bilinear doubling and the convolution of doubled maps, against NumPy and PyTorch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.models.bilinear import (
    conv_of_upsampled,
    doubling,
    resize_aligned,
    upsample_bilinear_2x,
)
from amlr_jax.train.flops import model_flops

CHANNELS_LAST = (0, 2, 3, 1)


def _random(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _doubled_by_loop(values):
    """Half-pixel linear interpolation of one line, edges held."""
    size = len(values)
    out = np.empty(2 * size)
    for i in range(2 * size):
        position = min(max((i + 0.5) / 2 - 0.5, 0), size - 1)
        low = int(np.floor(position))
        high, part = min(low + 1, size - 1), position - low
        out[i] = (1 - part) * values[low] + part * values[high]
    return out


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 4), (5, 3)])
def test_upsample_equals_numpy(height, width):
    x = _random(1, height, width, 1)[0, :, :, 0]
    rows = np.apply_along_axis(_doubled_by_loop, 0, x)
    expected = np.apply_along_axis(_doubled_by_loop, 1, rows)
    doubled = upsample_bilinear_2x(jnp.asarray(x)[None, :, :, None])
    np.testing.assert_allclose(doubled[0, :, :, 0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("resize", "size", "options"),
    [
        (upsample_bilinear_2x, (6, 8), {"align_corners": False}),
        (partial(resize_aligned, size=(7, 5)), (7, 5), {"align_corners": True}),
        (partial(resize_aligned, size=(2, 9)), (2, 9), {"align_corners": True}),
        (partial(resize_aligned, size=(1, 4)), (1, 4), {"align_corners": True}),
        (partial(resize_aligned, size=(3, 8)), (3, 8), {"align_corners": True}),
        (partial(resize_aligned, size=(4, 1)), (4, 1), {"align_corners": True}),
    ],
)
def test_resizing_equals_torch_and_its_gradient(resize, size, options):
    torch = pytest.importorskip("torch")
    x, weight = _random(2, 3, 4, 5), _random(2, *size, 5)
    xt = torch.from_numpy(x.transpose(0, 3, 1, 2)).requires_grad_()
    yt = torch.nn.functional.interpolate(xt, size, mode="bilinear", **options)
    (yt.permute(CHANNELS_LAST) * torch.from_numpy(weight)).sum().backward()
    for run in (resize, jax.jit(resize)):
        y, pull_back = jax.vjp(run, jnp.asarray(x))
        (gradient,) = pull_back(jnp.asarray(weight))
        np.testing.assert_allclose(y, yt.detach().permute(CHANNELS_LAST), atol=1e-6)
        np.testing.assert_allclose(gradient, xt.grad.permute(CHANNELS_LAST), atol=1e-5)


def test_corners_stay_where_they_are():
    x = jnp.asarray(_random(1, 3, 4, 2))
    y = resize_aligned(x, (5, 7))  # every second value is one of x
    np.testing.assert_allclose(y[:, ::2, ::2], x, atol=1e-6)
    np.testing.assert_allclose(
        resize_aligned(x[:, :1, :1], (2, 3))[0, 1, 2], x[0, 0, 0]
    )


@pytest.mark.parametrize("times", [0, 1, 2, 3])
def test_doubling_is_a_mean_of_pixels_and_keeps_a_ramp(times):
    matrix = doubling(7, times)
    assert matrix.shape == (7 * 2**times, 7)
    assert matrix.min() >= 0
    np.testing.assert_allclose(matrix.sum(1), 1.0)
    np.testing.assert_allclose(matrix.sum(0).sum(), len(matrix))
    ramp = (np.arange(7 * 2**times) + 0.5) / 2**times - 0.5
    inner = slice(2**times, -(2**times))
    np.testing.assert_allclose((matrix @ np.arange(7.0))[inner], ramp[inner], atol=1e-6)


def _upsampled_by_torch(x, kernel, size, doublings, weight):
    """The value and the gradients, of x and of the kernel, in float64."""
    torch = pytest.importorskip("torch")
    xt = torch.from_numpy(np.float64(x.transpose(0, 3, 1, 2))).requires_grad_()
    kt = torch.from_numpy(np.float64(kernel.transpose(3, 2, 0, 1))).requires_grad_()
    up = xt
    for _ in range(doublings):
        up = torch.nn.functional.interpolate(
            up, scale_factor=2, mode="bilinear", align_corners=False
        )
    padding = [n // 2 for n in kernel.shape[:2]]
    y = torch.nn.functional.conv2d(
        up[:, :, : size[0], : size[1]], kt, padding=padding
    ).permute(CHANNELS_LAST)
    (y * torch.from_numpy(weight)).sum().backward()
    of_x = xt.grad.permute(CHANNELS_LAST)
    of_kernel = kt.grad.permute(2, 3, 1, 0)
    return [a.detach().numpy() for a in (y, of_x, of_kernel)]


@pytest.mark.parametrize(
    ("small", "size", "doublings", "taps"),
    [
        ((3, 4), (12, 16), 2, (3, 3)),
        ((3, 4), (10, 13), 2, (3, 3)),  # an image that is no multiple of 4
        ((1, 1), (4, 4), 2, (3, 3)),
        ((1, 5), (1, 20), 2, (3, 3)),
        ((4, 3), (8, 5), 1, (1, 5)),
        ((2, 3), (2, 3), 0, (3, 3)),
    ],
)
def test_convolution_of_an_upsampled_map_equals_torch(small, size, doublings, taps):
    x, kernel = _random(2, *small, 5), _random(*taps, 5, 6)
    weight = _random(2, *size, 6)
    expected = _upsampled_by_torch(x, kernel, size, doublings, weight)

    def both(x, kernel):
        conv = partial(conv_of_upsampled, size=size, doublings=doublings)
        y, pull_back = jax.vjp(conv, x, kernel)
        return y, *pull_back(jnp.asarray(weight))

    arrays = jnp.asarray(x), jnp.asarray(kernel)
    for found in (both(*arrays), jax.jit(both)(*arrays)):
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=2e-5)


def _plain(x, kernel, size):
    """The convolution of the upsampled map, at its full size."""
    up = upsample_bilinear_2x(upsample_bilinear_2x(x))[:, : size[0], : size[1]]
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        up, kernel, (1, 1), [(1, 1)] * 2, dimension_numbers=dimensions
    )


def test_convolution_in_bfloat16_is_as_exact_as_that_of_the_full_size():
    x, kernel, size = _random(2, 6, 8, 32), _random(3, 3, 32, 16) / 17, (24, 32)
    exact = _plain(jnp.asarray(x), jnp.asarray(kernel), size)
    low = [jnp.asarray(a, jnp.bfloat16) for a in (x, kernel)]
    found, plain = conv_of_upsampled(*low, size=size), _plain(*low, size)
    assert found.dtype == jnp.bfloat16
    error, of_plain = (jnp.sqrt(jnp.mean((y - exact) ** 2)) for y in (found, plain))
    assert error < 1.5 * of_plain < 0.01


@pytest.mark.parametrize("value", [0.0, 1e30, -1e30])
def test_equal_pixels_have_finite_values_and_gradients(value):
    x, kernel = jnp.full((1, 2, 3, 4), value), jnp.zeros((3, 3, 4, 2)).at[1, 1].set(1.0)

    def total(x, kernel):
        return jnp.tanh(conv_of_upsampled(x, kernel, size=(8, 12))).sum()

    y = conv_of_upsampled(x, kernel, size=(8, 12))
    np.testing.assert_allclose(y, np.full((1, 8, 12, 2), 4 * value), rtol=1e-6)
    for gradient in jax.grad(total, (0, 1))(x, kernel):
        assert jnp.isfinite(gradient).all()


def test_model_flops_are_those_of_the_convolution_at_full_size():
    x, kernel, size = jnp.ones((2, 5, 6, 8)), jnp.ones((3, 3, 8, 4)), (18, 24)

    def flops(conv):
        def total(x, kernel):
            return jnp.sin(conv(x, kernel, size=size)).sum()

        gradient = jax.value_and_grad(total, (0, 1))
        return model_flops(jax.make_jaxpr(gradient)(x, kernel))

    assert flops(conv_of_upsampled) == pytest.approx(flops(_plain), rel=1e-5)
