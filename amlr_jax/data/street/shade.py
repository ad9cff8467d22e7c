"""From hits to a photograph: textures, sunlight, haze, lens and sensor."""

from typing import NamedTuple

import cv2
import numpy as np

from amlr_jax.data.street import textures as tex
from amlr_jax.data.street.cast import Sun, cast
from amlr_jax.data.street.scene import bend
from amlr_jax.data.street.solids import BALL, ROAD, SKY

SUNLIGHT = np.array([1.25, 1.17, 1.02], np.float32)
SKYLIGHT = np.array([0.42, 0.47, 0.56], np.float32)
HAZE = np.array([0.72, 0.80, 0.90], np.float32)
HAZE_RANGE = 550.0  # metres after which 1/e of a colour is left
SHADOW_TEXEL = 0.1  # metres
SHADOW_BIAS = 0.12  # metres along the sun's ray


class Shadows(NamedTuple):
    """How far sunlight comes down: `length` [rows, columns] of the ray from the
    ground point to the highest thing on it, metres; 0 where the ground is lit."""

    length: np.ndarray
    sun: Sun


def shadow_map(scene, direction, x_range, y_range):
    """Casts the sun once onto the ground."""
    x, y = (np.arange(*span, SHADOW_TEXEL) for span in (x_range, y_range))
    sun = Sun(direction, x, y)
    return Shadows(cast(sun, scene, shape=(len(y), len(x))).nearness, sun)


def with_traffic(shadows, traffic):
    """The shadows when moving cars join the static street."""
    shape = shadows.length.shape
    length = cast(shadows.sun, traffic, shape=shape).nearness
    return shadows._replace(length=np.maximum(shadows.length, length))


def photograph(grid, hits, scene, shadows, atlas, look, rng):
    """A picture.

    Args:
      grid: the `Pinhole` that was cast.
      hits: its `Hits`.
      scene: the `Part` that it was cast at.
      shadows: `Shadows` of that scene.
      atlas: see `textures`.
      look: the drive's `Style`.
      rng: stream of the sensor's noise.

    Returns:
      uint8 [rows, columns, 3], red first.
    """
    rows, cols = (slice(0, n) for n in hits.face.shape)
    ray = grid.directions(rows, cols)
    depth = 1 / np.maximum(hits.nearness, 1e-4)
    table = scene.surfaces()
    kind = np.where(hits.face < 0, SKY, np.take(table.kind, hits.face, mode="clip"))
    point = [np.float32(o) + depth * d for o, d in zip(grid.origin, ray, strict=True)]
    normal = [np.take(n, hits.face) for n in table.normal.T.astype(np.float32)]
    _round_normals(normal, hits.face, kind, point, scene)
    spot = _coordinates(grid, hits.face, kind, ray, depth, point, normal, table)
    left = point[1] - bend(look, point[0]).astype(np.float32)
    spot = _follow_road(spot, kind == ROAD, left, look)
    spot = _lay_clouds(spot, kind == SKY, ray)
    albedo = _albedo(atlas, spot, hits.face, table)
    albedo[spot.tile == tex.GRASS] *= look.grass.astype(np.float32)
    _paint_marks(albedo, spot, point[0], left, look)
    light = _light(normal, kind, point, ray, shadows, look)
    colour = albedo * light
    # Clouds glow by themselves; like far things, low ones drown in haze.
    sky = kind == SKY
    colour[sky] = albedo[sky] * np.float32(1.2)
    clear = np.exp(depth * np.float32(-1 / HAZE_RANGE))
    clear[sky] = 1 - np.exp(-6 * np.maximum(_rise(ray)[sky], 0))
    colour = HAZE + (colour - HAZE) * clear[..., None]
    return _sensor(colour, rng)


class Spot(NamedTuple):
    """Surface coordinates of each pixel, in periods, and what it covers of them."""

    u: np.ndarray
    v: np.ndarray
    cover_u: np.ndarray
    cover_v: np.ndarray
    tile: np.ndarray


def _round_normals(normal, face, kind, point, scene):
    """Writes the normals of leafy shells, turned outwards on either side."""
    r, c = np.nonzero(kind == BALL)
    ball = scene.balls[face[r, c] - len(scene.planes)]
    for k in range(3):
        radius = ball[:, 3 + (k == 2)]
        normal[k][r, c] = (point[k][r, c] - ball[:, k]) / radius
    length = np.sqrt(sum(n[r, c] ** 2 for n in normal))
    for n in normal:
        n[r, c] /= length


def _coordinates(grid, face, kind, ray, depth, point, normal, table):
    """`Spot` of each pixel; a footprint comes from moving the ray by one pixel."""
    face = np.maximum(face, 0)
    step = 1 / np.float32(721.5377)
    side, down = (grid.rotation[:, k].astype(np.float32) * step for k in (0, 1))
    towards = sum(n * d for n, d in zip(normal, ray, strict=True))
    towards = np.where(np.abs(towards) < 1e-3, np.float32(1e-3), towards)
    slide = [
        sum(n * s for n, s in zip(normal, shift, strict=True)) / towards
        for shift in (side, down)
    ]
    tile = np.take(table.tile, face)
    spot = []
    for axis in (table.u, table.v):
        constant = axis[:, :3] @ grid.origin + axis[:, 3]
        constant = constant.astype(np.float32)
        weights = axis[:, :3].astype(np.float32)
        along = sum(np.take(w, face) * d for w, d in zip(weights.T, ray, strict=True))
        cover = 0.0
        for shift, moved in zip((side, down), slide, strict=True):
            direct = np.take(weights @ shift, face)
            cover = np.maximum(cover, np.abs(direct - along * moved))
        spot.append([np.take(constant, face) + depth * along, depth * cover])
    (u, cover_u), (v, cover_v) = spot
    _wrap_balls(kind == BALL, normal, towards, depth * step, u, v, cover_u, cover_v)
    return Spot(u, v, cover_u, cover_v, tile)


def _wrap_balls(mask, normal, towards, pixel, u, v, cover_u, cover_v):
    """Leaves run around a shell: three periods around, two from pole to pole."""
    across, up = np.arctan2(normal[1][mask], normal[0][mask]), normal[2][mask]
    u[mask], v[mask] = across * (3 / (2 * np.pi)), up
    cover = pixel[mask] / np.maximum(np.abs(towards[mask]), 0.25) / 3.0
    cover_u[mask] = cover_v[mask] = cover


def _albedo(atlas, spot, face, table):
    """Tile, tint and two scales of grain."""
    face = np.maximum(face, 0)
    texel = tex.sample(atlas, spot.tile, spot.u, spot.v, spot.cover_u, spot.cover_v)
    tint = table.tint.astype(np.float32)[face]
    share = texel[..., 3:]
    albedo = texel[..., :3] * (1 + share * (tint - 1))
    metres_u, metres_v = (np.take(m, face) for m in table.metres.T.astype(np.float32))
    shift = np.take(table.shift.astype(np.float32), face)
    grain = np.full_like(spot.tile, tex.GRAIN)
    for channel, period, depth in ((0, 1.7, 0.9), (1, 13.0, 0.8)):
        a, b = metres_u / np.float32(period), metres_v / np.float32(period)
        u, v = spot.u * a + shift, spot.v * b + shift
        cover = spot.cover_u * a, spot.cover_v * b
        noise = tex.sample(atlas, grain, u, v, *cover, blend=False)[..., channel]
        noise = np.where(spot.tile == tex.CLOUDS, np.float32(0.5), noise)
        albedo *= (1 + np.float32(depth) * (noise - np.float32(0.5)))[..., None]
    return albedo


def _follow_road(spot, road, left, look):
    """Bends the ground's coordinates with the road; grass begins where it ends."""
    period = np.float32(tex.METRES[tex.ASPHALT])
    tile = np.where(
        (spot.tile == tex.ASPHALT) & (np.abs(left) > look.half_road),
        tex.GRASS,
        spot.tile,
    )
    return spot._replace(v=np.where(road, left / period, spot.v), tile=tile)


def _lay_clouds(spot, sky, ray):
    """Clouds lie on a plane far above; nobody gets nearer to them."""
    reach = np.float32(0.25) / (np.maximum(_rise(ray), 0) + np.float32(0.12))
    cover = np.where(sky, np.float32(0.003) * reach, 0)
    return Spot(
        np.where(sky, ray[0] * reach, spot.u),
        np.where(sky, ray[1] * reach, spot.v),
        np.where(sky, cover, spot.cover_u),
        np.where(sky, cover, spot.cover_v),
        np.where(sky, tex.CLOUDS, spot.tile),
    )


def _rise(ray):
    """Sine of the rays' elevation above the horizon."""
    return ray[2] / np.sqrt(sum(d * d for d in ray))


def _paint_marks(albedo, spot, along, left, look):
    """White lines: dashes in the middle, a solid line along parked cars."""
    rows, cols = np.nonzero(spot.tile == tex.ASPHALT)
    period = np.float32(tex.METRES[tex.ASPHALT])
    along, left = along[rows, cols], left[rows, cols]
    wide = spot.cover_v[rows, cols] * period
    long = spot.cover_u[rows, cols] * period
    dash = _stripe(along % 9.0 - 3.0, 1.5, long)
    paint = dash * _stripe(left, 0.07, wide)
    if look.parking:
        paint = paint + _stripe(np.abs(left) - 3.5, 0.06, wide)
    worn = 0.55 + 0.9 * albedo[rows, cols, :1]
    paint = np.minimum(paint, 1)[:, None] * worn
    albedo[rows, cols] += paint * (np.float32(0.85) - albedo[rows, cols])


def _stripe(distance, half, footprint):
    """Share of a pixel's footprint inside |distance| < half."""
    footprint = np.maximum(footprint, 1e-3)
    low = np.maximum(distance - footprint / 2, -half)
    high = np.minimum(distance + footprint / 2, half)
    return np.clip((high - low) / footprint, 0, 1)


def _light(normal, kind, point, ray, shadows, look):
    facing = sum(n * np.float32(s) for n, s in zip(normal, look.sun, strict=True))
    facing = np.clip(facing, 0, 1)
    # Leaves let light through: their shells have no dark side.
    facing = np.where(kind == BALL, 0.25 + 0.6 * facing, facing)
    lit = facing * _sunlit(point, normal, shadows)
    open_sky = (0.62 + 0.38 * normal[2])[..., None]
    return lit[..., None] * SUNLIGHT + open_sky * SKYLIGHT


def _sunlit(point, normal, shadows):
    """Share of the sun that reaches each point, with soft shadow borders."""
    direction = shadows.sun.direction.astype(np.float32)
    length = point[2] / direction[2]
    x = (point[0] - length * direction[0] - np.float32(shadows.sun.x[0])) / SHADOW_TEXEL
    y = (point[1] - length * direction[1] - np.float32(shadows.sun.y[0])) / SHADOW_TEXEL
    total = 0.0
    for dx, dy in ((-0.7, -0.3), (0.3, -0.7), (0.7, 0.3), (-0.3, 0.7)):
        above = cv2.remap(
            shadows.length,
            (x + dx).astype(np.float32),
            (y + dy).astype(np.float32),
            cv2.INTER_NEAREST,
        )
        total = total + (above < length + SHADOW_BIAS)
    return total.astype(np.float32) / 4


def _sensor(colour, rng):
    """Lens blur, tone curve and noise."""
    colour = cv2.GaussianBlur(colour, (3, 3), 0.5)
    tone = 1 - np.exp(np.float32(-1.9) * np.maximum(colour, 0))
    tone *= np.float32(255)
    noise = rng.standard_normal(colour.shape, dtype=np.float32)
    noise *= 1.0 + np.sqrt(tone) * np.float32(0.05)
    return np.clip(tone + noise + 0.5, 0, 255).astype(np.uint8)
