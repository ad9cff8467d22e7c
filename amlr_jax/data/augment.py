"""Crops and augmentation of one example, in the order of MIM-Depth and GLPDepth.

KB crop, CutDepth, flip, random crop, brightness and contrast, gamma, hue and
saturation; images stay uint8, depth in metres, and the intrinsics follow the pixels.
The formulas and limits are albumentations' 1.1.0, on which both reference systems
train; they truncate, not round.
"""

from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np

from amlr_jax import metrics
from amlr_jax.data import cutdepth
from amlr_jax.data.intrinsics import crop_intrinsics, flip_intrinsics
from amlr_jax.runtime.errors import InputError


class Augmentation(NamedTuple):
    """Crop size and the probability of each random change."""

    crop: tuple[int, int]  # height, width in pixels
    flip: float = 0.5
    brightness_contrast: float = 0.5
    gamma: float = 0.5
    hue_saturation: float = 0.5
    cut_depth: cutdepth.CutDepth = cutdepth.CutDepth()


def check(setting: Augmentation) -> None:
    """InputError for a probability or a form that cannot be."""
    cutdepth.check(setting.cut_depth)
    chances = setting._asdict() | {"cut_depth": setting.cut_depth.probability}
    del chances["crop"]
    check_chances(chances)


def check_chances(chances: Mapping[str, float]) -> None:
    """InputError for what is no probability, by its key under `data`."""
    for name, chance in chances.items():
        if not 0 <= chance <= 1:
            raise InputError(f"data.{name} must be a probability, got {chance}")


def metric_example(example: dict, *, depth_scale: float, kb_crop: bool) -> dict:
    """A frame as evaluated.

    `image` uint8 [H, W, 3], `depth` float32 [H, W] in metres, 0 = none, `index`, and
    `intrinsics` float32 [4]: fx, fy, cx, cy in pixels of this image.
    """
    return in_metres(cropped_example(example, kb_crop=kb_crop), depth_scale=depth_scale)


def cropped_example(example: dict, *, kb_crop: bool) -> dict:
    """Views of what is stored, with `depth` [H, W] as stored."""
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


def in_metres(example: dict, *, depth_scale: float) -> dict:
    """The example with depth and intrinsics in float32, depth in metres."""
    depth = example["depth"].astype(np.float32) / np.float32(depth_scale)
    camera = np.asarray(example["intrinsics"], np.float32)
    return {**example, "depth": depth, "intrinsics": camera}


def _kb_offsets(shape: tuple[int, int], key: str) -> tuple[int, int]:
    try:
        return metrics.kb_crop_offsets(*shape)
    except ValueError as error:
        text = f"frame {key}: {error} Set --config.data.kb_crop=False"
        raise InputError(text) from error


def augment(
    example: dict,
    setting: Augmentation,
    rng: np.random.Generator,
    *,
    depth_scale: float,
) -> dict:
    """A random view, in metres, of a cropped example.

    The strip of CutDepth is drawn on the whole width, and may miss the crop. It is
    pasted where it ends up, which is the same and copies only what stays.
    """
    image, depth, camera = (example[k] for k in ("image", "depth", "intrinsics"))
    strip, width = cutdepth.Strip(0, 0), depth.shape[1]
    if rng.random() < setting.cut_depth.probability:
        strip = cutdepth.draw_strip(width, rng)
    if rng.random() < setting.flip:
        image, depth, strip = image[:, ::-1], depth[:, ::-1], strip.mirrored(width)
        camera = flip_intrinsics(camera, width=width)
    rows, columns = random_crop(depth.shape, setting.crop, rng)
    view = {
        "image": image[rows, columns].copy(),
        "depth": depth[rows, columns],
        "intrinsics": crop_intrinsics(camera, top=rows.start, left=columns.start),
    }
    view = in_metres(view, depth_scale=depth_scale)
    strip = strip.cropped(columns)
    cutdepth.paste(view["image"], view["depth"], strip, setting.cut_depth)
    return {**example, **view, "image": _coloured(view["image"], setting, rng)}


def _coloured(
    image: np.ndarray, setting: Augmentation, rng: np.random.Generator
) -> np.ndarray:
    for chance, change in (
        (setting.brightness_contrast, brightness_contrast),
        (setting.gamma, gamma),
        (setting.hue_saturation, hue_saturation),
    ):
        if rng.random() < chance:
            image = change(image, rng)
    return image


def random_crop(
    shape: tuple[int, int], crop: tuple[int, int], rng: np.random.Generator
) -> tuple[slice, slice]:
    """Rows and columns of a window: y = int((H - h) U), x = int((W - w) U)."""
    if crop[0] > shape[0] or crop[1] > shape[1]:
        raise InputError(
            f"data.crop={tuple(crop)} must fit in the image, which is {tuple(shape)}"
        )
    top, left = (
        int((size - part) * rng.random())
        for size, part in zip(shape, crop, strict=True)
    )
    return slice(top, top + crop[0]), slice(left, left + crop[1])


def brightness_contrast(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """v * alpha + beta * 255, alpha = 1 + U(-0.2, 0.2), beta = U(-0.2, 0.2)."""
    alpha, beta = 1 + rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2)
    return _lookup(image, np.arange(256) * alpha + beta * 255)


def gamma(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(v / 255) ** g * 255, g of 0.80, 0.81 .. 1.20."""
    power = rng.integers(80, 120, endpoint=True) / 100
    # albumentations multiplies by 1 / 255: other float digits, hence another floor.
    return _lookup(image, (np.arange(256) * (1 / 255)) ** power * 255)


def hue_saturation(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """In OpenCV's HSV: hue + U(-20, 20) mod 180, S + U(-30, 30), V + U(-20, 20)."""
    shifts = [rng.uniform(-limit, limit) for limit in (20, 30, 20)]
    codes = np.arange(256)
    hue, *others = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    planes = [_lookup(hue, np.mod(codes + shifts[0], 180))]
    planes += [_lookup(p, codes + s) for p, s in zip(others, shifts[1:], strict=True)]
    return cv2.cvtColor(cv2.merge(planes), cv2.COLOR_HSV2RGB)


def _lookup(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    return cv2.LUT(image, np.clip(table, 0, 255).astype(np.uint8))
