"""The files of an evaluation: its values, a line for each frame, and pictures."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from amlr_jax import metrics
from amlr_jax.evaluate import metric_sets, pictures, tables
from amlr_jax.evaluate.measure import Evaluation, with_predictions
from amlr_jax.evaluate.protocols import Protocol
from amlr_jax.runtime import files, workdir
from amlr_jax.runtime.console import show


def as_json(result: Evaluation, protocol: Protocol, **facts: Any) -> dict:
    """The content of evaluation.json."""
    ratio = {} if result.ratio is None else {"median_ratio": result.ratio}
    bands = {"bands": list(result.bands)} if result.bands else {}
    return {
        **facts,
        "protocol": protocol.recorded(),
        "described": protocol.line(),
        "metrics": result.metrics,
        "constant": result.constant,
        "frames": result.frames,
        "frames_without_depth": result.skipped,
        **ratio,
        **bands,
    }


def write_csv(result: Evaluation, path: Path) -> None:
    """One line per frame: key, metrics, evaluated pixels and, if scaled, the ratio.

    Then scale and shift, if aligned, and what is by distance. Metrics of a frame
    without such a pixel are empty.
    """
    found = result.images[0]
    columns = [name for name in metric_sets.EVERY if name in found]
    columns += ["pixels"] + (["ratio"] if result.ratio else [])
    columns += [name for name in ("scale", "shift") if name in found]
    columns += [name for name in found if "@" in name]
    with files.replacing(path) as temporary, temporary.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["key", *columns])
        for row in result.images:
            cells = (row[name] for name in columns)
            lines.writerow([row["key"], *("" if np.isnan(c) else c for c in cells)])


def extremes(result: Evaluation, count: int) -> dict[str, list[dict]]:
    """The `count` worst and `count` best images by abs_rel, fewer if there are fewer.

    Without the standard metrics by the first one. No image is in both; of an odd number
    the middle one counts as worst.
    """
    measured = [row for row in result.images if row["pixels"]]
    name = _ranking(result)
    sign = 1 if tables.rises(name) else -1
    ordered = sorted(measured, key=lambda row: sign * row[name])
    half = -(-len(ordered) // 2)
    return {"worst": ordered[:half][:count], "best": ordered[half:][::-1][:count]}


def _ranking(result: Evaluation) -> str:
    """The metric by which images are ordered."""
    return next(name for name in tables.HEADINGS if name in result.images[0])


def write_frames(
    result: Evaluation,
    folder: Path,
    *,
    config: ConfigDict,
    also: Sequence[str] = (),
    **shown: Any,
) -> None:
    """Writes per_image.csv and frames.png to `folder`, and prints what is there.

    `also` are the names of results beside evaluation.json that were written before,
    `shown` the other arguments of `write_pictures`.
    """
    write_csv(result, folder / workdir.PER_IMAGE)
    count = -(-config.eval.pictures // 2)
    write_pictures(result, folder / workdir.FRAMES_PICTURE, count=count, **shown)
    names = workdir.EVALUATION, workdir.PER_IMAGE, workdir.FRAMES_PICTURE, *also
    there = [name for name in names if (folder / name).is_file()]
    show(f"Results in {folder}: {', '.join(there)}")


def write_pictures(
    result: Evaluation,
    path: Path,
    *,
    data: Any,
    predict: Callable[[np.ndarray], np.ndarray],
    protocol: Protocol,
    count: int,
    picture: Callable[[int], np.ndarray | None] | None = None,
) -> None:
    """A panel of the `count` worst frames and, below, of the `count` best.

    `predict` maps an image [1, H, W, 3] to depth [1, H, W] in metres. `picture` is the
    whole image of a frame, where `data` has predictions in the place of images.
    """
    frames, name = [], _ranking(result)
    for kind, rows in extremes(result, count).items():
        indices = [row["index"] for row in rows]
        found = with_predictions(indices, predict, data, protocol)
        for row, frame in zip(rows, found, strict=True):
            label = f"{kind}, {name} {row[name]:.3f}, {frame['key']}"
            frames.append({**frame, "key": label})
            image = picture(row["index"]) if picture else None
            if image is not None:
                frames[-1]["image"] = _as_the_depth(image, frame["depth"])
    if frames:
        pictures.panel(frames, path, max_depth=protocol.max_depth)


def _as_the_depth(image: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """The part of an image that depth [H, W] shows: all, or KITTI's benchmark crop."""
    if depth.shape == image.shape[:2]:
        return image
    top, left = metrics.kb_crop_offsets(*image.shape[:2])
    height, width = metrics.KB_CROP_SHAPE
    return image[top : top + height, left : left + width]
