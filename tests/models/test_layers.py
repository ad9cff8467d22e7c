"""Layers against PyTorch, and against NumPy where PyTorch is absent."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.models import layers


def _deconvolve(x, kernel):
    return layers.Deconvolution(kernel.shape[-1]).apply(
        {"params": {"kernel": kernel}}, x
    )


def _random(*shape):
    rng = np.random.default_rng(sum(shape))
    return rng.standard_normal(shape).astype(np.float32)


def test_deconvolution_equals_lax():
    x, kernel = _random(2, 3, 5, 4), _random(2, 2, 4, 6)
    # lax correlates: its kernel is the mirrored one.
    expected = jax.lax.conv_transpose(
        x,
        kernel[::-1, ::-1],
        (2, 2),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    np.testing.assert_allclose(_deconvolve(x, kernel), expected, atol=1e-5)


def test_deconvolution_equals_torch_with_the_documented_transpose():
    torch = pytest.importorskip("torch")
    x, weight = _random(2, 3, 5, 4), _random(4, 6, 2, 2)
    expected = torch.nn.functional.conv_transpose2d(
        torch.from_numpy(x.transpose(0, 3, 1, 2)), torch.from_numpy(weight), stride=2
    )
    kernel = weight.transpose(2, 3, 0, 1)
    np.testing.assert_allclose(
        _deconvolve(x, kernel), expected.numpy().transpose(0, 2, 3, 1), atol=1e-5
    )


def test_batch_norm_has_float32_statistics_and_torch_constants():
    class Normalize(nn.Module):
        @nn.compact
        def __call__(self, x):
            return layers.batch_norm(train=True, dtype=jnp.bfloat16, name="norm")(x)

    x = jnp.asarray(100 + _random(4, 5, 6, 3), jnp.bfloat16)
    variables = Normalize().init(jax.random.key(0), x)
    y, updated = Normalize().apply(variables, x, mutable=["batch_stats"])
    stats = updated["batch_stats"]["norm"]
    exact = np.asarray(x, np.float64).reshape(-1, 3)
    assert y.dtype == jnp.bfloat16
    assert stats["mean"].dtype == jnp.float32
    np.testing.assert_allclose(stats["mean"], 0.1 * exact.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * exact.var(0), rtol=1e-2)


def test_layer_norm_is_torchs_in_float32():
    x = jnp.asarray(100 + _random(2, 3, 4, 8), jnp.bfloat16)
    norm = layers.layer_norm(1e-3, "norm", scale=0.5)
    y = norm.apply(norm.init(jax.random.key(0), x), x)
    exact = np.asarray(x, np.float64)
    exact -= exact.mean(-1, keepdims=True)
    exact *= 0.5 / np.sqrt((exact**2).mean(-1, keepdims=True) + 1e-3)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, exact, atol=1e-4)


def test_drop_path_rates():
    rates = layers.drop_path_rates(0.5, (2, 2, 18, 2))
    assert len(rates) == 24
    np.testing.assert_allclose(rates, [i * 0.5 / 23 for i in range(24)], rtol=1e-12)


CONVOLUTIONS = {
    "3 x 3, zeros": (3, 1, 1),
    "3 x 3": (3, 0, 1),
    "1 x 1, four channels": (1, 0, 4),
}


@pytest.mark.parametrize(
    ("size", "padding", "features"), CONVOLUTIONS.values(), ids=CONVOLUTIONS
)
def test_low_precision_convolution_to_float32(size, padding, features):
    """Of rounded arrays it is exact, and so are its gradients but for rounding."""
    x = jnp.asarray(_random(2, 5, 7, 6), jnp.bfloat16)
    exact, low = (
        layers.ConvToFloat32(features, size, padding, dtype)
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    variables = exact.init(jax.random.key(0), x)
    kernel = variables["params"]["kernel"].astype(jnp.bfloat16).astype(jnp.float32)
    params = {"kernel": kernel, "bias": jnp.asarray(_random(features))}

    def both(layer):
        def loss(params, x):
            y = layer.apply({"params": params}, x)
            return jnp.sin(y).sum(), y

        return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(params, x)

    (expected, of_x), y = both(exact)
    (gradients, low_x), found = both(low)
    assert found.dtype == y.dtype == jnp.float32 and low_x.dtype == jnp.bfloat16
    np.testing.assert_allclose(found, y, atol=1e-5)
    np.testing.assert_allclose(low_x, of_x, atol=0.03 * np.abs(of_x).max())
    for name, exact_gradient in expected.items():
        bound = 0.01 * np.abs(exact_gradient).max()
        np.testing.assert_allclose(gradients[name], exact_gradient, atol=bound)


def test_convolution_to_float32_is_flaxs():
    x = _random(2, 5, 7, 6)
    ours = layers.ConvToFloat32(1, 3, padding=1)
    theirs = nn.Conv(1, (3, 3), kernel_init=layers.conv_init)
    variables = ours.init(jax.random.key(0), x)
    same = theirs.init(jax.random.key(0), x)
    np.testing.assert_array_equal(
        variables["params"]["kernel"], same["params"]["kernel"]
    )
    np.testing.assert_array_equal(
        jax.jit(ours.apply)(variables, x), jax.jit(theirs.apply)(variables, x)
    )


def test_layer_norm_below_float32():
    """Statistics in float32 in one pass; only the result is rounded."""
    x = jnp.asarray(3 + _random(2, 3, 4, 64), jnp.bfloat16)
    low = layers.layer_norm(1e-6, "norm", dtype=jnp.bfloat16)
    exact = layers.layer_norm(1e-6, "norm")
    variables = exact.init(jax.random.key(0), x)
    y, expected = low.apply(variables, x), exact.apply(variables, x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), expected, atol=0.01, rtol=0.005)
