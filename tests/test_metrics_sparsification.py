"""Sparsification curves against a plain loop in float64, and their extremes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax import metrics

rng = np.random.default_rng(0)
ERROR = rng.gamma(1.0, 0.1, (3, 9, 14)).astype(np.float32)
CONFIDENCE = (-ERROR + 0.1 * rng.standard_normal(ERROR.shape)).astype(np.float32)
WHERE = rng.random(ERROR.shape) < 0.7


def by_hand(error, confidence, where):
    """One image: curves and both areas."""
    pairs = [
        (float(e), float(c))
        for e, c, w in zip(error.flat, confidence.flat, where.flat, strict=True)
        if w
    ]
    whole = sum(e for e, _ in pairs) / len(pairs)
    curves = []
    for key in (lambda pair: -pair[1], lambda pair: pair[0]):
        ordered = [e for e, _ in sorted(pairs, key=key)]
        curve = []
        for removed in range(50):
            count = max(math.ceil((50 - removed) * len(pairs) / 50), 1)
            curve.append(sum(ordered[:count]) / count / whole)
        curves.append(curve)
    ours, best = map(np.array, curves)
    return ours, best, np.mean(ours - best), np.mean(1 - ours)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_curves_and_areas_by_hand(transform):
    measure = transform(lambda e, c, w: metrics.sparsification(e, c, where=w))
    found = measure(ERROR, CONFIDENCE, WHERE)
    np.testing.assert_allclose(found.kept, np.arange(50, 0, -1) / 50, rtol=1e-6)
    for index in range(3):
        expected = by_hand(ERROR[index], CONFIDENCE[index], WHERE[index])
        for one, value in zip(found[1:], expected, strict=True):
            np.testing.assert_allclose(one[index], value, rtol=2e-4, atol=2e-6)


def test_what_confidence_is_worth():
    perfect = metrics.sparsification(ERROR, -(ERROR**2), where=WHERE)
    np.testing.assert_allclose(perfect.ause, 0, atol=1e-6)
    useless = metrics.sparsification(ERROR, rng.random(ERROR.shape))
    worst = metrics.sparsification(ERROR, ERROR)
    assert (abs(useless.gain) < 0.15).all() and (worst.gain < -0.3).all()
    some = metrics.sparsification(ERROR, CONFIDENCE)
    assert (some.ause < worst.ause).all() and (some.gain > 0.2).all()
    monotone = metrics.sparsification(ERROR, np.exp(3 * CONFIDENCE))
    np.testing.assert_allclose(monotone.ause, some.ause, rtol=1e-5)


def test_degenerate_images():
    nothing = metrics.sparsification(ERROR, CONFIDENCE, where=np.zeros_like(WHERE))
    assert np.isnan(nothing.ause).all() and np.isnan(nothing.by_confidence).all()
    exact = metrics.sparsification(np.zeros((2, 3)), np.ones((2, 3)))
    assert float(exact.ause) == 0 and not np.asarray(exact.by_confidence).any()
    one = np.zeros_like(WHERE[0])
    one[4, 4] = True
    poisoned = jnp.where(one, ERROR[0], jnp.nan)
    single = metrics.sparsification(poisoned, CONFIDENCE[0], where=one)
    np.testing.assert_allclose(single.by_confidence, 1, rtol=1e-6)
    gradient = jax.grad(lambda e: metrics.sparsification(e, CONFIDENCE[0]).ause)
    for error in (ERROR[0], np.zeros_like(ERROR[0])):
        assert np.isfinite(gradient(jnp.asarray(error))).all()
    with pytest.raises(ValueError, match="must have the shape of `error`"):
        metrics.sparsification(ERROR, CONFIDENCE[0])
