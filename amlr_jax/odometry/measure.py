"""All figures of one drive, and those of a car that only drives straight on."""

from typing import NamedTuple

import numpy as np

from amlr_jax.odometry import trajectory as errors
from amlr_jax.odometry.align import Aligned, align
from amlr_jax.odometry.poses import chain, steps_of
from amlr_jax.odometry.snippets import FRAMES, snippet_errors

NOT_MOVING = "the prediction does not move: its scale of 1 means nothing"
STANDS = 1.0  # metres within which a car stands: no scale is to be had from it


class Figures(NamedTuple):
    """What is measured of one drive; None is what the drive does not have.

    Metres, but for `segments` (see `trajectory.Segments`) and the degrees of `rpe`.
    """

    snippets: tuple[float, float]  # mean and standard deviation, `snippet_errors`
    scale: float | None  # true metres for one unit of the prediction
    ate: float | None
    rpe: tuple[float, float] | None  # metres, degrees
    segments: errors.Segments | None
    notes: tuple[str, ...] = ()


class Measured(NamedTuple):
    """Figures with the trajectories that they are of; None where the car stands."""

    figures: Figures
    aligned: Aligned | None


def measure(truth: np.ndarray, steps: np.ndarray, how: str = "7dof") -> Measured:
    """A predicted drive beside the true one.

    Args:
      truth: trajectory [N, 4, 4] in metres, N at least 2.
      steps: predicted next_from_previous, [N - 1, 4, 4].
      how: one of `align.ALIGNMENTS`.
    """
    each = snippet_errors(steps_of(truth), steps, frames=FRAMES)
    snippets = (float(each.mean()), float(each.std()))
    if _extent(truth) < STANDS:
        note = f"the car stands: it stays within {STANDS:g} m, so there is no scale"
        return Measured(Figures(snippets, None, None, None, None, (note,)), None)
    predicted = chain(steps)
    aligned = align(truth, predicted, how)
    parts = errors.segments(*aligned[:2])
    figures = Figures(
        snippets,
        aligned.scale,
        errors.ate(*aligned[:2]),
        errors.relative_errors(*aligned[:2]),
        parts,
        () if _extent(predicted) > 0 else (NOT_MOVING,),
    )
    return Measured(figures, aligned)


def straight(count: int) -> np.ndarray:
    """The steps [count, 4, 4] of a car that drives straight on at one speed."""
    steps = np.tile(np.eye(4), (count, 1, 1))
    steps[:, 2, 3] = -1.0
    return steps


def _extent(trajectory: np.ndarray) -> float:
    """How far the camera gets from where it starts, metres."""
    places = trajectory[:, :3, 3]
    return float(np.linalg.norm(places - places[0], axis=1).max())
