"""A rule for some losses beside weights that are held."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax import rebalance

HELD = {"smooth": 1e-3}


def histories(count: int = 40) -> list[dict[str, float]]:
    rng = np.random.default_rng(0)
    return [
        {"a": 1.0 + rng.random(), "b": 0.1 + rng.random(), "smooth": 0.5**step}
        for step in range(count)
    ]


def initial(names) -> dict:
    """Equal weights of those that move, beside the held one if it is there."""
    moved = rebalance.equal_weights([name for name in names if name != "smooth"])
    return moved | (HELD if "smooth" in names else {})


def run(rule, losses: list[dict]) -> list[dict]:
    weights = initial(losses[0])
    state, found = rule.init(weights), []
    for values in losses:
        weights, state = rule.update(weights, state, losses=values)
        found.append(weights)
    return found


@pytest.mark.parametrize(
    "inner",
    [
        rebalance.log_amlr(1e-2, shares={"a": 0.7, "b": 0.3}),
        rebalance.every_k_steps(rebalance.lee_kim(), 3),
        rebalance.uncertainty(1e-2),
    ],
)
def test_the_others_move_as_if_alone(inner):
    """Even while the held loss vanishes, for which a rule would raise its weight."""
    losses = histories()
    alone = [{n: v for n, v in step.items() if n != "smooth"} for step in losses]
    want = run(inner, alone)
    rule = rebalance.hold_loss_weights(inner, HELD)
    got = run(rule, losses)
    for ours, theirs in zip(got, want, strict=True):
        assert ours["smooth"] == jnp.float32(1e-3)
        assert {n: float(ours[n]) for n in theirs} == {
            n: float(w) for n, w in theirs.items()
        }
    jitted = rebalance.hold_loss_weights(inner, HELD)
    update = jax.jit(lambda w, s, values: jitted.update(w, s, losses=values))
    weights = initial(["a", "b", "smooth"])
    state = jitted.init(weights)
    for values in losses:
        weights, state = update(weights, state, values)
    for name, weight in weights.items():
        np.testing.assert_allclose(weight, got[-1][name], rtol=2e-5)


def test_a_held_loss_that_is_not_finite_stops_nothing():
    rule = rebalance.hold_loss_weights(rebalance.lee_kim(), HELD)
    (found,) = run(rule, [{"a": 1.0, "b": 4.0, "smooth": np.nan}])
    assert float(found["a"]) == 4 * float(found["b"])


def test_what_cannot_be_held():
    with pytest.raises(ValueError, match="at least 0"):
        rebalance.hold_loss_weights(rebalance.lee_kim(), {"a": -1.0})
    rule = rebalance.hold_loss_weights(rebalance.lee_kim(), {"c": 1.0})
    with pytest.raises(ValueError, match=r"holds \['c'\], got losses \['a'\], \['b'\]"):
        rule.init(rebalance.equal_weights(["a", "b"]))
    rule = rebalance.hold_loss_weights(rebalance.lee_kim(), {"a": 1.0})
    with pytest.raises(ValueError, match="holds all losses"):
        rule.init(rebalance.equal_weights(["a"]))
