"""How a number was made, and the making: depth metrics of the test frames.

Each image is measured by itself and the images are averaged, as in the published code.
Beside the network stands a constant predictor, the median depth of the training set: a
model that does not beat it has learnt nothing.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from amlr_jax import metrics
from amlr_jax.evaluate.tiling import Mode
from amlr_jax.runtime.errors import InputError


class Protocol(NamedTuple):
    """All that decides the figures, apart from the network."""

    dataset: str
    split: str
    crop: str  # garg, eigen, nyu or none: which pixels count
    min_depth: float  # metres: cap of the ground truth, both exclusive
    max_depth: float
    kb_crop: bool  # the network sees the 352x1216 crop
    median_depth: float  # metres: the constant predictor
    median_scaling: bool = False  # of each image, on the pixels that count
    test_mode: str = "none"  # see `tiling.Mode`
    windows: int = 16
    window_form: str = "reference"
    name: str = "custom"  # see `presets`
    paste_back: bool = False  # the crop's depth is measured in the original frame
    cap_target: bool = True  # False: every measured pixel counts, whatever its depth
    clamp: bool = False  # prediction clamped to min_depth..max_depth

    @property
    def mode(self) -> Mode:
        """How the test looks at an image."""
        return Mode(self.test_mode, self.windows, self.window_form)

    @property
    def crops_frames(self) -> bool:
        """Whether image and ground truth are cut to 352x1216 before all else."""
        return self.kb_crop and not self.paste_back

    def line(self) -> str:
        """One line for people."""
        kb = "KB crop, " if self.kb_crop else ""
        kb += "pasted back, " if self.paste_back else ""
        cap = f"{self.min_depth:g} < depth < {self.max_depth:g} m"
        cap = (
            cap if self.cap_target else f"every depth, clamped to {self.max_depth:g} m"
        )
        scaling = "median scaling" if self.median_scaling else "no median scaling"
        mode = self.test_mode
        if self.mode.shifted:
            mode += f" ({self.windows} windows, {self.window_form})"
        return (
            f"{self.name} on {self.dataset} {self.split}: {kb}{self.crop} crop, {cap}, "
            f"{scaling}, test mode {mode}; constant = {self.median_depth:.2f} m"
        )


@partial(jax.jit, static_argnames="protocol")
def measure(prediction: jax.Array, target: jax.Array, *, protocol: Protocol) -> dict:
    """Metrics [B] of each image, `pixels` [B] that count and the median `ratio` [B].

    Metrics of an image without a pixel that counts are NaN; so is the ratio where
    nothing is scaled.
    """
    limits = {"min_depth": protocol.min_depth, "max_depth": protocol.max_depth}
    where = metrics.valid_mask(target, **limits) if protocol.cap_target else target > 0
    where &= metrics.evaluation_mask(*target.shape[-2:], crop=protocol.crop)
    pixels = where.sum((-2, -1))
    if protocol.median_scaling:
        scaled = metrics.median_scaled(prediction, target, where=where, **limits)
        prediction, ratio = scaled
    else:
        prediction = metrics.sanitize(prediction, clamp=protocol.clamp, **limits)
        ratio = np.nan * pixels
    values = metrics.depth_metrics(prediction, target, where=where)
    return {**values, "pixels": pixels, "ratio": ratio}


def as_measured(
    prediction: np.ndarray, target: np.ndarray, *, protocol: Protocol
) -> tuple[np.ndarray, float]:
    """The depth [H, W] in metres that the metrics compare, and the scale put on it.

    Every picture of a prediction shows this depth. The scale is `measure`'s ratio, 1
    where the protocol does not scale or no pixel of `target` counts. Where the
    prediction is 0 or NaN, as around a crop that was pasted back, it is 0: none.
    """
    scale, limits = 1.0, {"min_depth": protocol.min_depth}
    limits["max_depth"] = protocol.max_depth
    if protocol.median_scaling:
        found = measure(prediction[None], target[None], protocol=protocol)["ratio"]
        scale = found.item() if np.isfinite(found.item()) else 1.0
    depth = np.asarray(metrics.sanitize(prediction, **limits)) * np.float32(scale)
    if protocol.clamp or protocol.median_scaling:
        depth = np.clip(depth, *limits.values())
    return np.where(prediction > 0, depth, 0), scale


class Evaluation(NamedTuple):
    """Mean metrics of the network and of the constant predictor, and each image's."""

    metrics: dict[str, float]
    constant: dict[str, float]
    frames: int  # with at least one pixel that counts
    skipped: int  # without
    images: tuple[dict[str, float], ...] = ()  # metrics, pixels, ratio; index in order
    ratio: dict[str, float] | None = None  # median and spread of the median ratios
    narrow: int = 0  # frames not wider than high, so without windows


def evaluate(
    predict: Callable[[np.ndarray], np.ndarray],
    batches: Iterable[dict[str, np.ndarray]],
    *,
    protocol: Protocol,
    advance: Callable[[int], None] = lambda frames: None,
) -> Evaluation:
    """Measures `predict`, which maps uint8 [B, H, W, 3] to depth [B, H, W] metres.

    Raises InputError if no pixel of any frame counts.
    """
    images, constants, narrow = [], [], 0
    for batch in batches:
        image, target = batch["image"], batch["depth"]
        values = measure(predict(image), target, protocol=protocol)
        images += _rows(values, first=len(images))
        flat = np.full_like(target, protocol.median_depth)
        constants += _rows(measure(flat, target, protocol=protocol), first=0)
        mode = protocol.mode
        narrow += len(image) * (mode.on(*image.shape[1:3]) != mode)
        advance(len(target))
    counted = [row for row in images if row["pixels"]]
    if not counted:
        raise InputError(
            f"no pixel of the {len(images)} test frames counts ({protocol.line()}); "
            "check eval.crop, eval.max_depth and the unit of the ground truth"
        )
    return Evaluation(
        metrics=_means(counted),
        constant=_means([row for row in constants if row["pixels"]]),
        frames=len(counted),
        skipped=len(images) - len(counted),
        images=tuple(images),
        ratio=_ratio(counted) if protocol.median_scaling else None,
        narrow=narrow,
    )


def _rows(values: dict[str, jax.Array], *, first: int) -> list[dict[str, float]]:
    """One dict for each image of a batch, `index` counted from `first`."""
    values = jax.device_get(values)
    return [
        {name: value[i].item() for name, value in values.items()} | {"index": first + i}
        for i in range(len(values["pixels"]))
    ]


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {
        name: float(np.mean([row[name] for row in rows]))
        for name in metrics.METRIC_NAMES
    }


def _ratio(rows: list[dict[str, float]]) -> dict[str, float]:
    ratios = np.array([row["ratio"] for row in rows], np.float32)
    median, spread = metrics.ratio_summary(ratios)
    return {"median": float(median), "std": float(spread)}
