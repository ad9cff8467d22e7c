"""Measured drives as odometry.json, a table, poses and pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from amlr_jax.odometry import trajectories
from amlr_jax.odometry.drives import Drive
from amlr_jax.odometry.from_matches import MatchWeights
from amlr_jax.odometry.pose_network import BATCH, PoseWeights, predictor
from amlr_jax.odometry.trajectories import (
    ALIGNMENTS,
    Aligned,
    Measurement,
    measure,
    straight,
)
from amlr_jax.runtime import files, workdir
from amlr_jax.runtime import mesh as parallel
from amlr_jax.runtime.console import bar, show

# Columns of the table beside the first: heading, key in odometry.json, format.
COLUMNS = (
    ("t_err\n(%)", "t_err_percent", ".2f"),
    ("r_err °\n/100 m", "r_err_deg_per_100m", ".2f"),
    ("ATE\n(m)", "ate_rmse_m", ".2f"),
    ("RPE\n(m)", "rpe_m", ".3f"),
    ("RPE\n(°)", "rpe_deg", ".3f"),
    ("scale", "scale", ".3g"),
)
FIRST = "5-frame\nATE (m)"
TOO_SHORT = "too short for t_err and r_err"
TRUE, PREDICTED = "#333333", "#d55e00"  # distinct for colour-blind eyes, and in grey
SIDE = 7.0  # inches of a panel


class MeasuredDrive(NamedTuple):
    """A drive with a network's errors, and those of a camera moving straight ahead."""

    drive: Drive
    steps: np.ndarray  # predicted next_from_previous [N - 1, 4, 4]
    network: Measurement
    straight: Measurement

    @property
    def metres(self) -> float:
        """The length of the drive."""
        return float(trajectories.distances(self.drive.truth)[-1])

    @property
    def notes(self) -> list[str]:
        """What a reader must know of the drive and its errors."""
        return [*self.drive.notes, *self.network.notes]


def measure_drives(
    weights: PoseWeights | MatchWeights,
    found: Sequence[Drive],
    *,
    how: str,
    batch_size: int = BATCH,
) -> list[MeasuredDrive]:
    """Predicts and measures each drive; `how` is one of `ALIGNMENTS`."""
    predict = predictor(weights, parallel.make_mesh(), batch_size=batch_size)
    made = []
    with bar("Odometry", sum(len(drive.images) - 1 for drive in found)) as progress:
        for drive in found:
            steps = predict(drive.images, progress.advance, drive.camera)
            both = (measure(drive.truth, s, how) for s in (steps, straight(len(steps))))
            made.append(MeasuredDrive(drive, steps, *both))
    return made


def write(made: Sequence[MeasuredDrive], output: Path, *, how: str, **facts) -> None:
    """Writes odometry.json, and poses and a picture of each drive; prints the table.

    The poses are the predicted ones in KITTI's format, scaled to metres.

    Args:
      made: of `measure_drives` with the same `how`.
      facts: of the weights, as in `as_json`.
    """
    files.write_json(output / workdir.ODOMETRY, as_json(made, how=how, **facts))
    for one in made:
        poses = trajectories.chain(one.steps)
        poses[:, :3, 3] *= one.network.values.get("scale", 1.0)
        trajectories.write_kitti(poses, output / f"{one.drive.name}.txt")
        write_picture([one], output / f"{one.drive.name}.png", how=how)
    show(as_table(made, how=how))
    show(f"Results in {output}: {workdir.ODOMETRY}; poses and a picture of each drive")


def as_json(made: Sequence[MeasuredDrive], *, how: str, size, **facts) -> dict:
    """The content of odometry.json: `facts`, the protocol, each drive.

    `size` is the height and width of the images that the network sees, or None.
    """
    return {
        **facts,
        "protocol": {
            "pairs": "each frame and the next, in the order of time",
            "image_size": list(size) if size else "as the files",
            "snippet_frames": trajectories.SNIPPET,
            "snippet_error": "one scale a snippet, sqrt(sum |difference|^2) / frames",
            "alignment": how,
            "alignment_is": ALIGNMENTS[how],
            "segments_m": list(trajectories.LENGTHS),
            "segment_every_frames": trajectories.EVERY,
            "rpe": "mean over steps of one frame",
            "straight_on": "a camera that moves straight ahead at one speed",
        },
        "drives": {
            one.drive.name: {
                "frames": len(one.drive.images),
                "length_m": one.metres,
                "poses": one.drive.source,
                "notes": one.notes + [TOO_SHORT] * _is_short(one),
                "network": one.network.values,
                "straight_on": one.straight.values,
            }
            for one in made
        },
    }


def _is_short(one: MeasuredDrive) -> bool:
    return "t_err_percent" not in one.network.values


def as_table(made: Sequence[MeasuredDrive], *, how: str) -> Table:
    """The printed table: two rows a drive, the protocol and notes below."""
    lines = [f"aligned by {how}: {ALIGNMENTS[how]}"]
    if any(map(_is_short, made)):
        shortest = trajectories.LENGTHS[0]
        lines.append(f"t_err, r_err: no segment of {shortest} m in a drive with -")
    lines += [f"{one.drive.name}: {note}" for one in made for note in one.notes]
    table = Table(title="Odometry", caption="\n".join(lines), caption_justify="left")
    table.add_column("", no_wrap=True)
    for heading in ("frames", "metres", FIRST, *(column[0] for column in COLUMNS)):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in made:
        name = one.drive.name.removesuffix("_sync")
        size = str(len(one.drive.images)), f"{one.metres:.0f}"
        table.add_row(name, *size, *_cells(one.network.values))
        cells = _cells(one.straight.values)
        table.add_row("  straight on", "", "", *cells, style="dim")
    return table


def _cells(values: dict) -> list[str]:
    mean, std = values["ate_5_frames_mean_m"], values["ate_5_frames_std_m"]
    rest = [format(values[k], f) if k in values else "-" for _, k, f in COLUMNS]
    return [f"{mean:.3f} ± {std:.3f}", *rest]


def write_picture(made: Sequence[MeasuredDrive], path: Path, *, how: str) -> None:
    """Draws the drives that move, side by side; no file if none does.

    A panel shows a drive from above, x to the right and z ahead, in metres of the first
    camera; a square marks the start and a dot each end.
    """
    shown = [(one, one.network.aligned) for one in made if one.network.aligned]
    if not shown:
        return
    figure = Figure(figsize=(SIDE * len(shown), SIDE), layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for axis, (one, aligned) in zip(axes, shown, strict=True):
        _draw(axis, aligned)
        axis.set_title(_title(one, how), fontsize=9)
        axis.legend(loc="best")
    with files.replacing(path) as temporary:
        figure.savefig(temporary, dpi=100)


def _draw(axis: Axes, aligned: Aligned) -> None:
    lines = (
        (aligned.truth, "ground truth", TRUE, "-", 2.5),
        (aligned.predicted, "predicted, aligned", PREDICTED, "--", 1.8),
    )
    for poses, label, color, style, width in lines:
        x, z = poses[:, 0, 3], poses[:, 2, 3]
        axis.plot(x, z, style, color=color, linewidth=width, label=label)
        axis.plot(x[-1], z[-1], "o", color=color, markersize=5)
    start = aligned.truth[0, :3, 3]
    mark: dict = {"color": TRUE, "markerfacecolor": "white", "markersize": 9}
    axis.plot(start[0], start[2], "s", label="start", linestyle="none", **mark)
    # One scale for both axes; the limits grow, so a straight drive is no thin panel.
    axis.set_aspect("equal", adjustable="datalim")
    axis.set(xlabel="x, to the right (m)", ylabel="z, ahead (m)")
    axis.grid(alpha=0.3)


def _title(one: MeasuredDrive, how: str) -> str:
    """The drive, and its errors as in the table."""
    headings = (FIRST, *(column[0] for column in COLUMNS))
    cells = zip(headings, _cells(one.network.values), strict=True)
    parts = [f"{heading} {cell}".replace("\n", " ") for heading, cell in cells]
    name = f"{one.drive.name}, {one.metres:.0f} m, aligned by {how}"
    return "\n".join([name, "; ".join(parts[:3]), "; ".join(parts[3:])])
