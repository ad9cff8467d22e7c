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

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from amlr_jax.rebalance.loss_tree import check_number
from amlr_jax.rebalance.vector_rule import NORMS, Call, vector_rule


class CountState(NamedTuple):
    """State of a rule that keeps nothing but the weights."""

    # shape=(), dtype=int32. Updates so far.
    count: jax.Array  # type: ignore[assignment]
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
    check_number("decay", decay, "in [0, 1)", lambda x: 0 <= x < 1)
    check_number("guard", guard, "at least 0", lambda x: x >= 0)

    def step(call: Call, w: jax.Array) -> tuple[jax.Array, ...]:
        return (decay * w + (1.0 - decay) * _balancing(call, call.gradients, guard),)

    return vector_rule(CountState, step, positive=False, gradients=NORMS)


def _balancing(call: Call, sizes: jax.Array, guard: float) -> jax.Array:
    """Weights that bring each size to their mean."""
    mean = jnp.mean(sizes, where=call.on)
    return mean / (sizes + guard * mean)
