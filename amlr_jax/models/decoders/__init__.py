"""Decoders: from the features of an encoder to depth in metres, or to disparity.

All take the features of their encoder, fine to coarse, and the size of the image:
`decoder(features, size=(height, width), train=...)`.
"""

from amlr_jax.models.decoders.depth import (
    REFERENCE_KERNEL_STD,
    GradualDecoder,
    SelectiveFusionDecoder,
)
from amlr_jax.models.decoders.disparity import (
    DisparityDecoder,
    FiveLevelDecoder,
    SkipDecoder,
    depth_from_disparity,
    resize_disparity,
)

__all__ = [
    "REFERENCE_KERNEL_STD",
    "DisparityDecoder",
    "FiveLevelDecoder",
    "GradualDecoder",
    "SelectiveFusionDecoder",
    "SkipDecoder",
    "depth_from_disparity",
    "resize_disparity",
]
