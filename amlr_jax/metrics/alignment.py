"""Alignment of predictions without metric scale to their ground truth."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from amlr_jax.metrics.depth import MIN_DEPTH, sanitize, valid_pixels
from amlr_jax.metrics.scaling import median_scale

ALIGNMENTS = ("none", "median", "scale", "scale_shift", "disparity_scale_shift")
DISPARITY = ALIGNMENTS[-1]  # aligns inverse depth
SHIFTED = ("scale_shift", DISPARITY)  # of which 0 is a value as any other
ITERATIONS = 50  # of the reweighted fit
SMALLEST_RESIDUAL = 1e-4  # of the mean magnitude of the target: bounds the weights


class Aligned(NamedTuple):
    """A prediction brought to metres, and the fit."""

    prediction: jax.Array  # float32 [..., H, W] metres, clamped
    scale: jax.Array  # float32 [...]
    shift: jax.Array  # float32 [...], metres, or 1 / metres for disparity


def align(
    prediction: jax.Array,
    target: jax.Array,
    *,
    how: str,
    max_depth: float,
    min_depth: float = MIN_DEPTH,
    where: jax.Array | None = None,
    robust: bool = False,
) -> Aligned:
    """Fits scale s and shift t of each image to its valid pixels, then clamps.

        none                   p
        median                 s p       s = median(g) / median(p)
        scale                  s p       min sum (s p - g)^2
        scale_shift            s p + t   min sum (s p + t - g)^2
        disparity_scale_shift  1 / (s p + t)
                                         min sum (s p + t - 1 / g)^2

    The last one is for predictions of inverse depth, as MiDaS makes (Ranftl et al.,
    PAMI 2022, Eq. 5); where s p + t is not positive the depth is `max_depth`. With
    `robust` the three sums are of absolute values, of depth divided by g as MoGe
    evaluates (Wang et al., CVPR 2025), so that a few wrong pixels do not matter:

        min sum |s p + t - g| / g,   min sum |s p + t - 1 / g|

    solved by iteratively reweighted least squares. A prediction of one value has
    s = 0 where a shift is fitted.

    Args:
      prediction: [..., H, W], finite at valid pixels.
      target: [..., H, W] metres, > 0 where valid.
      how: one of `ALIGNMENTS`.
      max_depth: metres, the clamp after the fit.
      min_depth: metres, likewise.
      where: boolean [..., H, W], True = valid; None = every pixel.
      robust: fit absolute instead of squared errors; "none" and "median" ignore it.

    Returns:
      The aligned prediction, s and t; NaN for an image without a valid pixel, unless
      `how` is "none".

    Raises:
      ValueError: `how` is unknown, or as `depth_metrics`.
      TypeError: as `depth_metrics`.

    >>> import jax.numpy as jnp
    >>> depth = jnp.array([[1.0, 2.0, 4.0]])
    >>> found = align(2 * depth + 1, depth, how="scale_shift", max_depth=80.0)
    >>> round(float(found.scale), 4), round(float(found.shift), 4)
    (0.5, -0.5)
    """
    fit = fit_alignment(prediction, target, how=how, where=where, robust=robust)
    limits = {"min_depth": min_depth, "max_depth": max_depth}
    return Aligned(apply_alignment(prediction, *fit, how=how, **limits), *fit)


def fit_alignment(
    prediction: jax.Array,
    target: jax.Array,
    *,
    how: str,
    where: jax.Array | None = None,
    robust: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """s and t of `align`, whose arguments these are; float64 if an input is.

    One fit for a set of images: give their valid pixels as one image [1, N], in
    float64 if they are millions.

    >>> import jax.numpy as jnp
    >>> depth = jnp.array([[1.0, 2.0, 4.0]])
    >>> scale, shift = fit_alignment(depth / 2, depth, how="scale")
    >>> float(scale), float(shift)
    (2.0, 0.0)
    """
    if how not in ALIGNMENTS:
        raise ValueError(f"`how` must be one of {ALIGNMENTS}, got {how!r}.")
    p, g, where = valid_pixels(prediction, target, where)
    scale, shift = jnp.ones(p.shape[:-2], p.dtype), jnp.zeros(p.shape[:-2], p.dtype)
    if how == "median":
        scale = median_scale(p, g, where=where)
    elif how != "none":
        is_disparity = how == DISPARITY
        fitted = 1 / g if is_disparity else g
        weights = 1 / g if robust and not is_disparity else jnp.ones_like(g)
        weights = jnp.where(where, weights, 0.0)
        fit = _robust_fit if robust else _fit
        scale, shift = fit(p, fitted, weights, with_shift=how != "scale")
    return scale, shift


def apply_alignment(
    prediction: jax.Array,
    scale: ArrayLike,
    shift: ArrayLike,
    *,
    how: str,
    max_depth: float,
    min_depth: float = MIN_DEPTH,
) -> jax.Array:
    """`align` with s and t [...] that are known: metres [..., H, W], clamped.

    NaN for an image whose s is NaN.

    >>> import jax.numpy as jnp
    >>> inverse = jnp.array([[0.5, 0.0]])
    >>> how = "disparity_scale_shift"
    >>> apply_alignment(inverse, 0.5, 0.25, how=how, max_depth=80.0).tolist()
    [[2.0, 4.0]]
    """
    scale, shift = (_per_pixel(jnp.asarray(x, jnp.float32)) for x in (scale, shift))
    moved = jnp.asarray(prediction, jnp.float32) * scale + shift
    if how == DISPARITY:
        moved = 1 / jnp.maximum(moved, np.float32(1 / max_depth))
    moved = sanitize(moved, min_depth=min_depth, max_depth=max_depth, clamp=True)
    return jnp.where(jnp.isnan(scale), jnp.nan, moved)


def _per_pixel(values: jax.Array) -> jax.Array:
    return values[..., None, None]


def _fit(
    p: jax.Array, g: jax.Array, weights: jax.Array, *, with_shift: bool
) -> tuple[jax.Array, jax.Array]:
    """s and t of min sum w (s p + t - g)^2 of each image; t = 0 without a shift."""

    def mean(x: jax.Array) -> jax.Array:
        return jnp.sum(weights * x, (-2, -1)) / jnp.sum(weights, (-2, -1))

    if not with_shift:
        scale = mean(p * g) / mean(p * p)
        return scale, 0 * scale  # NaN as the scale
    p_mean, g_mean = mean(p), mean(g)
    p = p - _per_pixel(p_mean)
    variance, covariance = mean(p * p), mean(p * (g - _per_pixel(g_mean)))
    varies = variance > np.finfo(np.float32).eps * jnp.square(p_mean)
    scale = jnp.where(varies, covariance / jnp.where(varies, variance, 1.0), 0.0)
    scale = jnp.where(jnp.isnan(p_mean), jnp.nan, scale)
    return scale, g_mean - scale * p_mean


def _robust_fit(
    p: jax.Array, g: jax.Array, weights: jax.Array, *, with_shift: bool
) -> tuple[jax.Array, jax.Array]:
    """s and t of min sum w |s p + t - g|: weights w / |residual|, again and again."""
    magnitude = jnp.sum(weights * g, (-2, -1)) / jnp.sum(weights, (-2, -1))
    smallest = _per_pixel(SMALLEST_RESIDUAL * magnitude)

    def again(
        _: int, found: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        scale, shift = map(_per_pixel, found)
        residual = jnp.abs(scale * p + shift - g)
        now = weights / jnp.maximum(residual, smallest)
        return _fit(p, g, now, with_shift=with_shift)

    first = _fit(p, g, weights, with_shift=with_shift)
    scale, shift = jax.lax.fori_loop(0, ITERATIONS, again, first)
    return scale, shift
