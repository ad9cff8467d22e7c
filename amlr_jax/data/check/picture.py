"""A page of frames with their depth drawn over the image: `check.png`."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from amlr_jax.data import colors
from amlr_jax.runtime.files import replacing

FRAMES = 12
WIDTH = 480  # pixels of a tile
_CAPTION = 40  # pixels below it
_COLUMNS = 3
_STEP = 4  # pixels between points; denser ones would hide the image
_FONT, _FONT_SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.42


class Tile(NamedTuple):
    """One frame: what to draw, or why there is nothing."""

    key: str
    image: np.ndarray | None  # uint8 [H, W, 3] RGB
    metres: np.ndarray | None  # [H, W], 0 = none
    trouble: str = ""


def write(path: Path, tiles: Sequence[Tile], *, near: float, far: float) -> None:
    """Draws the tiles in rows of three, coloured from `near` to `far` metres."""
    drawn = [_tile(tile, near, far) for tile in tiles]
    height = max(tile.shape[0] for tile in drawn)
    page = np.full((-(-len(drawn) // _COLUMNS), height, _COLUMNS, WIDTH, 3), 255)
    page = page.astype(np.uint8)
    for number, tile in enumerate(drawn):
        row, column = divmod(number, _COLUMNS)
        page[row, : len(tile), column] = tile
    page = page.reshape(-1, _COLUMNS * WIDTH, 3)
    page = colors.with_scale(page, near=near, far=far)
    with replacing(path) as temporary:
        # imencode and not imwrite: OpenCV says nothing when it cannot write.
        temporary.write_bytes(cv2.imencode(".png", page[..., ::-1])[1].tobytes())


def _tile(tile: Tile, near: float, far: float) -> np.ndarray:
    shown: np.ndarray = np.full((WIDTH // 3, WIDTH, 3), 200, np.uint8)
    if tile.image is not None:
        height = max(round(tile.image.shape[0] * WIDTH / tile.image.shape[1]), 1)
        shown = cv2.resize(tile.image, (WIDTH, height), interpolation=cv2.INTER_AREA)
        # Grey between the darkest and the brightest point, so that all can be seen.
        grey = 80 + cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY) // 2
        shown = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    if tile.metres is not None:
        _draw_points(shown, tile.metres, near, far)
    strip = np.full((_CAPTION, WIDTH, 3), 255, np.uint8)
    for number, line in enumerate((tile.key[-64:], _caption(tile)[:70])):
        place = (4, 15 + 17 * number)
        text = line.encode("ascii", "replace").decode()  # all that the font has
        cv2.putText(strip, text, place, _FONT, _FONT_SIZE, 0, 1, cv2.LINE_AA)
    return np.vstack([shown, strip])


def _draw_points(
    shown: np.ndarray, metres: np.ndarray, near: float, far: float
) -> None:
    """One point of depth in each cell of the tile, 2x2 pixels of it."""
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


def _caption(tile: Tile) -> str:
    if tile.metres is None:
        return tile.trouble
    values = tile.metres[tile.metres > 0]
    if not len(values):
        return "no valid depth"
    share = len(values) / tile.metres.size
    return f"valid {share:.1%}, {values.min():.3g} to {values.max():.3g} m"
