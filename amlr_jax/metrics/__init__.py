"""Depth metrics, evaluation crops and median scaling; needs jax and nothing else.

Notation: p is the prediction and g the ground truth (target), both [..., H, W] in
metres; a mean is over the valid pixels of one image. Metrics are per image because the
protocols average images, not pixels: the mean over a test set is taken by the caller.
A "metric" with the name of another paper's is often not the same number, so every
formula is spelled out in `depth_metrics`. Results are float32, or float64 if an input
is.
"""

from amlr_jax.metrics.alignment import (
    ALIGNMENTS,
    Aligned,
    align,
    apply_alignment,
    fit_alignment,
)
from amlr_jax.metrics.boundary import (
    BOUNDARY_ERRORS,
    BoundaryErrors,
    boundary_errors,
    boundary_f1,
)
from amlr_jax.metrics.crops import (
    KB_CROP_SHAPE,
    Crop,
    evaluation_crop,
    evaluation_mask,
    kb_crop_offsets,
)
from amlr_jax.metrics.depth import (
    DELTA_NAMES,
    KITTI_MAX_DEPTH,
    KITTI_NAMES,
    METRIC_NAMES,
    MIN_DEPTH,
    NYU_MAX_DEPTH,
    delta_metrics,
    depth_metrics,
    kitti_metrics,
    sanitize,
    valid_mask,
)
from amlr_jax.metrics.scaling import (
    MedianScaled,
    median_scale,
    median_scaled,
    ratio_summary,
)
from amlr_jax.metrics.sparsification import Sparsification, sparsification

__all__ = (
    "ALIGNMENTS",
    "Aligned",
    "BOUNDARY_ERRORS",
    "BoundaryErrors",
    "Crop",
    "DELTA_NAMES",
    "KB_CROP_SHAPE",
    "KITTI_MAX_DEPTH",
    "KITTI_NAMES",
    "METRIC_NAMES",
    "MIN_DEPTH",
    "MedianScaled",
    "NYU_MAX_DEPTH",
    "Sparsification",
    "align",
    "apply_alignment",
    "boundary_errors",
    "boundary_f1",
    "delta_metrics",
    "depth_metrics",
    "evaluation_crop",
    "evaluation_mask",
    "fit_alignment",
    "kb_crop_offsets",
    "kitti_metrics",
    "median_scale",
    "median_scaled",
    "ratio_summary",
    "sanitize",
    "valid_mask",
    "sparsification",
)
