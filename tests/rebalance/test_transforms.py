"""Weighted total, clips, normalisation and windows."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from amlr_jax import rebalance
from amlr_jax.rebalance import transforms


def recorder():
    """A rule that returns the losses it is called with, and counts the calls."""

    def update_fn(loss_weights, state, params=None, *, losses, **extra_args):
        del loss_weights, params, extra_args
        return losses, state + 1

    return optax.GradientTransformationExtraArgs(
        lambda loss_weights: jnp.zeros((), jnp.int32), update_fn
    )


def run(rule, weights, rows):
    state = rule.init(weights)
    for row in rows:
        weights, state = rule.update(weights, state, losses={"a": row})
        yield float(weights["a"]), state


# ---------------------------------------------------------------- weighted_total


def test_weighted_total():
    losses = {"a": jnp.bfloat16(2.0), "b": jnp.float32(4.0)}
    total = rebalance.weighted_total(losses, {"b": 0.25, "a": 0.5})
    assert total == 2.0
    assert total.dtype == jnp.float32


def test_weighted_total_gradients():
    losses, weights = {"a": 2.0, "b": 4.0}, {"a": 0.5, "b": 0.25}
    to_losses, to_weights = jax.grad(rebalance.weighted_total, (0, 1))(losses, weights)
    assert to_losses == weights
    assert to_weights == {"a": 0.0, "b": 0.0}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weight_zero_leaves_a_non_finite_loss_out(bad):
    losses, weights = {"a": 2.0, "b": bad}, {"a": 0.5, "b": 0.0}
    total, gradient = jax.value_and_grad(rebalance.weighted_total)(losses, weights)
    assert total == 1.0
    assert gradient == {"a": 0.5, "b": 0.0}
    assert not np.isfinite(rebalance.weighted_total(losses, {"a": 0.5, "b": 1e-9}))


def test_weighted_total_errors():
    with pytest.raises(ValueError, match=r"missing \['b'\] and extra \['c'\]"):
        rebalance.weighted_total({"a": 1.0, "b": 1.0}, {"a": 1.0, "c": 1.0})
    with pytest.raises(ValueError, match="at least one"):
        rebalance.weighted_total({}, {})
    with pytest.raises(ValueError, match=r"losses\['a'\].*\(2,\)"):
        rebalance.weighted_total({"a": jnp.ones(2)}, {"a": 1.0})
    with pytest.raises(TypeError, match=r"losses\[0\] = 'one'"):
        rebalance.weighted_total(["one"], [1.0])


def test_equal_weights():
    weights = rebalance.equal_weights(["x", "y", "z"])
    assert list(weights) == ["x", "y", "z"]
    assert all(w.dtype == jnp.float32 for w in weights.values())
    np.testing.assert_allclose(list(weights.values()), 1 / 3, rtol=1e-7)
    for names in ([], ["x", "x"]):
        with pytest.raises(ValueError, match="distinct"):
            rebalance.equal_weights(names)


# ---------------------------------------------------------------- clip, normalise


def test_clip_loss_weights():
    rule = rebalance.clip_loss_weights(0.1, 1.0)
    weights = {"a": -3.0, "b": 0.5, "c": 7.0}
    clipped, state = rule.update(weights, rule.init(weights))
    np.testing.assert_allclose([clipped[n] for n in "abc"], [0.1, 0.5, 1.0], rtol=1e-7)
    assert jax.tree.leaves(state) == []
    with pytest.raises(ValueError, match="2.0 and 1.0"):
        rebalance.clip_loss_weights(2.0, 1.0)


def test_normalize_loss_weights():
    rule = rebalance.normalize_loss_weights(2.0)
    weights = {"a": 1.0, "b": 3.0}
    scaled, _ = rule.update(weights, rule.init(weights))
    assert scaled == {"a": 0.5, "b": 1.5}
    broken = {"a": 1.0, "b": -1.0}
    assert rule.update(broken, rule.init(broken))[0] == broken
    with pytest.raises(ValueError, match="total.*0"):
        rebalance.normalize_loss_weights(0.0)


# ---------------------------------------------------------------- every_k_steps


def test_window_mean_reaches_the_inner_rule_when_it_closes():
    calls = list(run(rebalance.every_k_steps(recorder(), 3), {"a": 9.0}, range(1, 8)))
    weights = [weight for weight, _ in calls]
    assert weights == [9.0, 9.0, 2.0, 2.0, 2.0, 5.0, 5.0]
    assert [int(state.inner) for _, state in calls] == [0, 0, 1, 1, 1, 2, 2]
    assert [int(state.count) for _, state in calls] == [1, 2, 0, 1, 2, 0, 1]


def test_non_finite_steps_do_not_count():
    rows = [1.0, np.nan, 3.0, np.inf, 8.0]
    weights = [
        w for w, _ in run(rebalance.every_k_steps(recorder(), 3), {"a": 9.0}, rows)
    ]
    assert weights == [9.0, 9.0, 9.0, 9.0, 4.0]


def test_a_zero_loss_counts_in_the_mean():
    calls = run(rebalance.every_k_steps(recorder(), 2), {"a": 9.0}, [0.0, 3.0])
    assert [weight for weight, _ in calls] == [9.0, 1.5]


def test_every_step_is_the_inner_rule():
    rows = [1.0, 2.0, 4.0]
    plain = [w for w, _ in run(rebalance.lee_kim(), {"a": 1.0}, rows)]
    windows = run(rebalance.every_k_steps(rebalance.lee_kim(), 1), {"a": 1.0}, rows)
    assert [w for w, _ in windows] == plain


def test_inner_may_be_a_plain_optax_transformation():
    rule = rebalance.every_k_steps(optax.scale(3.0), 2)
    assert [w for w, _ in run(rule, {"a": 1.0}, [1.0, 1.0])] == [1.0, 3.0]


def test_mean_of_a_long_window_is_accurate():
    rows = np.random.default_rng(0).uniform(0.5, 1.5, 5000).astype(np.float32)
    rule = rebalance.every_k_steps(recorder(), 5000)

    def step(carry, row):
        return rule.update(*carry, losses={"a": row}), None

    carry = ({"a": jnp.float32(0.0)}, rule.init({"a": 0.0}))
    (weights, _), _ = jax.lax.scan(step, carry, rows)
    np.testing.assert_allclose(weights["a"], rows.astype(float).mean(), rtol=1e-5)


@pytest.mark.parametrize("k", [0, -1, 2.0, True, "3"])
def test_k_must_be_a_positive_integer(k):
    with pytest.raises(ValueError, match="`k` must be an integer"):
        rebalance.every_k_steps(recorder(), k)


def test_doctests():
    assert doctest.testmod(transforms).failed == 0
