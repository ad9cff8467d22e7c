"""A page of frames with their depth drawn over the image: `check.png`."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

WIDTH = 480  # pixels of a tile
_CAPTION = 40  # pixels below it
_COLUMNS = 3
FRAMES = 12
_STEP = 4  # pixels between points; denser ones would hide the image
_FONT, _FONT_SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.42


class Tile(NamedTuple):
    """One frame: what to draw, or why there is nothing."""

    key: str
    image: np.ndarray | None  # uint8 [H, W, 3] RGB
    metres: np.ndarray | None  # [H, W], 0 = none
    trouble: str = ""


def write(path: Path, tiles: Sequence[Tile], *, near: float, far: float) -> None:
    """Draws the tiles in rows of three; red is `near` metres, blue is `far`."""
    drawn = [_tile(tile, near, far) for tile in tiles]
    height = max(tile.shape[0] for tile in drawn)
    drawn = [_padded(tile, height) for tile in drawn]
    blank = np.full_like(drawn[0], 255)
    drawn += [blank] * (-len(drawn) % _COLUMNS)
    rows = [np.hstack(drawn[i : i + _COLUMNS]) for i in range(0, len(drawn), _COLUMNS)]
    page = np.vstack([_legend(rows[0].shape[1], near, far), *rows])
    # imencode and not imwrite: OpenCV says nothing when it cannot write.
    path.write_bytes(cv2.imencode(".png", page[..., ::-1])[1].tobytes())


def _tile(tile: Tile, near: float, far: float) -> np.ndarray:
    if tile.image is None:
        shown = np.full((WIDTH // 3, WIDTH, 3), 200, np.uint8)
    else:
        height = max(round(tile.image.shape[0] * WIDTH / tile.image.shape[1]), 1)
        size = (WIDTH, height)
        shown = cv2.resize(tile.image, size, interpolation=cv2.INTER_AREA)
        shown = np.ascontiguousarray(shown)
    if tile.metres is not None:
        _draw_points(shown, tile.metres, near, far)
    lines = (tile.key[-64:], _figures(tile.metres, tile.trouble))
    return np.vstack([shown, _caption(lines)])


def _draw_points(shown: np.ndarray, metres: np.ndarray, near: float, far: float):
    """One point of depth in each cell of the tile, 2x2 pixels of it."""
    rows, columns = np.nonzero(metres)
    values = metres[rows, columns]
    scale = np.divide(shown.shape[:2], metres.shape)
    y, x = ((p * s).astype(int) for p, s in zip((rows, columns), scale, strict=True))
    _, first = np.unique((y // _STEP) * WIDTH + x // _STEP, return_index=True)
    y, x, colours = y[first], x[first], _colours(values[first], near, far)
    for down in (0, 1):
        for right in (0, 1):
            below = np.minimum(y + down, shown.shape[0] - 1)
            shown[below, np.minimum(x + right, WIDTH - 1)] = colours


def _colours(metres: np.ndarray, near: float, far: float) -> np.ndarray:
    """RGB [N, 3]: red near, blue far, even in the logarithm."""
    span = max(np.log(far / near), 1e-6)
    place = 1 - np.clip(np.log(np.maximum(metres, 1e-6) / near) / span, 0, 1)
    codes = (25 + 215 * place).astype(np.uint8)  # both ends of turbo are near black
    return cv2.applyColorMap(codes[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1]


def _figures(metres: np.ndarray | None, trouble: str) -> str:
    if metres is None:
        return trouble[:70]
    values = metres[metres > 0]
    if not len(values):
        return "no valid depth"
    share = len(values) / metres.size
    text = f"valid {share:.1%}, {values.min():.3g} to {values.max():.3g} m"
    return f"{text}; {trouble}"[:70] if trouble else text


def _caption(lines: Sequence[str]) -> np.ndarray:
    strip = np.full((_CAPTION, WIDTH, 3), 255, np.uint8)
    for number, line in enumerate(lines):
        place = (4, 15 + 17 * number)
        text = line.encode("ascii", "replace").decode()  # all that the font has
        cv2.putText(strip, text, place, _FONT, _FONT_SIZE, 0, 1, cv2.LINE_AA)
    return strip


def _legend(width: int, near: float, far: float) -> np.ndarray:
    """A bar from near to far with the metres at its ends."""
    strip = np.full((30, width, 3), 255, np.uint8)
    bar = np.geomspace(near, far, 300)
    strip[8:22, 70:370] = _colours(bar, near, far)
    for text, left in ((f"{near:.3g} m", 6), (f"{far:.3g} m", 376)):
        cv2.putText(strip, text, (left, 20), _FONT, _FONT_SIZE, 0, 1, cv2.LINE_AA)
    return strip


def _padded(tile: np.ndarray, height: int) -> np.ndarray:
    missing = height - tile.shape[0]
    return cv2.copyMakeBorder(
        tile, 0, missing, 0, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255)
    )
