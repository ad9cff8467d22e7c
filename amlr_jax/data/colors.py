"""Depth as a picture: colours by inverse depth, and a scale in metres below."""

from functools import lru_cache

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Narrower pictures get margins: a scale of fewer pixels cannot be read.
LEAST_WIDTH = 160
_STEPS = (1, 1.5, 2, 3, 4, 5, 7)
_TICKS = [step * 10.0**power for power in range(-2, 4) for step in _STEPS]


def nearest(depth: np.ndarray, *, far: float) -> float:
    """The depth that the brightest colour stands for: of the nearest percent, metres.

    At least a thousandth below `far`, so that there is a scale.
    """
    good = depth[np.isfinite(depth) & (depth > 0)]
    near = float(np.percentile(good, 1)) if good.size else far
    return min(max(near, 1e-3), 0.999 * far)


def colors(depth: np.ndarray, *, near: float, far: float) -> np.ndarray:
    """Metres [H, W] as uint8 RGB [H, W, 3], by 1 / depth: near is bright.

    What is nearer than `near` is as bright, what is beyond `far` as dark. Where nothing
    was measured (0, NaN) it is grey.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        known = depth > 0
        part = _part(np.where(known, depth, far), near=near, far=far)
    codes = np.rint(255 * part).astype(np.uint8)
    picture = _palette()[codes]
    picture[~known] = 128
    return picture


def with_scale(
    picture: np.ndarray, *, near: float, far: float, unit: str = "m"
) -> np.ndarray:
    """The picture with the colours of `near` to `far` and their metres below it.

    Narrower than LEAST_WIDTH it stands in the middle of dark margins.
    """
    height, width = picture.shape[:2]
    size = int(np.clip(min(width, 2 * height) / 32, 11, 40))  # of the letters
    wide = max(width, LEAST_WIDTH)
    canvas = np.full((height + 2 * size + size // 2, wide, 3), 40, np.uint8)
    left = (wide - width) // 2
    canvas[:height, left : left + width] = picture
    margin, top, bottom = size, height + size // 3, height + size
    columns = np.arange(wide - 2 * margin)
    part = 1 - columns / max(len(columns) - 1, 1)
    band = _palette()[np.rint(255 * part).astype(np.uint8)]
    canvas[top:bottom, margin : wide - margin] = band
    return _labelled(
        canvas, bottom, size, _ticks(near=near, far=far), margin=margin, unit=unit
    )


def _labelled(canvas, bottom: int, size: int, ticks, *, margin: int, unit: str):
    """Ticks as [(metres, place from 0 to 1)], the more important first."""
    image = Image.fromarray(canvas)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    length = image.width - 2 * margin - 1
    taken: list[tuple[float, float]] = []
    for metres, place in ticks:
        text = f"{metres:.3g} {unit}".rstrip()
        x, half = margin + place * length, draw.textlength(text, font=font) / 2
        middle = min(max(x, half + 1), image.width - half - 1)
        start, end = middle - half, middle + half
        if any(start < b + size / 2 and end > a - size / 2 for a, b in taken):
            continue
        taken.append((start, end))
        draw.line([(x, bottom), (x, bottom + size // 4)], fill="white", width=1)
        draw.text((start, bottom + size // 4), text, fill="white", font=font)
    return np.array(image)


def _ticks(*, near: float, far: float) -> list[tuple[float, float]]:
    """The ends of the scale, then round depths from the roundest on."""
    between = [m for m in _TICKS if near < m < far]
    roundest = sorted(between, key=lambda m: (_STEPS.index(_leading(m)) % 5 != 0, m))
    return [
        (m, 1 - float(_part(m, near=near, far=far))) for m in (near, far, *roundest)
    ]


def _leading(metres: float) -> float:
    """The first digits, one of _STEPS."""
    scaled = metres / 10.0 ** np.floor(np.log10(metres) + 1e-9)
    return min(_STEPS, key=lambda step: abs(step - scaled))


def _part(depth, *, near: float, far: float) -> np.ndarray:
    """0 at `far`, 1 at `near`, linear in inverse depth."""
    low, high = 1 / far, 1 / near
    return np.clip((1 / np.maximum(depth, 1e-9) - low) / (high - low), 0, 1)


@lru_cache(maxsize=1)
def _palette() -> np.ndarray:
    """uint8 [256, 3], dark to bright."""
    colours = matplotlib.colormaps["magma"](np.arange(256))[:, :3]
    return (255 * colours).round().astype(np.uint8)
