"""Adaptive momentum-based loss rebalancing: the paper's rule and a stable one.

Notation, as in Yu & Heo, "Adaptive Momentum-Based Loss Rebalancing for Monocular Depth
Estimation" (AMLR, IEEE Access 2023), section III-C: at timestep t = 0, 1, 2, ... the
n losses L_i^t have weights w_i^t, shares P_i^t and moments m_i^t, v_i^t; lambda is the
learning rate of the weights. Call number t of `update` takes w^{t-1} and L^t and
returns w^t, the weights to use in that same step. `every_k_steps` sets the number of
batches per timestep, which the paper does not give.

Both rules use the same choices where the paper is silent:

    t = 0    w_i = 1/n                                          Eq. 8
    t = 1    w_i = r_i * L_tot / L_i, L_tot = sum_j w_j^0 L_j   Eq. 9; m = v = 0
    t >= 2   first the weights, from m^{t-1} and v^{t-1}; then P^t, m^t, v^t

so w^2 = w^1. A step with a loss that is not finite is skipped. A loss that is not
positive (an empty mask: it has no share, and no logarithm) keeps its weight, its share
and its moments, and the others are weighted as if it were not there; so it is, at its
Eq. 9, while it is below 1.2e-7 L_tot, the rounding of L_tot in float32: it would get a
weight without bound, 1e11 for a loss of 1e-12. A loss that was left out until now has
its Eq. 9 at its first update. `skipped` in the state counts the updates that were not
those of all losses, so watch it.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from amlr_jax.rebalance.loss_tree import (
    Adam,
    LossTree,
    by_path,
    check_adam,
    check_number,
    equalizing,
    value_at,
)
from amlr_jax.rebalance.vector_rule import Call, vector_rule


class AMLRState(NamedTuple):
    """State of `amlr` and `log_amlr`."""

    # shape=(), dtype=int32. Updates so far, the t of the next one.
    count: jax.Array  # type: ignore[assignment]
    share: LossTree  # Scalars. P of the step before.
    m: LossTree  # Scalars. First moment, Eq. 10.
    v: LossTree  # Scalars. Second moment, Eq. 11.
    # shape=(), dtype=int32. Updates that were not of all losses.
    skipped: jax.Array


def amlr(
    learning_rate: optax.ScalarOrSchedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    shares: LossTree | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The paper's rebalancing, Eq. 8-12, literally.

        P_i^t = L_i^t / sum_j w_j^t L_j^t
        g_i^t = (P_i^t - P_i^{t-1}) / P_i^t * w_i^{t-1}
        m_i^t = b1 m_i^{t-1} + (1 - b1) g_i^t                            Eq. 10
        v_i^t = b2 v_i^{t-1} + (1 - b2) (g_i^t)^2                        Eq. 11
        w_i^t = w_i^{t-1} - lambda m_i^{t-1} / (sqrt(v_i^{t-1}) + eps)   Eq. 12

    The weight of a loss whose share rises is lowered. There is no bias correction.
    The paper gives no value of lambda, b1, b2, eps; the defaults are Adam's, and lambda
    has none. Warning: updated at every batch this rule is unstable. Under noise the
    relative change has a negative mean, so all weights drift up, and the step is
    absolute, so small weights move relatively faster and may turn negative. Use a
    small lambda, a coarse timestep or a clip after this rule; or use `log_amlr`.

    Args:
      learning_rate: lambda >= 0, or a schedule of the number of updates so far.
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1).
      eps: > 0, outside the root as in Eq. 12.
      shares: r of Eq. 9, a tree like the losses, positive, summing to 1; None: 1/n.
        The paper: 0.99 for the scale-invariant loss, 0.01 for the gradient loss.

    Returns:
      A transformation of loss weights; `update` requires `losses=`.

    Raises:
      ValueError: an argument breaks its rule; at trace time, names differ.

    References:
      Yu & Heo, AMLR, IEEE Access 2023, section III-C.

    >>> rule = amlr(1e-3, shares={"si": 0.75, "gradient": 0.25})
    >>> weights = {"si": 0.5, "gradient": 0.5}
    >>> state = rule.init(weights)
    >>> for _ in range(2):
    ...     losses = {"si": 4.0, "gradient": 2.0}
    ...     weights, state = rule.update(weights, state, losses=losses)
    ...     print(float(weights["si"]), float(weights["gradient"]))
    0.5 0.5
    0.5625 0.375
    """

    adam = check_adam(learning_rate, b1, b2, eps)
    return _rule(learning_rate, adam, shares, log=False)


def log_amlr(
    learning_rate: optax.ScalarOrSchedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    shares: LossTree | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The rule of `amlr` in log space, stable under the noise of single batches.

        p_i^t = w_i^t L_i^t / sum_j w_j^t L_j^t
        g_i^t = log p_i^t - log p_i^{t-1}
        m, v   as in `amlr`
        log w_i^t = log w_i^{t-1} - lambda mhat_i^{t-1} / (sqrt(vhat_i^{t-1}) + eps)

    with Adam's bias correction, mhat = m / (1 - b1^k), vhat = v / (1 - b2^k), after k
    updates of the moments. Not in the paper: it keeps Eq. 8 and 9, the direction and
    the order of the steps, and removes the two causes of drift. The change is a
    difference of logarithms, so under noise it sums to zero; the share is the weighted
    one, so the shares sum to 1, and a weight that moved changes its share and is
    corrected. Weights stay positive, and all move by the same factor, at most
    exp(lambda (1 - b1) / sqrt(1 - b2)), about exp(3.2 lambda), in one step.

    In docs/amlr_stability.md, 115,770 steps of two losses under 20 % noise and shares
    0.99, 0.01, the weights depart from w^1 by at most 3.5 % at lambda 1e-2 (median of
    64 seeds; the worst 6.5 %) and 25 % (51 %) at 1e-1, when updated at every batch;
    1.0 % (1.8 %) at 1e-2 every 965 batches. Noise also hides a trend: of a loss that
    falls tenfold, the weight rises by a factor of 1.1 if updated at every batch and of
    3.1 every 965, both at 1e-2.

    Arguments, result and errors are those of `amlr`. After t = 1 the shares are the
    weighted shares p.

    >>> rule = log_amlr(1e-2)
    >>> weights = {"si": 0.5, "gradient": 0.5}
    >>> state = rule.init(weights)
    >>> for gradient in (1.0, 1.0, 1.5, 1.5):
    ...     losses = {"si": 1.0, "gradient": gradient}
    ...     weights, state = rule.update(weights, state, losses=losses)
    >>> print(f"{weights['si']:.3f} {weights['gradient']:.3f}")
    0.505 0.495
    """

    adam = check_adam(learning_rate, b1, b2, eps)
    return _rule(learning_rate, adam, shares, log=True)


def _rule(
    learning_rate: optax.ScalarOrSchedule,
    adam: Adam,
    shares: LossTree | None,
    *,
    log: bool,
) -> optax.GradientTransformationExtraArgs:
    """`amlr`, or `log_amlr` with `log`, with the conventions for t = 0, 1."""
    _check_shares(shares)

    def moved(w: jax.Array, m: jax.Array, v: jax.Array, t: jax.Array) -> jax.Array:
        rate = value_at(learning_rate, t, v)
        if log:
            return w * jnp.exp(-rate * adam.direction(m, v, t - 2))
        return w - rate * m / (jnp.sqrt(v) + adam.eps)

    def step(
        call: Call,
        w_before: jax.Array,
        share_before: jax.Array,
        m: jax.Array,
        v: jax.Array,
    ) -> tuple[jax.Array, ...]:
        t, ratios = call.count, call.named.get("shares", 1.0 / w_before.size)
        first = (t <= 1) | (share_before == 0)  # Eq. 9, of a loss left out until now
        start = equalizing(ratios, w_before, call.losses, on=call.on)
        w = jnp.where(first, start, moved(w_before, m, v, t))
        w = jnp.where(t == 0, 1.0 / w_before.size, w)
        weighted = w * call.losses
        part = weighted if log else call.losses
        share = part / jnp.sum(weighted, where=call.on & jnp.isfinite(w))
        share = jnp.where(t == 0, 0.0, share)
        if log:
            change = jnp.log(share) - jnp.log(share_before)
        else:
            change = (share - share_before) / share * w_before
        return w, share, *adam.moments(jnp.where(first, 0.0, change), m, v)

    named = {} if shares is None else {"shares": shares}
    return vector_rule(AMLRState, step, named=named)


def _check_shares(shares: LossTree | None) -> None:
    if shares is None:
        return
    given = by_path("shares", shares)
    for name, share in given.items():
        check_number(f"shares{name}", share, "positive", lambda x: x > 0)
    total = math.fsum(given.values())
    if abs(total - 1.0) > 1e-6:
        raise ValueError(f"`shares` must sum to 1, got {shares}, sum {total}.")
