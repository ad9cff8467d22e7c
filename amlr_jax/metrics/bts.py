"""The offline protocol of BTS: predictions pasted back into the original frame."""

import jax
import jax.numpy as jnp

from amlr_jax.metrics.crops import KB_CROP_SHAPE, evaluation_mask, kb_crop_offsets
from amlr_jax.metrics.depth import (
    KITTI_MAX_DEPTH,
    MIN_DEPTH,
    depth_metrics,
    sanitize,
    valid_mask,
)


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
