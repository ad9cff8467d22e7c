"""Draws docs/images/first_run.png from the workdir of a run.

    python -m amlr_jax.main --config=configs/demo.py --workdir=runs/demo
    python docs/make_pictures.py runs/demo [--frame=0]

A held-out image, its ground truth and the prediction from frames.npz, and the loss
weights from metrics.jsonl. The picture in the repository is frame 2 of a run of
2026-11-26 on version 2 of the street.
"""

import argparse
import io
import json
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from amlr_jax.data import colors
from amlr_jax.runtime import workdir

TARGET = Path(__file__).parent / "images" / "first_run.png"


def main() -> None:
    """Reads the two files of the workdir and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--frame", type=int, default=0, help="number in frames.npz")
    parser.add_argument("--output", type=Path, default=TARGET)
    options = parser.parse_args()
    lines = (options.workdir / workdir.METRICS).read_text().splitlines()
    with np.load(options.workdir / workdir.FRAMES) as frames:
        pictures = depth_pictures(frames, options.frame)
    draw(pictures, [json.loads(line) for line in lines], options.output)


def depth_pictures(frames: np.lib.npyio.NpzFile, number: int) -> dict:
    """Title -> uint8 RGB [H, W, 3]; both depths in the same colours, near is bright."""
    image = np.asarray(Image.open(io.BytesIO(frames[f"image{number}"].tobytes())))
    truth = frames[f"depth{number}"].astype(np.float32)
    prediction = frames[f"prediction{number}"].astype(np.float32)
    far = float(frames["max_depth"])
    near = colors.nearest(truth, far=far)
    # Lidar depth is sparse: single pixels would not be seen at this size.
    dense = cv2.dilate(truth, np.ones((5, 5), np.uint8))
    return {
        "image (held out)": image,
        "ground truth": colors.colorize(dense, near, far),
        "prediction": colors.colorize(prediction, near, far),
    }


def draw(pictures: dict[str, np.ndarray], rows: list[dict], output: Path) -> None:
    """The pictures below each other on the left, the weights on the right."""
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    grid = figure.add_gridspec(3, 2, width_ratios=(1.35, 1))
    for row, (title, picture) in enumerate(pictures.items()):
        axis = figure.add_subplot(grid[row, 0])
        axis.imshow(picture)
        axis.set_ylabel(title, fontsize=9)
        axis.set(xticks=[], yticks=[])
    weights(figure.add_subplot(grid[:, 1]), rows)
    figure.savefig(output, dpi=100)


def weights(axis: Axes, rows: list[dict]) -> None:
    """The weight of each loss over the steps."""
    steps = [row["step"] for row in rows]
    for name in rows[0]["weights"]:
        axis.plot(steps, [row["weights"][name] for row in rows], label=name)
    axis.set(title="loss weights by AMLR", xlabel="step", ylim=(0, None))
    axis.grid(alpha=0.3)
    axis.legend()


if __name__ == "__main__":
    main()
