"""The pictures of a run: its curves, and held-out frames beside what was predicted."""

import json
from pathlib import Path

import cv2
import matplotlib
import numpy as np

matplotlib.use("Agg")  # no screen on a training machine
from matplotlib import pyplot as plt  # noqa: E402

ERROR_LIMIT = 0.5  # relative error that the error map shows as the darkest red


def curves(metrics_file: Path, output: Path) -> None:
    """Losses, loss weights, total and learning rate over steps, from metrics.jsonl."""
    rows = [json.loads(line) for line in metrics_file.read_text().splitlines()]
    if not rows:
        return
    steps = [row["step"] for row in rows]
    figure, axes = plt.subplots(
        2, 2, figsize=(12, 7), sharex=True, layout="constrained"
    )
    panels = (
        ("losses, unweighted", "losses"),
        ("loss weights", "weights"),
        ("weighted losses and their total", None),
        ("learning rate, gradient norm", ("learning_rate", "grad_norm")),
    )
    for axis, (title, source) in zip(axes.flat, panels, strict=True):
        for name, values in _series(rows, source).items():
            axis.plot(steps, values, label=name, linewidth=1)
        axis.set_title(title)
        axis.set_yscale("log")
        axis.grid(alpha=0.3)
        axis.legend()
    for axis in axes[1]:
        axis.set_xlabel("step")
    _save(figure, output)


def _series(rows: list[dict], source) -> dict[str, list[float]]:
    if isinstance(source, str):
        return {name: [r[source][name] for r in rows] for name in rows[0][source]}
    if source:
        return {name: [row[name] for row in rows] for name in source}
    weighted = {
        name: [r["losses"][name] * r["weights"][name] for r in rows]
        for name in rows[0]["losses"]
    }
    return weighted | {"total": [row["total"] for row in rows]}


def panel(frames: list[dict], output: Path, *, max_depth: float) -> None:
    """Image, ground truth, prediction and relative error of each frame, in rows.

    A frame holds `image` uint8 [H, W, 3], `depth` and `prediction` in metres [H, W]
    (0 = none) and `key`.
    Depth is coloured by 1/depth, the same scale in all rows.
    """
    rows = len(frames)
    figure, axes = plt.subplots(
        rows, 4, figsize=(22, 1.65 * rows + 0.5), layout="constrained", squeeze=False
    )
    nearest = min(_nearest(frame["depth"]) for frame in frames)
    limits = {"vmin": 1 / max_depth, "vmax": 1 / nearest, "cmap": "magma"}
    for row, frame in zip(axes, frames, strict=True):
        target, depth = frame["depth"], frame["prediction"]
        error = np.where(
            target > 0, np.abs(depth - target) / np.maximum(target, 1e-9), 0
        )
        row[0].imshow(frame["image"])
        row[0].set_ylabel(frame["key"].replace("/", "\n"), fontsize=6)
        row[1].imshow(_thick(_inverse(target)), **limits)
        shown = row[2].imshow(_inverse(depth), **limits)
        wrong = row[3].imshow(_thick(error), vmin=0, vmax=ERROR_LIMIT, cmap="Reds")
    for axis, title in zip(
        axes[0],
        ("image", "ground truth", "prediction", "|error| / ground truth"),
        strict=True,
    ):
        axis.set_title(title)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    _depth_bar(figure, shown, axes, near=nearest, far=max_depth)
    figure.colorbar(wrong, ax=axes, fraction=0.01, pad=0.005)
    _save(figure, output)


def _nearest(depth: np.ndarray) -> float:
    valid = depth[depth > 0]
    return float(np.percentile(valid, 1)) if valid.size else 1.0


def _inverse(depth: np.ndarray) -> np.ndarray:
    return np.where(depth > 0, 1 / np.maximum(depth, 1e-9), np.nan)


def _thick(values: np.ndarray) -> np.ndarray:
    """Sparse pixels widened, or a panel of this size would not show them."""
    filled = np.nan_to_num(values, nan=0.0).astype(np.float32)
    wide = cv2.dilate(filled, np.ones((5, 5), np.uint8))
    return np.where(wide > 0, wide, np.nan)


def _depth_bar(figure, shown, axes, *, near: float, far: float) -> None:
    metres = [m for m in (1, 2, 5, 10, 20, 40, 80) if near <= m <= far]
    bar = figure.colorbar(shown, ax=axes, fraction=0.01, pad=0.005)
    bar.set_ticks([1 / m for m in metres], labels=[f"{m} m" for m in metres])


def _save(figure, output: Path) -> None:
    temporary = output.with_name(f".{output.name}.tmp.png")
    figure.savefig(temporary, dpi=90)
    plt.close(figure)
    temporary.replace(output)
