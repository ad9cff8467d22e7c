"""Means and other statistics over the valid pixels.

Notation: `x` is an array of any shape, `where` a boolean array of the same shape
that is True where a pixel counts, and n the number of True. `where=None` counts
every pixel. Statistics are float32, or float64 if `x` is. Values where the mask is
False are ignored, so they may be NaN; over an empty mask every statistic is 0.

Sums and counts run over the whole array, not over one device's part of it, so a
masked mean inside a jitted, sharded step is the mean over the global batch.
"""

import jax
import jax.numpy as jnp

from amlr_jax.inputs import as_float, check_map, resolve_where

Axis = int | tuple[int, ...] | None


def reduced_axes(per_image: bool, x: jax.Array) -> Axis:
    """The axes a loss of `x` reduces: all, or with `per_image` the last two, H and W.

    Raises:
      ValueError: `per_image`, and `x` is not [..., H, W].
    """
    if not per_image:
        return None
    check_map("prediction", x)
    return (-2, -1)


def valid_count(
    where: jax.Array, *, axis: Axis = None, keepdims: bool = False
) -> jax.Array:
    """The number n of valid pixels, int32."""
    return jnp.sum(where, axis=axis, dtype=jnp.int32, keepdims=keepdims)


def masked_mean(
    x: jax.Array,
    *,
    where: jax.Array | None = None,
    axis: Axis = None,
    keepdims: bool = False,
) -> jax.Array:
    """The mean of the valid pixels, sum(x) / n; 0 when there is none.

    The gradient is 1/n at a valid pixel and exactly 0 elsewhere. If `x` was computed
    from values that are NaN under the mask, replace those *before* the
    computation as well: 0 times the NaN derivative of a logarithm is still NaN.

    Args:
      x: [...] any floating or integer dtype.
      where: [...] boolean, True = valid; None = all.
      axis: axes to reduce; None = all.
      keepdims: keep the reduced axes with size 1.

    Returns:
      `x` reduced over `axis`, float32 or of float64 float64.

    Raises:
      TypeError: `where` is not boolean.
      ValueError: `where` and `x` differ in shape.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([1.0, 3.0, jnp.nan])
    >>> float(masked_mean(x, where=jnp.array([True, True, False])))
    2.0
    """
    x = as_float(x)
    where = resolve_where(where, x.shape)
    total = jnp.sum(jnp.where(where, x, 0.0), axis=axis, keepdims=keepdims)
    count = valid_count(where, axis=axis, keepdims=keepdims)
    return total / jnp.maximum(count, 1).astype(x.dtype)


def masked_max(
    x: jax.Array,
    *,
    where: jax.Array | None = None,
    axis: Axis = None,
    keepdims: bool = False,
) -> jax.Array:
    """The largest valid value of x >= 0; 0 when there is none.

    Args, Raises: as `masked_mean`.
    """
    x = as_float(x)
    where = resolve_where(where, x.shape)
    return jnp.max(jnp.where(where, x, 0.0), axis=axis, keepdims=keepdims, initial=0.0)


def masked_variance(
    x: jax.Array, *, where: jax.Array | None = None, axis: Axis = None
) -> jax.Array:
    """The population variance of the valid pixels, mean((x - mean(x))^2) >= 0.

    The centred form: unlike mean(x^2) - mean(x)^2 it cannot turn negative in float32.

    Args:
      x: [...] any floating or integer dtype.
      where: [...] boolean, True = valid; None = all.
      axis: axes to reduce; None = all.

    Returns:
      `x` reduced over `axis`, float32 or of float64 float64; 0 where no pixel is valid.

    Raises:
      TypeError, ValueError: as `masked_mean`.

    >>> import jax.numpy as jnp
    >>> float(masked_variance(jnp.array([1.0, 3.0])))
    1.0
    """
    x = as_float(x)
    where = resolve_where(where, x.shape)
    x = jnp.where(where, x, 0.0)
    mean = masked_mean(x, where=where, axis=axis, keepdims=True)
    return masked_mean(jnp.square(x - mean), where=where, axis=axis)
