"""From solids to measurements: ray casting, and the picture that a camera takes.

The rays of a camera or a lidar leave one point, and their directions are a term of the
column plus a term of the row. Along such rays a plane's nearness, 1 / distance in
multiples of the direction, is the sum of a term of the column and a term of the row,
too. A convex solid is entered at the smallest nearness of the planes that face the ray
and left at the largest of the others: two additions and comparisons a plane and ray, no
division. Each solid touches only the rays that a box around it covers.
"""

from typing import NamedTuple

import cv2
import numpy as np

from amlr_jax.street.scene import Solids, StreetDrive
from amlr_jax.street.textures import INDEX, ROAD, sample

Array = np.ndarray

SUNLIGHT = np.array([1.25, 1.17, 1.02])
SKYLIGHT = np.array([0.42, 0.47, 0.56])
HAZE = np.array([0.72, 0.80, 0.90], np.float32)
HAZE_RANGE = np.float32(550.0)  # metres after which 1/e of a colour is left
NEAR = 0.05  # metres; nothing of a street comes closer to a sensor


class Rays(NamedTuple):
    """A grid of rays from one point.

    Attributes:
      origin: [3].
      axes: [3, 3], rows are the sensor's forward, right and down in the world.
      across: [columns, 2], forward and right part of each column's direction, whose
        angle rises.
      drop: [rows], the part down of each row's direction; it rises.
    """

    origin: Array
    axes: Array
    across: Array
    drop: Array

    def terms(self, rows: slice, cols: slice) -> tuple[Array, Array]:
        """The directions' terms of the rows [rows, 3] and the columns [columns, 3]."""
        return self.drop[rows, None] * self.axes[2], self.across[cols] @ self.axes[:2]


def cast(rays: Rays, scene: Solids) -> tuple[Array, Array]:
    """Casts all rays at a scene.

    Returns:
      The nearness of the nearest surface, float32 [rows, columns], 0 = nothing, and its
      face, int32 [rows, columns], -1 = nothing.
    """
    shape = len(rays.drop), len(rays.across)
    nearness, face = np.zeros(shape, np.float32), np.full(shape, -1, np.int32)
    outside = scene.planes[:, :3] @ rays.origin + scene.planes[:, 3]
    slack = np.where(np.abs(outside) < 1e-9, -1e-9, outside)
    rate = scene.planes[:, :3] / -slack[:, None]
    ends = np.cumsum(scene.counts)
    bounds = _bounds(rays, scene.corners)
    for i in np.flatnonzero((bounds[:, :2] < bounds[:, 2:]).all(axis=1)):
        faces = np.arange(ends[i] - scene.counts[i], ends[i])
        area = tuple(slice(*span) for span in bounds[i].reshape(2, 2).T)
        g, f = ((rate[faces] @ term.T).astype(np.float32) for term in rays.terms(*area))
        front = outside[faces] > 0
        _enter(nearness[area], face[area], faces, f[:, None], g[:, :, None], front)
    return nearness, face


def _enter(
    nearness: Array, face: Array, faces: Array, f: Array, g: Array, front: Array
) -> None:
    """Writes a solid where it is nearer; plane k has the nearness f[k] + g[k]."""
    if not front.any():
        return
    first, *others = np.flatnonzero(front)
    enter = f[first] + g[first]
    which = np.full_like(face, faces[first])
    for k in others:
        plane = f[k] + g[k]
        np.copyto(which, faces[k], where=plane < enter)
        np.minimum(enter, plane, out=enter)
    hit = enter > nearness
    for k in np.flatnonzero(~front):
        hit &= enter > f[k] + g[k]
    np.copyto(nearness, enter, where=hit)
    np.copyto(face, which, where=hit)


def _bounds(rays: Rays, corners: Array) -> Array:
    """Each solid's rays: first row and column, last row and column + 1 [solids, 4]."""
    forward, right, down = np.moveaxis((corners - rays.origin) @ rays.axes.T, -1, 0)
    x, y = forward.mean(axis=1, keepdims=True), right.mean(axis=1, keepdims=True)
    middle = np.arctan2(y, x)
    angle = (np.arctan2(right, forward) - middle + np.pi) % (2 * np.pi) - np.pi
    low, high = (middle + angle).min(axis=1), (middle + angle).max(axis=1)
    # A solid around the sensor or across the seam behind it gets all columns.
    anywhere = (np.ptp(angle, axis=1) > 3.1) | (low < -np.pi) | (high > np.pi)
    ticks = np.arctan2(rays.across[:, 1], rays.across[:, 0])
    low, high = np.where(anywhere, -9, low), np.where(anywhere, 9, high)
    # A camera's direction is at most 1 / 0.7 as long as its part forward.
    reach = np.hypot(forward - x, right - y).max(axis=1)
    distance = np.hypot(x, y)[:, 0]
    near, far = np.maximum(0.7 * (distance - reach), NEAR), distance + reach
    top, bottom = down.min(axis=1), down.max(axis=1)
    top = top / np.where(top < 0, near, far)
    bottom = bottom / np.where(bottom > 0, near, far)
    # Ties do not occur, so the side that searchsorted takes is of no importance.
    ends = (rays.drop, top), (ticks, low), (rays.drop, bottom), (ticks, high)
    return np.stack([np.searchsorted(*end) for end in ends], axis=1)


def photograph(
    rays: Rays,
    hits: tuple,
    scene: Solids,
    drive: StreetDrive,
    atlas: Array,
    noise: Array,
) -> Array:
    """The picture of a camera.

    Args:
      rays: of the camera; the forward part of their directions is 1.
      hits: what `cast` returns for them.
      scene: its face 0 is the ground.
      drive: gives the light and the bends of the road.
      atlas: see `textures`.
      noise: float32 [rows, columns, 3], of the sensor, standard deviation 1.

    Returns:
      uint8 [rows, columns, 3], red first.
    """
    nearness, face = hits
    terms = rays.terms(slice(None), slice(None))
    down, across = (term.astype(np.float32).T for term in terms)
    ray = across[:, None, :] + down[:, :, None]
    depth = 1 / np.maximum(nearness, np.float32(1e-4))
    point = rays.origin.astype(np.float32)[:, None, None] + depth * ray
    tile = scene.tile.take(face, mode="clip")
    light = _light(scene, drive).take(face, axis=0, mode="clip")
    u, v = (_coordinate(axis, face, point) for axis in (scene.u, scene.v))
    # The road and the grass beside it bend with the street.
    left = point[1] - drive.bend(point[0])
    np.copyto(v, left / ROAD, where=face == 0)
    tile[(face == 0) & (np.abs(left) > drive.half_road)] = INDEX["grass"]
    # Clouds are on a plane far above; like far things, low ones drown in haze.
    sky, rise = face < 0, np.maximum(ray[2] / np.linalg.norm(ray, axis=0), 0)
    tile[sky], light[sky] = INDEX["clouds"], 1.2
    for axis, cloud in ((u, ray[0]), (v, ray[1])):
        np.copyto(axis, cloud / (4 * rise + np.float32(0.5)), where=sky)
    colour = sample(atlas, tile, u, v) * light
    clear = np.where(sky, 1 - np.exp(-6 * rise), np.exp(-depth / HAZE_RANGE))
    colour = HAZE + (colour - HAZE) * clear[..., None]
    # Lens blur, tone curve and noise.
    colour = np.maximum(cv2.GaussianBlur(colour, (3, 3), 0.5), 0)
    tone = 255 * (1 - np.exp(np.float32(-1.9) * colour))
    tone += noise * (1 + np.sqrt(tone) * np.float32(0.05))
    return np.clip(tone + 0.5, 0, 255).astype(np.uint8)


def _light(scene: Solids, drive: StreetDrive) -> Array:
    """Tint of each face in the light of sun and sky, float32 [faces, 3]."""
    normal = scene.planes[:, :3]
    sun = np.maximum(normal @ drive.sun, 0)[:, None] * SUNLIGHT
    sky = (0.62 + 0.38 * normal[:, 2:]) * SKYLIGHT
    return (scene.tint * (sun + sky)).astype(np.float32)


def _coordinate(axis: Array, face: Array, point: Array) -> Array:
    """A texture coordinate of each pixel [rows, columns]."""
    *weights, start = (w.take(face, mode="clip") for w in axis.T.astype(np.float32))
    return sum((w * p for w, p in zip(weights, point, strict=True)), start)
