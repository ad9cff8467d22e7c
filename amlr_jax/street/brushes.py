"""What tiles are painted with. An image is float32 [512, 512, channels] in [0, 1]."""

import numpy as np

from amlr_jax.street.noise import octaves

SIZE = 512  # texels of a tile's side


def mottle(rng, cells, count=4, persistence=0.6):
    """Noise over a whole tile, see `octaves`; `cells` one number or (rows, columns)."""
    cells = (cells, cells) if np.isscalar(cells) else cells
    return octaves(
        rng, size=(SIZE, SIZE), cells=cells, count=count, persistence=persistence
    )


def shade(colour, brightness):
    """A colour [3] under a brightness map [rows, columns]."""
    return np.asarray(colour, np.float32) * brightness[..., None].astype(np.float32)


def texels():
    """Texel centres in [0, 1): x to the right, y down."""
    ticks = (np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE
    return np.meshgrid(ticks, ticks)


def bond(rng, rows, cols, joint, *, shift=0.0, spread=0.12):
    """Brightness of a bond of bricks or slabs and the mask of its joints."""
    x, y = texels()
    row = np.floor(y * rows).astype(int)
    across = x * cols + shift * (row % 2)
    col = np.floor(across).astype(int) % cols
    tone = 1 + spread * rng.standard_normal((rows, cols)).astype(np.float32)
    edge = np.minimum(across % 1, 1 - across % 1) * SIZE / cols
    edge = np.minimum(edge, np.minimum(y * rows % 1, 1 - y * rows % 1) * SIZE / rows)
    return tone[row, col], edge < joint


def scribble(area, rng, *, count):
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
