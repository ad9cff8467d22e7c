"""The textures of the street: square tiles, painted once a data set, and their lookup.

A tile repeats over a surface, or is stretched over it once, and is multiplied with the
surface's tint. All tiles are stored in one image as ripmaps: each at every pair of a
horizontal and a vertical resolution, because most surfaces of a street (the road,
facades along it) are seen squeezed along one axis, where an isotropic mipmap would
blur both. A lookup blends the four members nearest to a pixel's footprint.
"""

from collections.abc import Callable, Iterator
from functools import partial

import cv2
import numpy as np

Array = np.ndarray
Rng = np.random.Generator

SIZE = 512  # texels of a tile's side
LEVELS = 9  # resolutions along an axis: 512 .. 2 texels
PAD = 2  # wrapped border, so that a bilinear lookup never reads a neighbour
TEXELS = SIZE >> np.arange(LEVELS)
STARTS = np.cumsum([0, *(TEXELS + 2 * PAD)])  # of the resolutions in a ripmap
LANE = 3.5  # metres, width of a lane
ROAD = 12.0  # metres that a tile of the ground covers
# Texel centres in [0, 1): x to the right, y down.
X, Y = np.meshgrid(*[(np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE] * 2)


def _noise(rng: Rng, cells: float, slope: float = 1.3, stretch: float = 1) -> Array:
    """Tileable noise [512, 512] of mean 0 and standard deviation 1.

    Amplitudes fall as frequency ** -slope above `cells` periods a tile; the grain is
    `stretch` times as high as wide.
    """
    y = np.fft.fftfreq(SIZE, 1 / SIZE)[:, None] * stretch
    x = np.fft.rfftfreq(SIZE, 1 / SIZE)
    spectrum = np.fft.rfft2(rng.standard_normal((SIZE, SIZE)))
    spectrum *= np.maximum(np.hypot(y, x) / cells, 1) ** -slope
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum)
    return (field / field.std()).astype(np.float32)


def _rgb(brightness: Array, *colour: float) -> Array:
    """A colour under a brightness map [rows, columns]."""
    return np.array(colour, np.float32) * brightness[..., None]


def _bond(rng: Rng, rows: int, cols: int, joint: float, spread: float) -> Array:
    """Brightness of a bond of bricks or slabs; `joint` is that of its joints."""
    row = np.floor(Y * rows).astype(int)
    x, y = (X * cols + 0.5 * (row % 2)), Y * rows
    tone = 1 + spread * rng.standard_normal((rows, cols))
    tone = tone[row, np.floor(x).astype(int) % cols]
    to_side, to_row = (0.5 - np.abs(t % 1 - 0.5) for t in (x, y))
    tone[np.minimum(to_side / cols, to_row / rows) * SIZE < 0.8] = joint
    return tone * (1 + 0.1 * _noise(rng, 6))


def _road(rng: Rng) -> Array:
    """The road's full width with lane marks, its middle at the tile's border."""
    tone = 1 + 0.12 * _noise(rng, 6) + 0.14 * _noise(rng, 60, 0.6)
    tone[np.abs(_noise(rng, 8, 2)) < 0.02] *= 0.55  # cracks
    tone[_noise(rng, 4, 2.5) > 1.6] *= 0.72  # mended
    left = np.minimum(Y, 1 - Y) * ROAD
    marks = (left < 0.07) & (X < 0.33) | (np.abs(left - LANE) < 0.06)
    tone[marks] = 1.6 + tone[marks]
    return _rgb(tone, 0.30, 0.30, 0.31)


def _grass(rng: Rng) -> Array:
    tone = 1 + 0.2 * _noise(rng, 10) + 0.2 * _noise(rng, 80, 0.6)
    dry = np.clip(0.3 + 0.4 * _noise(rng, 5), 0, 1)
    return _rgb(tone * dry, 0.42, 0.39, 0.22) + _rgb(tone * (1 - dry), 0.27, 0.36, 0.15)


def _house(rng: Rng, *, bricks: bool, shop: bool = False) -> Array:
    """Four bays by four storeys of windows in a wall; the lowest may be a shop's."""
    plaster = 1 + 0.1 * _noise(rng, 6) - 0.1 * np.clip(_noise(rng, 40, 1.3, 20), 0, 2)
    wall = _bond(rng, 128, 44, 1.25, 0.2) if bricks else plaster
    image = _rgb(wall, 0.72, 0.70, 0.68)
    x, y = np.abs(X * 4 % 1 - 0.5), Y * 4 % 1 - 0.5  # from the middle of a window
    half_wide, half_high = rng.uniform((0.15, 0.22), (0.28, 0.32))
    half_wide = np.where(shop & (Y > 0.75), 0.44, half_wide)
    frame = (x < half_wide + 0.02) & (np.abs(y) < half_high + 0.02)
    image[frame] = rng.uniform(0.6, 0.9)
    image[(x < half_wide + 0.05) & (np.abs(y - half_high - 0.07) < 0.02)] *= 0.5
    image[np.abs(y) > 0.47] *= 0.7  # ledges
    pane = (x < half_wide) & (x > 0.01) & (np.abs(y) < half_high)
    pane &= np.abs(y + 0.1) > 0.01
    each, blind = (
        t.repeat(SIZE // 4, 0).repeat(SIZE // 4, 1) for t in rng.random((2, 4, 4))
    )
    glass = 0.1 + 0.3 * each * (0.5 - y) + 0.3 * (y < blind - 0.5)
    image[pane] = _rgb(glass + 0.03 * _noise(rng, 40), 0.85, 0.95, 1.1)[pane]
    image[shop & (np.abs(Y - 0.76) < 0.012)] = rng.uniform(0.1, 0.8, 3)
    return image


def _leaves(rng: Rng) -> Array:
    tone = np.maximum(0.85 + 0.5 * _noise(rng, 18), 0.12)
    warm = np.clip(0.4 + 0.3 * _noise(rng, 8), 0, 1)
    return _rgb(tone * warm, 0.9, 0.9, 0.6) + _rgb(tone * (1 - warm), 0.65, 0.85, 0.45)


def _paint(rng: Rng) -> Array:
    """A car's sheet metal, a little dirty."""
    return _rgb((1.1 - 0.3 * Y) * (1 + 0.08 * _noise(rng, 6)), 0.85, 0.85, 0.85)


def _car_body(rng: Rng) -> Array:
    """A side or an end of a car: seams, a grille or handles, lamps, a dark sill."""
    image, x = _paint(rng), np.abs(X - 0.5)
    image[(np.abs(x - 0.22) < 0.004) | (np.abs(Y - 0.1) < 0.01)] *= 0.3
    image[(np.abs(x - 0.12) < 0.07) & (np.abs(Y - 0.3) < 0.05)] = 0.08
    image[(x > 0.38) & (x < 0.48) & (np.abs(Y - 0.3) < 0.12)] = (0.9, 0.25, 0.15)
    image[Y > 0.8] = 0.06
    return image


def _car_glass(rng: Rng) -> Array:
    glass = _rgb(0.3 - 0.2 * Y + 0.04 * _noise(rng, 4), 0.8, 0.95, 1.1)
    pane = (np.abs(Y - 0.5) < 0.4) & (np.abs(X - 0.5) < 0.36 + 0.08 * Y)
    return np.where(pane[..., None], glass, _paint(rng))


def _clouds(rng: Rng) -> Array:
    veil = np.clip(0.1 + 0.35 * _noise(rng, 4, 2), 0, 1)
    return _rgb(1 - veil, 0.42, 0.62, 0.92) + _rgb(veil, 0.97, 0.97, 0.98)


# Name: metres that the tile's side covers (0: it is stretched over the face), painter.
# With a tint, "rough" serves as bark, metal, concrete and rubber.
_TILES: dict[str, tuple[float, Callable[[Rng], Array]]] = {
    "road": (ROAD, _road),
    "grass": (ROAD, _grass),
    "paving": (4.0, lambda rng: _rgb(_bond(rng, 8, 8, 0.55, 0.12), 0.5, 0.47, 0.44)),
    "brick_house": (12.0, partial(_house, bricks=True)),
    "plaster_house": (12.0, partial(_house, bricks=False)),
    "shop_house": (12.0, partial(_house, bricks=False, shop=True)),
    "roof": (5.0, lambda rng: _rgb(_bond(rng, 16, 20, 0.6, 0.2), 0.6, 0.6, 0.6)),
    "leaves": (3.0, _leaves),
    "rough": (2.5, lambda rng: _rgb(1 + 0.2 * _noise(rng, 10, 1.3, 4), 0.7, 0.7, 0.7)),
    "paint": (0.0, _paint),
    "car_body": (0.0, _car_body),
    "car_glass": (0.0, _car_glass),
    "clouds": (0.0, _clouds),
}
METRES = {name: metres for name, (metres, _) in _TILES.items()}
INDEX = {name: k for k, name in enumerate(_TILES)}


def paint_atlas(seed: int) -> Array:
    """All tiles as one column of ripmaps, uint8 [rows, columns, 3], for `sample`."""
    atlas = np.zeros((len(_TILES), STARTS[-1], STARTS[-1], 3), np.uint8)
    rngs = np.random.default_rng([seed, 5]).spawn(len(atlas))
    for block, (_, paint), rng in zip(atlas, _TILES.values(), rngs, strict=True):
        # Texture coordinates rise upwards, an image's rows go down.
        tile = (np.clip(paint(rng)[::-1], 0, 1) * 255 + 0.5).astype(np.uint8)
        for i, k in np.ndindex(LEVELS, LEVELS):
            size = int(TEXELS[k]), int(TEXELS[i])
            small = cv2.resize(tile, size, interpolation=cv2.INTER_AREA)
            small = np.pad(small, ((PAD, PAD), (PAD, PAD), (0, 0)), mode="wrap")
            block[STARTS[i] : STARTS[i + 1], STARTS[k] : STARTS[k + 1]] = small
    return atlas.reshape(-1, STARTS[-1], 3)


def sample(atlas: Array, tile: Array, u: Array, v: Array) -> Array:
    """Colours float32 [rows, columns, 3] in [0, 1] of an atlas at texture coordinates.

    `tile` holds values of `INDEX`; `u`, `v` are float32, in tiles, to the right and up.
    """
    top = (tile * STARTS[-1]).astype(np.float32)
    rows, total = list(_two_levels(v)), np.zeros((*u.shape, 3), np.float32)
    for x, x_share in _two_levels(u):
        for y, y_share in rows:
            texel = cv2.remap(atlas, x, top + y, cv2.INTER_LINEAR)
            total = total + texel * (x_share * y_share / np.float32(255))[..., None]
    return total


def _two_levels(coordinate: Array) -> Iterator[tuple[Array, Array]]:
    """Position and weight in each of the two resolutions around the footprint."""
    # A pixel's footprint is the change to the next pixel along an axis, the smaller of
    # two, because one of the neighbours may belong to another surface.
    steps = [np.abs(coordinate - np.roll(coordinate, 1, axis)) for axis in (0, 1)]
    steps = [np.minimum(s, np.roll(s, -1, axis)) for axis, s in enumerate(steps)]
    level = np.log2(np.maximum(np.maximum(*steps) * SIZE, 1))
    level = np.minimum(level, np.float32(LEVELS - 1.001))
    low = level.astype(int)
    inside = coordinate - np.floor(coordinate)
    for k, share in ((low, 1 - level + low), (low + 1, level - low)):
        start = (STARTS + PAD - 0.5).astype(np.float32)[k]
        yield start + inside * TEXELS.astype(np.float32)[k], share.astype(np.float32)
