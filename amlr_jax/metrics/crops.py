"""Which pixels count: the evaluation crops, and the crop of the KITTI benchmark."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Fractions of (height, width): top, bottom, left, right. Garg et al., ECCV 2016, and
# Eigen et al., NeurIPS 2014, as literals since monodepth; truncated, not rounded.
_FRACTIONS = {
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    "eigen": (0.3324324, 0.91351351, 0.0359477, 0.96405229),
    "none": (0.0, 1.0, 0.0, 1.0),
}
# Pixels of the 480 x 640 frame, from Eigen et al.; used by BTS, GLPDepth, MIM-Depth.
_NYU_CROP = (45, 471, 41, 601)
_NYU_SHAPE = (480, 640)
# The KITTI benchmark's crop (bottom of the frame, centred), (height, width).
KB_CROP_SHAPE = (352, 1216)


class Crop(NamedTuple):
    """Two slices; cut with `depth[..., crop.rows, crop.columns]`."""

    rows: slice
    columns: slice


def evaluation_crop(height: int, width: int, *, crop: str) -> Crop:
    """The named evaluation crop of a frame.

    Those of Garg et al. and Eigen et al. are for KITTI, that of Eigen et al. for NYUv2
    is defined on the 480 x 640 frame only. The MIM-Depth protocol takes the crop of the
    kb-cropped 352 x 1216 frame, the offline protocol of BTS that of the original frame.

    Args:
      height: of the frame, pixels.
      width: of the frame, pixels.
      crop: "garg", "eigen", "nyu" or "none".

    Raises:
      ValueError: an unknown crop, or one that is not defined on this frame.

    >>> evaluation_crop(352, 1216, crop="garg")
    Crop(rows=slice(143, 349, None), columns=slice(43, 1172, None))
    """
    if crop not in ("nyu", *_FRACTIONS):
        known = ["garg", "eigen", "nyu", "none"]
        raise ValueError(f"`crop` must be one of {known}, got {crop!r}.")
    if crop != "nyu":
        sizes = zip(_FRACTIONS[crop], (height, height, width, width), strict=True)
        top, bottom, left, right = (int(part * size) for part, size in sizes)
    elif (height, width) == _NYU_SHAPE:
        top, bottom, left, right = _NYU_CROP
    else:
        raise ValueError(
            f"The NYU crop is defined for {_NYU_SHAPE} (height, width), got "
            f"({height}, {width})."
        )
    return Crop(slice(top, bottom), slice(left, right))


def evaluation_mask(height: int, width: int, *, crop: str) -> jax.Array:
    """Boolean [height, width], True inside the `evaluation_crop` of these arguments.

    >>> int(evaluation_mask(352, 1216, crop="garg").sum()) == 206 * 1129
    True
    """
    mask = np.zeros((height, width), bool)
    mask[evaluation_crop(height, width, crop=crop)] = True
    return jnp.asarray(mask)


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
