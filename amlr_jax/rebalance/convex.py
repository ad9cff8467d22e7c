"""Small convex problems of the rules on the Gram matrix, in a fixed number of steps."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

STEPS = 30  # of Newton's method; the gap shrinks tenfold in most


def minimize(
    derivatives: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    on: jax.Array,
    *,
    simplex: bool,
) -> jax.Array:
    """The x >= 0 that minimises a convex F, with sum x = 1 if `simplex`.

    A primal-dual interior-point method: with slacks s > 0, each step solves

        (H + diag(s / x)) dx = mu / x - grad F + nu 1,    x_i s_i = mu

    by Cholesky, where nu keeps the sum, with mu a tenth of the mean of x_i s_i, and
    goes 0.99 of the way to the first x_i or s_i at 0, at most 1. A minimum that is
    unique is met to about 1e-6 in float32, if F is scaled to derivatives of order 1.

    Args:
      derivatives: x -> (the gradient of F, [n], its Hessian, [n, n]).
      on: the variables, bool [n]; the others are 0.
      simplex: whether x must sum to 1.

    Returns:
      x, shape=[n].
    """
    dtype = jax.eval_shape(derivatives, jnp.zeros(len(on)))[1].dtype
    eps: Any = jnp.finfo(dtype).eps  # type: ignore[no-untyped-call]
    ones, eye = on.astype(dtype), jnp.eye(len(on), dtype=dtype)

    def step(_: int, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, s = carry
        slope, curvature = derivatives(x)
        slope = jnp.where(on, slope, x)  # a variable that is off tends to 0 by itself
        curvature = jnp.where(on & on[:, None], curvature, eye)
        if simplex:  # adds (sum x - 1)^2 / 2, which is 0 on the way
            curvature += jnp.outer(ones, ones)
        curvature += 8 * eps * jnp.trace(curvature) * eye
        mu = jnp.maximum(0.1 * jnp.mean(x * s), eps**2)
        factor = jax.scipy.linalg.cho_factor(curvature + jnp.diag(s / x))
        dx = jax.scipy.linalg.cho_solve(factor, mu / x - slope)
        if simplex:
            along = jax.scipy.linalg.cho_solve(factor, ones)
            dx += along * (1.0 - ones @ (x + dx)) / (ones @ along)
        ds = mu / x - (s / x) * dx - s
        length = jnp.minimum(1.0, 0.99 / jnp.max(-jnp.concatenate([dx / x, ds / s])))
        length = jnp.where(length > 0, length, 1.0)  # nothing tends to 0
        return x + length * dx, s + length * ds

    start = ones / jnp.sum(ones) if simplex else ones
    start = jnp.where(on, start, 1.0)
    x, _ = jax.lax.fori_loop(0, STEPS, step, (start, jnp.ones_like(start)))
    return jnp.where(on, x, 0.0)
