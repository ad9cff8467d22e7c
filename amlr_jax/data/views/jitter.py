"""The colour jitter of monodepth2: one draw for all frames of a sample.

The network sees the jittered images and the loss the clean ones, so the draw must not
differ between the frames of a sample. The changes are torchvision's ColorJitter on
PIL images, which is Pillow's ImageEnhance and a shift in Pillow's HSV.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance


class ColorJitter(NamedTuple):
    """What to change, in which order; nothing if `order` is empty."""

    brightness: float  # factor
    contrast: float  # factor, about the mean grey
    saturation: float  # factor, about each pixel's grey
    hue: float  # shift in turns of the colour wheel
    order: tuple[str, ...]


CHANGES = ("brightness", "contrast", "saturation", "hue")
NOTHING = ColorJitter(1.0, 1.0, 1.0, 0.0, ())


def draw(rng: np.random.Generator, *, probability: float = 0.5) -> ColorJitter:
    """Factors of U(0.8, 1.2) and a hue of U(-0.1, 0.1) in random order, or nothing."""
    happens = rng.random() < probability
    factors, hue = rng.uniform(0.8, 1.2, 3), rng.uniform(-0.1, 0.1)
    order = rng.permutation(len(CHANGES))
    if not happens:
        return NOTHING
    names = tuple(CHANGES[k] for k in order)
    return ColorJitter(*map(float, factors), float(hue), names)


def apply(image: np.ndarray, drawn: ColorJitter) -> np.ndarray:
    """The image uint8 [H, W, 3] with the changes of `drawn`."""
    picture = Image.fromarray(image)
    for name in drawn.order:
        picture = _METHODS[name](picture, getattr(drawn, name))
    return np.array(picture)


def _shift_hue(picture: Image.Image, turns: float) -> Image.Image:
    hue, saturation, value = picture.convert("HSV").split()
    shift = int(turns * 255)  # towards zero, then around the wheel of 256
    moved = hue.point([(code + shift) % 256 for code in range(256)])
    return Image.merge("HSV", (moved, saturation, value)).convert("RGB")


_METHODS = {
    "brightness": lambda picture, f: ImageEnhance.Brightness(picture).enhance(f),
    "contrast": lambda picture, f: ImageEnhance.Contrast(picture).enhance(f),
    "saturation": lambda picture, f: ImageEnhance.Color(picture).enhance(f),
    "hue": _shift_hue,
}
