"""Grids of rays: a pinhole camera, a spinning lidar, parallel sunlight.

All three share a property that makes exact ray casting in NumPy cheap: along their
rays, the position of a plane is an affine function of one term per column plus one
term per row. They speak of one number per ray, the nearness `q`; larger is nearer:

    camera   q = 1 / depth along the optical axis
    sweep    q = 1 / horizontal range in the sensor's frame
    sun      q = length of the way back to the ground plane along the sun's ray

Each grid has the methods

    plane_terms(planes, rows, cols) -> f [planes, columns], g [planes, rows], front
        q of a plane `n @ p <= c` is f + g; `front` are those that rays enter
    ball_terms(ball, rows, cols) -> a, b, c of `a q^2 + 2 b q + c = 0`
        the larger root is the near side of the ellipsoid
    points(row, col, nearness) -> [n, 3], world points of single rays
    rectangles(corners) -> [solids, 4]
        (row0, row1, col0, col1) that bound each solid's rays, empty if unseen
"""

from typing import NamedTuple

import numpy as np

EDGES = np.array(
    [(0, 1), (2, 3), (4, 5), (6, 7), (0, 2), (1, 3), (4, 6), (5, 7)]
    + [(0, 4), (1, 5), (2, 6), (3, 7)]
)
NEAR = 0.05  # metres; nothing of a street comes closer to the lens


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

    def ball_terms(self, ball, rows, cols):
        return _ball_terms_from(self.origin, self.directions(rows, cols), ball)

    def points(self, row, col, nearness):
        ahead = np.stack([self.x[col], self.y[row], np.ones(len(row))], axis=1)
        return self.origin + (ahead @ self.rotation.T) / nearness[:, None]

    def rectangles(self, corners):
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

    def ball_terms(self, ball, rows, cols):
        return _ball_terms_from(self.origin, self.directions(rows, cols), ball)

    def points(self, row, col, nearness):
        a, up = self.azimuth[col], np.tan(self.elevation[row])
        ahead = np.stack([np.cos(a), np.sin(a), up], axis=1)
        return self.origin + (ahead @ self.rotation.T) / nearness[:, None]

    def rectangles(self, corners):
        local = (corners - self.origin) @ self.rotation
        centre = local.mean(axis=1)
        reach = np.linalg.norm((local - centre[:, None])[..., :2], axis=-1).max(axis=1)
        near = np.linalg.norm(centre[:, :2], axis=-1) - reach
        near, far = np.maximum(near, NEAR), near + 2 * reach
        top, bottom = local[..., 2].max(axis=1), local[..., 2].min(axis=1)
        top = np.arctan(top / np.where(top > 0, near, far))
        bottom = np.arctan(bottom / np.where(bottom < 0, near, far))
        first = np.searchsorted(-self.elevation, -top - 1e-6)
        last = np.searchsorted(-self.elevation, -bottom + 1e-6)
        cols = self._columns(local, centre, near <= NEAR)
        return np.stack([first, last, *cols], axis=1)

    def _columns(self, local, centre, around):
        """First and last column; solids around the sensor or the seam take all."""
        middle = np.arctan2(centre[:, 1], centre[:, 0])[:, None]
        angle = np.arctan2(local[..., 1], local[..., 0]) - middle
        angle = middle + (angle + np.pi) % (2 * np.pi) - np.pi
        low, high = angle.min(axis=1), angle.max(axis=1)
        around = around | (low < -np.pi) | (high > np.pi)
        low, high = np.where(around, -9.0, low), np.where(around, 9.0, high)
        first = np.searchsorted(self.azimuth, low - 1e-6)
        return first, np.searchsorted(self.azimuth, high + 1e-6)


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

    def ball_terms(self, ball, rows, cols):
        scale = 1 / ball[[3, 3, 4]]
        d = self.direction * scale
        x = (self.x[cols] - ball[0]) * scale[0]
        y = ((self.y[rows] - ball[1]) * scale[1])[:, None]
        z = -ball[2] * scale[2]
        return d @ d, x * d[0] + y * d[1] + z * d[2], x * x + y * y + (z * z - 1)

    def points(self, row, col, nearness):
        ground = np.stack([self.x[col], self.y[row], np.zeros(len(row))], axis=1)
        return ground + nearness[:, None] * self.direction

    def rectangles(self, corners):
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


def _ball_terms_from(origin, directions, ball):
    """Of rays that leave one point."""
    scale = 1 / ball[[3, 3, 4]]
    o = (origin - ball[:3]) * scale
    d = [x * np.float32(s) for x, s in zip(directions, scale, strict=True)]
    b = sum(x * np.float32(s) for x, s in zip(d, o, strict=True))
    return o @ o - 1, b, sum(x * x for x in d)
