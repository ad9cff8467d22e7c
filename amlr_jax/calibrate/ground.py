"""The height of the camera over the road, in the unit of a predicted depth map."""

import math

import numpy as np

from amlr_jax.data.frames import Camera

# Of the image, where the road is: rows from here to the bottom, columns between.
TOP, LEFT, RIGHT = 0.6, 0.3, 0.7
STEP = 4  # pixels from point to point
ITERATIONS = 30
SMALLEST = 1e-4  # residual, relative to the depth: bounds the weights
MOST_TILT = 20.0  # degrees between the plane and the camera's axes
MOST_RESIDUAL = 0.03  # median, relative to the depth; a wall has twice that or more


def height(depth: np.ndarray, camera: Camera) -> float:
    """The distance from the camera to the plane at the bottom of the image.

    The points (x, y, z) of the lower 40 % of the rows and the middle 40 % of the
    columns are fitted by y = a x + b z + c with the least sum of |residual| / z, by
    iteratively reweighted least squares, so that a car or a kerb does not matter:

        height = c / sqrt(1 + a^2 + b^2)

    Args:
      depth: [H, W] > 0.
      camera: fx, fy, cx, cy in pixels.

    Returns:
      The height in the unit of `depth`; NaN for what is no road: a plane above the
      camera, tilted by more than 20 degrees, or with a median |residual| / z above 3 %.
    """
    rows, columns = depth.shape
    fx, fy, cx, cy = camera
    v, u = np.mgrid[
        int(TOP * rows) : rows : STEP, int(LEFT * columns) : int(RIGHT * columns) : STEP
    ]
    z = depth[v, u].astype(np.float64).ravel()
    x, y = (u.ravel() - cx) / fx * z, (v.ravel() - cy) / fy * z
    table = np.stack([x, z, np.ones_like(z)], axis=1)
    weight = 1 / z
    for _ in range(ITERATIONS):
        root = np.sqrt(weight)
        plane = np.linalg.lstsq(table * root[:, None], y * root, rcond=None)[0]
        residual = np.abs(table @ plane - y)
        weight = 1 / (z * np.maximum(residual, SMALLEST * z))
    a, b, c = map(float, plane)
    tilt = math.degrees(math.atan(math.hypot(a, b)))
    found = c / math.sqrt(1 + a * a + b * b)
    is_flat = np.median(residual / z) <= MOST_RESIDUAL
    return found if found > 0 and tilt <= MOST_TILT and is_flat else math.nan
