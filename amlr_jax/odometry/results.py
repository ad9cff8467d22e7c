"""Measured drives: the figures of a network, and what is left of them in files."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from amlr_jax.odometry import picture, poses, snippets, tables, trajectory
from amlr_jax.odometry.drives import Drive
from amlr_jax.odometry.measure import Figures, Measured, measure, straight
from amlr_jax.odometry.pose_weights import PoseWeights
from amlr_jax.odometry.steps import BATCH, predictor
from amlr_jax.runtime import mesh as parallel
from amlr_jax.runtime.console import bar

ALIGNED = {
    "7dof": "rotation, translation and scale (Umeyama), from the first frames",
    "6dof": "rotation and translation (Umeyama), from the first frames",
    "scale": "scale by least squares, from the first frames",
    "none": "from the first frames alone",
}

SHORT = f"t_err, r_err: no segment of {trajectory.LENGTHS[0]} m in a drive with -"


class Result(NamedTuple):
    """A drive, what was measured of it, and of a car that drives straight on."""

    drive: Drive
    steps: object  # predicted next_from_previous [N - 1, 4, 4]
    measured: Measured
    straight: Figures

    @property
    def metres(self) -> float:
        """How long the drive is."""
        return poses.length(self.drive.truth)


def results(
    weights: PoseWeights,
    found: Sequence[Drive],
    *,
    how: str = "7dof",
    batch_size: int = BATCH,
) -> list[Result]:
    """Predicts and measures each drive; `how` is one of `align.ALIGNMENTS`."""
    predict = predictor(weights, parallel.make_mesh(), batch_size=batch_size)
    made = []
    with bar("Odometry", sum(len(drive.images) - 1 for drive in found)) as progress:
        for drive in found:
            steps = predict(drive.images, progress.advance)
            made.append(_result(drive, steps, how))
    return made


def _result(drive: Drive, steps, how: str) -> Result:
    plain = measure(drive.truth, straight(len(steps)), how)
    return Result(drive, steps, measure(drive.truth, steps, how), plain.figures)


def as_json(made: Sequence[Result], size, *, how: str, **facts) -> dict:
    """What odometry.json holds: facts of the weights, the protocol, each drive."""
    return {
        **facts,
        "protocol": {
            "pairs": "each frame and the next, in the order of time",
            "image_size": list(size) if size else "as the files",
            "snippet_frames": snippets.FRAMES,
            "snippet_error": "one scale a snippet, sqrt(sum |difference|^2) / frames",
            "alignment": how,
            "alignment_is": ALIGNED[how],
            "segments_m": list(trajectory.LENGTHS),
            "segment_every_frames": trajectory.EVERY,
            "rpe": "mean over steps of one frame",
            "straight_on": "a car that drives straight on at one speed",
        },
        "drives": {result.drive.name: _row(result) for result in made},
    }


def _row(result: Result) -> dict:
    drive, figures = result.drive, result.measured.figures
    return {
        "frames": len(drive.images),
        "length_m": result.metres,
        "poses": drive.source,
        "notes": [*drive.notes, *figures.notes]
        + ([] if figures.segments else ["too short for t_err and r_err"]),
        "network": tables.as_json(figures),
        "straight_on": tables.as_json(result.straight),
    }


def write_poses(result: Result, path: Path) -> None:
    """The prediction in KITTI's format, from its first frame, scaled to metres."""
    way = poses.chain(result.steps)
    way[:, :3, 3] *= result.measured.figures.scale or 1.0
    poses.write_kitti(way, path)


def write_picture(made: Sequence[Result], path: Path, *, how: str) -> bool:
    """The drives that move, side by side; False and no file if none does."""
    panels = []
    for drive, _, measured, _ in made:
        if measured.aligned is not None:
            metres = poses.length(drive.truth)
            title = tables.title(drive.name, metres, measured.figures, how)
            panels.append((title, measured.aligned))
    if panels:
        picture.draw(panels, path)
    return bool(panels)


def as_table(made: Sequence[Result], *, how: str):
    """The table that is printed, with what the protocol is and notes under it."""
    rows = [
        (r.drive.name, len(r.drive.images), r.metres, r.measured.figures, r.straight)
        for r in made
    ]
    lines = [f"aligned by {how}: {ALIGNED[how]}"]
    if any(r.measured.figures.segments is None for r in made):
        lines.append(SHORT)
    lines += [
        f"{r.drive.name}: {note}"
        for r in made
        for note in (*r.drive.notes, *r.measured.figures.notes)
    ]
    return tables.table(rows, caption="\n".join(lines))
