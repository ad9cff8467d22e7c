"""Drives from above: the true way and the predicted one."""

from pathlib import Path

import matplotlib
import numpy as np

from amlr_jax.odometry.align import Aligned

matplotlib.use("Agg")  # no screen on a training machine
from matplotlib import pyplot as plt  # noqa: E402

TRUE, PREDICTED = "#333333", "#d55e00"  # apart for colour-blind eyes, and in grey
_SIDE = 7.0  # inches of a panel


def draw(panels: list[tuple[str, Aligned]], output: Path) -> None:
    """A panel for each title and drive: x to the right, z ahead, equal axes.

    In metres of the first camera, which is marked; a dot is where a way ends.
    """
    count = len(panels)
    size = (_SIDE * count, _SIDE)
    figure, axes = plt.subplots(
        1, count, figsize=size, layout="constrained", squeeze=False
    )
    for axis, (title, aligned) in zip(axes[0], panels, strict=True):
        _ways(axis, aligned)
        _frame(axis, aligned)
        axis.set_title(title, fontsize=9)
        axis.legend(loc="best")
    temporary = output.with_name(f".{output.name}.tmp.png")
    figure.savefig(temporary, dpi=100)
    plt.close(figure)
    temporary.replace(output)


def _ways(axis, aligned: Aligned) -> None:
    ways = (
        (aligned.truth, "ground truth", TRUE, "-", 2.5),
        (aligned.predicted, "predicted, aligned", PREDICTED, "--", 1.8),
    )
    for poses, label, color, style, width in ways:
        x, z = poses[:, 0, 3], poses[:, 2, 3]
        axis.plot(x, z, style, color=color, linewidth=width, label=label)
        axis.plot(x[-1], z[-1], "o", color=color, markersize=5)
    start = aligned.truth[0, :3, 3]
    mark = {"color": TRUE, "markerfacecolor": "white", "markersize": 9}
    axis.plot(start[0], start[2], "s", label="start", linestyle="none", **mark)


def _frame(axis, aligned: Aligned) -> None:
    """A square around both ways: a straight drive would else be a thin line."""
    places = np.concatenate([aligned.truth, aligned.predicted])[:, (0, 2), 3]
    low, high = places.min(0), places.max(0)
    middle, half = (low + high) / 2, 0.55 * max(float((high - low).max()), 1.0)
    axis.set_xlim(middle[0] - half, middle[0] + half)
    axis.set_ylim(middle[1] - half, middle[1] + half)
    axis.set_aspect("equal")
    axis.set_xlabel("x, to the right (m)")
    axis.set_ylabel("z, ahead (m)")
    axis.grid(alpha=0.3)
