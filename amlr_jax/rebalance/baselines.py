"""Other ways to weight losses: constants, Lee & Kim, geometric mean, random weights.

Notation: call number t = 0, 1, 2, ... of `update` takes the weights w^{t-1} and the
losses L^t (the mean over a window when wrapped in `every_k_steps`) and returns w^t.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from amlr_jax.inputs import float_type
from amlr_jax.rebalance.loss_tree import (
    TINY,
    LossTree,
    by_path,
    check_number,
    check_start,
    common_names,
    constant,
    equalizing,
    fill,
    is_zero,
    keep_if,
    pack,
    value_at,
)
from amlr_jax.rebalance.vector_rule import Call, CountState, KeyState, vector_rule


def fixed(weights: LossTree) -> optax.GradientTransformationExtraArgs:
    """Constant loss weights.

    This is the baseline. Weight 0 switches a loss off: it is logged but not part of
    `weighted_total`, in value and gradient even where it is not finite. As with every
    rule, a step with another non-finite loss returns the input weights.

    Args:
      weights: a tree like the losses, of finite numbers >= 0.

    Raises:
      ValueError: a weight is negative or not finite; at trace time, names differ.

    >>> rule = fixed({"si": 1.0, "gradient": 0.1})
    >>> weights = {"si": 0.5, "gradient": 0.5}
    >>> losses = {"si": 4.0, "gradient": 2.0}
    >>> weights, _ = rule.update(weights, rule.init(weights), losses=losses)
    >>> print(f"{weights['si']:.1f} {weights['gradient']:.1f}")
    1.0 0.1
    """
    given = by_path("weights", weights)
    for name, weight in given.items():
        check_number(f"weights{name}", weight, "at least 0", lambda x: x >= 0)
    on = [name for name, weight in given.items() if not is_zero(weight)]

    def init_fn(loss_weights: LossTree) -> optax.EmptyState:
        check_start(loss_weights, weights=weights)
        return optax.EmptyState()

    def update_fn(
        loss_weights: LossTree,
        state: optax.EmptyState,
        params: Any = None,
        *,
        losses: LossTree,
        **extra_args: Any,
    ) -> tuple[LossTree, optax.EmptyState]:
        del params, extra_args
        common_names(loss_weights=loss_weights, losses=losses, weights=weights)
        dtype = float_type(*jax.tree.leaves(loss_weights))
        # Zeros are not traced, so `weighted_total` drops their losses.
        values = dict.fromkeys(given, constant(0.0, dtype))
        if on:
            new, old = pack(weights, on, dtype), pack(loss_weights, on, dtype)
            chosen = keep_if(jnp.isfinite(pack(losses, on)).all(), new, old)
            values |= dict(zip(on, chosen, strict=True))
        return fill(loss_weights, values), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


class LeeKimState(NamedTuple):
    """State of `lee_kim`."""

    # shape=(), dtype=int32. Updates so far.
    count: jax.Array  # type: ignore[assignment]
    losses: LossTree  # Scalars. Losses of the call before.
    skipped: jax.Array  # shape=(), dtype=int32. Updates that were not of all losses.


def lee_kim_strength(count: jax.Array) -> jax.Array:
    """The published lambda, max(3 - 1.5 * epoch, -3) with four calls an epoch.

    Positive in the first two epochs (losses that fall fast gain weight), then negative
    (losses that fall slowly gain weight).

    >>> [float(lee_kim_strength(count)) for count in (0, 4, 8, 12, 16, 100)]
    [3.0, 1.5, 0.0, -1.5, -3.0, -3.0]
    """
    epoch = (jnp.asarray(count) // 4).astype(float)
    return jnp.maximum(3.0 - 1.5 * epoch, -3.0)


def lee_kim(
    strength: optax.ScalarOrSchedule = lee_kim_strength, *, max_factor: float = 2.0
) -> optax.GradientTransformationExtraArgs:
    """The multi-loss rebalancing of Lee & Kim, ECCV 2020.

        t = 0    w_i = L_tot / L_i / n, L_tot = sum_j w_j L_j
        t >= 1   w_i <- w_i * clip(1 + lambda * (q_i - 1), 1 / max_factor, max_factor)
                 q_i = (L_tot^t / L_tot^{t-1}) * (L_i^{t-1} / L_i^t)

    The first call makes all weighted losses equal. Later, q_i > 1 where a loss fell
    faster than the total: lambda > 0 boosts such losses, lambda < 0 the slow ones. Both
    totals use the input weights, as in the original. The original calls it four times
    an epoch with mean losses:
    `every_k_steps(lee_kim(), steps_per_epoch // 4)`.

    A loss keeps its weight, and the others are weighted as if it were not there, while
    it is not positive, or at its first call (its t = 0, with n the losses that take
    part) while it is below 1.2e-7 L_tot, where its weight would have no bound. A step
    with a loss that is not finite is skipped.

    Args:
      strength: lambda, any finite number, or a schedule of the number of calls so far.
      max_factor: the most a weight may grow or shrink by in one call, >= 1.

    Raises:
      ValueError: an argument breaks its rule; at trace time, names differ.

    References:
      Lee & Kim, "Multi-Loss Rebalancing Algorithm for Monocular Depth Estimation",
      ECCV 2020.

    >>> rule = lee_kim(1.0)
    >>> weights = {"a": 0.5, "b": 0.5}
    >>> losses = {"a": 1.0, "b": 3.0}
    >>> weights, _ = rule.update(weights, rule.init(weights), losses=losses)
    >>> print(f"{weights['a']:.3f} {weights['b']:.3f}")
    1.000 0.333
    """
    check_number("strength", strength, "a number", lambda x: True)
    check_number("max_factor", max_factor, "at least 1", lambda x: x >= 1)

    def step(call: Call, w: jax.Array, before: jax.Array) -> tuple[jax.Array, ...]:
        now = call.losses
        fresh = before == 0  # at its first call
        seen = call.on & ~fresh
        total, last = (jnp.sum(w * x, where=seen) for x in (now, before))
        q = total / jnp.maximum(last, TINY) * (before / now)
        factor = 1.0 + value_at(strength, call.count, w) * (q - 1.0)
        later = w * jnp.clip(factor, 1.0 / max_factor, max_factor)
        first = equalizing(1.0 / call.size, w, now, on=call.on)
        return jnp.where(fresh, first, later), now

    return vector_rule(LeeKimState, step)


def geometric() -> optax.GradientTransformationExtraArgs:
    """The geometric mean of the losses as the total, Chennupati et al., CVPRW 2019.

        L = (prod_i L_i)^(1/n),     w_i = L / (n L_i)

    so that the weighted total and its gradient are those of L, which no change of the
    unit of a loss alters but by a factor. The weights are computed anew at each call.
    A loss that is not positive keeps its weight and is left out of L.

    References:
      Chennupati, Sistu, Yogamani & Rawashdeh, "MultiNet++: Multi-Stream Feature
      Aggregation and Geometric Loss Strategy for Multi-Task Learning", CVPRW 2019.

    >>> rule = geometric()
    >>> weights = {"a": 1.0, "b": 1.0}
    >>> losses = {"a": 1.0, "b": 4.0}
    >>> weights, _ = rule.update(weights, rule.init(weights), losses=losses)
    >>> print(f"{weights['a']:.2f} {weights['b']:.2f}")
    1.00 0.25
    """

    def step(call: Call, _: jax.Array) -> tuple[jax.Array, ...]:
        logs = jnp.log(call.losses)
        return (jnp.exp(jnp.mean(logs, where=call.on) - logs) / call.size,)

    return vector_rule(CountState, step)


def random_weights(*, seed: int = 0) -> optax.GradientTransformationExtraArgs:
    """Random loss weighting, Lin et al., TMLR 2022: w = softmax(z), z ~ N(0, 1).

    Drawn anew at each call from the key in the state and the number of updates; the sum
    is 1. A baseline that a rule should beat. The values of the losses do not matter; a
    step with one that is not finite is skipped.

    Args:
      seed: of the key in the state.

    References:
      Lin, Ye, Zhang & Tsang, "Reasonable Effectiveness of Random Weighting: A Litmus
      Test for Multi-Task Learning", TMLR 2022.

    >>> rule = random_weights()
    >>> weights = {"a": 0.5, "b": 0.5}
    >>> weights, _ = rule.update(weights, rule.init(weights), losses=weights)
    >>> f"{weights['a'] + weights['b']:.3f}"
    '1.000'
    """

    def step(call: Call, w: jax.Array) -> tuple[jax.Array, ...]:
        return (jax.nn.softmax(jax.random.normal(call.key, w.shape, w.dtype)),)

    return vector_rule(KeyState, step, positive=False, seed=seed)
