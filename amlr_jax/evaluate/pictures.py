"""The pictures of a run: training curves, and test frames with predictions."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from amlr_jax.data import colors
from amlr_jax.runtime import files

CELL = 480  # pixels: the width of each picture of a panel


def curves(metrics_file: Path, output: Path) -> None:
    """Losses, loss weights, total and learning rate over steps, from metrics.jsonl."""
    rows = [json.loads(line) for line in metrics_file.read_text().splitlines()]
    if not rows:
        return
    figure = Figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    for axis, (title, series) in zip(axes.flat, _series(rows).items(), strict=True):
        for name, values in series.items():
            axis.plot([row["step"] for row in rows], values, label=name, linewidth=1)
        axis.set(title=title, yscale="log")
        axis.grid(alpha=0.3)
        axis.legend()
    for axis in axes[1]:
        axis.set_xlabel("step")
    with files.replacing(output) as temporary:
        figure.savefig(temporary, dpi=90)


def _series(rows: list[dict]) -> dict[str, dict[str, list[float]]]:
    """The values of each step by name, by title of their chart."""
    losses, weights = (
        {name: [row[part][name] for row in rows] for name in rows[0][part]}
        for part in ("losses", "weights")
    )
    weighted = {name: np.multiply(losses[name], weights[name]) for name in losses}
    total, rate, norm = (
        [row[name] for row in rows] for name in ("total", "learning_rate", "grad_norm")
    )
    return {
        "losses, unweighted": losses,
        "loss weights": weights,
        "weighted losses and their total": weighted | {"total": total},
        "learning rate, gradient norm": {"learning rate": rate, "gradient norm": norm},
    }


def panel(frames: Sequence[dict], output: Path, *, max_depth: float) -> None:
    """Image, ground truth, prediction and relative error of each frame, in rows.

    Without any ground truth the rows are image and prediction, in the colours of its
    own range and without their scale, since the depth may have no unit.

    A frame holds `image` uint8 [H, W, 3] (left out if it is [H, W]), `depth` and
    `prediction` in metres [H, W] (0 = none) and `key`. All rows have the same depth
    colours, up to `max_depth`.
    """
    known = np.concatenate([frame["depth"].ravel() for frame in frames])
    measured = bool(known.any())
    if not measured:
        known = np.concatenate([frame["prediction"].ravel() for frame in frames])
        max_depth = min(max_depth, float(np.nanmax(known)) or max_depth)
    limits: dict = {"near": colors.nearest(known, far=max_depth), "far": max_depth}
    rows = [_row(frame, limits, measured=measured) for frame in frames]
    if measured:
        rows[-1] = colors.with_scale(rows[-1], **limits)
    with files.replacing(output) as temporary:
        Image.fromarray(np.concatenate(rows)).save(temporary)


def _row(frame: dict, limits: dict[str, float], *, measured: bool) -> np.ndarray:
    """A line of text, and the pictures of a frame below it."""
    target, depth = frame["depth"], frame["prediction"]
    pictured, name = frame["image"].ndim == 3, str(frame["key"])
    cells = {name: frame["image"]} if pictured else {}
    if measured:
        cells["ground truth" if pictured else name] = colors.sparse(target, **limits)
    cells["prediction"] = colors.colorize(depth, **limits)
    if measured:
        cells["|error| / ground truth, 0 to 50 %"] = colors.errors(depth, target)
    text = np.concatenate([_title(title) for title in cells], axis=1)
    size = CELL, max(round(CELL * target.shape[0] / target.shape[1]), 1)
    made = [cv2.resize(c, size, interpolation=cv2.INTER_AREA) for c in cells.values()]
    return np.concatenate([text, np.concatenate(made, axis=1)])


def _title(text: str) -> np.ndarray:
    """A line of text of the width of a picture; a long one loses its middle."""
    strip, font = Image.new("RGB", (CELL, 20), (40, 40, 40)), ImageFont.load_default(13)
    draw, shown, rest = ImageDraw.Draw(strip), text, text[22:]
    while draw.textlength(shown, font=font) > CELL - 12:
        rest = rest[1:]
        shown = f"{text[:22]}...{rest}"
    draw.text((6, 2), shown, fill="white", font=font)
    return np.asarray(strip)
