"""Depth metrics, evaluation crops and median scaling; needs jax and nothing else.

Notation: p is the prediction and g the ground truth (target), both [..., H, W] in
metres; a mean is over the valid pixels of one image. Metrics are per image because the
protocols average images, not pixels: the mean over a test set is taken by the caller.
A "metric" with the name of another paper's is often not the same number, so every
formula is spelled out in `depth_metrics`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

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

MIN_DEPTH = 1e-3  # metres; the lower bound of every protocol here
KITTI_MAX_DEPTH = 80.0  # metres
KITTI_NEAR_MAX_DEPTH = 50.0  # metres; the second cap of Garg et al.'s tables
NYU_MAX_DEPTH = 10.0  # metres

# Fractions of (height, width): top, bottom, left, right. Garg et al., ECCV 2016, and
# Eigen et al., NeurIPS 2014, as literals since monodepth; truncated, not rounded.
GARG_CROP = (0.40810811, 0.99189189, 0.03594771, 0.96405229)
EIGEN_CROP = (0.3324324, 0.91351351, 0.0359477, 0.96405229)
# Pixels of the 480 x 640 frame, from Eigen et al.; used by BTS, GLPDepth, MIM-Depth.
NYU_CROP = (45, 471, 41, 601)
NYU_SHAPE = (480, 640)
# The KITTI benchmark's crop (bottom of the frame, centred), (height, width).
KB_CROP_SHAPE = (352, 1216)


class Crop(NamedTuple):
    """Two slices; cut with `depth[..., crop.rows, crop.columns]`."""

    rows: slice
    columns: slice


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

    The KITTI devkit differs: sq_rel divides by g^2, silog has 1 for 0.5 and others
    multiply it by 100. The AMLR paper prints rmse_log with log10, but its
    values are natural ones.

    Nothing is repaired: a prediction of 0 or NaN at a valid pixel gives an infinite or
    NaN error (see `sanitize`). An image without a valid pixel has no
    error: every metric is NaN there, and the evaluation has to leave the image out
    and say so. Values under the mask are never looked at.

    Args:
      prediction: [..., H, W] metres, > 0.
      target: [..., H, W] metres, > 0 where valid.
      where: boolean [..., H, W], True = valid; None = every pixel.

    Returns:
      name -> float32 [...], the names and order of METRIC_NAMES.

    Raises:
      ValueError: shapes differ, or there are fewer than two axes.
      TypeError: `where` is not boolean.

    >>> import jax.numpy as jnp
    >>> errors = depth_metrics(jnp.full((1, 1), 3.0), jnp.full((1, 1), 2.0))
    >>> float(errors["abs_rel"]), float(errors["sq_rel"]), float(errors["d2"])
    (0.5, 0.5, 1.0)
    """
    p, g, where = _valid_pixels(prediction, target, where)
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
        "log10": _mean(jnp.abs(d), where) / np.float32(np.log(10.0)),
        "silog": jnp.sqrt(spread + 0.5 * jnp.square(bias)),
        "d1": _mean(ratio < 1.25, where),
        "d2": _mean(ratio < 1.25**2, where),
        "d3": _mean(ratio < 1.25**3, where),
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
      max_depth: metres; KITTI_MAX_DEPTH, KITTI_NEAR_MAX_DEPTH or NYU_MAX_DEPTH.
      min_depth: metres.

    Returns:
      Boolean, shape of `target`.

    >>> import jax.numpy as jnp
    >>> valid_mask(jnp.array([0.0, 0.001, 5.0, 80.0]), max_depth=80.0).tolist()
    [False, False, True, False]
    """
    target = jnp.asarray(target, jnp.float32)
    return (target > min_depth) & (target < max_depth)


def sanitize(
    prediction: jax.Array,
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
      float32, shape of `prediction`.

    >>> import jax.numpy as jnp
    >>> depth = jnp.array([jnp.inf, jnp.nan, 99.0])
    >>> sanitize(depth, max_depth=80.0, min_depth=0.5).tolist()
    [80.0, 0.5, 99.0]
    >>> sanitize(depth, max_depth=80.0, min_depth=0.5, clamp=True).tolist()
    [80.0, 0.5, 80.0]
    """
    prediction = jnp.asarray(prediction, jnp.float32)
    prediction = jnp.where(jnp.isinf(prediction), max_depth, prediction)
    prediction = jnp.where(jnp.isnan(prediction), min_depth, prediction)
    return jnp.clip(prediction, min_depth, max_depth) if clamp else prediction


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
      float32 [...]; NaN for an image without a valid pixel.

    Raises:
      ValueError, TypeError: as `depth_metrics`.

    >>> import jax.numpy as jnp
    >>> float(median_scale(jnp.full((2, 2), 0.5), jnp.full((2, 2), 4.0)))
    8.0
    """
    p, g, where = _valid_pixels(prediction, target, where)
    return _median(g, where) / _median(p, where)


class MedianScaled(NamedTuple):
    """A prediction brought to the scale of its ground truth, and the factor."""

    prediction: jax.Array  # float32 [..., H, W] metres, clamped
    ratio: jax.Array  # float32 [...]


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
    scaled = prediction * ratio[..., None, None]
    return MedianScaled(jnp.clip(scaled, min_depth, max_depth), ratio)


def ratio_summary(ratios: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The median of the ratios of a test set, and their relative spread.

        median(r),   std(r / median(r))      population standard deviation

    monodepth2 prints both: a small spread means that all depth maps have one scale.

    Args:
      ratios: `median_scale` of each image, [N]; NaN (an image without a valid pixel)
        is left out.

    Returns:
      Two float32 scalars; NaN when there is no ratio.

    >>> import jax.numpy as jnp
    >>> median, spread = ratio_summary(jnp.array([30.0, 20.0, 40.0, jnp.nan]))
    >>> float(median), round(float(spread), 4)
    (30.0, 0.2722)
    """
    ratios = jnp.asarray(ratios, jnp.float32)
    median = jnp.nanmedian(ratios)
    return median, jnp.nanstd(ratios / median)


def garg_crop(height: int, width: int) -> Crop:
    """The crop of Garg et al., for KITTI.

    >>> garg_crop(352, 1216)
    Crop(rows=slice(143, 349, None), columns=slice(43, 1172, None))
    """
    return _fractional_crop(GARG_CROP, height, width)


def eigen_crop(height: int, width: int) -> Crop:
    """The crop of Eigen et al., for KITTI.

    >>> eigen_crop(352, 1216)
    Crop(rows=slice(117, 321, None), columns=slice(43, 1172, None))
    """
    return _fractional_crop(EIGEN_CROP, height, width)


def nyu_crop(height: int, width: int) -> Crop:
    """The crop of Eigen et al., for NYUv2; defined on the 480 x 640 frame only.

    Raises:
      ValueError: another frame.

    >>> nyu_crop(480, 640)
    Crop(rows=slice(45, 471, None), columns=slice(41, 601, None))
    """
    if (height, width) != NYU_SHAPE:
        raise ValueError(
            f"The NYU crop is defined for {NYU_SHAPE} (height, width), got "
            f"({height}, {width})."
        )
    top, bottom, left, right = NYU_CROP
    return Crop(slice(top, bottom), slice(left, right))


def kb_crop_offsets(height: int, width: int) -> tuple[int, int]:
    """Top and left of the 352 x 1216 crop of the KITTI benchmark in a larger frame.

    Raises:
      ValueError: the frame is smaller than the crop.

    >>> kb_crop_offsets(375, 1242)
    (23, 13)
    """
    crop_height, crop_width = KB_CROP_SHAPE
    if height < crop_height or width < crop_width:
        raise ValueError(
            f"The frame must be at least {KB_CROP_SHAPE} (height, width), got "
            f"({height}, {width})."
        )
    return height - crop_height, (width - crop_width) // 2


CROPS = {"garg": garg_crop, "eigen": eigen_crop, "nyu": nyu_crop}


def evaluation_mask(height: int, width: int, *, crop: str) -> jax.Array:
    """True inside the named evaluation crop.

    The MIM-Depth protocol takes it on the kb-cropped 352 x 1216 frame. The offline
    protocol of BTS takes it on the original frame instead, see `bts_offline_metrics`.

    Args:
      height: of the frame, pixels.
      width: of the frame, pixels.
      crop: "garg", "eigen", "nyu" or "none".

    Returns:
      Boolean [height, width].

    Raises:
      ValueError: an unknown crop, or one that is not defined on this frame.

    >>> int(evaluation_mask(352, 1216, crop="garg").sum()) == 206 * 1129
    True
    """
    if crop == "none":
        return jnp.ones((height, width), bool)
    if crop not in CROPS:
        raise ValueError(f"`crop` must be one of {[*CROPS, 'none']}, got {crop!r}.")
    mask = np.zeros((height, width), bool)
    mask[CROPS[crop](height, width)] = True
    return jnp.asarray(mask)


def paste_into_frame(prediction: jax.Array, *, height: int, width: int) -> jax.Array:
    """The 352 x 1216 prediction back in the frame it was cut from, zeros around it.

    Args:
      prediction: [..., 352, 1216] metres.
      height: of the original frame, pixels.
      width: of the original frame, pixels.

    Returns:
      float32 [..., height, width].

    Raises:
      ValueError: `prediction` is not of the benchmark's size, or the frame is smaller.

    >>> import jax.numpy as jnp
    >>> frame = paste_into_frame(jnp.ones((352, 1216)), height=375, width=1242)
    >>> frame.shape, float(frame[22, 13]), float(frame[23, 13])
    ((375, 1242), 0.0, 1.0)
    """
    prediction = jnp.asarray(prediction, jnp.float32)
    if prediction.shape[-2:] != KB_CROP_SHAPE:
        raise ValueError(
            f"`prediction` must be [..., {KB_CROP_SHAPE[0]}, {KB_CROP_SHAPE[1]}], got "
            f"shape {prediction.shape}."
        )
    top, left = kb_crop_offsets(height, width)
    bottom, right = height - top - KB_CROP_SHAPE[0], width - left - KB_CROP_SHAPE[1]
    around = [(0, 0)] * (prediction.ndim - 2) + [(top, bottom), (left, right)]
    return jnp.pad(prediction, around)


def bts_offline_metrics(
    prediction: jax.Array,
    target: jax.Array,
    *,
    crop: str = "garg",
    max_depth: float = KITTI_MAX_DEPTH,
    min_depth: float = MIN_DEPTH,
) -> dict[str, jax.Array]:
    """`depth_metrics` as BTS's offline evaluation of KITTI takes them.

    The network saw the 352 x 1216 crop; its prediction is pasted back into the original
    frame and clamped to [min_depth, max_depth], and the crop is that of the original
    frame: Garg rows 153:371 and columns 44:1197 of 375 x 1242. The MIM-Depth way
    instead crops the ground truth as well (rows 166:372, columns 56:1185 of the same
    frame), so the two measure different pixels. Pixels within `crop` but outside
    the pasted prediction, of which Garg and Eigen have none, count as min_depth.

    Args:
      prediction: [..., 352, 1216] metres.
      target: of the original frame, [..., H, W] metres, 0 = no measurement.
      crop: "garg", "eigen" or "none".
      max_depth: metres; exclusive for the target, inclusive for the prediction.
      min_depth: metres, likewise.

    Returns:
      name -> float32 [...], the names and order of METRIC_NAMES.

    Raises:
      ValueError: a shape does not fit, or the crop is unknown.

    >>> import jax.numpy as jnp
    >>> target = jnp.full((375, 1242), 10.0)
    >>> values = bts_offline_metrics(jnp.full((352, 1216), 11.0), target)
    >>> round(float(values["abs_rel"]), 4)
    0.1
    """
    height, width = jnp.shape(target)[-2:]
    frame = paste_into_frame(prediction, height=height, width=width)
    frame = sanitize(frame, max_depth=max_depth, min_depth=min_depth, clamp=True)
    where = valid_mask(target, max_depth=max_depth, min_depth=min_depth)
    where &= evaluation_mask(height, width, crop=crop)
    return depth_metrics(frame, target, where=where)


def _fractional_crop(
    fractions: tuple[float, float, float, float], height: int, width: int
) -> Crop:
    top, bottom, left, right = fractions
    return Crop(
        slice(int(top * height), int(bottom * height)),
        slice(int(left * width), int(right * width)),
    )


def _valid_pixels(
    prediction: jax.Array, target: jax.Array, where: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Prediction and target in float32 with 1 under the mask, and the mask."""
    shape = jnp.shape(prediction)
    where = jnp.ones(shape, bool) if where is None else jnp.asarray(where)
    if where.dtype != jnp.bool_:
        raise TypeError(f"`where` must be boolean, got dtype {where.dtype}.")
    if len(shape) < 2 or not shape == jnp.shape(target) == where.shape:
        raise ValueError(
            "`prediction`, `target` and `where` must have one shape [..., H, W], got "
            f"{shape}, {jnp.shape(target)} and {where.shape}."
        )
    prediction = jnp.where(where, jnp.asarray(prediction, jnp.float32), 1.0)
    return prediction, jnp.where(where, jnp.asarray(target, jnp.float32), 1.0), where


def _mean(x: jax.Array, where: jax.Array) -> jax.Array:
    """The mean over the valid pixels of each image; NaN when there is none."""
    x = jnp.where(where, x.astype(jnp.float32), 0.0)
    total = jnp.sum(x, axis=(-2, -1))
    return total / jnp.sum(where, axis=(-2, -1), dtype=jnp.int32)


def _median(x: jax.Array, where: jax.Array) -> jax.Array:
    """The median over the valid pixels of each image; NaN when there is none."""
    return jnp.nanmedian(jnp.where(where, x, jnp.nan), axis=(-2, -1))
