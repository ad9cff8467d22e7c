"""Which pixels count: the evaluation crops, and the crop of the KITTI benchmark."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

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


def _fractional_crop(
    fractions: tuple[float, float, float, float], height: int, width: int
) -> Crop:
    top, bottom, left, right = fractions
    return Crop(
        slice(int(top * height), int(bottom * height)),
        slice(int(left * width), int(right * width)),
    )


CROPS = {"garg": garg_crop, "eigen": eigen_crop, "nyu": nyu_crop}


def evaluation_mask(height: int, width: int, *, crop: str) -> jax.Array:
    """True inside the named evaluation crop.

    The MIM-Depth protocol takes it on the kb-cropped 352 x 1216 frame, the offline
    protocol of BTS on the original frame.

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
