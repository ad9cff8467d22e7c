"""Weights from the norms of the gradients of the losses.

The norms of ||dL_i / d theta|| come in the extra argument `gradient_norms`, a tree like
the losses, or a function of no arguments that computes it. Such a function is called
where the rule is, so that under `every_k_steps` it costs nothing within a window:

    loss_weights, state = rule.update(
        loss_weights, state, losses=losses,
        gradient_norms=lambda: per_loss_gradients(losses_fn, params).norms,
    )

A loss whose gradient is 0, or below 1.2e-38, keeps its weight; the others are weighted
as if it were not there. A step with a norm or a loss that is not finite is skipped.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from amlr_jax.rebalance.loss_tree import (
    LossTree,
    check_adam,
    check_number,
    value_at,
)
from amlr_jax.rebalance.vector_rule import NORMS, Call, CountState, vector_rule


class GradNormState(NamedTuple):
    """State of `grad_norm`; the logits are those of the weights."""

    # shape=(), dtype=int32. Updates so far.
    count: jax.Array  # type: ignore[assignment]
    first: LossTree  # Scalars. Losses of the first call.
    m: LossTree  # Scalars. Adam's first moment of the gradient in the logits.
    v: LossTree  # Scalars. Adam's second moment.
    skipped: jax.Array  # shape=(), dtype=int32. Updates that were not of all losses.


def gradient_balance(
    decay: float = 0.9, *, guard: float = 1e-5
) -> optax.GradientTransformationExtraArgs:
    """Equal norms of the weighted gradients, Wang et al. 2023, Algorithm 1.

        w_i <- decay w_i + (1 - decay) mean_j ||g_j|| / (||g_i|| + guard mean_j ||g_j||)

    At the fixed point all w_i ||g_i|| are equal to the mean norm. The paper writes the
    sum over j; its code, jaxpi, takes the mean, as here, so that equal norms give
    weights of 1 for any number of losses, and has the guard, which bounds a weight by
    1 / guard. The average starts from the input weights. The authors update every
    1,000 steps: `every_k_steps(gradient_balance(), 1000)`.

    Args:
      decay: of the average over updates, in [0, 1); 0.9 as the authors.
      guard: >= 0, relative to the mean norm.

    Returns:
      A transformation of loss weights; `update` requires `losses=` and
      `gradient_norms=`.

    Raises:
      ValueError: an argument breaks its rule; at trace time, names differ.
      TypeError: at trace time, `gradient_norms` is missing.

    References:
      Wang, Sankaran, Wang & Perdikaris, "An Expert's Guide to Training Physics-informed
      Neural Networks", arXiv:2308.08468, section 4; first in Wang, Teng & Perdikaris,
      SIAM J. Sci. Comput. 43(5), 2021, with other statistics.

    >>> rule = gradient_balance(0.0)
    >>> weights = {"a": 1.0, "b": 1.0}
    >>> weights, _ = rule.update(
    ...     weights,
    ...     rule.init(weights),
    ...     losses={"a": 1.0, "b": 1.0},
    ...     gradient_norms={"a": 3.0, "b": 1.0},
    ... )
    >>> print(f"{weights['a']:.3f} {weights['b']:.3f}")
    0.667 2.000
    """
    return _balanced(decay, guard, power=1)


def ntk(
    decay: float = 0.0, *, guard: float = 1e-5
) -> optax.GradientTransformationExtraArgs:
    """Equal traces of the weighted tangent kernels, Wang, Yu & Perdikaris 2022.

        w_i <- decay w_i + (1 - decay) mean_j T_j / (T_i + guard mean_j T_j)
        T_i = gradient_norms_i^2, the trace of the kernel of loss i

    For a loss that is a mean of squared residuals r, the norm to pass is `ntk_norm`,
    the root of the mean of ||dr / d theta||^2 over the points, the diagonal of the
    kernel. With the norms of the gradients of the losses, T_i is the kernel of the
    scalar L_i itself. The paper writes the sum over j; the mean, as in jaxpi, gives
    equal kernels weights of 1.

    Args:
      decay: of the average over updates, in [0, 1); 0 as the paper.
      guard: >= 0, relative to the mean trace; bounds a weight by 1 / guard.

    Raises:
      ValueError: an argument breaks its rule; at trace time, names differ.
      TypeError: at trace time, `gradient_norms` is missing.

    References:
      Wang, Yu & Perdikaris, "When and Why PINNs Fail to Train: A Neural Tangent Kernel
      Perspective", Journal of Computational Physics 449, 2022.

    >>> rule = ntk(guard=0.0)
    >>> weights = {"a": 1.0, "b": 1.0}
    >>> norms = {"a": 3.0, "b": 1.0}
    >>> weights, _ = rule.update(
    ...     weights, rule.init(weights), losses=weights, gradient_norms=norms
    ... )
    >>> print(f"{weights['a']:.3f} {weights['b']:.3f}")
    0.556 5.000
    """
    return _balanced(decay, guard, power=2)


def _balanced(
    decay: float, guard: float, *, power: int
) -> optax.GradientTransformationExtraArgs:
    """Weights that tend to mean_j s_j / s_i, with s the powers of the norms."""
    check_number("decay", decay, "in [0, 1)", lambda x: 0 <= x < 1)
    check_number("guard", guard, "at least 0", lambda x: x >= 0)

    def step(call: Call, w: jax.Array) -> tuple[jax.Array, ...]:
        sizes = call.gradients**power
        mean = jnp.mean(sizes, where=call.on)
        return (decay * w + (1.0 - decay) * mean / (sizes + guard * mean),)

    return vector_rule(CountState, step, positive=False, gradients=NORMS)


def ntk_norm(residual_fn: Callable[..., jax.Array], params: Any, *points: Any) -> Any:
    """The root of the mean diagonal of the tangent kernel of a residual, a scalar.

        sqrt(mean_p ||d residual_fn(params, x_p) / d params||^2)

    Args:
      residual_fn: (params, one point of each of `points`) -> a scalar.
      params: a tree of arrays.
      points: arrays with a first axis of length P.

    >>> x = jnp.array([1.0, 7.0])
    >>> float(ntk_norm(lambda p, x: p * x, jnp.float32(3.0), x))
    5.0
    """

    def square(*point: Any) -> jax.Array:
        gradient = jax.grad(residual_fn)(params, *point)
        squares = [jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(gradient)]
        return jnp.sum(jnp.stack(squares))

    return jnp.sqrt(jnp.mean(jax.vmap(square)(*points)))


def grad_norm(
    learning_rate: optax.ScalarOrSchedule,
    *,
    alpha: float = 1.5,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """GradNorm, Chen et al., ICML 2018, Eq. 1-2, with weights that stay positive.

        G_i = w_i ||g_i||,  r_i = (L_i / L_i^0) / mean_j (L_j / L_j^0)
        objective   sum_i |G_i - mean_j G_j r_i^alpha|, the second term constant
        w = n softmax(z),  z <- z - Adam(its gradient in z)

    Losses that fell little since the first call get a larger norm. The paper steps w
    and scales it to the sum n; the softmax, as in LibMTL, keeps that sum and the signs.
    z is the logarithm of the input weights, so a clip after this rule takes effect.

    A loss that is not positive keeps its weight, and the others share the sum of their
    weights; the first call with a positive one is its L^0.

    Args:
      learning_rate: of z, >= 0, or a schedule of the number of updates so far.
      alpha: how strongly slow losses are preferred; the paper uses 0.12 to 3.
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1).
      eps: > 0.

    Raises:
      ValueError: an argument breaks its rule; at trace time, names differ.
      TypeError: at trace time, `gradient_norms` is missing.

    References:
      Chen, Badrinarayanan, Lee & Rabinovich, "GradNorm: Gradient Normalization for
      Adaptive Loss Balancing in Deep Multitask Networks", ICML 2018.

    >>> rule = grad_norm(0.1)
    >>> weights = {"a": 1.0, "b": 1.0}
    >>> norms = {"a": 3.0, "b": 1.0}
    >>> weights, _ = rule.update(
    ...     weights, rule.init(weights), losses=norms, gradient_norms=norms
    ... )
    >>> print(f"{weights['a']:.3f} {weights['b']:.3f}")
    0.900 1.100
    """
    adam = check_adam(learning_rate, b1, b2, eps)
    check_number("alpha", alpha, "a number", lambda x: True)

    def step(
        call: Call, w: jax.Array, first: jax.Array, m: jax.Array, v: jax.Array
    ) -> tuple[jax.Array, ...]:
        first = jnp.where(first == 0, call.losses, first)
        ratios = call.losses / first
        rates = ratios / jnp.mean(ratios, where=call.on)
        target = jnp.mean(w * call.gradients, where=call.on) * rates**alpha
        slope = jnp.sign(w * call.gradients - target) * call.gradients  # in w
        scale = call.size / jnp.sum(w, where=call.on)
        w = w * scale  # n softmax(z)
        slope = w * (slope - jnp.sum(w * slope, where=call.on) / call.size)  # in z
        m, v = adam.moments(slope, m, v)
        move = adam.direction(m, v, call.count + 1)
        logits = jnp.log(w) - value_at(learning_rate, call.count, w) * move
        return call.size * jax.nn.softmax(logits, where=call.on), first, m, v

    return vector_rule(GradNormState, step, gradients=NORMS)
