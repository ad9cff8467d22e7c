"""One frame of a drive: pictures, lidar, annotated depth, pose, and the exact truth."""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from amlr_jax.street import rig
from amlr_jax.street.render import Rays, cast, photograph
from amlr_jax.street.scene import StreetDrive, frame_scene
from amlr_jax.street.textures import paint_atlas

Array = np.ndarray

# Elevations of a Velodyne HDL-64E: 32 lasers a third of a degree apart, 32 a half.
ELEVATION = np.radians(
    np.concatenate([2.0 - np.arange(32) / 3, -8.83 - 0.5187 * np.arange(32)])
)
TURN = 2000  # azimuths of a turn, 0.18 degrees apart
LIDAR_RANGE = 100.0  # metres; real returns end at 120, most far earlier
RANGE_NOISE = 0.012  # metres, standard deviation
LOST = 0.06  # share of returns that never come back

ANNOTATION_SCANS = 2  # frames before and after the one that is annotated
ANNOTATION_RANGE = 85.0  # metres
AGREEMENT = 0.05  # relative difference from the true depth that a point may have


class Truth(NamedTuple):
    """What a camera sees, without error.

    Attributes:
      depth: float32 [375, 1242], metres along the optical axis at pixel centres; inf
        where the picture shows the sky.
      world_from_cam: float64 [4, 4] pose of the rectified camera.
      moving: bool [375, 1242], pixels of cars that move.
    """

    depth: Array
    world_from_cam: Array
    moving: Array


def exact(drive: int, frame: int, *, seed: int = 0, camera: str = "image_02") -> Truth:
    """The `Truth` of a frame that `generate` writes with the same seed.

    Args:
      drive: number of the drive, from 1.
      frame: number of the frame, from 0.
      seed: as given to `generate`.
      camera: "image_02" (left) or "image_03" (right).
    """
    if camera not in rig.CAMERAS:
        raise ValueError(f"camera must be one of {rig.CAMERAS}, got {camera!r}")
    return _look(seed, drive, frame, camera)[2]


def _look(seed: int, drive: int, frame: int, camera: str) -> tuple[Rays, tuple, Truth]:
    """The camera's rays, what `cast` returns for them, and the `Truth`."""
    street = frame_scene(seed, drive, frame)
    velo = rig.world_from_velo(StreetDrive(seed, drive), frame)
    pose = velo @ np.linalg.inv(rig.cam_from_velo(camera))
    x = (np.arange(rig.WIDTH) - rig.CX) / rig.FOCAL
    y = (np.arange(rig.HEIGHT) - rig.CY) / rig.FOCAL
    across = np.stack([np.ones_like(x), x], axis=1)
    rays = Rays(pose[:3, 3], pose[:3, [2, 0, 1]].T, across, y)
    nearness, face = cast(rays, street)
    moving = street.moving.take(face, mode="clip") & (face >= 0)
    with np.errstate(divide="ignore"):
        truth = Truth(np.float32(1) / nearness, pose, moving)
    return rays, (nearness, face), truth


@lru_cache(maxsize=12)
def _scan(seed: int, drive: int, frame: int) -> Array:
    """The lidar's points of a turn, which takes no time, from where it stands.

    Returns:
      float32 [n, 4]: x, y, z in metres in the sensor's frame, reflectance in [0, 1).
    """
    rng = np.random.default_rng([seed, drive, 6, frame + (1 << 20)])
    street = frame_scene(seed, drive, frame)
    pose = rig.world_from_velo(StreetDrive(seed, drive), frame)
    azimuth = (np.arange(TURN) + 0.5) / TURN * 2 * np.pi - np.pi  # to the right
    across = np.stack([np.cos(azimuth), np.sin(azimuth)], axis=1)
    axes = pose[:3, :3].T * [[1], [-1], [-1]]
    rays = Rays(pose[:3, 3], axes, across, -np.tan(ELEVATION))
    nearness, face = cast(rays, street)
    row, col = np.nonzero((face >= 0) & (rng.random(face.shape) >= LOST))
    face, ray = face[row, col], np.column_stack([across[col], rays.drop[row]])
    length = np.linalg.norm(ray, axis=1)
    reach = length / nearness[row, col] + RANGE_NOISE * rng.standard_normal(len(row))
    points = ray * [1, -1, -1] * (reach / length)[:, None]
    slant = np.abs(((ray @ axes) * street.planes[face, :3]).sum(axis=1)) / length
    value = street.tint[face].mean(axis=1) * (0.2 + 0.3 * slant)
    value = np.clip(value * (1 + 0.2 * rng.standard_normal(len(row))), 0, 0.99)
    # The real files hold millimetres and hundredths.
    points = np.column_stack([points.round(3), value.round(2)])
    return points[reach < LIDAR_RANGE].astype(np.float32)


def _annotate(seed: int, drive: int, frame: int, truth: Truth) -> Array:
    """Sparse depth as in KITTI's accumulated annotation.

    Points of several scans are projected into the camera. A point counts where it
    agrees with the surface that the pixel really shows, the part that stereo plays
    in the making of KITTI's annotation: it removes cars that have moved on and
    points that the camera cannot see. The pixel then holds the exact depth at its
    centre, not the point's, which is up to half a pixel beside it.

    Returns:
      uint16 [rows, columns], metres * 256, 0 = no measurement.
    """
    seen = np.zeros(truth.depth.shape, bool)
    for k in range(frame - ANNOTATION_SCANS, frame + ANNOTATION_SCANS + 1):
        velo = rig.world_from_velo(StreetDrive(seed, drive), k)
        cam_from_velo = np.linalg.solve(truth.world_from_cam, velo)
        points = _scan(seed, drive, k)[:, :3].astype(float)
        points = points[points[:, 0] > 1.0]  # ahead, as all that the camera sees
        x, y, z = cam_from_velo[:3, :3] @ points.T + cam_from_velo[:3, 3:]
        col = np.rint(x / z * rig.FOCAL + rig.CX).astype(int)
        row = np.rint(y / z * rig.FOCAL + rig.CY).astype(int)
        inside = (col >= 0) & (col < rig.WIDTH) & (row >= 0) & (row < rig.HEIGHT)
        row, col, z = row[inside], col[inside], z[inside]
        close = np.abs(z - truth.depth[row, col]) < AGREEMENT * z
        seen[row[close], col[close]] = True
    seen &= truth.depth < ANNOTATION_RANGE
    return np.round(np.where(seen, truth.depth, 0) * 256).astype(np.uint16)


_atlas = lru_cache(maxsize=1)(paint_atlas)  # the same for all drives


def render(seed: int, drive: int, frame: int) -> dict[str, bytes]:
    """A frame's files: name within KITTI's folder of the drive -> content."""
    name, style = f"{frame:010d}", StreetDrive(seed, drive)
    files = {
        f"oxts/data/{name}.txt": rig.oxts(style, frame).encode(),
        f"velodyne_points/data/{name}.bin": _scan(seed, drive, frame).tobytes(),
    }
    street = frame_scene(seed, drive, frame)
    for k, camera in enumerate(rig.CAMERAS):
        rays, hits, truth = _look(seed, drive, frame, camera)
        rng = np.random.default_rng([seed, drive, 7, frame, k])
        noise = rng.standard_normal((*truth.depth.shape, 3), dtype=np.float32)
        picture = photograph(rays, hits, street, style, _atlas(seed), noise)
        files[f"{camera}/data/{name}.png"] = _png(picture[..., ::-1])
        depth = _png(_annotate(seed, drive, frame, truth))
        files[f"proj_depth/groundtruth/{camera}/{name}.png"] = depth
    return files


def _png(array: Array) -> bytes:
    level = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    return cv2.imencode(".png", array, level)[1].tobytes()
