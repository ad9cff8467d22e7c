"""Casts separable grids of rays against convex solids, leafy balls and the ground.

Every grid used here (a pinhole camera, a spinning lidar, parallel sun light) has a
property that makes exact ray casting in NumPy cheap: along its rays, the position
of a plane is an affine function of one term per column plus one term per row. All
grids therefore speak of one number per ray, the nearness `q`, larger is nearer:

    camera   q = 1 / depth along the optical axis
    sweep    q = 1 / horizontal range in the sensor's frame
    sun      q = length of the way back to the ground plane along the sun's ray

A convex solid is entered at the smallest q of the planes that face the ray and left
at the largest q of the others: two additions and comparisons a plane and ray, no
division. Each solid touches only the rectangle of rays that its bounding box covers.
"""

from typing import NamedTuple

import numpy as np

from amlr_jax.data.street.noise import leaf_ranks

EDGES = np.array(
    [(0, 1), (2, 3), (4, 5), (6, 7), (0, 2), (1, 3), (4, 6), (5, 7)]
    + [(0, 4), (1, 5), (2, 6), (3, 7)]
)
# Rank of each patch of a shell: the share `density` of all patches is closed.
LEAVES = leaf_ranks()
NEAR = 0.05  # metres; nothing of a street comes closer to the lens


class Hits(NamedTuple):
    """Nearest surface of each ray.

    Attributes:
      nearness: float32 [rows, columns], `q` of the module docstring; 0 = nothing.
      face: int32 [rows, columns], row in the scene's table of faces; -1 = nothing.
    """

    nearness: np.ndarray
    face: np.ndarray


class Pinhole(NamedTuple):
    """Rays through pixel centres; `x` [columns], `y` [rows] on the plane depth 1."""

    origin: np.ndarray
    rotation: np.ndarray  # camera to world: x right, y down, z forward
    x: np.ndarray
    y: np.ndarray

    def plane_terms(self, planes, rows, cols):
        slack = _away_from_zero(planes[:, 3] - planes[:, :3] @ self.origin)
        m = (planes[:, :3] @ self.rotation) / slack[:, None]
        f = m[:, :1] * self.x[cols]
        g = m[:, 1:2] * self.y[rows] + m[:, 2:]
        return f, g, slack < 0

    def directions(self, rows, cols):
        """World directions [3, rows, columns] whose component along z is 1."""
        r = self.rotation.astype(np.float32)
        x, y = self.x[cols].astype(np.float32), self.y[rows].astype(np.float32)
        return [r[i, 0] * x + (r[i, 1] * y + r[i, 2])[:, None] for i in range(3)]

    def points(self, row, col, nearness):
        """World points [n, 3] of single rays."""
        ahead = np.stack([self.x[col], self.y[row], np.ones(len(row))], axis=1)
        return self.origin + (ahead @ self.rotation.T) / nearness[:, None]

    def rectangles(self, corners):
        """Bounding rectangles [solids, 4] (row0, row1, col0, col1), empty if unseen."""
        local = (corners - self.origin) @ self.rotation
        a, b = local[:, EDGES[:, 0]], local[:, EDGES[:, 1]]
        points = np.concatenate([_clip(a, b), _clip(b, a)], axis=1)
        seen = points[..., 2] > 0
        z = np.where(seen, points[..., 2], 1.0)
        cols = _span(points[..., 0] / z, seen, self.x)
        return np.stack([*_span(points[..., 1] / z, seen, self.y), *cols], axis=1)


class Sweep(NamedTuple):
    """A spinning lidar: one column an azimuth, one row a beam.

    Azimuths rise over (-pi, pi], elevations fall from row to row, both in radians.
    """

    origin: np.ndarray
    rotation: np.ndarray  # sensor to world: x forward, y left, z up
    azimuth: np.ndarray
    elevation: np.ndarray

    def plane_terms(self, planes, rows, cols):
        slack = _away_from_zero(planes[:, 3] - planes[:, :3] @ self.origin)
        m = (planes[:, :3] @ self.rotation) / slack[:, None]
        angle = self.azimuth[cols]
        f = m[:, :1] * np.cos(angle) + m[:, 1:2] * np.sin(angle)
        return f, m[:, 2:] * np.tan(self.elevation[rows]), slack < 0

    def directions(self, rows, cols):
        """World directions [3, rows, columns] whose horizontal part has length 1."""
        r, angle = self.rotation.astype(np.float32), self.azimuth[cols]
        cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        up = np.tan(self.elevation[rows]).astype(np.float32)[:, None]
        return [r[i, 0] * cos + r[i, 1] * sin + r[i, 2] * up for i in range(3)]

    def points(self, row, col, nearness):
        """World points [n, 3] of single rays."""
        a, up = self.azimuth[col], np.tan(self.elevation[row])
        ahead = np.stack([np.cos(a), np.sin(a), up], axis=1)
        return self.origin + (ahead @ self.rotation.T) / nearness[:, None]

    def rectangles(self, corners):
        """As `Pinhole.rectangles`; a solid across the seam takes every column."""
        local = (corners - self.origin) @ self.rotation
        centre = local.mean(axis=1, keepdims=True)
        middle = np.arctan2(centre[..., 1], centre[..., 0])
        angle = np.arctan2(local[..., 1], local[..., 0]) - middle
        angle = (angle + np.pi) % (2 * np.pi) - np.pi
        reach = np.linalg.norm((local - centre)[..., :2], axis=-1).max(axis=1)
        near = np.linalg.norm(centre[:, 0, :2], axis=-1) - reach
        low, high = (middle + angle).min(axis=1), (middle + angle).max(axis=1)
        around = (near < NEAR) | (low < -np.pi) | (high > np.pi)
        low, high = np.where(around, -9.0, low), np.where(around, 9.0, high)
        columns = np.searchsorted(self.azimuth, low - 1e-6)
        ends = np.searchsorted(self.azimuth, high + 1e-6)
        near, far = np.maximum(near, NEAR), near + 2 * reach
        top, bottom = local[..., 2].max(axis=1), local[..., 2].min(axis=1)
        top = np.arctan(top / np.where(top > 0, near, far))
        bottom = np.arctan(bottom / np.where(bottom < 0, near, far))
        first = np.searchsorted(-self.elevation, -top - 1e-6)
        last = np.searchsorted(-self.elevation, -bottom + 1e-6)
        return np.stack([first, last, columns, ends], axis=1)


class Sun(NamedTuple):
    """Parallel light onto the ground points (x of the column, y of the row, 0)."""

    direction: np.ndarray  # unit vector towards the sun
    x: np.ndarray
    y: np.ndarray

    def plane_terms(self, planes, rows, cols):
        rate = _away_from_zero(planes[:, :3] @ self.direction)[:, None]
        f = -planes[:, :1] * self.x[cols] / rate
        g = (planes[:, 3:] - planes[:, 1:2] * self.y[rows]) / rate
        return f, g, rate[:, 0] > 0

    def points(self, row, col, nearness):
        """World points [n, 3] of single rays."""
        ground = np.stack([self.x[col], self.y[row], np.zeros(len(row))], axis=1)
        return ground + nearness[:, None] * self.direction

    def rectangles(self, corners):
        """As `Pinhole.rectangles`, of the shadows that the corners throw."""
        back = corners[..., 2] / self.direction[2]
        seen = np.ones(back.shape, bool)
        cols = _span(corners[..., 0] - back * self.direction[0], seen, self.x)
        rows = _span(corners[..., 1] - back * self.direction[1], seen, self.y)
        return np.stack([*rows, *cols], axis=1)


def _away_from_zero(value):
    return np.where(np.abs(value) < 1e-9, 1e-9, value)


def _clip(a, b):
    """Moves `a` along the edge to `b` up to the near plane; z = -1 if both behind."""
    step = (NEAR - a[..., 2:]) / _away_from_zero(b[..., 2:] - a[..., 2:])
    moved = a + np.clip(step, 0, 1) * (b - a)
    behind = (a[..., 2:] < NEAR) & (b[..., 2:] < NEAR)
    return np.where(behind, -1.0, np.where(a[..., 2:] < NEAR, moved, a))


def _span(values, seen, ticks):
    """First and last index of the rising `ticks` within the seen values."""
    low = np.where(seen, values, np.inf).min(axis=1)
    high = np.where(seen, values, -np.inf).max(axis=1)
    return np.searchsorted(ticks, low), np.searchsorted(ticks, high, side="right")


def has_leaf(unit, density):
    """Whether the leafy shell of a ball is closed at unit vectors [n, 3].

    A function of the ball alone, so that cameras, lidar and sun see the same leaves.
    """
    across = (np.arctan2(unit[:, 1], unit[:, 0]) / (2 * np.pi) * LEAVES.shape[1]) % (
        LEAVES.shape[1]
    )
    up = np.clip(unit[:, 2] * 0.5 + 0.5, 0, 0.999) * LEAVES.shape[0]
    return LEAVES[up.astype(int), across.astype(int) % LEAVES.shape[1]] < density


def cast(grid, scene, *, shape):
    """Casts all rays of a grid.

    Args:
      grid: a `Pinhole`, `Sweep` or `Sun`.
      scene: a `Part` (see `solids`); balls follow the solids in the face table.
      shape: (rows, columns) of the grid.

    Returns:
      `Hits`.
    """
    hits = Hits(np.zeros(shape, np.float32), np.full(shape, -1, np.int32))
    ends = np.cumsum(scene.counts)
    for i, (r0, r1, c0, c1) in _visible(grid.rectangles(scene.corners)):
        faces = slice(ends[i] - scene.counts[i], ends[i])
        _cast_solid(grid, scene.planes, faces, hits, slice(r0, r1), slice(c0, c1))
    for i, (r0, r1, c0, c1) in _visible(grid.rectangles(_ball_corners(scene.balls))):
        label = len(scene.planes) + i
        _cast_ball(grid, scene.balls[i], label, hits, slice(r0, r1), slice(c0, c1))
    return hits


def _visible(rectangles):
    shown = (rectangles[:, 0] < rectangles[:, 1]) & (rectangles[:, 2] < rectangles[:, 3])
    index = np.flatnonzero(shown)
    return zip(index.tolist(), rectangles[index].tolist(), strict=True)


def _cast_solid(grid, planes, faces, hits, rows, cols):
    f, g, front = grid.plane_terms(planes[faces], rows, cols)
    if not front.any():
        return
    f, g = f.astype(np.float32)[:, None, :], g.astype(np.float32)[:, :, None]
    first, *others = np.flatnonzero(front)
    enter = f[first] + g[first]
    which = np.full(enter.shape, faces.start + first, np.int32)
    for k in others:
        nearness = f[k] + g[k]
        np.copyto(which, faces.start + k, where=nearness < enter)
        np.minimum(enter, nearness, out=enter)
    nearness_so_far = hits.nearness[rows, cols]
    hit = enter > nearness_so_far
    for k in np.flatnonzero(~front):
        hit &= enter > f[k] + g[k]
    np.copyto(nearness_so_far, enter, where=hit)
    np.copyto(hits.face[rows, cols], which, where=hit)


def _ball_corners(balls):
    signs = np.array([(i & 4, i & 2, i & 1) for i in range(8)], bool) * 2.0 - 1
    return balls[:, None, :3] + signs * balls[:, None, [3, 3, 4]]


def _cast_ball(grid, ball, label, hits, rows, cols):
    """A leafy shell: rays pass through its holes and may meet the far side inside."""
    a, b, c = _ball_terms(grid, ball, rows, cols)
    inside = b * b - a * c
    so_far = hits.nearness[rows, cols]
    r, k = np.nonzero(inside > 0)
    if a <= 0 or not len(r):
        return
    b, root, so_far_there = b[r, k], np.sqrt(inside[r, k]), so_far[r, k]
    for nearness in ((root - b) / a, (-root - b) / a):
        nearness = nearness.astype(np.float32)
        ahead = nearness > so_far_there
        point = grid.points(rows.start + r[ahead], cols.start + k[ahead], nearness[ahead])
        ahead[ahead] = has_leaf((point - ball[:3]) / ball[[3, 3, 4]], ball[5])
        so_far[r[ahead], k[ahead]] = so_far_there[ahead] = nearness[ahead]
        hits.face[rows, cols][r[ahead], k[ahead]] = label


def _ball_terms(grid, ball, rows, cols):
    """Terms of `a q^2 + 2 b q + c = 0`, whose larger root is the near side."""
    scale = 1 / ball[[3, 3, 4]]
    if isinstance(grid, Sun):
        d = grid.direction * scale
        x = (grid.x[cols] - ball[0]) * scale[0]
        y = ((grid.y[rows] - ball[1]) * scale[1])[:, None]
        z = -ball[2] * scale[2]
        return d @ d, x * d[0] + y * d[1] + z * d[2], x * x + y * y + (z * z - 1)
    o = (grid.origin - ball[:3]) * scale
    d = [x * np.float32(s) for x, s in zip(grid.directions(rows, cols), scale, strict=True)]
    b = sum(x * np.float32(s) for x, s in zip(d, o, strict=True))
    return o @ o - 1, b, sum(x * x for x in d)
