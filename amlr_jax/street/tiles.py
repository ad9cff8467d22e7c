"""The tiles of ground, houses, plants and street furniture, and the list of all.

Each is drawn once a data set; alpha tells how much of the surface's own tint (a car's
paint, a house's colour) a texel takes, and is 1 where a painter leaves it out.
"""

import cv2
import numpy as np

from amlr_jax.street import car_tiles
from amlr_jax.street.brushes import SIZE, bond, mottle, scribble, shade, texels


def draw_tiles(rng):
    """All tiles, uint8 [512, 512, 4], in the order of the names in `atlas`."""
    return [
        _draw(paint, np.random.default_rng(rng.integers(1 << 62))) for paint in TILES
    ]


def _draw(paint, rng):
    image = paint(rng)
    if image.shape[2] == 3:
        image = np.concatenate([image, np.ones_like(image[..., :1])], axis=2)
    # A surface's second coordinate points up, an image's rows go down.
    return (np.clip(image, 0, 1)[::-1] * 255 + 0.5).astype(np.uint8)


def _asphalt(rng):
    image = 1 + 0.10 * mottle(rng, 5, 3) + 0.17 * mottle(rng, 128, 3, 0.9)
    cracks = np.abs(mottle(rng, 4, 4)) < 0.018
    image[cracks] *= 0.55
    patch = mottle(rng, 3, 2) > 1.5
    image[patch] *= 0.72
    return shade((0.30, 0.30, 0.31), image)


def _grass(rng):
    image = 1 + 0.25 * mottle(rng, 8, 4, 0.8) + 0.22 * mottle(rng, (64, 128), 3, 0.9)
    dry = np.clip(mottle(rng, 5, 4) * 0.5 + 0.2, 0, 1)[..., None]
    return shade((0.27, 0.36, 0.15), image) * (1 - dry) + dry * shade(
        (0.42, 0.39, 0.22), image
    )


def _slabs(rng):
    tone, joints = bond(rng, 8, 8, 1.6, shift=0.5)
    image = tone * (1 + 0.08 * mottle(rng, 6, 3) + 0.10 * mottle(rng, 128, 3, 0.9))
    image[joints] *= 0.55
    return shade((0.50, 0.47, 0.44), image)


def _kerb(rng):
    tone, joints = bond(rng, 1, 3, 2.0)
    image = tone * (1 + 0.1 * mottle(rng, 16, 5, 0.8))
    image[joints & (texels()[1] > 0.02)] *= 0.5
    return shade((0.58, 0.57, 0.55), image)


def _plaster(rng):
    image = 1 + 0.07 * mottle(rng, 4, 4) + 0.08 * mottle(rng, 96, 3, 0.9)
    streaks = np.clip(mottle(rng, (2, 64), 2) - 0.8, 0, 2)
    return shade((0.74, 0.74, 0.72), image - 0.10 * streaks)


def _bricks(rng):
    tone, joints = bond(rng, 128, 44, 0.55, shift=0.5, spread=0.2)
    image = tone * (1 + 0.10 * mottle(rng, 5, 4))
    image[joints] = 1.25
    return shade((0.70, 0.66, 0.64), image)


def _facade(rng):
    """Four bays by four storeys of windows in a wall; the wall takes the tint."""
    wall = _bricks(rng) if rng.random() < 0.45 else _plaster(rng)
    image = np.concatenate([wall, np.ones_like(wall[..., :1])], axis=2)
    cell = SIZE // 4
    wide, high = rng.uniform(0.30, 0.56), rng.uniform(0.42, 0.62)
    frame = rng.uniform(0.35, 0.95) * np.ones(3)
    shutters = rng.random() < 0.4
    for row in range(4):
        for col in range(4):
            area = image[row * cell : (row + 1) * cell, col * cell : (col + 1) * cell]
            _window(area, rng, wide, high, frame, shutters)
    if rng.random() < 0.6:  # a string course under every storey
        for row in range(4):
            image[(row + 1) * cell - 6 : (row + 1) * cell - 1, :, :3] *= 1.18
            image[(row + 1) * cell - 1, :, :3] *= 0.6
    return image


def _window(area, rng, wide, high, frame, shutters):
    cell = area.shape[0]
    x0, x1 = int(cell * (0.5 - wide / 2)), int(cell * (0.5 + wide / 2))
    y0 = int(cell * (0.52 - high / 2))
    y1 = int(cell * (0.52 + high / 2))
    area[y0 - 3 : y1 + 3, x0 - 3 : x1 + 3] = [*frame, 0.2]
    area[y1 + 3 : y1 + 7, x0 - 6 : x1 + 6, :3] *= 1.25
    area[y1 + 7 : y1 + 10, x0 - 6 : x1 + 6, :3] *= 0.5
    if shutters:
        tone = np.where(np.arange(y1 - y0) % 4 < 2, 0.30, 0.42)[:, None, None]
        for left in (x0 - 3 - (x1 - x0) // 3, x1 + 3):
            area[y0:y1, max(left, 0) : left + (x1 - x0) // 3, :3] = tone
    sky = np.linspace(rng.uniform(0.25, 0.5), rng.uniform(0.05, 0.2), y1 - y0)
    glass = sky[:, None] + 0.04 * rng.standard_normal((1, x1 - x0))
    area[y0:y1, x0:x1] = shade((0.85, 0.95, 1.1), glass) @ np.eye(3, 4)
    if rng.random() < 0.5:  # curtains or a blind
        drop = int(rng.uniform(0.2, 0.9) * (y1 - y0))
        area[y0 : y0 + drop, x0:x1, :3] += rng.uniform(0.15, 0.5)
    middle = (x0 + x1) // 2
    area[y0:y1, middle - 1 : middle + 2, :3] = frame
    bar = y0 + (y1 - y0) // 3
    area[bar - 1 : bar + 1, x0:x1, :3] = frame


def _shop(rng):
    """A ground floor: panes, a door and a painted band above."""
    image = _facade_base(rng)
    panes = np.sort(rng.choice(np.arange(1, 8), 3, replace=False)) * SIZE // 8
    for left, right in zip([12, *panes + 8], [*panes - 8, SIZE - 12], strict=True):
        glass = np.linspace(0.30, 0.10, 330)[:, None]
        glass = glass + 0.12 * np.abs(mottle(rng, (6, 10), 3)[:330, left:right])
        image[150:480, left:right] = shade(rng.uniform(0.8, 1.0, 3), glass) @ np.eye(
            3, 4
        )
        image[300:304, left:right] = [0.5, 0.5, 0.5, 0]
    image[30:120, 20:-20] = [*rng.uniform(0.1, 0.8, 3), 0]
    scribble(image[45:105, 60:-60], rng, count=14)
    return image


def _facade_base(rng):
    wall = _plaster(rng)
    return np.concatenate([wall, np.ones_like(wall[..., :1])], axis=2)


def _roof(rng):
    tone, joints = bond(rng, 16, 20, 1.0, shift=0.5, spread=0.15)
    _, y = texels()
    image = tone * (0.8 + 0.4 * (y * 16 % 1)) * (1 + 0.15 * mottle(rng, 5, 4))
    image[joints] *= 0.6
    return shade((0.6, 0.6, 0.6), image)


def _leaf(rng):
    image = 0.85 + 0.40 * mottle(rng, 14, 4, 0.9)
    warm = np.clip(0.3 + 0.25 * mottle(rng, 6, 3), 0, 1)[..., None]
    image = np.maximum(image, 0.12)
    return shade((0.9, 0.9, 0.7), image) * warm + (1 - warm) * shade(
        (0.65, 0.85, 0.45), image
    )


def _bark(rng):
    return shade((0.36, 0.30, 0.24), 1 + 0.3 * mottle(rng, (6, 32), 4, 0.8))


def _metal(rng):
    return shade((0.55, 0.56, 0.57), 1 + 0.12 * mottle(rng, (4, 16), 5, 0.8))


def _planks(rng):
    tone, _ = bond(rng, 1, 20, 1.0, spread=0.18)
    x, _ = texels()
    image = tone * (1 + 0.15 * mottle(rng, (4, 64), 3, 0.8))
    image[np.minimum(x * 20 % 1, 1 - x * 20 % 1) < 0.06] *= 0.3
    return shade((0.62, 0.52, 0.40), image)


def _poster(rng):
    cells = rng.uniform(0.2, 0.5, 3) + rng.uniform(-0.2, 0.25, (5, 4, 1))
    cells = cells.astype(np.float32)
    image = cv2.resize(cells, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)
    image = np.concatenate([image, np.zeros_like(image[..., :1])], axis=2)
    for top in (60, 160, 300, 420):
        scribble(image[top : top + 50, 40:-40], rng, count=int(rng.integers(6, 16)))
    return image


def _clouds(rng):
    veil = np.clip(mottle(rng, 4, 6, 0.55) * 0.35 + 0.1, 0, 1)[..., None]
    sky = np.array([0.42, 0.62, 0.92], np.float32)
    return sky * (1 - veil) + veil * np.array([0.97, 0.97, 0.98], np.float32)


def _grain(rng):
    """Detail over every surface, around one half: fine in red, coarse in green."""
    fine = 0.5 + 0.13 * mottle(rng, 24, 5, 0.85)
    coarse = 0.5 + 0.13 * mottle(rng, 6, 5, 0.7)
    return np.stack([fine, coarse, fine], axis=2)


def _sign(rng):
    """Red ring, white field, dark figure."""
    x, y = texels()
    radius = np.maximum(np.abs(x - 0.5), np.abs(y - 0.5))
    image = np.zeros((SIZE, SIZE, 4), np.float32)
    image[...] = (0.92, 0.92, 0.92, 0)
    image[radius > 0.38] = (0.75, 0.08, 0.08, 0)
    scribble(image[180:330, 160:350], rng, count=2)
    return image


TILES = (
    _asphalt, _grass, _slabs, _kerb, _plaster, _facade, _facade, _facade, _facade,
    _shop, _roof, _leaf, _bark, _metal, _planks, car_tiles.paint_coat, car_tiles.side,
    car_tiles.rear, car_tiles.front, car_tiles.glass, car_tiles.windscreen,
    car_tiles.wheel, _sign, _poster, _clouds, _grain,
)  # fmt: skip
