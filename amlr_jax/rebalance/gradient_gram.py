"""Weights from the inner products of the gradients: conflicts between losses.

The Gram matrix G_ij = <g_i, g_j> of the gradients g_i = dL_i / d theta comes in the
extra argument `gradient_gram`, [n, n] in the order of `jax.tree.leaves(losses)`, or a
function of no arguments that computes it, which `every_k_steps` calls only where a
window closes: `gradient_gram=lambda: per_loss_gradients(losses_fn, params).gram`.

Each rule computes the weights at every call anew, from G alone: sum_i w_i g_i is the
direction of the paper. They do not depend on the values of the losses or on the input
weights. A loss whose gradient is 0 keeps its weight, and the others are weighted as if
it were not there (MGDA would give it all the weight). A step with an element of G or a
loss that is not finite is skipped.
"""

import jax
import jax.numpy as jnp
import optax

from amlr_jax.rebalance.convex import minimize
from amlr_jax.rebalance.loss_tree import check_number
from amlr_jax.rebalance.vector_rule import GRAM, Call, CountState, KeyState, vector_rule


def mgda() -> optax.GradientTransformationExtraArgs:
    """Multiple-gradient descent: the shortest convex combination of the gradients.

        w = argmin ||sum_i w_i g_i||^2 = w^T G w,     w_i >= 0, sum_i w_i = 1

    The direction lowers all losses, or is 0 where no direction does. Long gradients get
    small weights: of orthogonal ones w_i ~ 1 / ||g_i||^2. If several w reach the
    minimum, the result is one of them, between the extremes.

    References:
      Desideri, Comptes Rendus Mathematique 350, 2012; Sener & Koltun, "Multi-Task
      Learning as Multi-Objective Optimization", NeurIPS 2018.

    >>> rule = mgda()
    >>> weights = {"a": 1.0, "b": 1.0}
    >>> gram = jnp.array([[4.0, 0.0], [0.0, 1.0]])
    >>> weights, _ = rule.update(
    ...     weights, rule.init(weights), losses=weights, gradient_gram=gram
    ... )
    >>> print(f"{weights['a']:.2f} {weights['b']:.2f}")
    0.20 0.80
    """

    def step(call: Call, _: jax.Array) -> tuple[jax.Array, ...]:
        gram = _scaled(call.gradients)
        return (minimize(lambda x: (gram @ x, gram), call.on, simplex=True),)

    return vector_rule(CountState, step, positive=False, gradients=GRAM)


def upgrad(*, regularization: float = 1e-4) -> optax.GradientTransformationExtraArgs:
    """UPGrad, Jacobian descent: each gradient without its conflicts, then the mean.

        w = 1/n sum_i argmin_v v^T G' v,     v >= e_i (the i-th unit vector)
        G' = G / tr G + regularization I

    sum_j v_j g_j is the projection of g_i onto the directions that raise no loss.
    Without conflicts the weights are 1/n.

    Args:
      regularization: > 0, relative to the trace of G; makes v unique.

    Raises:
      ValueError: `regularization` is not positive.

    References:
      Quinton & Rey, "Jacobian Descent for Multi-Objective Optimization",
      arXiv:2406.16232.

    >>> rule = upgrad()
    >>> weights = {"a": 1.0, "b": 1.0}
    >>> gram = jnp.array([[1.0, -1.0], [-1.0, 4.0]])
    >>> weights, _ = rule.update(
    ...     weights, rule.init(weights), losses=weights, gradient_gram=gram
    ... )
    >>> print(f"{weights['a']:.2f} {weights['b']:.2f}")
    1.00 0.62
    """
    check_number("regularization", regularization, "positive", lambda x: x > 0)

    def step(call: Call, _: jax.Array) -> tuple[jax.Array, ...]:
        eye = jnp.eye(len(call.on), dtype=call.losses.dtype)
        gram = _scaled(call.gradients) + regularization * eye

        def projected(unit: jax.Array) -> jax.Array:
            above = minimize(
                lambda x: (gram @ (x + unit), gram), call.on, simplex=False
            )
            return unit + above

        return (jnp.mean(jax.vmap(projected)(eye), 0, where=call.on[:, None]),)

    return vector_rule(CountState, step, positive=False, gradients=GRAM)


def cagrad(c: float = 0.5) -> optax.GradientTransformationExtraArgs:
    """Conflict-averse gradient descent, Liu et al., NeurIPS 2021, Algorithm 1.

        d = argmax_d min_i <g_i, d>,     ||d - g_0|| <= c ||g_0||, g_0 = mean_i g_i
        v = argmin <g_v, g_0> + c ||g_0|| ||g_v||,     g_v = sum_i v_i g_i
        w = 1/n + c ||g_0|| / ||g_v|| v

    with v_i >= 0 of sum 1, so that d = sum_i w_i g_i; c = 0 is the mean, a large c
    tends to MGDA. ||g_v|| is floored at 1e-4 of the root of tr G, where the losses have
    no common direction left.

    Args:
      c: the radius, >= 0; the paper has it in [0, 1) and uses 0.2 to 0.5.

    Raises:
      ValueError: `c` is negative or not finite.

    References:
      Liu, Liu, Jin, Stone & Liu, "Conflict-Averse Gradient Descent for Multi-task
      Learning", NeurIPS 2021.

    >>> rule = cagrad(0.5)
    >>> weights = {"a": 1.0, "b": 1.0}
    >>> weights, _ = rule.update(
    ...     weights, rule.init(weights), losses=weights, gradient_gram=jnp.eye(2)
    ... )
    >>> print(f"{weights['a']:.2f} {weights['b']:.2f}")
    0.75 0.75
    """
    check_number("c", c, "at least 0", lambda x: x >= 0)

    def step(call: Call, _: jax.Array) -> tuple[jax.Array, ...]:
        gram = _scaled(call.gradients)
        mean = call.on.astype(gram.dtype) / call.size
        along = gram @ mean
        radius = c * jnp.sqrt(jnp.maximum(mean @ along, 0.0))

        def length(v: jax.Array) -> jax.Array:
            return jnp.sqrt(jnp.maximum(v @ gram @ v, 1e-8))

        def derivatives(v: jax.Array) -> tuple[jax.Array, jax.Array]:
            unit = gram @ v / length(v)
            curvature = (gram - jnp.outer(unit, unit)) / length(v)
            return along + radius * unit, radius * curvature

        v = minimize(derivatives, call.on, simplex=True)
        return (mean + radius / length(v) * v,)

    return vector_rule(CountState, step, positive=False, gradients=GRAM)


def pcgrad(*, seed: int = 0) -> optax.GradientTransformationExtraArgs:
    """Gradient surgery, Yu et al., NeurIPS 2020, Algorithm 1.

        h_i = g_i; for j != i in random order:
            if <h_i, g_j> < 0:  h_i <- h_i - <h_i, g_j> / ||g_j||^2 g_j
        sum_i w_i g_i = sum_i h_i

    Without conflicts all weights are 1. The orders are drawn from the key in the state
    and the number of updates; with two losses there is only one.

    Args:
      seed: of the key in the state.

    References:
      Yu, Kumar, Gupta, Levine, Hausman & Finn, "Gradient Surgery for Multi-Task
      Learning", NeurIPS 2020.

    >>> rule = pcgrad()
    >>> weights = {"a": 1.0, "b": 1.0}
    >>> gram = jnp.array([[1.0, -1.0], [-1.0, 4.0]])
    >>> weights, _ = rule.update(
    ...     weights, rule.init(weights), losses=weights, gradient_gram=gram
    ... )
    >>> print(f"{weights['a']:.2f} {weights['b']:.2f}")
    2.00 1.25
    """

    def step(call: Call, _: jax.Array) -> tuple[jax.Array, ...]:
        gram, n = call.gradients, len(call.on)
        squares = jnp.where(call.on, jnp.diagonal(gram), 1.0)

        def projected(i: jax.Array, key: jax.Array) -> jax.Array:
            def against(h: jax.Array, j: jax.Array) -> tuple[jax.Array, None]:
                conflict = jnp.where(j == i, 0.0, jnp.minimum(h @ gram[j], 0.0))
                return h.at[j].add(-conflict / squares[j]), None

            start = jnp.zeros(n, gram.dtype).at[i].set(1.0)
            return jax.lax.scan(against, start, jax.random.permutation(key, n))[0]

        each = jax.vmap(projected)(jnp.arange(n), jax.random.split(call.key, n))
        return (jnp.sum(each, 0, where=call.on[:, None]),)

    return vector_rule(KeyState, step, positive=False, gradients=GRAM, seed=seed)


def _scaled(gram: jax.Array) -> jax.Array:
    """G / tr G."""
    return gram / jnp.trace(gram)
