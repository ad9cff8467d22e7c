"""Intrinsics after a crop, a resize and a flip, in NumPy for loading processes.

Intrinsics are fx, fy, cx, cy in pixels, float64 [..., 4]. Pixel centres are at whole
numbers: (0, 0) is the centre of the first pixel, an image covers [-0.5, W - 0.5], as in
`amlr_jax.geometry`.
"""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

KEYS = ("fx", "fy", "cx", "cy")  # in JSON files


def camera_of(values: Iterable) -> tuple[float, float, float, float] | None:
    """fx, fy, cx, cy of four numbers or texts; None unless finite and fx, fy > 0."""
    try:
        fx, fy, cx, cy = map(float, values)
    except (TypeError, ValueError):
        return None
    good = all(map(math.isfinite, (fx, fy, cx, cy))) and min(fx, fy) > 0
    return (fx, fy, cx, cy) if good else None


def crop_intrinsics(intrinsics: ArrayLike, *, top: int, left: int) -> np.ndarray:
    """Intrinsics of `image[top:, left:]`: cx' = cx - left, cy' = cy - top."""
    return np.asarray(intrinsics, np.float64) - np.array([0.0, 0.0, left, top])


def resize_intrinsics(
    intrinsics: ArrayLike, *, before: tuple[int, int], after: tuple[int, int]
) -> np.ndarray:
    """Intrinsics of the image resized from (height, width) `before` to `after`.

        f' = s f,   c' = s (c + 0.5) - 0.5,   s = after / before

    The half pixel is needed because OpenCV and Pillow align the image's outer edges,
    not the centres of its first and last pixels.
    """
    sy, sx = (new / old for new, old in zip(after, before, strict=True))
    camera, half = np.asarray(intrinsics, np.float64), np.array([0.0, 0.0, 0.5, 0.5])
    return (camera + half) * np.array([sx, sy, sx, sy]) - half


def flip_intrinsics(intrinsics: ArrayLike, *, width: int) -> np.ndarray:
    """Intrinsics of the mirrored image `image[:, ::-1]`: cx' = W - 1 - cx.

    A flip mirrors x: a translation (x, y, z) to another mirrored view becomes
    (-x, y, z), so that the left camera of a stereo pair becomes the right one.
    """
    fx, fy, cx, cy = np.moveaxis(np.asarray(intrinsics, np.float64), -1, 0)
    return np.stack([fx, fy, width - 1 - cx, cy], axis=-1)
