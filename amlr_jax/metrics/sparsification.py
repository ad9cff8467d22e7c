"""Whether a confidence tells where a prediction is wrong."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from amlr_jax.inputs import check_map, check_same_shape, resolve_where

SHARES = 50  # of the curves: Poggi et al. remove 2 % at a time


class Sparsification(NamedTuple):
    """Mean errors of the pixels that are kept, relative to that of all pixels."""

    kept: jax.Array  # [50] shares of the pixels: 1, 0.98 ... 0.02
    by_confidence: jax.Array  # [..., 50], the least confident removed first
    oracle: jax.Array  # [..., 50], the largest errors removed first
    ause: jax.Array  # [...] area between the two: 0 is best
    gain: jax.Array  # [...] area below 1, which is random: AURG; above 0 it helps


def sparsification(
    error: jax.Array, confidence: jax.Array, *, where: jax.Array | None = None
) -> Sparsification:
    """Error against the share of pixels kept (Ilg et al., ECCV 2018).

    With n valid pixels, the share s keeps the first ceil(s n) in an order:

        curve(s) = mean(error of those kept) / mean(error of all)
        AUSE = mean over s of (by_confidence(s) - oracle(s))
        AURG = mean over s of (1 - by_confidence(s))

    as Poggi et al. (CVPR 2020) evaluate depth, there with the trapezoid rule. Pixels of
    equal confidence are in the order of the image.

    Args:
      error: [..., H, W] >= 0, as |p - g| / g.
      confidence: [..., H, W], larger where the prediction is trusted more; any
        monotone function of it gives the same.
      where: boolean [..., H, W], True = valid; None = every pixel.

    Returns:
      float32; NaN for an image without a valid pixel. An image without any error has
      curves of 0.

    Raises:
      ValueError: the shapes differ or have fewer than two axes.
      TypeError: `where` is not boolean.

    >>> import jax.numpy as jnp
    >>> error = jnp.array([[0.1, 0.2, 0.4, 0.8]])
    >>> float(sparsification(error, -error).ause)
    0.0
    >>> float(sparsification(error, error).gain) < 0
    True
    """
    error, confidence = (jnp.asarray(x, jnp.float32) for x in (error, confidence))
    check_map("error", error)
    check_same_shape(error=error, confidence=confidence)
    where = resolve_where(where, error.shape)
    flat = (*error.shape[:-2], -1)
    error, confidence, where = (x.reshape(flat) for x in (error, confidence, where))
    error = jnp.where(where, error, 0.0)
    kept = 1 - np.arange(SHARES, dtype=np.float32) / SHARES
    by_confidence, oracle = (
        _curve(error, jnp.argsort(jnp.where(where, key, jnp.inf)), where, kept)
        for key in (-confidence, error)
    )
    ause = (by_confidence - oracle).mean(-1)
    gain = (1 - by_confidence).mean(-1)
    return Sparsification(jnp.asarray(kept), by_confidence, oracle, ause, gain)


def _curve(
    error: jax.Array, order: jax.Array, where: jax.Array, kept: np.ndarray
) -> jax.Array:
    """Mean error of the first pixels in an order, divided by that of all."""
    count = where.sum(-1, keepdims=True)
    sums = jnp.cumsum(jnp.take_along_axis(error, order, -1), -1)
    # Not 0.02 n + rounding, which would keep a pixel more.
    first = jnp.clip(jnp.ceil(kept * count - 1e-3).astype(int), 1, error.shape[-1])
    means = jnp.take_along_axis(sums, first - 1, -1) / first
    whole = sums[..., -1:] / jnp.maximum(count, 1)
    relative = jnp.where(whole > 0, means / jnp.where(whole > 0, whole, 1.0), 0.0)
    return jnp.where(count > 0, relative, jnp.nan)
