"""Losses in any tree: the weights of a flat dict, and names by path."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax import rebalance
from tests.rebalance.test_rules import LOSSES, RULES


class Pair(NamedTuple):
    first: jax.Array
    second: jax.Array


TREES = {
    "nested": lambda a, b: {"depth": {"a": a}, "pose": {"b": b}},
    "tuple": lambda a, b: (a, b),
    "named": lambda a, b: Pair(a, b),
    "deep": lambda a, b: {"all": [Pair(a, {"b": b})]},
}
KINDS = ("famo", "chain", "every_3_relobralo", "gradient_balance")


def test_any_tree_has_the_weights_of_a_flat_dict():
    rules = {name: RULES[name] for name in KINDS}
    trees = {"flat": lambda a, b: {"a": a, "b": b}} | TREES

    def begin(rule, tree):
        weights = rebalance.equal_weights(tree(1.0, 1.0))
        return weights, rule.init(weights)

    @jax.jit
    def update(carry, row):
        norms = {"gradient_norms": (3.0 * row[0], row[1])}
        extra = {"losses": row, **norms}
        return {
            (name, kind): rules[name].update(
                *carry[name, kind], **{k: trees[kind](*x) for k, x in extra.items()}
            )
            for name, kind in carry
        }

    carry = {(n, k): begin(r, t) for n, r in rules.items() for k, t in trees.items()}
    for row in jnp.asarray(LOSSES[:6], jnp.float32):
        carry = update(carry, row)
    for (name, kind), (weights, state) in carry.items():
        first = rebalance.equal_weights(trees[kind](1.0, 1.0))
        assert jax.tree.structure(weights) == jax.tree.structure(first)
        flat = jax.tree.leaves(carry[name, "flat"])
        for ours, theirs in zip(jax.tree.leaves((weights, state)), flat, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_rules_that_name_the_losses_take_any_tree(tree):
    losses = tree(4.0, 1.0)
    for rule, expected in (
        (rebalance.fixed(tree(0.2, 0.0)), (0.2, 0.0)),
        (rebalance.log_amlr(1e-2, shares=tree(0.8, 0.2)), (0.8 * 2.5 / 4, 0.5)),
    ):
        weights = rebalance.equal_weights(losses)
        state = rule.init(weights)
        for _ in range(2):
            weights, state = rule.update(weights, state, losses=losses)
        np.testing.assert_allclose(jax.tree.leaves(weights), expected, rtol=1e-6)
        total = expected[0] * 4 + expected[1] * 1
        found = rebalance.weighted_total(losses, weights)
        np.testing.assert_allclose(found, total, rtol=1e-6)


@pytest.mark.parametrize("hold", [{"pair": (1e-3, None)}, {"smooth": 1e-3}])
def test_a_loss_of_a_tree_is_held(hold):
    losses = {"pair": (2.0, 1.0), "smooth": 4.0}
    inner = rebalance.gradient_balance(0.0, guard=0.0)
    rule = rebalance.hold_loss_weights(inner, hold)
    weights = rebalance.equal_weights(losses)
    weights, _ = jax.jit(rule.update)(
        weights, rule.init(weights), losses=losses, gradient_norms=losses
    )
    found = jax.tree.leaves(weights)
    expected = [1e-3, 2.5, 0.625] if "pair" in hold else [0.75, 1.5, 1e-3]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_messages_name_losses_by_path():
    rule = rebalance.lee_kim()
    weights = rebalance.equal_weights({"depth": (1.0, 2.0)})
    with pytest.raises(ValueError, match=r"missing \['depth'\]\[1\] and extra none"):
        rule.update(weights, rule.init(weights), losses={"depth": (1.0,)})
    with pytest.raises(ValueError, match=r"losses\['depth'\]\[0\] of shape \(3,\)"):
        losses = {"depth": (jnp.ones(3), 1.0)}
        rule.update(weights, rule.init(weights), losses=losses)
    with pytest.raises(ValueError, match="at least one loss"):
        rule.init({"depth": ()})
    with pytest.raises(ValueError, match=r"shares\['depth'\]\[0\].*positive"):
        rebalance.amlr(1e-3, shares={"depth": (-1.0, 2.0)})
    with pytest.raises(ValueError, match=r"holds \['pose'\], got losses \['depth'\]"):
        rebalance.hold_loss_weights(rule, {"pose": 1.0}).init(weights)
    with pytest.raises(ValueError, match="distinct and at least one"):
        rebalance.equal_weights({"depth": ()})
