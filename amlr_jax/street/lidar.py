"""The spinning lidar, and the annotated depth that several of its sweeps make."""

from typing import NamedTuple

import numpy as np

from amlr_jax.street import rig
from amlr_jax.street.cast import cast
from amlr_jax.street.grids import Sweep

# Elevations of a Velodyne HDL-64E: 32 lasers a third of a degree apart, 32 a half.
ELEVATION = np.radians(
    np.concatenate([2.0 - np.arange(32) / 3, -8.83 - 0.5187 * np.arange(32)])
)
COLUMNS = 2000  # azimuths a turn, 0.18 degrees
REACH = 100.0  # metres; real returns end at 120, most far earlier
RANGE_NOISE = 0.012  # metres, standard deviation
LOST = 0.06  # share of returns that never come back

ANNOTATION_SWEEPS = range(-2, 3)  # frames around the one that is annotated
ANNOTATION_REACH = 85.0  # metres
AGREEMENT = 0.05  # relative difference from the true depth that a point may have


class Scan(NamedTuple):
    """A turn of the lidar: points float32 [n, 4] (x, y, z in metres, reflectance) in
    the sensor's frame, and that frame's pose [4, 4] in the world."""

    points: np.ndarray
    world_from_velo: np.ndarray


def scan(scene, world_from_velo, rng):
    """Casts a turn of the lidar from where it stands; the turn takes no time."""
    azimuth = (np.arange(COLUMNS) + 0.5) / COLUMNS * 2 * np.pi - np.pi
    origin, rotation = world_from_velo[:3, 3], world_from_velo[:3, :3]
    sweep = Sweep(origin, rotation, azimuth, ELEVATION)
    hits = cast(sweep, scene, shape=(len(ELEVATION), COLUMNS))
    row, col = np.nonzero(hits.face >= 0)
    back = rng.random(len(row)) >= LOST
    row, col = row[back], col[back]
    flat = np.stack(
        [np.cos(azimuth[col]), np.sin(azimuth[col]), np.tan(ELEVATION[row])], axis=1
    )
    length = np.linalg.norm(flat, axis=1)
    reach = length / hits.nearness[row, col]
    reflectance = _reflectance(scene, hits.face[row, col], flat / length[:, None],
                               rotation, rng)  # fmt: skip
    reach = reach + RANGE_NOISE * rng.standard_normal(len(reach))
    points = flat * (reach / length)[:, None]
    near = reach < REACH
    # The real files hold millimetres and hundredths.
    points = np.column_stack([points.round(3), reflectance.round(2)])
    return Scan(points[near].astype(np.float32), world_from_velo)


def _reflectance(scene, face, ray, rotation, rng):
    table = scene.surfaces()
    facing = np.abs(np.sum(table.normal[face] * (ray @ rotation.T), axis=1))
    facing = np.where(face < len(scene.planes), facing, 0.7)
    value = table.reflectance[face] * (0.4 + 0.6 * facing)
    return np.clip(value * (1 + 0.2 * rng.standard_normal(len(face))), 0, 0.99)


def annotate(scans, truth, world_from_cam):
    """Sparse depth as in KITTI's accumulated annotation.

    Points of several sweeps are projected into the camera. A point counts where it
    agrees with the surface that the pixel really shows, the part that stereo plays
    in the making of KITTI's annotation: it removes cars that have moved on and
    points that the camera cannot see. The pixel then holds the exact depth at its
    centre, not the point's, which is up to half a pixel beside it.

    Args:
      scans: list of `Scan`.
      truth: float [rows, columns], exact depth in metres, inf where nothing is.
      world_from_cam: pose [4, 4] of the rectified camera.

    Returns:
      uint16 [rows, columns], metres * 256, 0 = no measurement.
    """
    seen = np.zeros(truth.shape, bool)
    for one in scans:
        cam_from_velo = np.linalg.inv(world_from_cam) @ one.world_from_velo
        row, col, depth = project(one.points[:, :3], cam_from_velo)
        close = np.abs(depth - truth[row, col]) < AGREEMENT * depth
        seen[row[close], col[close]] = True
    seen &= truth < ANNOTATION_REACH
    codes = np.round(np.where(seen, truth, 0) * 256)
    return codes.astype(np.uint16)


def project(points, cam_from_velo):
    """Pixels (row, column) and depth of those points [n, 3] that the picture shows."""
    # Cheap first: most points of a turn lie outside a camera's 81 degrees.
    points = points[np.abs(points[:, 1]) < 1.2 * points[:, 0] + 3.0].astype(float)
    x, y, z = cam_from_velo[:3, :3] @ points.T + cam_from_velo[:3, 3:]
    ahead = z > 1.0
    x, y, z = x[ahead], y[ahead], z[ahead]
    col = np.rint(x / z * rig.FOCAL + rig.CX).astype(int)
    row = np.rint(y / z * rig.FOCAL + rig.CY).astype(int)
    inside = (col >= 0) & (col < rig.WIDTH) & (row >= 0) & (row < rig.HEIGHT)
    return row[inside], col[inside], z[inside]
