"""Masked means: the one place that divides by a pixel count."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.losses import masked

rng = np.random.default_rng(0)
X = rng.normal(5.0, 2.0, (2, 7, 9)).astype(np.float32)
WHERE = rng.random(X.shape) < 0.4


def test_mean_and_variance_against_numpy():
    valid = X.astype(np.float64)[WHERE]
    np.testing.assert_allclose(masked.masked_mean(X, where=WHERE), valid.mean(), 1e-6)
    np.testing.assert_allclose(
        masked.masked_variance(X, where=WHERE), valid.var(), rtol=1e-6
    )


def test_no_mask_is_every_pixel():
    np.testing.assert_allclose(masked.masked_mean(X), X.mean(), rtol=1e-6)


def test_mean_over_some_axes_against_numpy():
    expected = [x[w].mean() for x, w in zip(X, WHERE, strict=True)]
    actual = masked.masked_mean(X, where=WHERE, axis=(1, 2))
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


@pytest.mark.parametrize("statistic", [masked.masked_mean, masked.masked_variance])
def test_empty_mask_is_zero_with_zero_gradient(statistic):
    value, gradient = jax.value_and_grad(statistic)(X, where=np.zeros_like(WHERE))
    assert value == 0.0
    np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize("statistic", [masked.masked_mean, masked.masked_variance])
def test_values_under_the_mask_do_not_count(statistic):
    spoiled = np.where(WHERE, X, np.nan)
    value, gradient = jax.value_and_grad(statistic)(spoiled, where=WHERE)
    assert value == statistic(X, where=WHERE)
    assert np.isfinite(gradient).all()


def test_statistics_are_float32_for_half_precision():
    x = jnp.full((100, 100), 0.1, jnp.float16)  # 10000 * 0.1 is coarse in float16
    mean = masked.masked_mean(x)
    assert mean.dtype == jnp.float32
    np.testing.assert_allclose(mean, np.float32(np.float16(0.1)), rtol=1e-6)


def test_gradient_is_one_over_the_count():
    gradient = jax.grad(masked.masked_mean)(X, where=WHERE)
    np.testing.assert_allclose(gradient, WHERE / WHERE.sum(), rtol=1e-6)


def test_valid_count():
    assert masked.valid_count(jnp.asarray(WHERE)) == WHERE.sum()


def test_errors_name_the_rule():
    with pytest.raises(TypeError, match="boolean.*float32"):
        masked.masked_mean(X, where=WHERE.astype(np.float32))
    with pytest.raises(ValueError, match=r"\(2, 7\).*\(2, 7, 9\)"):
        masked.masked_mean(X, where=WHERE[..., 0])


def test_doctests():
    assert doctest.testmod(masked).failed == 0
