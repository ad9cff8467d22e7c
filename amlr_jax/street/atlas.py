"""The textures of the street in one picture, sampled without shimmer.

A tile is an RGBA image that repeats over a surface (see `tiles`). All tiles live in
one atlas as ripmaps: every tile is stored at every pair of a horizontal and a
vertical resolution, because most surfaces of a street (road, facades along it) are
seen squeezed along one axis only, which an isotropic mipmap would answer by blurring
both. A lookup blends the four nearest members.
"""

import cv2
import numpy as np

from amlr_jax.street.brushes import SIZE

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


def make_atlas(tiles):
    """Packs tiles uint8 [512, 512, 4], in the order above, to be read by `sample`."""
    rows = -(-len(tiles) // COLUMNS)
    atlas = np.zeros((rows * BLOCK, COLUMNS * BLOCK, 4), np.uint8)
    for i, tile in enumerate(tiles):
        y, x = i // COLUMNS * BLOCK, i % COLUMNS * BLOCK
        _write_ripmap(atlas[y : y + BLOCK, x : x + BLOCK], tile)
    return atlas


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
            total = (
                total + texel * (weight_x * weight_y * np.float32(1 / 255))[..., None]
            )
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
        start = np.take(STARTS.astype(np.float32), k, mode="clip") + (PAD - 0.5)
        scale = np.take(np.float32(SIZE) / (1 << np.arange(LEVELS)), k, mode="clip")
        scale = scale.astype(np.float32)
        pairs.append((corner + start + coordinate * scale, weight))
    return pairs
