"""The common parts of all rules: names, vectors, the count, and skipped steps."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from amlr_jax.inputs import float_type
from amlr_jax.rebalance.loss_dict import (
    TINY,
    LossDict,
    all_finite,
    check_start,
    common_names,
    keep_if,
    pack,
    unpack,
    zeros,
)


def vector_rule(
    state_type: Any,
    step: Callable[..., tuple[jax.Array, ...]],
    *,
    positive: bool = True,
    named: Mapping[str, Mapping[str, Any]] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """A rule from its equations on vectors in the order of the sorted names.

    A step is skipped, leaving weights, state and count as they were, when a loss is not
    finite, when the arithmetic would overflow, or, with `positive`, when a loss is not
    positive: an empty mask has no share, no ratio and no logarithm. `skipped` counts
    these steps; a rule whose `count` stays 0 while `skipped` grows has never started.

    Args:
      state_type: a NamedTuple of `count`, int32, the accepted updates so far, then
        `LossDict`s, and `skipped`, int32; all start at 0.
      step: (count, losses, weights, *the vectors of the state) -> (new weights, *new
        vectors).
      positive: whether every loss must be positive.
      named: title -> dict that must have the names of the losses.
    """
    named = named or {}

    def init_fn(loss_weights: LossDict) -> Any:
        check_start(loss_weights, **named)
        dicts = (zeros(loss_weights) for _ in state_type._fields[1:-1])
        return state_type(jnp.zeros((), jnp.int32), *dicts, jnp.zeros((), jnp.int32))

    def update_fn(
        loss_weights: LossDict,
        state: Any,
        params: Any = None,
        *,
        losses: LossDict,
        **extra_args: Any,
    ) -> tuple[LossDict, Any]:
        del params, extra_args
        count, *dicts, skipped = state
        names = common_names(
            loss_weights=loss_weights, losses=losses, state=dicts[0], **named
        )
        dtype = float_type(*dicts[0].values())  # of the weights given to `init`
        now, *old = (pack(x, names, dtype) for x in (losses, loss_weights, *dicts))
        new = step(count, now, *old)
        accept = all_finite(now, *new)
        if positive:
            accept &= jnp.all(now > TINY)
        w, *vectors = keep_if(accept, new, tuple(old))
        count = keep_if(accept, optax.safe_increment(count), count)
        skipped = keep_if(accept, skipped, optax.safe_increment(skipped))
        found = (unpack(vector, names) for vector in vectors)
        return unpack(w, names), state_type(count, *found, skipped)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
