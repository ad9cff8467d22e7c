"""Losses as pure functions on arrays; needs jax and nothing else.

Each returns one unweighted float32 scalar. `where=` masks are boolean, options are
keyword-only, and value and gradient are finite on every degenerate input that the
docstrings name. Weights meet losses in `amlr_jax.rebalance.weighted_total` only.
"""

from amlr_jax.losses.depth import gradient_loss, scale_invariant_loss, silog_loss
from amlr_jax.losses.masked import masked_mean, masked_variance

__all__ = (
    "gradient_loss",
    "masked_mean",
    "masked_variance",
    "scale_invariant_loss",
    "silog_loss",
)
