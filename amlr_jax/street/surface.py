"""Where on which surface each pixel looks: point, normal and texture coordinates."""

from typing import NamedTuple

import numpy as np

from amlr_jax.street import atlas as tex
from amlr_jax.street.scene import bend
from amlr_jax.street.solids import BALL, ROAD, SKY


class View(NamedTuple):
    """What the rays of a picture hit; arrays are [rows, columns].

    Attributes:
      face: int32, row of `table`; -1 for the sky.
      kind: int, see `solids`.
      table: the scene's `Surfaces`.
      ray: three float32 arrays, world directions of depth 1.
      depth: float32, metres.
      point, normal: three float32 arrays, in the world.
      left: float32, metres left of the road's middle.
    """

    face: np.ndarray
    kind: np.ndarray
    table: tuple
    ray: list
    depth: np.ndarray
    point: list
    normal: list
    left: np.ndarray

    def pick(self, values):
        """The face's own of `values` [faces, ...], float32 or int."""
        if values.dtype == np.float64:
            values = values.astype(np.float32)
        # Clipping is faster than checking; the sky may take any face's value.
        return np.take(values, self.face, axis=0, mode="clip")


class Spot(NamedTuple):
    """Texture coordinates of each pixel, in periods of its tile, and what the pixel
    covers of them."""

    u: np.ndarray
    v: np.ndarray
    cover_u: np.ndarray
    cover_v: np.ndarray
    tile: np.ndarray


def view(grid, hits, scene, look):
    """The `View` of a cast `Pinhole`."""
    rows, cols = (slice(0, n) for n in hits.face.shape)
    ray = grid.directions(rows, cols)
    depth = 1 / np.maximum(hits.nearness, np.float32(1e-4))
    table = scene.surfaces()
    kind = np.where(hits.face < 0, SKY, np.take(table.kind, hits.face, mode="clip"))
    point = [np.float32(o) + depth * d for o, d in zip(grid.origin, ray, strict=True)]
    left = point[1] - bend(look, point[0]).astype(np.float32)
    seen = View(hits.face, kind, table, ray, depth, point, [], left)
    normal = [seen.pick(n) for n in table.normal.T]
    _round_normals(normal, seen, scene)
    return seen._replace(normal=normal)


def _round_normals(normal, seen, scene):
    """Writes the outward normals of leafy shells."""
    r, c = np.nonzero(seen.kind == BALL)
    ball = scene.balls[seen.face[r, c] - len(scene.planes)]
    for k in range(3):
        radius = ball[:, 3 + (k == 2)]
        normal[k][r, c] = (seen.point[k][r, c] - ball[:, k]) / radius
    length = np.sqrt(sum(n[r, c] ** 2 for n in normal))
    for n in normal:
        n[r, c] /= length


def spots(grid, seen, look):
    """The `Spot` of each pixel of a `View`."""
    pixel = grid.x[1] - grid.x[0]
    towards = _dot(seen.normal, seen.ray)
    towards = np.where(np.abs(towards) < 1e-3, np.float32(1e-3), towards)
    steps = [grid.rotation[:, k].astype(np.float32) * pixel for k in (0, 1)]
    slides = [_dot(seen.normal, step) / towards for step in steps]
    u, cover_u = _coordinate(grid, seen, seen.table.u, steps, slides)
    v, cover_v = _coordinate(grid, seen, seen.table.v, steps, slides)
    spot = Spot(u, v, cover_u, cover_v, seen.pick(seen.table.tile))
    _wrap_balls(spot, seen, towards, np.float32(pixel))
    return _lay_clouds(_follow_road(spot, seen, look), seen)


def _coordinate(grid, seen, axis, steps, slides):
    """One texture coordinate and its change over a pixel.

    A step of the ray to the next pixel moves its point along the surface: the step
    itself less the part (`slides`) that would leave the plane.
    """
    weights = axis[:, :3].astype(np.float32)
    along = sum(seen.pick(w) * d for w, d in zip(weights.T, seen.ray, strict=True))
    start = seen.pick(axis[:, :3] @ grid.origin + axis[:, 3])
    cover = np.zeros_like(along)
    for step, slide in zip(steps, slides, strict=True):
        moved = seen.pick(weights @ step.astype(np.float32)) - along * slide
        np.maximum(cover, np.abs(moved), out=cover)
    return start + seen.depth * along, seen.depth * cover


def _dot(a, b):
    return sum(x * np.float32(y) for x, y in zip(a, b, strict=True))


def _wrap_balls(spot, seen, towards, pixel):
    """Leaves run around a shell: three periods around, two from pole to pole."""
    mask = seen.kind == BALL
    x, y, z = (n[mask] for n in seen.normal)
    spot.u[mask], spot.v[mask] = np.arctan2(y, x) * (3 / (2 * np.pi)), z
    slant = np.maximum(np.abs(towards[mask]), 0.25)
    cover = seen.depth[mask] * pixel / slant / 3.0
    spot.cover_u[mask] = spot.cover_v[mask] = cover


def _follow_road(spot, seen, look):
    """Bends the ground's coordinates with the road; grass begins where it ends."""
    period = np.float32(tex.METRES[tex.ASPHALT])
    grass = (spot.tile == tex.ASPHALT) & (np.abs(seen.left) > look.half_road)
    return spot._replace(
        v=np.where(seen.kind == ROAD, seen.left / period, spot.v),
        tile=np.where(grass, tex.GRASS, spot.tile),
    )


def _lay_clouds(spot, seen):
    """Clouds lie on a plane far above; nobody gets nearer to them."""
    sky = seen.kind == SKY
    reach = np.float32(0.25) / (np.maximum(rise(seen.ray), 0) + np.float32(0.12))
    cover = np.where(sky, np.float32(0.003) * reach, 0)
    return Spot(
        np.where(sky, seen.ray[0] * reach, spot.u),
        np.where(sky, seen.ray[1] * reach, spot.v),
        np.where(sky, cover, spot.cover_u),
        np.where(sky, cover, spot.cover_v),
        np.where(sky, tex.CLOUDS, spot.tile),
    )


def rise(ray):
    """Sine of the rays' elevation above the horizon."""
    return ray[2] / np.sqrt(sum(d * d for d in ray))
