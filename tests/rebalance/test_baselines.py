"""Constant weights, and Lee & Kim against NumPy and by hand."""

import doctest

import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax import rebalance
from amlr_jax.rebalance import baselines

NAMES = ("a", "b", "c")


def numpy_lee_kim(losses, strength, max_factor=2.0):
    """Supplies the rule in float64, totals under the weights that come in."""
    w = np.full(3, 1 / 3)
    w = np.sum(w * losses[0]) / losses[0] / 3
    out = [w]
    for t in range(1, len(losses)):
        now, before = losses[t], losses[t - 1]
        q = np.sum(w * now) / np.sum(w * before) * before / now
        w = w * np.clip(1 + strength(t) * (q - 1), 1 / max_factor, max_factor)
        out.append(w)
    return np.array(out)


def trajectory(rule, losses):
    weights = rebalance.equal_weights(NAMES)
    state = rule.init(weights)
    for row in losses:
        row = dict(zip(NAMES, map(jnp.float32, row), strict=True))
        weights, state = rule.update(weights, state, losses=row)
        yield [float(weights[name]) for name in NAMES]


def published(t):
    return max(3 - 1.5 * (t // 4), -3)


@pytest.mark.parametrize(
    ("arguments", "strength"),
    [((), published), ((0.5,), lambda t: 0.5), ((-2.0,), lambda t: -2.0)],
)
def test_lee_kim_against_numpy_for_50_calls(arguments, strength):
    noise = np.random.default_rng(0).normal(0.0, 0.1, (50, 3))
    losses = np.array([1.0, 0.1, 5.0]) * np.exp(noise)
    actual = list(trajectory(rebalance.lee_kim(*arguments), losses))
    np.testing.assert_allclose(actual, numpy_lee_kim(losses, strength), rtol=3e-5)


def test_lee_kim_by_hand():
    losses = [[1.0, 3.0, 2.0], [1.0, 3.0, 1.0], [8.0, 3.0, 1.0]]
    calls = trajectory(rebalance.lee_kim(1.0), losses)
    # L_tot = 2; each weighted loss becomes 2 / 3.
    np.testing.assert_allclose(next(calls), [2 / 3, 2 / 9, 1 / 3], rtol=1e-6)
    # L_tot 2 -> 5/3, ratio 5/6; c halved: q = 5/6, 5/6, 5/3.
    expected = np.array([2 / 3 * 5 / 6, 2 / 9 * 5 / 6, 1 / 3 * 5 / 3])
    np.testing.assert_allclose(next(calls), expected, rtol=1e-6)
    # L_tot 5/3 -> 50/9, ratio 10/3: a has q = 10/24, clipped; b and c clipped to 2.
    np.testing.assert_allclose(next(calls), expected * [0.5, 2, 2], rtol=1e-6)


def test_lee_kim_of_strength_zero_keeps_the_equalised_weights():
    losses = [[1.0, 3.0, 2.0], [1.0, 2.0, 1.0], [8.0, 3.0, 1.0]]
    first, *rest = trajectory(rebalance.lee_kim(0.0), losses)
    assert rest == [first, first]


def test_max_factor_limits_the_move():
    losses = [[1.0, 1.0, 1.0], [1.0, 1.0, 100.0]]
    first, second = trajectory(rebalance.lee_kim(1.0, max_factor=1.5), losses)
    np.testing.assert_allclose(np.divide(second, first), [1.5, 1.5, 1 / 1.5], 1e-5)


def test_fixed_is_constant():
    rule = rebalance.fixed({"a": 1.0, "b": 0.0, "c": 2.0})
    for weights in trajectory(rule, [[1.0, 3.0, 2.0], [0.0, 9.0, 1e30]]):
        assert weights == [1.0, 0.0, 2.0]


def test_errors():
    with pytest.raises(ValueError, match="max_factor.*0.5"):
        rebalance.lee_kim(1.0, max_factor=0.5)
    with pytest.raises(ValueError, match="strength.*inf"):
        rebalance.lee_kim(float("inf"))
    with pytest.raises(ValueError, match="weights.*'a'.*-1"):
        rebalance.fixed({"a": -1.0})
    with pytest.raises(ValueError, match=r"weights.*missing \['b'\].*\['a'\]"):
        rebalance.fixed({"a": 1.0}).init({"b": 1.0})


def test_doctests():
    assert doctest.testmod(baselines).failed == 0
