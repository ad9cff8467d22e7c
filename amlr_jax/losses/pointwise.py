"""Depth losses that compare pixel by pixel: the usual alternatives to Eq. 1.

Notation and masks as in `amlr_jax.losses.depth`: y is the target depth, y* the
prediction, in metres; every mean is over all valid pixels of the whole array, or over
those of each image with `per_image`. Depths are clamped to [-1e30, 1e30], so infinity
gives a large finite loss with gradient 0. The gradient at a zero error is 0.
"""

import jax
import jax.numpy as jnp

from amlr_jax.inputs import as_floats, depth_mask
from amlr_jax.losses.depth import log_difference
from amlr_jax.losses.masked import masked_max, masked_mean, reduced_axes

LARGEST = 1e30  # metres; 1e8 such errors still have a float32 sum
BERHU_SHARE = 0.2  # of the largest error, Laina et al. 2016


def l1_loss(
    prediction: jax.Array,
    target: jax.Array,
    *,
    where: jax.Array | None = None,
    per_image: bool = False,
) -> jax.Array:
    """The mean absolute error, mean(|y - y*|).

    Args:
      prediction: y*, [..., H, W] metres.
      target: y, shape of `prediction`, metres.
      where: boolean mask of that shape, True = valid; None = every pixel.
      per_image: one loss for each image, over the last two axes.

    Returns:
      Scalar >= 0 in metres, or [...]; 0 for an empty mask.

    Raises:
      ValueError: shapes differ, or `per_image` of maps that are not [..., H, W].
      TypeError: `where` is not boolean, or a depth is unsigned integers.

    >>> import jax.numpy as jnp
    >>> float(l1_loss(jnp.array([[1.0, 4.0]]), jnp.array([[2.0, 2.0]])))
    1.5
    """
    error, where = _absolute_error(prediction, target, where)
    return masked_mean(error, where=where, axis=reduced_axes(per_image, error))


def berhu_loss(
    prediction: jax.Array,
    target: jax.Array,
    *,
    where: jax.Array | None = None,
    per_image: bool = False,
) -> jax.Array:
    """The reverse Huber loss of Laina et al., 3DV 2016.

        mean(B(|y - y*|)),    B(e) = e for e <= c,  (e^2 + c^2) / (2 c) above,

    with c = 0.2 max |y - y*| over the valid pixels of the batch, or of the image with
    `per_image`. c is a constant to the gradient.

    Args, Returns, Raises: as `l1_loss`.

    >>> import jax.numpy as jnp
    >>> float(berhu_loss(jnp.array([[0.0, 5.0]]), jnp.zeros((1, 2))))
    6.5
    """
    error, where = _absolute_error(prediction, target, where)
    axis = reduced_axes(per_image, error)
    largest = masked_max(error, where=where, axis=axis, keepdims=True)
    c = jax.lax.stop_gradient(BERHU_SHARE * largest)
    ratio = error / jnp.where(c == 0.0, 1.0, c)  # never squares an error of 1e30
    loss = jnp.where(error <= c, error, 0.5 * c * (jnp.square(ratio) + 1.0))
    return masked_mean(loss, where=where, axis=axis)


def log_l1_loss(
    prediction: jax.Array,
    target: jax.Array,
    *,
    where: jax.Array | None = None,
    per_image: bool = False,
) -> jax.Array:
    """The mean absolute error of log depth, mean(|log y - log y*|).

    Depths are clamped before the logarithm as in `scale_invariant_loss`.

    Args, Returns, Raises: as `l1_loss`; in log metres.

    >>> import jax.numpy as jnp
    >>> round(float(log_l1_loss(jnp.full((1, 2), 2.0), jnp.ones((1, 2)))), 4)
    0.6931
    """
    d, where = log_difference(prediction, target, where)
    axis = reduced_axes(per_image, d)
    return masked_mean(absolute(d), where=where, axis=axis)


def absolute(x: jax.Array) -> jax.Array:
    """|x| with gradient 0 at 0, where that of `jnp.abs` is 1."""
    return x * jax.lax.stop_gradient(jnp.sign(x))


def _absolute_error(
    prediction: jax.Array, target: jax.Array, where: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """|y - y*|, 0 under the mask, and the mask."""
    where = depth_mask(prediction, target, where)
    maps = (jnp.where(where, depth, 0.0) for depth in as_floats(prediction, target))
    first, second = (jnp.clip(depth, -LARGEST, LARGEST) for depth in maps)
    return absolute(first - second), where
