"""What each test frame contributed: a table, and the best and worst as pictures."""

import csv
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from amlr_jax.evaluate import pictures
from amlr_jax.evaluate.protocol import Evaluation, Protocol
from amlr_jax.metrics import METRIC_NAMES

PER_IMAGE = "per_image.csv"
FRAMES = "frames.png"


def write_csv(result: Evaluation, keys: Sequence[str], path: Path) -> None:
    """One line a frame: key, metrics, pixels that count and, if scaled, the ratio.

    Metrics of a frame without such a pixel are empty.
    """
    columns = [*METRIC_NAMES, "pixels"] + (["ratio"] if result.ratio else [])
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["key", *columns])
        for key, row in zip(keys, result.images, strict=True):
            cells = (row[name] for name in columns)
            lines.writerow([key, *("" if np.isnan(c) else c for c in cells)])
    os.replace(temporary, path)


def extremes(result: Evaluation, count: int) -> dict[str, list[dict]]:
    """The `count` worst and `count` best images by abs_rel, fewer if there are fewer.

    No image is in both; an odd one out counts as worst.
    """
    measured = [row for row in result.images if row["pixels"]]
    ordered = sorted(measured, key=lambda row: -row["abs_rel"])
    worst = min(count, -(-len(ordered) // 2))
    best = min(count, len(ordered) // 2)
    return {"worst": ordered[:worst], "best": ordered[::-1][:best]}


def write_pictures(
    result: Evaluation,
    path: Path,
    *,
    frame: Callable[[int], dict],
    predict: Callable[[np.ndarray], np.ndarray],
    protocol: Protocol,
    count: int,
) -> None:
    """A panel of the worst frames and, below, the best.

    `frame(index)` gives a test frame, as `loader.test_frame`; `predict` maps its image
    [1, H, W, 3] to depth [1, H, W], which is shown as measured: scaled and clamped.
    """
    frames, depths = [], []
    for kind, rows in extremes(result, count).items():
        for row in rows:
            one = frame(int(row["index"]))
            depth = predict(one["image"][None])[0]
            if protocol.median_scaling:
                depth = depth * row["ratio"]
            if protocol.median_scaling or protocol.clamp:
                depth = np.clip(depth, protocol.min_depth, protocol.max_depth)
            label = f"{kind}, abs_rel {row['abs_rel']:.3f}/{one['key']}"
            frames.append({**one, "key": label})
            depths.append(depth)
    if frames:
        pictures.panel(frames, depths, path, max_depth=protocol.max_depth)
