"""Depth of a lidar scan in an image, by monodepth2's rule: the Eigen ground truth.

Figures on "KITTI Eigen, raw" are all against this depth, so its known faults are kept:
a pixel is one to the left and above of where it belongs (MATLAB's count from 1), and
the depth is the scanner's forward axis and not the camera's (monodepth2, kitti_utils
and export_gt_depth; issue 274).
"""

import numpy as np
from numpy.typing import ArrayLike

BYTES_OF_A_POINT = 16  # x, y, z, reflectance as float32


def read_scan(data: bytes) -> np.ndarray:
    """The points [N, 3] in metres: x forward, y left, z up. ValueError if cut."""
    if not data or len(data) % BYTES_OF_A_POINT:
        raise ValueError(
            f"{len(data)} bytes; a scan is a multiple of {BYTES_OF_A_POINT} and not 0"
        )
    return np.frombuffer(data, "<f4").reshape(-1, 4)[:, :3]


def lidar_depth(
    points: ArrayLike,
    calibration: ArrayLike,
    shape: tuple[int, int],
    *,
    forward: bool = True,
) -> np.ndarray:
    """The depth map of a scan: nearest point of each pixel, 0 where there is none.

        (a, b, c) = calibration (x, y, z, 1)
        u = round(a / c) - 1,   v = round(b / c) - 1

    Points behind the scanner (x < 0) are left out. Halves round to even.

    Args:
      points: [N, 3] metres, x forward.
      calibration: [3, 4], P_rect R_rect T_velo (`calibration.lidar_projection`).
      shape: height and width of the image.
      forward: the depth is the scanner's x, as in the published figures; else the
        camera's z.

    Returns:
      float32 [H, W] metres.
    """
    points, matrix = np.asarray(points), np.asarray(calibration, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or matrix.shape != (3, 4):
        raise ValueError(
            "`points` must be [N, 3] and `calibration` [3, 4], got shapes "
            f"{points.shape} and {matrix.shape}."
        )
    points = points[points[:, 0] >= 0].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = points @ matrix[:, :3].T + matrix[:, 3]
        pixels = np.round(seen[:, :2] / seen[:, 2:]) - 1
    inside = (pixels >= 0).all(axis=1) & (pixels < np.array(shape[::-1])).all(axis=1)
    columns, rows = pixels[inside].astype(np.int64).T
    depth = (points[:, 0] if forward else seen[:, 2])[inside].astype(np.float32)
    nearest = np.full(shape, np.inf, np.float32)
    np.minimum.at(nearest, (rows, columns), depth)
    return np.where(np.isfinite(nearest), np.maximum(nearest, 0), np.float32(0))
