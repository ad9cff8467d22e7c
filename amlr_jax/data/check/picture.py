"""A page of frames with their depth drawn over the image: `check.png`."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from amlr_jax.data import colors
from amlr_jax.runtime.files import replacing

FRAMES = 12
WIDTH = 480  # pixels of a tile
_CAPTION = 40  # pixels below it
_COLUMNS = 3
_STEP = 4  # pixels between points; denser ones would hide the image
_FONT, _FONT_SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.42


def write(path: Path, tiles: Sequence[np.ndarray], *, near: float, far: float) -> None:
    """Writes the tiles in rows of three, and the colours of `near` to `far` metres."""
    height = max(len(tile) for tile in tiles)
    shape = (-(-len(tiles) // _COLUMNS), height, _COLUMNS, WIDTH, 3)
    cells = np.full(shape, 255, np.uint8)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, _COLUMNS)
        cells[row, : len(tile), column] = tile
    page = cells.reshape(-1, _COLUMNS * WIDTH, 3)
    page = colors.with_scale(page, near=near, far=far)
    with replacing(path) as temporary:
        Image.fromarray(page).save(temporary)


def draw_tile(
    key: str,
    image: np.ndarray | None,
    metres: np.ndarray | None,
    trouble: str,
    *,
    near: float,
    far: float,
) -> np.ndarray:
    """One frame, uint8 [H, WIDTH, 3], with its key and its depth or `trouble` below.

    `image` is uint8 [H, W, 3], `metres` [H, W] with 0 for none.
    """
    shown: np.ndarray = np.full((WIDTH // 3, WIDTH, 3), 200, np.uint8)
    if image is not None:
        height = max(round(image.shape[0] * WIDTH / image.shape[1]), 1)
        shown = cv2.resize(image, (WIDTH, height), interpolation=cv2.INTER_AREA)
        # Grey between the darkest and the brightest point, for contrast with all.
        grey = 80 + cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY) // 2
        shown = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    if metres is not None:
        _draw_points(shown, metres, near, far)
        values = metres[metres > 0]
        trouble = "no valid depth"
        if len(values):
            share, low, high = len(values) / metres.size, values.min(), values.max()
            trouble = f"valid {share:.1%}, {low:.3g} to {high:.3g} m"
    strip = np.full((_CAPTION, WIDTH, 3), 255, np.uint8)
    for number, line in enumerate((key[-64:], trouble[:70])):
        place = (4, 15 + 17 * number)
        text = line.encode("ascii", "replace").decode()  # all that the font has
        cv2.putText(strip, text, place, _FONT, _FONT_SIZE, 0, 1, cv2.LINE_AA)
    return np.vstack([shown, strip])


def _draw_points(
    shown: np.ndarray, metres: np.ndarray, near: float, far: float
) -> None:
    """Draws one point of depth, 2x2 pixels, in each cell of the tile."""
    rows, columns = np.nonzero(metres)
    scale = np.divide(shown.shape[:2], metres.shape)
    y, x = ((p * s).astype(int) for p, s in zip((rows, columns), scale, strict=True))
    _, first = np.unique((y // _STEP) * WIDTH + x // _STEP, return_index=True)
    y, x, values = y[first], x[first], metres[rows[first], columns[first]]
    points = colors.colorize(values[None], near=near, far=far)[0]
    for down in (0, 1):
        for right in (0, 1):
            below = np.minimum(y + down, shown.shape[0] - 1)
            shown[below, np.minimum(x + right, WIDTH - 1)] = points
