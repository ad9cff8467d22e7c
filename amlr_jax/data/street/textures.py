"""The textures of the street, drawn once a drive and sampled without shimmer.

A tile is an RGBA image that repeats over a surface; alpha tells how much of the
surface's own tint (a car's paint, a house's colour) a texel takes. All tiles live in
one atlas as ripmaps: every tile is stored at every pair of a horizontal and a
vertical resolution, because most surfaces of a street (road, facades along it) are
seen squeezed along one axis only, which an isotropic mipmap would answer by blurring
both. A lookup blends the four nearest members.
"""

from typing import NamedTuple

import cv2
import numpy as np

from amlr_jax.data.street.noise import octaves

SIZE = 512  # texels of a tile's side
LEVELS = 9  # 512 .. 2 texels
PAD = 2  # wrapped border, so that bilinear lookups never meet a neighbour
STARTS = np.cumsum([0] + [(SIZE >> k) + 2 * PAD for k in range(LEVELS)])
BLOCK = int(STARTS[-1])
COLUMNS = 6  # blocks in a row of the atlas; OpenCV's remap wants sides < 32767

(
    ASPHALT, GRASS, SLABS, KERB, PLASTER, FACADE_A, FACADE_B, FACADE_C, FACADE_D, SHOP,
    ROOF, LEAF, BARK, METAL, PLANKS, PAINT, CAR_SIDE, CAR_REAR, CAR_FRONT, CAR_GLASS,
    CAR_WINDSCREEN, WHEEL, SIGN, POSTER, CLOUDS, GRAIN,
) = range(26)  # fmt: skip
FACADES = (FACADE_A, FACADE_B, FACADE_C, FACADE_D)
# Metres that a tile's side covers, for those that repeat over a surface.
METRES = {
    ASPHALT: 6.0, GRASS: 5.0, SLABS: 4.0, KERB: 3.0, PLASTER: 6.0, ROOF: 5.0,
    FACADE_A: 11.2, FACADE_B: 10.4, FACADE_C: 12.0, FACADE_D: 11.2, LEAF: 3.0,
    BARK: 1.2, METAL: 2.0, PLANKS: 3.0, PAINT: 3.0, SHOP: 8.0,
}  # fmt: skip
STOREY = 3.0  # metres; a facade tile has four storeys, whatever its width


def facade_height():
    """Metres that a facade tile covers upwards."""
    return 4 * STOREY


def make_atlas(rng):
    """Draws all tiles; uint8 [rows, columns, 4], to be read by `sample`."""
    tiles = [_tile(kind, np.random.default_rng(rng.integers(1 << 62))) for kind in TILES]
    rows = -(-len(tiles) // COLUMNS)
    atlas = np.zeros((rows * BLOCK, COLUMNS * BLOCK, 4), np.uint8)
    for i, tile in enumerate(tiles):
        y, x = i // COLUMNS * BLOCK, i % COLUMNS * BLOCK
        _write_ripmap(atlas[y : y + BLOCK, x : x + BLOCK], tile)
    return atlas


def _tile(draw, rng):
    image = draw(rng)
    if image.shape[2] == 3:
        image = np.concatenate([image, np.ones_like(image[..., :1])], axis=2)
    # A surface's second coordinate points up, an image's rows go down.
    return (np.clip(image, 0, 1)[::-1] * 255 + 0.5).astype(np.uint8)


def _write_ripmap(block, tile):
    for i in range(LEVELS):
        tall = cv2.resize(tile, (SIZE, SIZE >> i), interpolation=cv2.INTER_AREA)
        for k in range(LEVELS):
            small = cv2.resize(
                tall, (SIZE >> k, SIZE >> i), interpolation=cv2.INTER_AREA
            )
            y, x = STARTS[i], STARTS[k]
            small = np.pad(small, ((PAD, PAD), (PAD, PAD), (0, 0)), mode="wrap")
            block[y : y + small.shape[0], x : x + small.shape[1]] = small


def sample(atlas, tile, u, v, footprint_u, footprint_v, *, blend=True):
    """Colours of tiles at surface coordinates.

    Args:
      atlas: see `make_atlas`.
      tile: int [rows, columns].
      u, v: float32 [rows, columns], in periods of the tile.
      footprint_u, footprint_v: float32, periods that a pixel covers along each.
      blend: between the four nearest members; else the nearest alone, four times as
        fast, for noise whose levels nobody can tell apart.

    Returns:
      float32 [rows, columns, 4] in [0, 1].
    """
    u, v = u - np.floor(u), v - np.floor(v)
    left = (tile % COLUMNS * BLOCK).astype(np.float32)
    top = (tile // COLUMNS * BLOCK).astype(np.float32)
    xs = _two_levels(left, u, footprint_u, blend=blend)
    ys = _two_levels(top, v, footprint_v, blend=blend)
    if not blend:
        return cv2.remap(atlas, xs[0][0], ys[0][0], cv2.INTER_LINEAR) / np.float32(255)
    total = 0.0
    for x, weight_x in xs:
        for y, weight_y in ys:
            texel = cv2.remap(atlas, x, y, cv2.INTER_LINEAR)
            total = total + texel * (weight_x * weight_y * np.float32(1 / 255))[..., None]
    return total


def _two_levels(corner, coordinate, footprint, *, blend):
    """Atlas positions and weights in the two resolutions around a footprint."""
    level = np.log2(np.maximum(footprint * SIZE, 1.0))
    level = np.minimum(level, np.float32(LEVELS - 1.001))
    low = np.floor(level if blend else level + 0.5)
    share = level - low
    low = low.astype(np.int8)
    pairs = []
    for k, weight in ((low, 1 - share), (low + 1, share))[: 2 if blend else 1]:
        start = np.take(STARTS.astype(np.float32), k) + (PAD - 0.5)
        scale = np.take(np.float32(SIZE) / (1 << np.arange(LEVELS)), k)
        scale = scale.astype(np.float32)
        pairs.append((corner + start + coordinate * scale, weight))
    return pairs


def _noise(rng, cells, count=4, persistence=0.6):
    cells = (cells, cells) if np.isscalar(cells) else cells
    return octaves(
        rng, size=(SIZE, SIZE), cells=cells, count=count, persistence=persistence
    )


def _shade(colour, brightness):
    """A colour [3] under a brightness map [rows, columns]."""
    return np.asarray(colour, np.float32) * brightness[..., None].astype(np.float32)


def _grid():
    """Texel centres in [0, 1): x to the right, y down."""
    ticks = (np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE
    return np.meshgrid(ticks, ticks)


def _asphalt(rng):
    image = 1 + 0.10 * _noise(rng, 5, 3) + 0.17 * _noise(rng, 128, 3, 0.9)
    cracks = np.abs(_noise(rng, 4, 4)) < 0.018
    image[cracks] *= 0.55
    patch = _noise(rng, 3, 2) > 1.5
    image[patch] *= 0.72
    return _shade((0.30, 0.30, 0.31), image)


def _grass(rng):
    image = 1 + 0.25 * _noise(rng, 8, 4, 0.8) + 0.22 * _noise(rng, (64, 128), 3, 0.9)
    dry = np.clip(_noise(rng, 5, 4) * 0.5 + 0.2, 0, 1)[..., None]
    return _shade((0.27, 0.36, 0.15), image) * (1 - dry) + dry * _shade(
        (0.42, 0.39, 0.22), image
    )


def _blocks(rng, rows, cols, joint, *, shift=0.0, spread=0.12):
    """Brightness of a bond of bricks or slabs and the mask of its joints."""
    x, y = _grid()
    row = np.floor(y * rows).astype(int)
    across = x * cols + shift * (row % 2)
    col = np.floor(across).astype(int) % cols
    tone = 1 + spread * rng.standard_normal((rows, cols)).astype(np.float32)
    edge = np.minimum(across % 1, 1 - across % 1) * SIZE / cols
    edge = np.minimum(edge, np.minimum(y * rows % 1, 1 - y * rows % 1) * SIZE / rows)
    return tone[row, col], edge < joint


def _slabs(rng):
    tone, joints = _blocks(rng, 8, 8, 1.6, shift=0.5)
    image = tone * (1 + 0.08 * _noise(rng, 6, 3) + 0.10 * _noise(rng, 128, 3, 0.9))
    image[joints] *= 0.55
    return _shade((0.50, 0.47, 0.44), image)


def _kerb(rng):
    tone, joints = _blocks(rng, 1, 3, 2.0)
    image = tone * (1 + 0.1 * _noise(rng, 16, 5, 0.8))
    image[joints & (_grid()[1] > 0.02)] *= 0.5
    return _shade((0.58, 0.57, 0.55), image)


def _plaster(rng):
    image = 1 + 0.07 * _noise(rng, 4, 4) + 0.08 * _noise(rng, 96, 3, 0.9)
    streaks = np.clip(_noise(rng, (2, 64), 2) - 0.8, 0, 2)
    return _shade((0.74, 0.74, 0.72), image - 0.10 * streaks)


def _bricks(rng):
    tone, joints = _blocks(rng, 128, 44, 0.55, shift=0.5, spread=0.2)
    image = tone * (1 + 0.10 * _noise(rng, 5, 4))
    image[joints] = 1.25
    return _shade((0.70, 0.66, 0.64), image)


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
    area[y0:y1, x0:x1] = _shade((0.85, 0.95, 1.1), glass) @ np.eye(3, 4)
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
        glass = glass + 0.12 * np.abs(_noise(rng, (6, 10), 3)[:330, left:right])
        image[150:480, left:right] = _shade(rng.uniform(0.8, 1.0, 3), glass) @ np.eye(
            3, 4
        )
        image[300:304, left:right] = [0.5, 0.5, 0.5, 0]
    image[30:120, 20:-20] = [*rng.uniform(0.1, 0.8, 3), 0]
    _scribble(image[45:105, 60:-60], rng, count=14)
    return image


def _facade_base(rng):
    wall = _plaster(rng)
    return np.concatenate([wall, np.ones_like(wall[..., :1])], axis=2)


def _scribble(area, rng, *, count):
    """Letter-like marks: bars of one random colour."""
    colour = [*[rng.choice([0.06, 0.85])] * 3, 0]
    width = area.shape[1] // count
    for k in range(count):
        if rng.random() < 0.15:
            continue
        x = k * width
        area[:, x : x + width // 4] = colour
        bar = rng.integers(3) * area.shape[0] // 3
        area[bar : bar + area.shape[0] // 4, x : x + 3 * width // 4] = colour


def _roof(rng):
    tone, joints = _blocks(rng, 16, 20, 1.0, shift=0.5, spread=0.15)
    _, y = _grid()
    image = tone * (0.8 + 0.4 * (y * 16 % 1)) * (1 + 0.15 * _noise(rng, 5, 4))
    image[joints] *= 0.6
    return _shade((0.6, 0.6, 0.6), image)


def _leaf(rng):
    image = 0.85 + 0.40 * _noise(rng, 14, 4, 0.9)
    warm = np.clip(0.3 + 0.25 * _noise(rng, 6, 3), 0, 1)[..., None]
    image = np.maximum(image, 0.12)
    return _shade((0.9, 0.9, 0.7), image) * warm + (1 - warm) * _shade(
        (0.65, 0.85, 0.45), image
    )


def _bark(rng):
    return _shade((0.36, 0.30, 0.24), 1 + 0.3 * _noise(rng, (6, 32), 4, 0.8))


def _metal(rng):
    return _shade((0.55, 0.56, 0.57), 1 + 0.12 * _noise(rng, (4, 16), 5, 0.8))


def _planks(rng):
    tone, _ = _blocks(rng, 1, 20, 1.0, spread=0.18)
    x, _ = _grid()
    image = tone * (1 + 0.15 * _noise(rng, (4, 64), 3, 0.8))
    image[np.minimum(x * 20 % 1, 1 - x * 20 % 1) < 0.06] *= 0.3
    return _shade((0.62, 0.52, 0.40), image)


def _paint(rng):
    return _shade((0.85, 0.85, 0.85), 1 + 0.04 * _noise(rng, 4, 5, 0.8))


def _car_panel(rng):
    image = _paint(rng)
    image = np.concatenate([image, np.ones_like(image[..., :1])], axis=2)
    image[..., :3] *= np.linspace(1.12, 0.75, SIZE)[:, None, None]
    return image


def _car_side(rng):
    image = _car_panel(rng)
    x, y = _grid()
    for seam in (0.30, 0.50, 0.71):
        image[(np.abs(x - seam) < 0.004) & (y < 0.85)] *= (0.3, 0.3, 0.3, 1)
    for handle in (0.44, 0.65):
        image[(np.abs(x - handle) < 0.025) & (np.abs(y - 0.28) < 0.025)] = 0.15
    image[np.abs(y - 0.42) < 0.012] *= (1.25, 1.25, 1.25, 1)
    for arch in (0.19, 0.81):
        image[((x - arch) / 0.098) ** 2 + ((y - 1.02) / 0.62) ** 2 < 1] = 0.03
    image[y > 0.90] = (0.05, 0.05, 0.05, 0)
    image[(x < 0.035) & (y > 0.2) & (y < 0.4)] = (0.8, 0.15, 0.1, 0)
    image[(x > 0.95) & (y > 0.25) & (y < 0.42)] = (0.9, 0.9, 0.85, 0)
    return image


def _plate(image, rng):
    image[330:385, 170:342] = (0.9, 0.9, 0.88, 0)
    _scribble(image[340:375, 182:330], np.random.default_rng(rng.integers(99)), count=7)


def _car_rear(rng):
    image = _car_panel(rng)
    x, y = _grid()
    lamps = (np.abs(x - 0.5) > 0.36) & (y > 0.12) & (y < 0.46)
    image[lamps] = (0.62, 0.06, 0.05, 0)
    image[lamps & (np.abs(y - 0.26) < 0.04)] = (0.9, 0.55, 0.3, 0)
    image[np.abs(y - 0.50) < 0.008] *= (0.35, 0.35, 0.35, 1)
    image[y > 0.82] = (0.06, 0.06, 0.06, 0)
    _plate(image, rng)
    return image


def _car_front(rng):
    image = _car_panel(rng)
    x, y = _grid()
    lamps = (np.abs(x - 0.5) > 0.30) & (y > 0.16) & (y < 0.44)
    image[lamps] = (0.88, 0.90, 0.92, 0)
    grille = (np.abs(x - 0.5) < 0.26) & (y > 0.18) & (y < 0.46)
    image[grille] = (0.07, 0.07, 0.08, 0)
    image[grille & (y * 40 % 1 < 0.3)] = (0.5, 0.5, 0.5, 0)
    image[(np.abs(x - 0.5) < 0.42) & (y > 0.78)] = (0.05, 0.05, 0.05, 0)
    _plate(image, rng)
    return image


def _pane(image, inside, rng):
    _, y = _grid()
    glass = 0.26 - 0.2 * y + 0.03 * _noise(rng, 3, 3)
    image[inside] = (_shade((0.8, 0.95, 1.1), glass) @ np.eye(3, 4))[inside]


def _car_glass(rng):
    image = _car_panel(rng)
    x, y = _grid()
    inside = (np.abs(y - 0.52) < 0.38) & (np.abs(x - 0.5) < 0.46 - 0.16 * (1 - y))
    for pillar in (0.36, 0.62):
        inside &= np.abs(x - pillar) > 0.014
    _pane(image, inside, rng)
    return image


def _car_windscreen(rng):
    image = _car_panel(rng)
    x, y = _grid()
    _pane(image, (np.abs(x - 0.5) < 0.41) & (np.abs(y - 0.52) < 0.40), rng)
    return image


def _wheel(rng):
    x, y = _grid()
    radius = np.hypot(x - 0.5, y - 0.5)
    angle = np.arctan2(y - 0.5, x - 0.5)
    image = np.full((SIZE, SIZE), 0.05, np.float32) + 0.01 * _noise(rng, 32, 2)
    hub = radius < 0.32
    image[hub] = np.where(np.cos(5 * angle[hub]) > -0.2, 0.62, 0.14)
    image[radius < 0.06] = 0.3
    image = np.stack([image] * 3 + [np.zeros_like(image)], axis=2)
    return image.astype(np.float32)


def _sign(rng):
    """Red ring, white field, dark figure."""
    x, y = _grid()
    radius = np.maximum(np.abs(x - 0.5), np.abs(y - 0.5))
    image = np.zeros((SIZE, SIZE, 4), np.float32)
    image[...] = (0.92, 0.92, 0.92, 0)
    image[radius > 0.38] = (0.75, 0.08, 0.08, 0)
    _scribble(image[180:330, 160:350], rng, count=2)
    return image


def _poster(rng):
    cells = rng.uniform(0.2, 0.5, 3) + rng.uniform(-0.2, 0.25, (5, 4, 1))
    cells = cells.astype(np.float32)
    image = cv2.resize(cells, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)
    image = np.concatenate([image, np.zeros_like(image[..., :1])], axis=2)
    for top in (60, 160, 300, 420):
        _scribble(image[top : top + 50, 40:-40], rng, count=int(rng.integers(6, 16)))
    return image


def _clouds(rng):
    veil = np.clip(_noise(rng, 4, 6, 0.55) * 0.35 + 0.1, 0, 1)[..., None]
    sky = np.array([0.42, 0.62, 0.92], np.float32)
    return sky * (1 - veil) + veil * np.array([0.97, 0.97, 0.98], np.float32)


def _grain(rng):
    """Detail over every surface, around one half: fine in red, coarse in green."""
    fine = 0.5 + 0.13 * _noise(rng, 24, 5, 0.85)
    coarse = 0.5 + 0.13 * _noise(rng, 6, 5, 0.7)
    return np.stack([fine, coarse, fine], axis=2)


TILES = (
    _asphalt, _grass, _slabs, _kerb, _plaster, _facade, _facade, _facade, _facade,
    _shop, _roof, _leaf, _bark, _metal, _planks, _paint, _car_side, _car_rear,
    _car_front, _car_glass, _car_windscreen, _wheel, _sign, _poster, _clouds, _grain,
)  # fmt: skip
