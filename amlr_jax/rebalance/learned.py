"""Loss weights with learned parameters: homoscedastic uncertainty and FAMO.

Neither needs a gradient of the network: the gradient of the parameters is a
formula in the losses. Notation: call number t = 0, 1, 2, ... of `update` takes the
losses L_i^t of step t, before that step changes the network, and returns the weights
w_i^t of the same step. A loss that is not positive keeps its weight and its state; the
others are weighted as if it were not there. A step with a loss that is not finite is
skipped. `skipped` counts both.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from amlr_jax.rebalance.loss_tree import (
    LossTree,
    check_adam,
    check_number,
    value_at,
)
from amlr_jax.rebalance.vector_rule import Call, vector_rule


class UncertaintyState(NamedTuple):
    """State of `uncertainty`; s itself is -log of the weights."""

    # shape=(), dtype=int32. Updates so far.
    count: jax.Array  # type: ignore[assignment]
    m: LossTree  # Scalars. Adam's first moment of the gradient in s.
    v: LossTree  # Scalars. Adam's second moment.
    skipped: jax.Array  # shape=(), dtype=int32. Updates that were not of all losses.


def uncertainty(
    learning_rate: optax.ScalarOrSchedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """Homoscedastic uncertainty, Kendall et al., CVPR 2018, Eq. 7 with s = log sigma^2.

        objective   sum_i exp(-s_i) L_i + s_i
        w_i^t = exp(-s_i^t)
        g_i^t = 1 - w_i^t L_i^t            its derivative in s_i
        s^{t+1} = s^t - Adam(g^t)          bias-corrected, with `learning_rate`

    The objective is twice Eq. 7, L / (2 sigma^2) + log sigma, summed: the same minimum,
    and the same gradients up to the factor 2, to which Adam is invariant. As in joint
    training, L^t changes s only after step t has used s. Adam replaces the network's
    optimizer because g is not bounded: with plain gradient descent one loss of 1e6
    would move s too far to return.

    At the fixed point w_i = 1 / L_i: all weighted losses tend to 1, and a loss that
    falls tenfold gets ten times the weight. s is -log of the input weights, so start
    from positive weights (1/n means s = log n, 1 means s = 0); a clip after this rule
    takes effect. While g keeps its sign, s moves by about `learning_rate` a step; a
    weight that starts at 1/n and must reach 1 / L = 50 needs s to move by log(50 n).

    Args:
      learning_rate: of s, >= 0, or a schedule of the number of updates so far.
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1).
      eps: > 0.

    Raises:
      ValueError: an argument breaks its rule; at trace time, names differ.

    References:
      Kendall, Gal & Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for
      Scene Geometry and Semantics", CVPR 2018.

    >>> rule = uncertainty(0.1)
    >>> weights = {"a": 1.0, "b": 1.0}
    >>> state = rule.init(weights)
    >>> for _ in range(200):
    ...     losses = {"a": 0.5, "b": 2.0}
    ...     weights, state = rule.update(weights, state, losses=losses)
    >>> print(f"{weights['a']:.2f} {weights['b']:.2f}")
    2.00 0.50
    """
    adam = check_adam(learning_rate, b1, b2, eps)

    def step(
        call: Call, w: jax.Array, m: jax.Array, v: jax.Array
    ) -> tuple[jax.Array, ...]:
        rate = value_at(learning_rate, call.count, w)
        w = w * jnp.exp(rate * adam.direction(m, v, call.count))
        return w, *adam.moments(1.0 - w * call.losses, m, v)

    return vector_rule(UncertaintyState, step)


def imtl_l(
    learning_rate: optax.ScalarOrSchedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """Impartial multi-task learning by losses (IMTL-L), Liu et al., ICLR 2021, Eq. 8.

        objective   sum_i exp(s_i) L_i - s_i,     w_i = exp(s_i)

    This is the objective of `uncertainty` with s for -s, so it is the same rule, and so
    is lbPINN (Xiang et al., Neurocomputing 496, 2022): arguments and errors are there.

    References:
      Liu, Li, Kuang, Xue, Chen, Yang, Liao & Zhang, "Towards Impartial Multi-Task
      Learning", ICLR 2021.
    """
    return uncertainty(learning_rate, b1=b1, b2=b2, eps=eps)


class FAMOState(NamedTuple):
    """State of `famo`."""

    # shape=(), dtype=int32. Updates so far.
    count: jax.Array  # type: ignore[assignment]
    losses: LossTree  # Scalars. Losses of the call before.
    logits: LossTree  # Scalars. xi.
    skipped: jax.Array  # shape=(), dtype=int32. Updates that were not of all losses.


def famo(
    learning_rate: optax.ScalarOrSchedule, *, gamma: float = 1e-3
) -> optax.GradientTransformationExtraArgs:
    """Fast adaptive multitask optimization, Liu et al., NeurIPS 2023, Algorithm 1.

        t = 0    xi^0 = 0
        t >= 1   d_i  = log L_i^{t-1} - log L_i^t
                 xi^t = xi^{t-1} - beta (J d + gamma xi^{t-1})
        w_i^t = c z_i / L_i^t,  z = softmax(xi^t),  c = 1 / sum_j z_j / L_j^t

    with J the Jacobian of softmax at xi^{t-1}, so (J d)_i = z_i (d_i - sum_j z_j d_j).
    A loss that fell faster than the others, relatively, loses weight. The weights are
    those of the gradient of sum_i z_i log L_i, scaled to sum to 1.

    One approximation. The paper measures d on one batch, before and after the update of
    the network, which costs a second forward pass. Here L^{t-1} is of batch t - 1
    and L^t of batch t, after that same update: d is the paper's plus the difference
    between two batches (and their augmentation and dropout). That difference enters
    with opposite signs in two consecutive calls, so while z changes slowly its sum is
    at most one batch's deviation, not a random walk. With `every_k_steps` d is the
    difference of window means, over k updates. Logits take plain gradient steps, as
    in Algorithm 1; the authors' experiments use Adam for them.

    Args:
      learning_rate: beta >= 0, or a schedule of the number of updates so far.
      gamma: decay of the logits towards equal z, >= 0.

    Raises:
      ValueError: an argument breaks its rule; at trace time, names differ.

    References:
      Liu, Feng, Stone & Liu, "FAMO: Fast Adaptive Multitask Optimization", NeurIPS
      2023.

    >>> rule = famo(1.0)
    >>> weights = {"a": 0.5, "b": 0.5}
    >>> state = rule.init(weights)
    >>> for losses in ({"a": 1.0, "b": 4.0}, {"a": 1.0, "b": 1.0}):
    ...     weights, state = rule.update(weights, state, losses=losses)
    ...     print(f"{weights['a']:.3f} {weights['b']:.3f}")
    0.800 0.200
    0.667 0.333
    """
    check_number("learning_rate", learning_rate, "at least 0", lambda x: x >= 0)
    check_number("gamma", gamma, "at least 0", lambda x: x >= 0)

    def step(
        call: Call, _: jax.Array, before: jax.Array, logits: jax.Array
    ) -> tuple[jax.Array, ...]:
        losses = call.losses
        before = jnp.where(before == 0, losses, before)
        rate = value_at(learning_rate, call.count, logits)
        z = jax.nn.softmax(logits, where=call.on)
        fall = jnp.log(before) - jnp.log(losses)
        slope = z * (fall - jnp.sum(z * fall))
        logits = logits - rate * (slope + gamma * logits)
        weights = jax.nn.softmax(logits - jnp.log(losses), where=call.on)
        return weights, losses, logits

    return vector_rule(FAMOState, step)
