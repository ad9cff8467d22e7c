"""Measured drives as odometry.json, a table, poses and pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ml_collections import ConfigDict
from rich.table import Table

from amlr_jax.config import VIDEO
from amlr_jax.data import recordings, splits
from amlr_jax.data.kitti.files import read_list
from amlr_jax.odometry import drives, own_recordings, pose_network, trajectories
from amlr_jax.odometry.drives import Drive
from amlr_jax.odometry.from_matches import MatchWeights
from amlr_jax.odometry.pose_network import BATCH, PoseWeights
from amlr_jax.runtime import files, paths, workdir
from amlr_jax.runtime import mesh as parallel
from amlr_jax.runtime.console import bar, show
from amlr_jax.runtime.distributed import is_first
from amlr_jax.runtime.errors import InputError

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
# Of a run at its end; `amlr_jax.odometry` measures whole drives.
DRIVES, FRAMES = 2, 200


class MeasuredDrive(NamedTuple):
    """A drive with a network's errors, and those of a camera moving straight ahead."""

    drive: Drive
    steps: np.ndarray  # predicted next_from_previous [N - 1, 4, 4]
    network: trajectories.Measurement
    straight: trajectories.Measurement

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
    predict = pose_network.predictor(
        weights, parallel.make_mesh(), batch_size=batch_size
    )
    made = []
    with bar("Odometry", sum(len(drive.images) - 1 for drive in found)) as progress:
        for drive in found:
            steps = predict(drive.images, progress.advance, drive.camera)
            both = (
                trajectories.measure(drive.truth, one, how)
                for one in (steps, trajectories.straight(len(steps)))
            )
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
            "alignment_is": trajectories.ALIGNMENTS[how],
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
    lines = [f"aligned by {how}: {trajectories.ALIGNMENTS[how]}"]
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


def _draw(axis: Axes, aligned: trajectories.Aligned) -> None:
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


# ------------------------------------------------------------ at the end of a run


def of_run(config: ConfigDict, variables: dict, folder: Path) -> bool:
    """Writes odometry.json and trajectory.png to `folder`; returns whether it did.

    Measures two drives of `config.data`: the first ones without a training frame, as
    KITTI's of the Eigen test, or the first ones if all have some. Prints one line where
    the data has no readable poses, and nothing where the run has no pose network. All
    processes call it; the first writes.

    Args:
      config: the run's.
      variables: {"params", "batch_stats"} of its state.
    """
    weights = pose_network.of_state(config, variables)
    if weights is None or config.data.name not in VIDEO:
        return False
    try:
        found, choice = _chosen(paths.expanded(config.data.root), config.data)
        made = measure_drives(weights, found, how="7dof")
    except InputError as error:
        show(f"No trajectory: {error}")
        return False
    if is_first():
        facts = {"size": weights.size, "choice": choice}
        values = as_json(made, how="7dof", **facts)
        files.write_json(folder / workdir.ODOMETRY, values)
        write_picture(made, folder / workdir.TRAJECTORY, how="7dof")
        show(as_table(made, how="7dof"))
        show(f"{workdir.ODOMETRY}, {workdir.TRAJECTORY}: {choice}")
    return True


def _chosen(root: Path, data: ConfigDict) -> tuple[list[Drive], str]:
    """A few drives, and a sentence on whether the run was trained on them."""
    if data.name == recordings.NAME:
        own = own_recordings.find(data, limit=FRAMES)
        some = own[:DRIVES]
        return some, f"{len(some)} of {len(own)} recordings with poses, of the training"
    names = drives.drives_with_poses(root)
    held_out = _held_out(names, data.list)
    chosen = (held_out or names)[:DRIVES]
    if not chosen:
        raise InputError(f"no drive under '{root}' has oxts records and calibration")
    found = [drives.raw_drive(root, name, limit=FRAMES) for name in chosen]
    kind = "without a training frame" if held_out else "with training frames"
    return found, f"{len(found)} of {len(names)} drives with poses, {kind}"


def _held_out(names: list[str], train_list: str) -> list[str]:
    """The drives that the list does not name; without one, those of the Eigen test."""
    if train_list:
        trained = {row.drive for row in read_list(train_list)}
        return [name for name in names if name not in trained]
    tested = splits.eigen_test(with_depth=False)
    return [name for name in names if name in tested]
