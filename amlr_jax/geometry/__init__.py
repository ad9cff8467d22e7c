"""Cameras and rigid motions as pure functions on arrays; needs jax and nothing else.

Conventions, the same in every function:

- Camera frame: x right, y down, z forward, in metres.
- Pixels: (u, v) = (column, row), and the centre of pixel [row, column] is exactly
  (column, row), so (0, 0) is the centre of the first pixel and (W - 1, H - 1) that of
  the last: the "align corners" convention. An image covers [-0.5, W - 0.5].
- Intrinsics: fx, fy, cx, cy in those pixels as [..., 4], or a matrix [..., 3, 3] of
  which only these four entries are read (no skew).
- A pose is [..., 4, 4]; `a_from_b` takes points of frame b to frame a, so that
  `a_from_b @ b_from_c` is a_from_c. Its last row is never read.
- Leading axes are batch axes. Those of intrinsics and poses must be the first axes of
  what they are applied to: none (one for all), all of them, or the first few. Nothing
  else broadcasts; what does not fit is a ValueError.

Every function computes and returns float32, or float64 if an input is. A pixel without
a result (NaN or infinite depth, a point behind the camera) is marked, has gradient 0,
and changes neither the other pixels nor the gradient of the pose.
"""

from amlr_jax.geometry.bundle_adjustment import Adjusted, bundle_adjustment
from amlr_jax.geometry.camera import (
    backproject,
    project,
    transform,
)
from amlr_jax.geometry.flow import (
    correlation,
    flow_consistency,
    flow_matches,
    flow_visibility,
    flow_warp,
)
from amlr_jax.geometry.rigid import (
    inverse_pose,
    pose_from_axis_angle,
    rotation_from_axis_angle,
)
from amlr_jax.geometry.sampling import bilinear_sample, in_image
from amlr_jax.geometry.warping import Warped, reproject, warp

__all__ = (
    "Adjusted",
    "Warped",
    "backproject",
    "bilinear_sample",
    "bundle_adjustment",
    "flow_consistency",
    "correlation",
    "flow_warp",
    "in_image",
    "inverse_pose",
    "flow_matches",
    "pose_from_axis_angle",
    "project",
    "reproject",
    "rotation_from_axis_angle",
    "transform",
    "flow_visibility",
    "warp",
)
