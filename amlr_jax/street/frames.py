"""One frame of a drive: pictures, lidar, annotated depth, pose, and the exact truth."""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from amlr_jax.street import lidar, rig, scene, shade
from amlr_jax.street.atlas import make_atlas
from amlr_jax.street.cast import Hits, cast
from amlr_jax.street.grids import Pinhole
from amlr_jax.street.tiles import draw_tiles

SHADOW_SIDE = 40.0  # metres of ground on either side of the camera's path
SHADOW_TILE = 64.0  # metres the car drives before a new shadow map is cast


class Truth(NamedTuple):
    """What a camera sees, without error.

    Attributes:
      depth: float32 [375, 1242], metres along the optical axis at pixel centres; inf
        where the picture shows the sky.
      world_from_cam: float64 [4, 4] pose of the rectified camera.
      moving: bool [375, 1242], pixels of cars that move.
    """

    depth: np.ndarray
    world_from_cam: np.ndarray
    moving: np.ndarray


def exact(drive, frame, *, seed=0, camera="image_02"):
    """The `Truth` of a frame that `generate` writes with the same seed.

    Args:
      drive: number of the drive, from 1.
      frame: number of the frame, from 0.
      seed: as given to `generate`.
      camera: "image_02" (left) or "image_03" (right).
    """
    if camera not in rig.CAMERAS:
        raise ValueError(f"camera must be one of {rig.CAMERAS}, got {camera!r}")
    street = scene.frame_scene(seed, drive, frame)
    _, hits, pose = _look(seed, drive, frame, camera, street)
    return _truth(hits, street, pose)


def _look(seed, drive, frame, camera, street):
    """The camera's rays, what they hit, and its pose."""
    pose = _velo(seed, drive, frame) @ np.linalg.inv(rig.cam_from_velo(camera))
    x = (np.arange(rig.WIDTH) - rig.CX) / rig.FOCAL
    y = (np.arange(rig.HEIGHT) - rig.CY) / rig.FOCAL
    grid = Pinhole(pose[:3, 3], pose[:3, :3], x, y)
    return grid, cast(grid, street, shape=(rig.HEIGHT, rig.WIDTH)), pose


def _truth(hits: Hits, street, pose):
    moving = np.take(street.surfaces().moving, hits.face, mode="clip")
    with np.errstate(divide="ignore"):
        depth = np.float32(1) / hits.nearness
    return Truth(depth, pose, moving & (hits.face >= 0))


def _velo(seed, drive, frame):
    look = scene.style(seed, drive)
    return scene.vehicle(look, frame, height=rig.VELO_HEIGHT)


@lru_cache(maxsize=1)
def atlas(seed):
    """The textures, the same for all drives."""
    return make_atlas(draw_tiles(np.random.default_rng([seed, 5])))


@lru_cache(maxsize=12)
def _scan(seed, drive, frame):
    rng = np.random.default_rng([seed, drive, 6, frame + (1 << 20)])
    street = scene.frame_scene(seed, drive, frame)
    return lidar.scan(street, _velo(seed, drive, frame), rng)


@lru_cache(maxsize=2)
def _static_shadows(seed, drive, tile):
    """The shadows of a stretch of street; the map is far larger than a frame needs."""
    look, middle = scene.style(seed, drive), (tile + 0.5) * SHADOW_TILE
    behind = scene.BEHIND + SHADOW_TILE / 2
    ahead = scene.AHEAD + SHADOW_TILE / 2
    street = scene.street(seed, drive, middle, behind=behind, ahead=ahead)
    x_range = (middle - SHADOW_TILE / 2 - 10, middle + ahead)
    y = scene.bend(look, np.linspace(*x_range, 50))
    y_range = (y.min() - SHADOW_SIDE, y.max() + SHADOW_SIDE)
    return shade.shadow_map(street, look.sun, x_range, y_range)


def render(seed, drive, frame):
    """Everything of a frame that has to be cast: file -> encoded bytes.

    The keys are (kind, camera): ("image", "image_02"), ("depth", "image_03"), ...,
    and ("velodyne", "").
    """
    street = scene.frame_scene(seed, drive, frame)
    x = _velo(seed, drive, frame)[0, 3]
    still = _static_shadows(seed, drive, int(x // SHADOW_TILE))
    shadows = shade.with_traffic(still, scene.traffic(seed, drive, frame))
    scans = [_scan(seed, drive, frame + k) for k in lidar.ANNOTATION_SWEEPS]
    now = scans[-lidar.ANNOTATION_SWEEPS.start]
    files = {("velodyne", ""): now.points.tobytes()}
    for k, camera in enumerate(rig.CAMERAS):
        grid, hits, pose = _look(seed, drive, frame, camera, street)
        rng = np.random.default_rng([seed, drive, 7, frame, k])
        look = scene.style(seed, drive)
        picture = shade.photograph(grid, hits, street, shadows, atlas(seed), look, rng)
        truth = _truth(hits, street, pose)
        depth = lidar.annotate(scans, truth.depth, pose)
        files["image", camera] = _png(picture[..., ::-1])
        files["depth", camera] = _png(depth)
    return files


def _png(array):
    level = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    return cv2.imencode(".png", array, level)[1].tobytes()


def oxts(seed, drive, frame):
    """The frame's line of KITTI's oxts."""
    look = scene.style(seed, drive)
    around = [_velo(seed, drive, frame + k) for k in (-1, 0, 1)]
    first = (_velo(seed, drive, 0) @ rig.velo_from_imu())[:3, 3]
    return rig.oxts_line(around, first, look.place, look.heading)
