"""What each test frame contributed: a table, and the best and worst as pictures."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amlr_jax.evaluate import pictures
from amlr_jax.evaluate.evaluator import with_predictions
from amlr_jax.evaluate.protocol import Evaluation, Protocol
from amlr_jax.metrics import METRIC_NAMES
from amlr_jax.runtime import files

PER_IMAGE = "per_image.csv"
FRAMES = "frames.png"


def write_csv(result: Evaluation, keys: Sequence[str], path: Path) -> None:
    """One line a frame: key, metrics, pixels that count and, if scaled, the ratio.

    Metrics of a frame without such a pixel are empty.
    """
    columns = [*METRIC_NAMES, "pixels"] + (["ratio"] if result.ratio else [])
    with files.replacing(path) as temporary, temporary.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["key", *columns])
        for key, row in zip(keys, result.images, strict=True):
            cells = (row[name] for name in columns)
            lines.writerow([key, *("" if np.isnan(c) else c for c in cells)])


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
    data: Any,
    predict: Callable[[np.ndarray], np.ndarray],
    protocol: Protocol,
    count: int,
) -> None:
    """A panel of the `count` worst frames and, below, of the `count` best.

    `predict` maps an image [1, H, W, 3] to depth [1, H, W] in metres.
    """
    frames = []
    for kind, rows in extremes(result, count).items():
        indices = [row["index"] for row in rows]
        found = with_predictions(indices, predict, data, protocol)
        for row, frame in zip(rows, found, strict=True):
            label = f"{kind}, abs_rel {row['abs_rel']:.3f}/{frame['key']}"
            frames.append({**frame, "key": label})
    if frames:
        pictures.panel(frames, path, max_depth=protocol.max_depth)
