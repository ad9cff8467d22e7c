"""Losses as pure functions on arrays; needs jax and nothing else.

Each `*_loss` returns one unweighted scalar, each `*_error` a map; both are float32, or
float64 if an input is (with `jax_enable_x64`). `where=` masks are boolean, options are
keyword-only, and value and gradient are finite on every degenerate input that the
docstrings name. An array whose shape or dtype shows another layout or unit is refused.
Only `amlr_jax.rebalance.weighted_total` multiplies losses by weights.
"""

from amlr_jax.losses.depth import gradient_loss, scale_invariant_loss, silog_loss
from amlr_jax.losses.masked import masked_mean, masked_variance
from amlr_jax.losses.photometric import (
    Reprojection,
    minimum_reprojection,
    photometric_components,
    photometric_error,
    select_components,
)
from amlr_jax.losses.pointwise import berhu_loss, l1_loss, log_l1_loss
from amlr_jax.losses.smoothness import smoothness_loss
from amlr_jax.losses.ssim import (
    additive_ssim_error,
    additive_ssim_loss,
    multiplicative_ssim_error,
    multiplicative_ssim_loss,
    ssim,
    ssim_components,
    ssim_error,
    ssim_loss,
)

__all__ = (
    "Reprojection",
    "additive_ssim_error",
    "additive_ssim_loss",
    "berhu_loss",
    "gradient_loss",
    "l1_loss",
    "log_l1_loss",
    "masked_mean",
    "masked_variance",
    "minimum_reprojection",
    "multiplicative_ssim_error",
    "multiplicative_ssim_loss",
    "photometric_components",
    "photometric_error",
    "scale_invariant_loss",
    "select_components",
    "silog_loss",
    "smoothness_loss",
    "ssim",
    "ssim_components",
    "ssim_error",
    "ssim_loss",
)
