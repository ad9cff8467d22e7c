"""Constant weights for some losses, and a rule for the others."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from amlr_jax.inputs import float_type
from amlr_jax.rebalance.loss_tree import (
    LossTree,
    by_path,
    check_number,
    constant,
    fill,
)
from amlr_jax.rebalance.vector_rule import GRAM, NORMS, value_of


def hold_loss_weights(
    inner: optax.GradientTransformation, weights: LossTree
) -> optax.GradientTransformationExtraArgs:
    """Applies `inner` to all losses but those in `weights`, whose weights are constant.

    Use it for a regulariser in addition to balanced losses. A rule with target shares
    raises the weight of a loss that falls to 0. The smoothness of a flat depth map is
    0, so such a rule makes the depth collapse.

    `inner` does not get the held losses; a non-finite one does not skip its update.

    Args:
      inner: the rule of the others, of which there must be at least one.
      weights: the weight of each held loss, 0 or larger, in a tree that has the paths
        of these losses alone.

    Raises:
      ValueError: a weight is negative or not finite; at trace time, a held name is not
        among the losses, or all are held.

    >>> from amlr_jax.rebalance import equal_weights, lee_kim
    >>> rule = hold_loss_weights(lee_kim(), {"smooth": 1e-3})
    >>> weights = {**equal_weights(["a", "b"]), "smooth": 1e-3}
    >>> losses = {"a": 1.0, "b": 4.0, "smooth": 0.5}
    >>> weights, _ = rule.update(weights, rule.init(weights), losses=losses)
    >>> {name: round(float(weight), 4) for name, weight in weights.items()}
    {'a': 1.25, 'b': 0.3125, 'smooth': 0.001}
    """
    held = by_path("weights", weights)
    for name, weight in held.items():
        check_number(f"weights{name}", weight, "at least 0", lambda x: x >= 0)
    inner = optax.with_extra_args_support(inner)

    def init(loss_weights: LossTree) -> Any:
        return inner.init(_others(loss_weights, held))

    def update(
        loss_weights: LossTree,
        state: Any,
        params: Any = None,
        *,
        losses: LossTree,
        **extra: Any,
    ) -> tuple[LossTree, Any]:
        moved, state = inner.update(
            _others(loss_weights, held),
            state,
            params,
            losses=_others(losses, held),
            **extra | _of_others(extra, losses, held),
        )
        # Not traced, so `weighted_total` drops the losses of weight 0.
        dtype = float_type(*jax.tree.leaves(moved))
        constants = {name: constant(weight, dtype) for name, weight in held.items()}
        return fill(loss_weights, by_path("moved", moved) | constants), state

    return optax.GradientTransformationExtraArgs(init, update)


def _others(tree: LossTree, held: Mapping[str, Any]) -> LossTree:
    """The tree without the held losses: in dicts without their keys, else None."""
    found = by_path("losses", tree)
    if lost := sorted(held.keys() - found.keys()):
        raise ValueError(
            f"`weights` holds {', '.join(lost)}, got losses {', '.join(found)}."
        )
    if held.keys() == found.keys():
        raise ValueError("`weights` holds all losses; use `fixed`.")
    return _pruned(fill(tree, found | dict.fromkeys(held)))


def _pruned(tree: LossTree) -> LossTree:
    if not isinstance(tree, dict):
        return tree
    pruned = {key: _pruned(value) for key, value in tree.items()}
    return {key: value for key, value in pruned.items() if jax.tree.leaves(value)}


def _of_others(
    extra: dict[str, Any], losses: LossTree, held: Mapping[str, Any]
) -> dict[str, Any]:
    """The extra arguments of the rules by gradients, without the held losses."""
    indices = [
        i for i, name in enumerate(by_path("losses", losses)) if name not in held
    ]
    select: dict[str, Callable[[Any], Any]] = {
        NORMS: lambda norms: _others(norms, held),
        GRAM: lambda gram: gram[jnp.ix_(*2 * [jnp.array(indices)])],
    }
    return {
        name: lambda name=name: select[name](value_of(extra[name]))
        for name in select
        if name in extra
    }
