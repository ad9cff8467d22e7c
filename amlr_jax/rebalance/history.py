"""Weights from the history of the losses: DWA, SoftAdapt, ReLoBRaLo.

Notation: call number t = 0, 1, 2, ... of `update` takes the losses L_i^t (the mean over
a window when wrapped in `every_k_steps`) and returns w_i^t; K is the number of losses.
DWA and SoftAdapt compute the weights at every call from the losses of this call and of
the call before, and ignore the input weights. In the papers' index these are the
weights of iteration t + 1, computed from the two iterations before it.

A loss that is not positive keeps its weight, and the others, K of them, are weighted as
if it were not there. A step with a loss that is not finite is skipped.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from amlr_jax.rebalance.loss_tree import LossTree, check_number
from amlr_jax.rebalance.vector_rule import Call, vector_rule


class HistoryState(NamedTuple):
    """State of `dwa` and `softadapt`."""

    # shape=(), dtype=int32. Updates so far.
    count: jax.Array  # type: ignore[assignment]
    losses: LossTree  # Scalars. Losses of the call before.
    skipped: jax.Array  # shape=(), dtype=int32. Updates that were not of all losses.


class RelobraloState(NamedTuple):
    """State of `relobralo`."""

    # shape=(), dtype=int32. Updates so far.
    count: jax.Array  # type: ignore[assignment]
    losses: LossTree  # Scalars. Losses of the call before.
    first: LossTree  # Scalars. Losses of the first call.
    key: jax.Array  # Data of a PRNG key, constant; folded with `count` for each draw.
    skipped: jax.Array  # shape=(), dtype=int32. Updates that were not of all losses.


def dwa(temperature: float = 2.0) -> optax.GradientTransformationExtraArgs:
    """Dynamic Weight Average, Liu et al., CVPR 2019, Eq. 7.

        t = 0    w_k = 1
        t >= 1   w_k = K exp(q_k / T) / sum_i exp(q_i / T),  q_k = L_k^t / L_k^{t-1}

    Losses that fall slowly gain weight; the weights sum to K. The paper calls it once
    an epoch with mean losses, `every_k_steps(dwa(), steps_per_epoch)`: the call at the
    end of epoch e then sets the weights of epoch e + 1 from epochs e and e - 1, as in
    the paper. Until the first call the initial weights are used; start from 1, or
    chain `normalize_loss_weights` after this rule, to keep one scale.
    Called at every batch, the ratios are mostly noise.

    Args:
      temperature: T > 0, large for equal weights; the paper uses 2.

    Raises:
      ValueError: an argument breaks its rule; at trace time, names differ.

    References:
      Liu, Johns & Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019.

    >>> rule = dwa()
    >>> weights = {"a": 1.0, "b": 1.0}
    >>> state = rule.init(weights)
    >>> for losses in ({"a": 1.0, "b": 4.0}, {"a": 1.0, "b": 2.0}):
    ...     weights, state = rule.update(weights, state, losses=losses)
    ...     print(f"{weights['a']:.3f} {weights['b']:.3f}")
    1.000 1.000
    1.124 0.876
    """
    check_number("temperature", temperature, "positive", lambda x: x > 0)

    def step(call: Call, _: jax.Array, before: jax.Array) -> tuple[jax.Array, ...]:
        ratios = _ratios(call.losses, before)
        return _softmax(ratios / temperature, call) * call.size, call.losses

    return vector_rule(HistoryState, step)


def softadapt(
    beta: float = 0.1, *, normalized: bool = False, loss_weighted: bool = False
) -> optax.GradientTransformationExtraArgs:
    """SoftAdapt, Heydari et al. 2019, section 3.1: a softmax of the rates of change.

        w_k = f_k exp(beta s_k) / sum_l f_l exp(beta s_l)

        s_k = L_k^t - L_k^{t-1}, 0 at t = 0
        s_k <- s_k / sum_l |s_l|                  `normalized`, 3.1.3
        f_k = 1                                   the original, 3.1.1
        f_k = (L_k^t + L_k^{t-1}) / 2, L_k^0      `loss_weighted`, 3.1.2

    The weights sum to 1. Choices made here where the paper is open: the rate is the
    first-order difference of two calls (the paper allows longer stencils), f the mean
    of the same two; the sum over |s| is floored at 1e-8 and keeps the signs of the
    rates. The rates have the units of the losses: unless `normalized`, losses near 0.1
    give weights near 1/K, so set beta of the order of 1 / (change of a loss).

    Only `loss_weighted` leaves out a loss that is not positive.

    Args:
      beta: > 0 favours the slowest loss, < 0 the fastest; the paper uses 0.1.
      normalized: divide the rates by the sum of their magnitudes.
      loss_weighted: multiply by the losses; both options may be set.

    Raises:
      ValueError: an argument breaks its rule; at trace time, names differ.

    References:
      Heydari, Thompson & Mehmood, "SoftAdapt: Techniques for Adaptive Loss Weighting of
      Neural Networks with Multi-Part Loss Functions", arXiv:1912.12355.

    >>> rule = softadapt(1.0, normalized=True)
    >>> weights = {"a": 0.5, "b": 0.5}
    >>> state = rule.init(weights)
    >>> for losses in ({"a": 1.0, "b": 4.0}, {"a": 1.0, "b": 2.0}):
    ...     weights, state = rule.update(weights, state, losses=losses)
    ...     print(f"{weights['a']:.3f} {weights['b']:.3f}")
    0.500 0.500
    0.731 0.269
    """
    check_number("beta", beta, "a number", lambda x: True)

    def step(call: Call, _: jax.Array, before: jax.Array) -> tuple[jax.Array, ...]:
        now = call.losses
        before = jnp.where(call.count == 0, now, before)
        if loss_weighted:
            before = _known(before, now)
        rates = now - before
        if normalized:
            magnitude = jnp.sum(jnp.abs(rates), where=call.on)
            rates = rates / jnp.maximum(magnitude, 1e-8)
        logits = beta * rates
        if loss_weighted:
            logits = logits + jnp.log(0.5 * now + 0.5 * before)
        return _softmax(logits, call), now

    return vector_rule(HistoryState, step, positive=loss_weighted)


def relobralo(
    temperature: float = 0.1,
    *,
    alpha: float = 0.999,
    rho: float = 0.999,
    seed: int = 0,
) -> optax.GradientTransformationExtraArgs:
    """Relative loss balancing with random lookback, Bischof & Kraus 2021, Eq. 17-19.

        b_i(t, s) = n softmax_i(L_i^t / (T L_i^s))
        t = 0    w_i = 1
        t = 1    w_i = b_i(1, 0)
        t >= 2   w_i <- alpha (r w_i + (1 - r) b_i(t, 0)) + (1 - alpha) b_i(t, t - 1)
                 r = 1 with probability rho, else 0: one draw for all losses

    Losses that fell least since the first call, or the one before, gain weight. The
    draws are a function of the key in the state and the number of updates: a run that
    goes on repeats none, and `state._replace(key=...)` gives another sequence. Meant to
    be called at every step: alpha 0.999 averages over about 1,000 calls.

    The first call with a positive loss is its t = 0.

    Args:
      temperature: T > 0, large for equal weights; the authors use 0.1.
      alpha: decay of the average, in [0, 1].
      rho: the probability to look back at the last weights only, in [0, 1].
      seed: of the key in the state.

    Raises:
      ValueError: an argument breaks its rule; at trace time, names differ.

    References:
      Bischof & Kraus, "Multi-Objective Loss Balancing for Physics-Informed Deep
      Learning", arXiv:2110.09813.

    >>> rule = relobralo(1.0)
    >>> weights = {"a": 1.0, "b": 1.0}
    >>> state = rule.init(weights)
    >>> for losses in ({"a": 1.0, "b": 4.0}, {"a": 1.0, "b": 2.0}):
    ...     weights, state = rule.update(weights, state, losses=losses)
    ...     print(f"{weights['a']:.3f} {weights['b']:.3f}")
    1.000 1.000
    1.245 0.755
    """
    check_number("temperature", temperature, "positive", lambda x: x > 0)
    check_number("alpha", alpha, "in [0, 1]", lambda x: 0 <= x <= 1)
    check_number("rho", rho, "in [0, 1]", lambda x: 0 <= x <= 1)

    def step(
        call: Call, w: jax.Array, before: jax.Array, first: jax.Array
    ) -> tuple[jax.Array, ...]:
        def balanced(past: jax.Array) -> jax.Array:
            ratios = _ratios(call.losses, past) / temperature
            return _softmax(ratios, call) * call.size

        keep = jax.random.bernoulli(call.key, rho)
        history = jnp.where(keep, w, balanced(first))
        later = alpha * history + (1.0 - alpha) * balanced(before)
        new = jnp.where(call.count < 2, balanced(first), later)
        return new, call.losses, _known(first, call.losses)

    return vector_rule(RelobraloState, step, seed=seed)


def _known(past: jax.Array, now: jax.Array) -> jax.Array:
    """The past losses, and those of now where there is none yet (0)."""
    return jnp.where(past == 0, now, past)


def _ratios(now: jax.Array, past: jax.Array) -> jax.Array:
    """now / past, or 1 without a past; finite, so that no loss stops the others."""
    return jnp.minimum(now / _known(past, now), 1e30)


def _softmax(logits: jax.Array, call: Call) -> jax.Array:
    """Softmax over the losses that take part."""
    return jax.nn.softmax(logits, where=call.on)
