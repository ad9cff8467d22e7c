"""Depth as a picture: colours by inverse depth, and a scale bar in metres below."""

from functools import lru_cache

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Narrower pictures get margins: a scale bar of fewer pixels cannot be read.
LEAST_WIDTH = 160
# Depths that may be labelled, as (is not 1 or 5 times a power of ten, metres).
_TICKS = sorted(
    (step not in (1, 5), step * 10.0**power)
    for power in range(-2, 4)
    for step in (1, 1.5, 2, 3, 4, 5, 7)
)


def nearest(depth: np.ndarray, *, far: float) -> float:
    """The depth of the brightest colour in metres: the first percentile of the map.

    At least a thousandth below `far`, so that the scale has a length.
    """
    good = depth[np.isfinite(depth) & (depth > 0)]
    near = float(np.percentile(good, 1)) if good.size else far
    return min(max(near, 1e-3), 0.999 * far)


def colorize(depth: np.ndarray, near: float, far: float) -> np.ndarray:
    """Metres [H, W] as uint8 RGB [H, W, 3], by inverse depth: near is bright.

        code = round(255 (1/depth - 1/far) / (1/near - 1/far)), cut to 0 .. 255

    of the colour map "magma". Pixels without a depth (0, NaN) are grey.
    """
    with np.errstate(invalid="ignore"):
        known = depth > 0
    part = _part(np.where(known, depth, far), near, far)
    picture = _palette()[np.rint(255 * part).astype(np.uint8)]
    picture[~known] = 128
    return picture


def sparse(depth: np.ndarray, near: float, far: float) -> np.ndarray:
    """`colorize` of lidar depth, each measured pixel drawn 5 pixels wide."""
    inverse = np.where(depth > 0, 1 / np.maximum(depth, 1e-9), 0).astype(np.float32)
    wide = cv2.dilate(inverse, np.ones((5, 5), np.uint8))
    depth = np.where(wide > 0, 1 / np.maximum(wide, 1e-9), 0)
    return colorize(depth, near=near, far=far)


def errors(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """|prediction - truth| / truth as uint8 RGB, 5 pixels wide: white 0, dark red 0.5.

    Where the truth is 0 it is grey.
    """
    known = truth > 0
    part = np.abs(prediction - truth) / np.where(known, truth, 1) / 0.5
    codes = np.where(known, 1 + np.rint(254 * np.clip(part, 0, 1)), 0).astype(np.uint8)
    wide = cv2.dilate(codes, np.ones((5, 5), np.uint8))
    picture = _palette("Reds")[wide]
    picture[wide == 0] = 128
    return picture


def with_scale(
    picture: np.ndarray, *, near: float, far: float, unit: str = "m"
) -> np.ndarray:
    """The picture with a bar of the colours from `near` to `far` below, labelled.

    A picture narrower than LEAST_WIDTH gets dark margins on both sides.
    """
    height, width = picture.shape[:2]
    size = int(np.clip(min(width, 2 * height) / 32, 11, 40))  # of the letters
    wide = max(width, LEAST_WIDTH)
    canvas = np.full((height + 2 * size + size // 2, wide, 3), 40, np.uint8)
    left = (wide - width) // 2
    canvas[:height, left : left + width] = picture
    top, bottom = height + size // 3, height + size
    codes = np.rint(np.linspace(255, 0, wide - 2 * size)).astype(np.uint8)
    canvas[top:bottom, size : wide - size] = _palette()[codes]
    return _labelled(canvas, bottom, size, _ticks(near, far), unit=unit)


def _labelled(
    canvas: np.ndarray,
    bottom: int,
    size: int,
    ticks: list[tuple[float, float]],
    *,
    unit: str,
) -> np.ndarray:
    """Draws `ticks` below row `bottom`; omits labels that would touch earlier ones."""
    image = Image.fromarray(canvas)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    length = image.width - 2 * size - 1
    taken: list[tuple[float, float]] = []
    for metres, place in ticks:
        text = f"{metres:.3g} {unit}".rstrip()
        x, half = size + place * length, draw.textlength(text, font=font) / 2
        middle = min(max(x, half + 1), image.width - half - 1)
        start, end = middle - half, middle + half
        if any(start < b + size / 2 and end > a - size / 2 for a, b in taken):
            continue
        taken.append((start, end))
        draw.line([(x, bottom), (x, bottom + size // 4)], fill="white", width=1)
        draw.text((start, bottom + size // 4), text, fill="white", font=font)
    return np.array(image)


def _ticks(near: float, far: float) -> list[tuple[float, float]]:
    """(metres, place on the bar from 0 to 1): both ends, then the roundest first."""
    between = [metres for _, metres in _TICKS if near < metres < far]
    return [(m, 1 - float(_part(m, near, far))) for m in (near, far, *between)]


def _part(depth: np.ndarray | float, near: float, far: float) -> np.ndarray:
    """0 at `far`, 1 at `near`, linear in inverse depth."""
    low, high = 1 / far, 1 / near
    return np.clip((1 / np.maximum(depth, 1e-9) - low) / (high - low), 0, 1)


@lru_cache
def _palette(name: str = "magma") -> np.ndarray:
    """uint8 [256, 3]; magma from dark to bright."""
    colours = matplotlib.colormaps[name](np.arange(256))[:, :3]
    return (255 * colours).round().astype(np.uint8)
