"""The decoder: sizes, range, batch statistics, layout."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.models.decoders.depth import GradualDecoder


def _decoder(**overrides):
    options = {"channels": (8, 6, 4), "head_channels": 4, "kernel_init": "he"}
    return GradualDecoder(**{**options, **overrides})


def _features(height=2, width=3, batch=2):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal((batch, height, width, 12)), jnp.float32)]


def _initialize(decoder, features, size):
    init = jax.jit(functools.partial(decoder.init, size=size, train=False))
    return init(jax.random.key(0), features)


@pytest.mark.parametrize("size", [(64, 96), (33, 65), (61, 70)])
def test_depth_has_the_size_of_the_image(size):
    decoder, features = _decoder(max_depth=10.0), _features()
    variables = _initialize(decoder, features, size)
    apply = jax.jit(functools.partial(decoder.apply, size=size, train=False))
    depth = apply(variables, features)
    assert depth.shape == (2, *size)
    assert depth.dtype == jnp.float32
    assert 0 < float(depth.min()) < float(depth.max()) < 10


def test_small_initial_kernels_start_at_half_the_depth():
    decoder, features = _decoder(kernel_init=0.001, max_depth=80.0), _features()
    variables = _initialize(decoder, features, (64, 96))
    apply = jax.jit(functools.partial(decoder.apply, size=(64, 96), train=False))
    np.testing.assert_allclose(apply(variables, features), 40.0, atol=0.01)
    for name in ("deconv0", "conv", "head_conv"):
        std = np.std(variables["params"][name]["kernel"])
        assert 0.0008 < std < 0.0012, name


def test_training_normalizes_by_the_batch_and_updates_the_running_statistics():
    decoder, features = _decoder(), _features()
    variables = _initialize(decoder, features, (64, 96))
    run = jax.jit(
        functools.partial(
            decoder.apply, size=(64, 96), train=True, mutable=["batch_stats"]
        )
    )
    depth, updated = run(variables, features)
    # Batch statistics undo a scale of the features; running ones do not.
    scaled, _ = run(variables, [3 * features[-1]])
    np.testing.assert_allclose(scaled, depth, rtol=2e-3)
    kernel = variables["params"]["deconv0"]["kernel"]
    mapped = np.einsum("nhwc,abcf->nhwabf", features[-1], kernel).reshape(-1, 8)
    stats = updated["batch_stats"]["deconv0_norm"]
    np.testing.assert_allclose(stats["mean"], 0.1 * mapped.mean(0), atol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * mapped.var(0), rtol=1e-5)
    assert set(updated["batch_stats"]) == {
        *("deconv0_norm", "deconv1_norm", "deconv2_norm", "conv_norm")
    }


def test_activation_is_silu_and_can_be_relu():
    features = _features()
    variables = _initialize(_decoder(), features, (64, 96))
    run = functools.partial(_decoder().apply, size=(64, 96), train=False)
    relu = functools.partial(
        _decoder(activation=nn.relu).apply, size=(64, 96), train=False
    )
    given = functools.partial(
        _decoder(activation=nn.silu).apply, size=(64, 96), train=False
    )
    default = jax.jit(run)(variables, features)
    np.testing.assert_array_equal(default, jax.jit(given)(variables, features))
    assert not np.allclose(default, jax.jit(relu)(variables, features))
