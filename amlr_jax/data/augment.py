"""Crops and augmentation of one example, in the order of MIM-Depth and GLPDepth.

KB crop, flip, random crop, brightness and contrast, gamma, hue and saturation; images
stay uint8 and depth in metres. The formulas are albumentations' 1.1.0, on which both
reference systems train; they truncate, not round.
"""

from typing import NamedTuple

import cv2
import numpy as np

from amlr_jax import metrics
from amlr_jax.errors import InputError


class Augmentation(NamedTuple):
    """Crop size and the probability of each random change."""

    crop: tuple[int, int]  # height, width in pixels
    flip: float = 0.5
    brightness_contrast: float = 0.5
    gamma: float = 0.5
    hue_saturation: float = 0.5


def metric_example(example: dict, *, depth_scale: float, kb_crop: bool) -> dict:
    """`image` uint8 [H, W, 3] and `depth` float32 [H, W] in metres, 0 = none."""
    image, code = example["image"], example["depth"][..., 0]
    if kb_crop:
        key = example["key"].decode()
        image, code = (_kb_crop(array, key) for array in (image, code))
    depth = code.astype(np.float32) / np.float32(depth_scale)
    return {"image": image, "depth": depth, "index": np.int32(example["index"])}


def _kb_crop(array: np.ndarray, key: str) -> np.ndarray:
    try:
        top, left = metrics.kb_crop_offsets(*array.shape[:2])
    except ValueError as error:
        text = f"frame {key}: {error} Set --config.data.kb_crop=False"
        raise InputError(text) from error
    height, width = metrics.KB_CROP_SHAPE
    return array[top : top + height, left : left + width]


def augment(example: dict, setting: Augmentation, rng: np.random.Generator) -> dict:
    """A random view of a metric example."""
    image, depth = example["image"], example["depth"]
    if rng.random() < setting.flip:
        image, depth = image[:, ::-1], depth[:, ::-1]
    rows, columns = random_crop(depth.shape, setting.crop, rng)
    image, depth = image[rows, columns], depth[rows, columns]
    changes = (
        (setting.brightness_contrast, brightness_contrast),
        (setting.gamma, gamma),
        (setting.hue_saturation, hue_saturation),
    )
    for probability, change in changes:
        if rng.random() < probability:
            image = change(np.ascontiguousarray(image), rng)
    return {**example, "image": np.ascontiguousarray(image), "depth": depth.copy()}


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
    return _lookup(image, (np.arange(256) / 255) ** power * 255)


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
