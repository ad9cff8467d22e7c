"""The common parts of all rules: names, vectors, the count, and losses left out."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from amlr_jax.inputs import float_type
from amlr_jax.rebalance.loss_tree import (
    TINY,
    LossTree,
    by_path,
    check_start,
    common_names,
    keep_if,
    pack,
    unpack,
    zeros,
)

NORMS, GRAM = "gradient_norms", "gradient_gram"  # extra arguments of `update`


class CountState(NamedTuple):
    """State of a rule that keeps nothing but the weights."""

    # shape=(), dtype=int32. Updates so far.
    count: jax.Array  # type: ignore[assignment]
    skipped: jax.Array  # shape=(), dtype=int32. Updates that were not of all losses.


class KeyState(NamedTuple):
    """State of a rule that keeps a random key."""

    # shape=(), dtype=int32. Updates so far.
    count: jax.Array  # type: ignore[assignment]
    key: jax.Array  # Data of a PRNG key, constant; folded with `count` for each draw.
    skipped: jax.Array  # shape=(), dtype=int32. Updates that were not of all losses.


class Call(NamedTuple):
    """What a rule's equations are given, beside the weights and their own state."""

    # shape=(), dtype=int32. Updates so far.
    count: jax.Array  # type: ignore[assignment]
    losses: jax.Array  # shape=[n]. 1 for a loss that is left out.
    on: jax.Array  # shape=[n], dtype=bool. The losses that take part.
    gradients: jax.Array  # norms, shape=[n], or Gram matrix, shape=[n, n]; see there
    key: Any  # of this update, for rules that draw random numbers
    named: dict[str, jax.Array]  # `named` of the rule, each of shape [n]

    @property
    def size(self) -> jax.Array:
        """The number of losses that take part."""
        return jnp.sum(self.on).astype(self.losses.dtype)


def vector_rule(
    state_type: Any,
    step: Callable[..., tuple[jax.Array, ...]],
    *,
    positive: bool = True,
    gradients: str | None = None,
    seed: int | None = None,
    named: Mapping[str, LossTree] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """A rule from its equations on vectors in the order of `jax.tree.leaves(losses)`.

    A loss is left out of an update, and keeps its weight and its part of the state,
    while it is not positive (with `positive`: an empty mask has no share, no ratio and
    no logarithm), while its gradient is 0 (a rule by gradients), or where the
    arithmetic would overflow; the others are weighted as if it were not there. A loss
    or a gradient that is not finite skips the update of all. `skipped` counts the
    updates that were not those of all losses: a rule whose `skipped` grows at every
    call has a loss that it does not weight.

    Args:
      state_type: a NamedTuple of `count`, int32, the accepted updates so far, then
        `LossTree`s, with `seed` a `key`, and `skipped`, int32; all start at 0.
      step: (`Call`, weights, *the vectors of the state) -> (new weights, *new vectors).
      positive: whether a loss must be positive to take part.
      gradients: `NORMS` or `GRAM`, an extra argument of `update` that the rule needs: a
        value, or a function of no arguments that computes it.
      seed: of the key in the state, for a rule that draws random numbers.
      named: title -> tree that must have the names of the losses.
    """
    named = named or {}
    if gradients == GRAM:  # without an outer jit, each call would compile its loops
        step = jax.jit(step)
    fields = [f for f in state_type._fields if f not in ("count", "key", "skipped")]

    def init_fn(loss_weights: LossTree) -> Any:
        check_start(loss_weights, **named)
        trees = {field: zeros(loss_weights) for field in fields}
        if seed is not None:
            trees["key"] = jax.random.key_data(jax.random.key(seed))
        none = (jnp.zeros((), jnp.int32) for _ in range(2))
        return state_type(count=next(none), skipped=next(none), **trees)

    def update_fn(
        loss_weights: LossTree,
        state: Any,
        params: Any = None,
        *,
        losses: LossTree,
        **extra_args: Any,
    ) -> tuple[LossTree, Any]:
        del params
        trees = {field: getattr(state, field) for field in fields}
        known = {f"state.{field}": tree for field, tree in trees.items()}
        names = common_names(loss_weights=loss_weights, **known, **named, losses=losses)
        # The precision of the weights given to `init`.
        dtype = float_type(*jax.tree.leaves(trees or loss_weights))
        values = (losses, loss_weights, *trees.values())
        now, *old = (pack(tree, names, dtype) for tree in values)
        call = _call(state, now, positive=positive)
        call = call._replace(named={k: pack(x, names, dtype) for k, x in named.items()})
        finite = jnp.isfinite(now).all()
        if gradients:
            found = _evaluated(gradients, extra_args, losses, dtype)
            call, finite = (
                _with_gradients(call, found),
                finite & jnp.isfinite(found).all(),
            )
        new = tuple(vector.astype(dtype) for vector in step(call, *old))
        kept = finite & call.on & jnp.isfinite(jnp.stack(new)).all(0)
        w, *vectors = keep_if(kept, new, tuple(old))
        count, skipped = state.count, state.skipped
        return unpack(w, names, loss_weights), state._replace(
            count=jnp.where(kept.any(), optax.safe_increment(count), count),
            skipped=jnp.where(kept.all(), skipped, optax.safe_increment(skipped)),
            **{
                f: unpack(v, names, trees[f])
                for f, v in zip(fields, vectors, strict=True)
            },
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def value_of(given: Any) -> Any:
    """An extra argument, which may be a function of no arguments that computes it."""
    return given() if callable(given) else given


def _call(state: Any, losses: jax.Array, *, positive: bool) -> Call:
    """The call of a rule that needs no gradients."""
    on = losses > TINY if positive else jnp.ones(losses.shape, bool)
    key = None
    if hasattr(state, "key"):
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.count)
    return Call(state.count, jnp.where(on, losses, 1.0), on, losses, key, {})


def _evaluated(
    argument: str, extra_args: dict[str, Any], losses: LossTree, dtype: Any
) -> jax.Array:
    """The norms [n] or the Gram matrix [n, n] that `update` was given."""
    if argument not in extra_args:
        raise TypeError(
            f"This rule's `update` needs `{argument}`, or a function that computes it; "
            "`per_loss_gradients` returns one."
        )
    given = value_of(extra_args[argument])
    if argument == NORMS:
        common_names(losses=losses, **{argument: given})
        return pack(given, list(by_path("losses", losses)), dtype)
    n = len(jax.tree.leaves(losses))
    if jnp.shape(given) != (n, n):
        raise ValueError(
            f"`{argument}` must be [n, n] for n = {n} losses, got shape "
            f"{jnp.shape(given)}."
        )
    return jnp.asarray(given, dtype)


def _with_gradients(call: Call, gradients: jax.Array) -> Call:
    """The call without the losses whose gradient is 0."""
    matrix = gradients.ndim == 2
    on = call.on & ((jnp.diagonal(gradients) if matrix else gradients) > TINY)
    both = on & on[:, None] if matrix else on
    return call._replace(on=on, gradients=jnp.where(both, gradients, 0.0))
