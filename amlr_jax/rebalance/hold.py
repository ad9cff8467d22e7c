"""Constant weights for some losses, and a rule for the others."""

from collections.abc import Mapping
from typing import Any

import optax

from amlr_jax.inputs import float_type
from amlr_jax.rebalance.loss_dict import (
    LossDict,
    check_number,
    common_names,
    constant,
)


def hold_loss_weights(
    inner: optax.GradientTransformation, weights: Mapping[str, float]
) -> optax.GradientTransformationExtraArgs:
    """Applies `inner` to all losses but those in `weights`, whose weights are constant.

    Use it for a regulariser in addition to balanced losses. A rule with target shares
    raises the weight of a loss that falls to 0. The smoothness of a flat depth map is
    0, so such a rule makes the depth collapse.

    `inner` does not get the held losses; a non-finite one does not skip its update.

    Args:
      inner: the rule of the others, of which there must be at least one.
      weights: name -> weight of each held loss, 0 or larger.

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
    for name, weight in weights.items():
        check_number(f"weights['{name}']", weight, "at least 0", lambda x: x >= 0)
    inner = optax.with_extra_args_support(inner)

    def init(loss_weights: LossDict) -> Any:
        return inner.init(_others(loss_weights, weights))

    def update(
        loss_weights: LossDict,
        state: Any,
        params: Any = None,
        *,
        losses: LossDict,
        **extra: Any,
    ) -> tuple[LossDict, Any]:
        moved, state = inner.update(
            _others(loss_weights, weights),
            state,
            params,
            losses=_others(losses, weights),
            **extra,
        )
        # Not traced, so `weighted_total` drops the losses of weight 0.
        dtype = float_type(*moved.values())
        held = {name: constant(weight, dtype) for name, weight in weights.items()}
        return {**moved, **held}, state

    return optax.GradientTransformationExtraArgs(init, update)


def _others(found: LossDict, held: Mapping[str, float]) -> LossDict:
    common_names(losses=found)
    lost = sorted(held.keys() - found.keys())
    if lost:
        raise ValueError(
            f"`weights` holds {', '.join(lost)}, got losses {', '.join(sorted(found))}."
        )
    others = {name: value for name, value in found.items() if name not in held}
    if not others:
        raise ValueError("`weights` holds all losses; use `fixed`.")
    return others
