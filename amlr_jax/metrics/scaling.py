"""Median scaling: metric depth from depth that has no scale of its own."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from amlr_jax.inputs import as_float, as_floats
from amlr_jax.metrics.depth import MIN_DEPTH, sanitize, valid_pixels


def median_scale(
    prediction: jax.Array, target: jax.Array, *, where: jax.Array | None = None
) -> jax.Array:
    """The factor median(g) / median(p) of each image over its valid pixels.

    Self-supervised depth has no metric scale; multiply the prediction by this first,
    then clamp. An even number of pixels takes the mean of the middle two.

    Args:
      prediction: [..., H, W] metres or any unit, > 0, without NaN at valid pixels.
      target: [..., H, W] metres, > 0 where valid.
      where: boolean [..., H, W], True = valid; None = every pixel.

    Returns:
      [...]; NaN for an image without a valid pixel.

    Raises:
      ValueError, TypeError: as `depth_metrics`.

    >>> import jax.numpy as jnp
    >>> float(median_scale(jnp.full((2, 2), 0.5), jnp.full((2, 2), 4.0)))
    8.0
    """
    p, g, where = valid_pixels(prediction, target, where)
    return _median(g, where) / _median(p, where)


class MedianScaled(NamedTuple):
    """A prediction brought to the scale of its ground truth, and the factor."""

    prediction: jax.Array  # [..., H, W] metres, clamped
    ratio: jax.Array  # [...]


def median_scaled(
    prediction: jax.Array,
    target: jax.Array,
    *,
    max_depth: float,
    min_depth: float = MIN_DEPTH,
    where: jax.Array | None = None,
) -> MedianScaled:
    """Median scaling as published: crop, take the ratio per image, scale, then clamp.

    The order of monodepth2's evaluation. `where` is both the cap of the ground truth
    (`valid_mask`) and the crop (`evaluation_mask`), since the medians are over the
    pixels that count. +-Infinity and NaN are first replaced as by `sanitize`.

    Args:
      prediction: [..., H, W] metres or any unit, > 0.
      target: [..., H, W] metres, > 0 where valid.
      max_depth: metres, the clamp after scaling.
      min_depth: metres, likewise.
      where: boolean [..., H, W], True = valid; None = every pixel.

    Returns:
      The prediction times `median_scale`, clamped, and that ratio [...]; both NaN for
      an image without a valid pixel.

    Raises:
      ValueError, TypeError: as `depth_metrics`.

    >>> import jax.numpy as jnp
    >>> relative = jnp.array([[0.25, 1.0, 30.0]])
    >>> scaled = median_scaled(relative, jnp.full((1, 3), 4.0), max_depth=80.0)
    >>> scaled.prediction.tolist(), float(scaled.ratio)
    ([[1.0, 4.0, 80.0]], 4.0)
    """
    prediction = sanitize(prediction, max_depth=max_depth, min_depth=min_depth)
    ratio = median_scale(prediction, target, where=where)
    scaled, ratio = as_floats(prediction, ratio)
    scaled = scaled * ratio[..., None, None]
    return MedianScaled(jnp.clip(scaled, min_depth, max_depth), ratio)


def ratio_summary(ratios: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """The median of the ratios of a test set, and their relative spread.

        median(r),   std(r / median(r))      population standard deviation

    monodepth2 prints both: a small spread means that all depth maps have one scale.

    Args:
      ratios: `median_scale` of each image, [N]; NaN (an image without a valid pixel)
        is left out.

    Returns:
      Two scalars; NaN when there is no ratio.

    >>> import jax.numpy as jnp
    >>> median, spread = ratio_summary(jnp.array([30.0, 20.0, 40.0, jnp.nan]))
    >>> float(median), round(float(spread), 4)
    (30.0, 0.2722)
    """
    ratios = as_float(ratios)
    median = jnp.nanmedian(ratios)
    return median, jnp.nanstd(ratios / median)


def _median(x: jax.Array, where: jax.Array) -> jax.Array:
    """The median over the valid pixels of each image; NaN when there is none."""
    return jnp.nanmedian(jnp.where(where, x, jnp.nan), axis=(-2, -1))
