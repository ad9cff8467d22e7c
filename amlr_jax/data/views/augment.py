"""Flip and colour jitter of a view, as in monodepth2.

A flip mirrors all images of the view, its camera and the position of its stereo
partner. One draw of the jitter changes all images of a view; the networks get the
jittered images, the loss the unchanged ones. monodepth2 flips the image of the file and
then resizes it; here the resized image is flipped: the filter is symmetric, so the
results differ by rounding of one level only.
"""

from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np

from amlr_jax.data.augment import look_up
from amlr_jax.data.intrinsics import flip_intrinsics


class ViewAugmentation(NamedTuple):
    """The probability of each random change."""

    flip: float = 0.5
    jitter: float = 0.5


def augment_view(
    view: dict, rng: np.random.Generator, *, setting: ViewAugmentation
) -> dict:
    """A random change of a view (`index.Views`).

    `image`, `sources` and `partner` are unchanged, for the loss. `network_image` and
    `network_sources`, of the same shapes, are for the networks; only the loss uses the
    partner. `key` is left out.
    """
    if rng.random() < setting.flip:
        view = flip_view(view)
    drawn = draw_jitter(rng, probability=setting.jitter)
    return {
        **{name: value for name, value in view.items() if name != "key"},
        "network_image": apply_jitter(view["image"], drawn),
        "network_sources": np.stack([apply_jitter(s, drawn) for s in view["sources"]]),
    }


def flip_view(view: dict) -> dict:
    """The mirrored view: x of the world, of the camera and of the partner is negated.

        u' = W - 1 - u,   cx' = W - 1 - cx,   x' = -x

    A motion between two frames (R, t) becomes (F R F, F t) with F = diag(-1, 1, 1).
    """
    width = view["image"].shape[1]
    camera = flip_intrinsics(view["intrinsics"], width=width)
    flipped = {"intrinsics": camera.astype(np.float32)}
    flipped["image"] = _mirrored(view["image"])
    flipped["sources"] = np.stack([_mirrored(source) for source in view["sources"]])
    if "partner" in view:
        flipped["partner"] = _mirrored(view["partner"])
        mirror = np.array([-1, 1, 1], np.float32)
        flipped["partner_from_target"] = view["partner_from_target"] * mirror
    return {**view, **flipped}


def _mirrored(image: np.ndarray) -> np.ndarray:
    return cv2.flip(image, 1)  # ten times as fast as a copy of [:, ::-1]


def draw_jitter(
    rng: np.random.Generator, *, probability: float = 0.5
) -> dict[str, float]:
    """Changes of torchvision's ColorJitter by name, in their order; maybe none.

    brightness is a factor, contrast one about the mean grey, saturation one about each
    pixel's grey, all of U(0.8, 1.2); hue is a shift of U(-0.1, 0.1) turns.
    """
    happens = rng.random() < probability
    values = [*rng.uniform(0.8, 1.2, 3).tolist(), rng.uniform(-0.1, 0.1)]
    named = list(zip(CHANGES, values, strict=True))
    order = rng.permutation(len(CHANGES))
    return dict(named[k] for k in order) if happens else {}


def apply_jitter(image: np.ndarray, drawn: Mapping[str, float]) -> np.ndarray:
    """The image uint8 [H, W, 3] with the changes of `draw_jitter`.

    torchvision's formulas, as OpenCV computes them in a tenth of Pillow's time and
    beside other threads. Brightness and contrast are truncated like Pillow's, the
    others rounded. Pillow turns hues in steps of 1/255, which is off by up to 15
    levels; here they are exact.
    """
    for name, value in drawn.items():
        image = CHANGES[name](image, value)
    return image


def _brightness(image: np.ndarray, factor: float) -> np.ndarray:
    return look_up(image, np.arange(256) * factor)


def _contrast(image: np.ndarray, factor: float) -> np.ndarray:
    mean = round(cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0])
    return look_up(image, mean + (np.arange(256) - mean) * factor)


def _saturation(image: np.ndarray, factor: float) -> np.ndarray:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    grey = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, factor, grey, 1 - factor, 0)


def _hue(image: np.ndarray, turns: float) -> np.ndarray:
    hsv = cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2HSV)
    degrees = hsv[..., 0]
    np.add(degrees, 360 * (turns % 1), out=degrees)
    np.subtract(degrees, 360, out=degrees, where=degrees >= 360)
    return cv2.convertScaleAbs(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


CHANGES = {
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "hue": _hue,
}
