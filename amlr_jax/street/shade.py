"""From hits to a photograph: textures, sunlight, haze, lens and sensor."""

from typing import NamedTuple

import cv2
import numpy as np

from amlr_jax.street import atlas as tex
from amlr_jax.street import surface
from amlr_jax.street.cast import cast
from amlr_jax.street.grids import Sun
from amlr_jax.street.scene import LANE
from amlr_jax.street.solids import BALL, SKY

SUNLIGHT = np.array([1.25, 1.17, 1.02], np.float32)
SKYLIGHT = np.array([0.42, 0.47, 0.56], np.float32)
HAZE = np.array([0.72, 0.80, 0.90], np.float32)
HAZE_RANGE = 550.0  # metres after which 1/e of a colour is left
# Channel of the tile, metres of a period, contrast.
GRAINS = ((0, 1.7, 0.9), (1, 13.0, 0.8))
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
      atlas: see `atlas`.
      look: the drive's `Style`.
      rng: stream of the sensor's noise.

    Returns:
      uint8 [rows, columns, 3], red first.
    """
    seen = surface.view(grid, hits, scene, look)
    albedo = _albedo(atlas, surface.spots(grid, seen, look), seen, look)
    colour = albedo * _light(seen, shadows, look)
    # Clouds glow by themselves; like far things, low ones drown in haze.
    sky = seen.kind == SKY
    colour[sky] = albedo[sky] * np.float32(1.2)
    clear = np.exp(seen.depth * np.float32(-1 / HAZE_RANGE))
    clear[sky] = 1 - np.exp(-6 * np.maximum(surface.rise(seen.ray)[sky], 0))
    colour = HAZE + (colour - HAZE) * clear[..., None]
    return _sensor(colour, rng)


def _albedo(atlas, spot, seen, look):
    """Tile, tint, lane marks and grain."""
    texel = tex.sample(atlas, spot.tile, spot.u, spot.v, spot.cover_u, spot.cover_v)
    tint = seen.pick(seen.table.tint)
    tint[spot.tile == tex.GRASS] = look.grass
    albedo = texel[..., :3] * (1 + texel[..., 3:] * (tint - 1))
    for channel, period, depth in GRAINS:
        grain = _grain(atlas, spot, seen, channel, period)
        albedo *= (1 + np.float32(depth) * grain)[..., None]
    _paint_marks(albedo, spot, seen, look)
    return albedo


def _grain(atlas, spot, seen, channel, period):
    """Noise around zero, `period` metres long on every surface but the sky."""
    metres = seen.pick(seen.table.metres) / np.float32(period)
    shift = seen.pick(seen.table.shift)
    u, v = spot.u * metres[..., 0] + shift, spot.v * metres[..., 1] + shift
    cover = spot.cover_u * metres[..., 0], spot.cover_v * metres[..., 1]
    tile = np.full_like(spot.tile, tex.GRAIN)
    noise = tex.sample(atlas, tile, u, v, *cover, blend=False)[..., channel]
    return np.where(spot.tile == tex.CLOUDS, 0, noise - np.float32(0.5))


def _paint_marks(albedo, spot, seen, look):
    """White lines: dashes in the middle, a solid line along parked cars."""
    road = spot.tile == tex.ASPHALT
    period = np.float32(tex.METRES[tex.ASPHALT])
    left, along = seen.left[road], seen.point[0][road]
    wide, long = spot.cover_v[road] * period, spot.cover_u[road] * period
    paint = _stripe(along % 9.0 - 3.0, 1.5, long) * _stripe(left, 0.07, wide)
    if look.parking:
        paint = paint + _stripe(np.abs(left) - LANE, 0.06, wide)
    worn = 0.55 + 0.9 * albedo[road][:, :1]
    paint = np.minimum(paint, 1)[:, None] * worn
    albedo[road] += paint * (np.float32(0.85) - albedo[road])


def _stripe(distance, half, footprint):
    """Share of a pixel's footprint inside |distance| < half."""
    footprint = np.maximum(footprint, 1e-3)
    low = np.maximum(distance - footprint / 2, -half)
    high = np.minimum(distance + footprint / 2, half)
    return np.clip((high - low) / footprint, 0, 1)


def _light(seen, shadows, look):
    """Colour of the light that each point scatters, [rows, columns, 3]."""
    normal = seen.normal
    facing = sum(n * np.float32(s) for n, s in zip(normal, look.sun, strict=True))
    facing = np.clip(facing, 0, 1)
    # Leaves let light through: their shells have no dark side.
    facing = np.where(seen.kind == BALL, 0.25 + 0.6 * facing, facing)
    lit = facing * _sunlit(seen.point, shadows)
    open_sky = (0.62 + 0.38 * normal[2])[..., None]
    return lit[..., None] * SUNLIGHT + open_sky * SKYLIGHT


def _sunlit(point, shadows):
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
