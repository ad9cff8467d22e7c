"""A rule that does nothing says so; a weight of 0 removes a loss; precision is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from amlr_jax import rebalance
from tests.rebalance.test_rules import RULES, STEPS, arguments, every_rule, start

WATCHED = ("amlr", "log_amlr", "lee_kim", "dwa", "uncertainty", "famo", "chain")


def run(rule, rows, weights=None):
    weights = weights or rebalance.equal_weights(["a", "b"])
    state = rule.init(weights)
    update = jax.jit(lambda w, s, values: rule.update(w, s, losses=values))
    for a, b in rows:
        weights, state = update(weights, state, {"a": a, "b": b})
    return weights, state


@pytest.mark.parametrize("bad", [0.0, -0.3, np.nan])
@pytest.mark.parametrize("name", WATCHED)
def test_a_loss_that_is_never_weighted_is_counted_at_every_step(name, bad):
    weights, state = run(RULES[name], [(1.0, bad)] * STEPS)
    count = rebalance.skipped_updates(state)
    assert (int(count), count.dtype, count.shape) == (STEPS, jnp.int32, ())
    assert optax.tree.get(state, "count") == (0 if np.isnan(bad) else STEPS)


def test_a_window_counts_steps_and_its_rule_counts_windows():
    rule = rebalance.every_k_steps(rebalance.log_amlr(1e-2), 2)
    _, state = run(rule, [(1.0, np.nan), (1.0, 0.0), (1.0, 0.0), (1.0, 1.0)])
    assert (int(state.skipped), int(state.inner.skipped)) == (1, 1)
    held = rebalance.hold_loss_weights(rule, {"c": 1.0})
    state = held.init({"a": 1.0, "b": 1.0, "c": 1.0})
    assert rebalance.skipped_updates(state) == 0


def test_a_loss_named_skipped_is_not_counted():
    rule = rebalance.log_amlr(1e-2)
    weights = rebalance.equal_weights(["skipped", "b"])
    _, state = rule.update(
        weights, rule.init(weights), losses=dict.fromkeys(weights, 3.0)
    )
    assert rebalance.skipped_updates(state) == 0


@pytest.mark.parametrize("name", ["amlr", "log_amlr", "lee_kim"])
@pytest.mark.parametrize("tiny", [1e-8, 1e-12, 1e-30])
def test_a_loss_near_zero_at_first_gives_no_boundless_weight(name, tiny):
    """Its Eq. 9 waits until the total can tell it from 0; the others do not wait."""
    rows = [(1.0, tiny)] * 3
    weights, state = run(RULES[name], rows)
    assert weights["b"] == 0.5 and int(state.skipped) >= 2
    a = float(weights["a"])
    weights, _ = run(RULES[name], [*rows, (1.0, 0.1)])
    share = 0.1 if name.endswith("amlr") else 0.5
    np.testing.assert_allclose(weights["a"], a, rtol=1e-5)
    np.testing.assert_allclose(weights["b"], share * (a + 0.05) / 0.1, rtol=1e-5)


def test_losses_of_different_units_still_get_their_shares():
    weights, state = run(rebalance.log_amlr(1e-2), [(1e3, 1e-3)] * 2)
    np.testing.assert_allclose(weights["a"] * 1e3, weights["b"] * 1e-3, rtol=1e-6)
    assert state.skipped == 0


# ---------------------------------------------------------------- weight 0

BAD = {
    "root": lambda p: jnp.sqrt(p),
    "log": lambda p: jnp.log(p),
    "nan": lambda p: p / p,
    "infinite": lambda p: 1.0 / p,
    "power": lambda p: p**0.5 * jnp.nan,
}


@pytest.mark.parametrize(
    "zero", [0, 0.0, np.float32(0), np.float64(-0.0), jnp.zeros(())]
)
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_weight_zero_removes_a_loss(bad, zero):
    def total(p):
        losses = {"fit": (p - 1.0) ** 2, "logged": bad(p)}
        return rebalance.weighted_total(losses, {"fit": 1.0, "logged": zero})

    for function in (jax.value_and_grad(total), jax.jit(jax.value_and_grad(total))):
        value, gradient = function(0.0)
        assert (float(value), float(gradient)) == (1.0, -2.0)
    assert jax.hessian(total)(0.0) == 2.0


@pytest.mark.parametrize(
    "rule",
    [
        rebalance.fixed({"fit": 1.0, "logged": 0.0}),
        rebalance.hold_loss_weights(rebalance.log_amlr(1e-2), {"logged": 0.0}),
    ],
)
def test_rules_with_a_weight_of_zero_remove_a_loss_in_a_jitted_step(rule):
    @jax.jit
    def step(p, weights, state):
        def total(p):
            losses = {"fit": (p - 1.0) ** 2, "logged": jnp.sqrt(p)}
            new, _ = rule.update(weights, state, losses=jax.lax.stop_gradient(losses))
            return rebalance.weighted_total(losses, new)

        return jax.value_and_grad(total)(p)

    weights = {"fit": jnp.float32(1.0), "logged": jnp.float32(0.0)}
    value, gradient = step(0.0, weights, rule.init(weights))
    assert (float(value), float(gradient)) == (1.0, -2.0)
    weights, _ = rule.update(
        weights, rule.init(weights), losses={"fit": 1.0, "logged": jnp.nan}
    )
    assert weights["fit"] == 1.0 and weights["logged"] == 0.0


def test_a_traced_zero_removes_the_value_and_the_tangent():
    def total(p, weight):
        losses = {"fit": (p - 1.0) ** 2, "logged": jnp.sqrt(p) * jnp.inf}
        return rebalance.weighted_total(losses, {"fit": 1.0, "logged": weight})

    value, tangent = jax.jit(lambda w: jax.jvp(lambda p: total(p, w), (0.0,), (1.0,)))(
        0.0
    )
    assert (float(value), float(tangent)) == (1.0, -2.0)


def test_all_weights_zero_is_zero():
    assert rebalance.weighted_total({"a": jnp.nan}, {"a": 0.0}) == 0.0


# ---------------------------------------------------------------- precision


@every_rule
@pytest.mark.parametrize("kind", [jnp.float32, jnp.float64])
def test_rules_keep_the_precision_of_their_weights(rule, kind):
    with jax.enable_x64(True):
        weights = {name: jnp.asarray(0.5, kind) for name in ("a", "b")}
        state = rule.init(weights)
        rows = np.random.default_rng(0).uniform(0.5, 2.0, (4, 2)).astype(kind)
        for a, b in rows:
            weights, state = rule.update(weights, state, **arguments(a, b))
        leaves = jax.tree_util.tree_leaves_with_path((weights, state))
        floats = {
            x.dtype
            for path, x in leaves  # a learning rate that optax injects has its own
            if jnp.issubdtype(x.dtype, jnp.floating)
            and "hyperparams" not in jax.tree_util.keystr(path)
        }
        assert floats == {jnp.dtype(kind)}


def test_float64_agrees_with_the_formulas_to_its_precision():
    with jax.enable_x64(True):
        weights, _ = run(rebalance.log_amlr(1e-2), [(0.3, 0.7)] * 2)
        assert weights["a"].dtype == jnp.float64
        np.testing.assert_allclose(weights["a"], 0.5 * 0.5 / 0.3, rtol=1e-15)
        total = rebalance.weighted_total({"a": 0.1, "b": np.float64(0.7)}, weights)
        expected = 0.1 * weights["a"] + 0.7 * weights["b"]
        np.testing.assert_allclose(total, expected, rtol=1e-15)
        low = {"a": jnp.float32(0.1), "b": jnp.bfloat16(0.7)}
        assert rebalance.weighted_total(low, weights).dtype == jnp.float32


def test_lbfgs_in_float64():
    def total(p):
        losses = {"a": jnp.sum((p - 1) ** 2), "b": jnp.sum(p**4)}
        return rebalance.weighted_total(losses, {"a": 0.5, "b": 0.5})

    with jax.enable_x64(True):
        optimizer = optax.lbfgs()
        p = jnp.array([3.0, -2.0])
        state, both = optimizer.init(p), optax.value_and_grad_from_state(total)
        for _ in range(15):
            value, gradient = both(p, state=state)
            updates, state = optimizer.update(
                gradient, state, p, value=value, grad=gradient, value_fn=total
            )
            p = optax.apply_updates(p, updates)
        assert value.dtype == jnp.float64
        np.testing.assert_allclose(2 * p**3 + p, 1.0, rtol=1e-6)


# ---------------------------------------------------------------- use in optax


@every_rule
def test_strict_dtype_promotion(rule):
    low = {"a": jnp.bfloat16(0.5), "b": np.float32(0.25)}
    with jax.numpy_dtype_promotion("strict"):
        weights, state = start(rule)
        for _ in range(3):
            weights, state = rule.update(weights, state, **arguments(*low.values()))
        rebalance.weighted_total(low, weights)


@every_rule
def test_multi_steps_is_refused(rule):
    weights, _ = start(rule)
    for wrapped in (rule, optax.chain(rule, rebalance.clip_loss_weights(0.0, 1.0))):
        with pytest.raises(ValueError, match="MultiSteps.*every_k_steps"):
            optax.MultiSteps(wrapped, 2).init(weights)
        with pytest.raises(ValueError, match="every_k_steps"):
            transformation = optax.MultiSteps(wrapped, 2).gradient_transformation()
            jax.eval_shape(transformation.init, weights)
