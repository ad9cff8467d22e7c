"""Errors of a depth map against ground truth, per image."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from amlr_jax.inputs import as_float, as_floats, check_map, check_unit, depth_mask

# The order of printed tables: as in the AMLR paper, with silog, which it does not
# print, after the other errors. Dicts that leave a jitted function are sorted by key.
METRIC_NAMES = (
    "abs_rel",
    "sq_rel",
    "rmse",
    "rmse_log",
    "log10",
    "silog",
    "d1",
    "d2",
    "d3",
)

KITTI_NAMES = ("kitti_silog", "kitti_sq_rel", "kitti_abs_rel", "kitti_irmse")
DELTA_NAMES = ("d1.05", "d1.10")

MIN_DEPTH = 1e-3  # metres; the lower bound of every protocol here
KITTI_MAX_DEPTH = 80.0  # metres
NYU_MAX_DEPTH = 10.0  # metres


def depth_metrics(
    prediction: jax.Array, target: jax.Array, *, where: jax.Array | None = None
) -> dict[str, jax.Array]:
    """The usual errors of each image, as the MIM-Depth and GLPDepth code takes them.

        abs_rel   mean(|p - g| / g)
        sq_rel    mean((p - g)^2 / g)              metres
        rmse      sqrt(mean((p - g)^2))            metres
        rmse_log  sqrt(mean((ln p - ln g)^2))      natural logarithm
        log10     mean(|log10 p - log10 g|)
        silog     sqrt(mean(d^2) - 0.5 mean(d)^2)  d = ln p - ln g
        d1 d2 d3  share of pixels with max(p / g, g / p) < 1.25^k, k = 1, 2, 3, strict

    The KITTI devkit differs, see `kitti_metrics`. The AMLR paper prints rmse_log with
    log10, but its values are natural ones.

    Nothing is repaired: a prediction of 0 or NaN at a valid pixel gives an infinite or
    NaN error (see `sanitize`). An image without a valid pixel has no
    error: every metric is NaN there, and the evaluation has to leave the image out
    and say so. Values under the mask are not used.

    Args:
      prediction: [..., H, W] metres, > 0.
      target: [..., H, W] metres, > 0 where valid.
      where: boolean [..., H, W], True = valid; None = every pixel.

    Returns:
      name -> [...], the names and order of METRIC_NAMES.

    Raises:
      ValueError: shapes differ, have fewer than two axes or are [..., H, W, 1].
      TypeError: `where` is not boolean, or a depth is unsigned integers.

    >>> import jax.numpy as jnp
    >>> errors = depth_metrics(jnp.full((1, 1), 3.0), jnp.full((1, 1), 2.0))
    >>> float(errors["abs_rel"]), float(errors["sq_rel"]), float(errors["d2"])
    (0.5, 0.5, 1.0)
    """
    p, g, where = valid_pixels(prediction, target, where)
    d = jnp.log(p) - jnp.log(g)
    error = p - g
    ratio = jnp.maximum(p / g, g / p)
    bias = _mean(d, where)
    spread = _mean(jnp.square(d - bias[..., None, None]), where)
    return {
        "abs_rel": _mean(jnp.abs(error) / g, where),
        "sq_rel": _mean(jnp.square(error) / g, where),
        "rmse": jnp.sqrt(_mean(jnp.square(error), where)),
        "rmse_log": jnp.sqrt(_mean(jnp.square(d), where)),
        "log10": _mean(jnp.abs(d), where) / math.log(10.0),
        "silog": jnp.sqrt(spread + 0.5 * jnp.square(bias)),
        **{f"d{k}": _mean((ratio < 1.25**k).astype(p.dtype), where) for k in (1, 2, 3)},
    }


def kitti_metrics(
    prediction: jax.Array, target: jax.Array, *, where: jax.Array | None = None
) -> dict[str, jax.Array]:
    """The four errors of KITTI's depth prediction benchmark (Uhrig et al., 3DV 2017).

        kitti_silog    100 sqrt(mean(d^2) - mean(d)^2)   d = ln p - ln g
        kitti_sq_rel   100 mean((p - g)^2 / g^2)         sqErrorRel, per cent
        kitti_abs_rel  100 mean(|p - g| / g)             absErrorRel, per cent
        kitti_irmse    1000 sqrt(mean((1 / p - 1 / g)^2))   iRMSE, 1 / km

    Arguments and errors are those of `depth_metrics`. The devkit measures every pixel
    with ground truth, without a crop or a cap.

    Returns:
      name -> [...], the names and order of KITTI_NAMES.

    >>> import jax.numpy as jnp
    >>> errors = kitti_metrics(jnp.full((1, 1), 5.0), jnp.full((1, 1), 4.0))
    >>> [round(float(value), 3) for value in errors.values()]
    [0.0, 6.25, 25.0, 50.0]
    """
    p, g, where = valid_pixels(prediction, target, where)
    d = jnp.log(p) - jnp.log(g)
    relative = jnp.abs(p - g) / g
    spread = _mean(jnp.square(d - _mean(d, where)[..., None, None]), where)
    inverse = _mean(jnp.square(1 / p - 1 / g), where)
    values = (
        100 * jnp.sqrt(spread),
        100 * _mean(jnp.square(relative), where),
        100 * _mean(relative, where),
        1000 * jnp.sqrt(inverse),
    )
    return dict(zip(KITTI_NAMES, values, strict=True))


def delta_metrics(
    prediction: jax.Array, target: jax.Array, *, where: jax.Array | None = None
) -> dict[str, jax.Array]:
    """The share of pixels with max(p / g, g / p) < 1.05 and < 1.10, strict.

    For networks whose d1, at 1.25, is near 1. As `depth_metrics`; the names and order
    are those of DELTA_NAMES.

    >>> import jax.numpy as jnp
    >>> shares = delta_metrics(jnp.array([[1.04, 1.08]]), jnp.ones((1, 2)))
    >>> [float(value) for value in shares.values()]
    [0.5, 1.0]
    """
    p, g, where = valid_pixels(prediction, target, where)
    ratio = jnp.maximum(p / g, g / p)
    limits = dict(zip(DELTA_NAMES, (1.05, 1.10), strict=True))
    return {
        name: _mean((ratio < limit).astype(p.dtype), where)
        for name, limit in limits.items()
    }


def valid_mask(
    target: jax.Array, *, max_depth: float, min_depth: float = MIN_DEPTH
) -> jax.Array:
    """Where min_depth < target < max_depth, strict on both sides; NaN is invalid.

    This is the cap of the ground truth; that of the prediction is `sanitize`, which
    clamps it. `min_depth=0, max_depth=inf` is "every measured pixel", as monodepth2
    does on the improved ground truth (eigen_benchmark).

    Args:
      target: [...] metres, 0 = no measurement.
      max_depth: metres; KITTI_MAX_DEPTH or NYU_MAX_DEPTH.
      min_depth: metres.

    Returns:
      Boolean, shape of `target`.

    >>> import jax.numpy as jnp
    >>> valid_mask(jnp.array([0.0, 0.001, 5.0, 80.0]), max_depth=80.0).tolist()
    [False, False, True, False]
    """
    check_unit(target=target)
    target = as_float(target)
    return (target > min_depth) & (target < max_depth)


def sanitize(
    prediction: ArrayLike,
    *,
    max_depth: float,
    min_depth: float = MIN_DEPTH,
    clamp: bool = False,
) -> jax.Array:
    """Replaces +-infinity by max_depth and NaN by min_depth, as MIM-Depth does.

    Args:
      prediction: [...] metres.
      max_depth: metres.
      min_depth: metres.
      clamp: also clamp to [min_depth, max_depth], as BTS and monodepth2 do.

    Returns:
      Floating point, shape of `prediction`.

    >>> import jax.numpy as jnp
    >>> depth = jnp.array([jnp.inf, jnp.nan, 99.0])
    >>> sanitize(depth, max_depth=80.0, min_depth=0.5).tolist()
    [80.0, 0.5, 99.0]
    >>> sanitize(depth, max_depth=80.0, min_depth=0.5, clamp=True).tolist()
    [80.0, 0.5, 80.0]
    """
    check_unit(prediction=prediction)
    prediction = as_float(prediction)
    prediction = jnp.where(jnp.isinf(prediction), max_depth, prediction)
    prediction = jnp.where(jnp.isnan(prediction), min_depth, prediction)
    return jnp.clip(prediction, min_depth, max_depth) if clamp else prediction


def valid_pixels(
    prediction: jax.Array, target: jax.Array, where: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Prediction and target as floats with 1 under the mask, and the mask."""
    check_map("prediction", prediction)
    where = depth_mask(prediction, target, where)
    p, g = (jnp.where(where, x, 1.0) for x in as_floats(prediction, target))
    return p, g, where


def _mean(x: jax.Array, where: jax.Array) -> jax.Array:
    """The mean over the valid pixels of each image; NaN when there is none."""
    total = jnp.sum(jnp.where(where, x, 0.0), axis=(-2, -1))
    return total / jnp.sum(where, axis=(-2, -1), dtype=jnp.int32).astype(total.dtype)
