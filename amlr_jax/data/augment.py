"""Crops and random augmentation of one supervised example.

The order is that of MIM-Depth and GLPDepth: KB crop, CutDepth, flip, random crop,
brightness and contrast, gamma, hue and saturation. Images stay uint8, depth is in
metres, and the intrinsics are updated. Formulas and limits of the colour changes are
those of albumentations 1.1.0, with which both reference systems train; it truncates
values instead of rounding them.

CutDepth pastes a vertical strip of the ground truth over the image: Kim et al. 2022
(GLPDepth, Sec. 3.4), after Ishii and Yamashita 2021. The code of GLPDepth and MIM-Depth
assigns the stored code to a uint8 image, which keeps only the low byte (on KITTI depth
modulo 1 m), in every fourth sample. Here the strip is scaled by `max_depth`, and
samples are chosen at random.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from amlr_jax import metrics
from amlr_jax.data.intrinsics import crop_intrinsics, flip_intrinsics
from amlr_jax.runtime.errors import InputError


class Augmentation(NamedTuple):
    """Crop size and the probability of each random change."""

    crop: tuple[int, int]  # height, width in pixels
    flip: float = 0.5
    brightness_contrast: float = 0.5
    gamma: float = 0.5
    hue_saturation: float = 0.5
    cut_depth: float = 0.25
    max_depth: float = 80.0  # metres that CutDepth shows as 255; more is clipped


def check_crops(
    sizes: Mapping[tuple[int, int], str], crop: tuple[int, int], *, kb_crop: bool
) -> None:
    """Raises InputError, with the name, for a frame in which the crops do not fit.

    `sizes` has a frame's name for each (height, width) of the training frames.
    """
    for size, key in sizes.items():
        if kb_crop:
            _kb_offsets(size, key)
            size = metrics.KB_CROP_SHAPE
        _require_fit(size, crop, of=f"that of frame {key}")


def metric_example(example: dict, *, depth_scale: float, kb_crop: bool) -> dict:
    """A test frame for evaluation.

    `image` uint8 [H, W, 3], `depth` float32 [H, W] in metres, 0 where there is none,
    `intrinsics` float32 [4] (fx, fy, cx, cy in pixels of this image), `index`, `key`.
    """
    cropped = in_metres(cropped_example(example, kb_crop=kb_crop), depth_scale)
    return {**cropped, "key": example["key"].decode()}


def cropped_example(example: dict, *, kb_crop: bool) -> dict:
    """Array views of a prepared example, with `depth` [H, W] in stored values."""
    image, depth = example["image"], example["depth"][..., 0]
    camera = example["intrinsics"]
    if kb_crop:
        top, left = _kb_offsets(depth.shape, example["key"].decode())
        height, width = metrics.KB_CROP_SHAPE
        window = slice(top, top + height), slice(left, left + width)
        image, depth = image[window], depth[window]
        camera = crop_intrinsics(camera, top=top, left=left)
    index = np.int32(example["index"])
    return {"image": image, "depth": depth, "intrinsics": camera, "index": index}


def _kb_offsets(shape: tuple[int, int], key: str) -> tuple[int, int]:
    try:
        return metrics.kb_crop_offsets(*shape)
    except ValueError as error:
        text = f"frame {key}: {error} Set --config.data.kb_crop=False"
        raise InputError(text) from error


def in_metres(example: dict, depth_scale: float) -> dict:
    """The example with depth and intrinsics in float32, depth in metres."""
    depth = example["depth"].astype(np.float32) / np.float32(depth_scale)
    camera = np.asarray(example["intrinsics"], np.float32)
    return {**example, "depth": depth, "intrinsics": camera}


def augment(
    example: dict,
    setting: Augmentation,
    rng: np.random.Generator,
    *,
    depth_scale: float,
) -> dict:
    """A random view, in metres, of an example from `cropped_example`.

    The strip of CutDepth is drawn over the full width and may lie outside the crop. It
    is pasted after flip and crop, which gives the same pixels and copies only those of
    the crop.
    """
    camera, width = example["intrinsics"], example["depth"].shape[1]
    strip = (0, 0)
    if rng.random() < setting.cut_depth:
        strip = draw_strip(width, rng)
    flip = rng.random() < setting.flip
    if flip:
        strip = width - strip[1], width - strip[0]
        camera = flip_intrinsics(camera, width=width)
    rows, columns = random_crop(example["depth"].shape, setting.crop, rng)
    image, depth = (
        _window(example[name], rows, columns, flip=flip) for name in ("image", "depth")
    )
    camera = crop_intrinsics(camera, top=rows.start, left=columns.start)
    view = {"image": image, "depth": depth, "intrinsics": camera}
    view = in_metres(view, depth_scale)
    strip = np.clip(strip, columns.start, columns.stop) - columns.start
    paste_depth(view["image"], view["depth"], strip, max_depth=setting.max_depth)
    return {**example, **view, "image": _recoloured(view["image"], setting, rng)}


def _window(
    array: np.ndarray, rows: slice, columns: slice, *, flip: bool
) -> np.ndarray:
    """A copy of a window of the array, or of its mirror image."""
    if not flip:
        return array[rows, columns].copy()
    width = array.shape[1]
    window = array[rows, width - columns.stop : width - columns.start]
    return cv2.flip(window, 1)  # ten times as fast as a copy of [:, ::-1]


def draw_strip(width: int, rng: np.random.Generator) -> tuple[int, int]:
    """Columns l up to l + w of CutDepth.

        l = int(a W),  w = int(max((W - a W) b 0.75, 1)),  a, b ~ U(0, 1)

    The strip covers up to three quarters of what is to the right of l.
    """
    start, share = rng.random() * width, rng.random()
    left = int(start)
    return left, left + int(max((width - start) * share * 0.75, 1))


def paste_depth(
    image: np.ndarray, depth: np.ndarray, strip: Sequence[int], *, max_depth: float
) -> None:
    """Writes 255 depth / max_depth, clipped to uint8, into columns of the image.

    `image` is uint8 [H, W, 3], `depth` [H, W] in metres; missing depth becomes 0.
    """
    columns = slice(*strip)
    shown = np.clip(depth[:, columns] * (255 / max_depth), 0, 255).astype(np.uint8)
    image[:, columns] = shown[..., None]


def random_crop(
    shape: tuple[int, int], crop: tuple[int, int], rng: np.random.Generator
) -> tuple[slice, slice]:
    """Rows and columns of a window: y = int((H - h) U), x = int((W - w) U)."""
    _require_fit(shape, crop, of="one")
    top, left = (
        int((size - part) * rng.random())
        for size, part in zip(shape, crop, strict=True)
    )
    return slice(top, top + crop[0]), slice(left, left + crop[1])


def _require_fit(shape: tuple[int, int], crop: tuple[int, int], *, of: str) -> None:
    if crop[0] > shape[0] or crop[1] > shape[1]:
        raise InputError(
            f"data.crop={tuple(crop)} must fit in the image, and {of} is {tuple(shape)}"
        )


def _recoloured(
    image: np.ndarray, setting: Augmentation, rng: np.random.Generator
) -> np.ndarray:
    for probability, change in (
        (setting.brightness_contrast, brightness_contrast),
        (setting.gamma, gamma),
        (setting.hue_saturation, hue_saturation),
    ):
        if rng.random() < probability:
            image = change(image, rng)
    return image


def brightness_contrast(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """v * alpha + beta * 255, alpha = 1 + U(-0.2, 0.2), beta = U(-0.2, 0.2)."""
    alpha, beta = 1 + rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2)
    return look_up(image, np.arange(256) * alpha + beta * 255)


def gamma(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(v / 255) ** g * 255, g of 0.80, 0.81 .. 1.20."""
    power = rng.integers(80, 120, endpoint=True) / 100
    # albumentations multiplies by 1 / 255, which truncates to other codes than v / 255.
    return look_up(image, (np.arange(256) * (1 / 255)) ** power * 255)


def hue_saturation(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """In OpenCV's HSV: hue + U(-20, 20) mod 180, S + U(-30, 30), V + U(-20, 20)."""
    shifts = [rng.uniform(-limit, limit) for limit in (20, 30, 20)]
    codes = np.arange(256)
    hue, *others = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    planes = [look_up(hue, np.mod(codes + shifts[0], 180))]
    planes += [look_up(p, codes + s) for p, s in zip(others, shifts[1:], strict=True)]
    return cv2.cvtColor(cv2.merge(planes), cv2.COLOR_HSV2RGB)


def look_up(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The values of a table [256], truncated to uint8, at the codes of an image."""
    return cv2.LUT(image, np.clip(table, 0, 255).astype(np.uint8))
