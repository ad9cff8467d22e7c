"""A predicted trajectory laid on the true one: monocular poses have no scale."""

from typing import NamedTuple

import numpy as np

from amlr_jax.odometry.poses import from_first

# 7dof: rotation, translation and scale; 6dof: without the scale, for poses in metres;
# scale: about the first frame; none: both from the first frame, no more.
ALIGNMENTS = ("7dof", "6dof", "scale", "none")


class Similarity(NamedTuple):
    """x -> scale * rotation @ x + translation."""

    scale: float
    rotation: np.ndarray  # [3, 3]
    translation: np.ndarray  # [3]


class Aligned(NamedTuple):
    """Both trajectories [N, 4, 4], the true one from its first frame."""

    truth: np.ndarray
    predicted: np.ndarray
    scale: float


def umeyama(points: np.ndarray, target: np.ndarray, *, scale: bool) -> Similarity:
    """The similarity that takes `points` nearest to `target`, both [N, 3].

        C = 1/N sum (y - mean y)(x - mean x)^T = U D V^T
        R = U S V^T,  s = tr(D S) / var x,  t = mean y - s R mean x

    S is the identity, or has -1 last where U V^T is a reflection (Umeyama, PAMI 1991,
    Eq. 34 to 43). Points that are all one have s = 1.
    """
    means = points.mean(0), target.mean(0)
    x, y = points - means[0], target - means[1]
    u, d, v = np.linalg.svd(y.T @ x / len(x))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(v))])
    rotation = u @ np.diag(signs) @ v
    spread = np.sum(x * x) / len(x)
    factor = float(d @ signs / spread) if scale and _counts(spread) else 1.0
    return Similarity(factor, rotation, means[1] - factor * rotation @ means[0])


def align(truth: np.ndarray, predicted: np.ndarray, how: str = "7dof") -> Aligned:
    """Both from their first frames, then `predicted` moved as `how` says.

    The similarity is that of the places; it turns the cameras along with them. On a
    straight drive it makes any straight prediction fit, even one that goes sideways:
    there the errors of steps and snippets tell more than the ATE.
    """
    if how not in ALIGNMENTS:
        raise ValueError(f"`how` must be one of {', '.join(ALIGNMENTS)}; got {how}.")
    truth, predicted = from_first(truth), from_first(predicted)
    if len(truth) != len(predicted):
        raise ValueError(
            f"`predicted` must have the {len(truth)} frames of `truth`, got "
            f"{len(predicted)}."
        )
    places, target = predicted[:, :3, 3], truth[:, :3, 3]
    fit = Similarity(1.0, np.eye(3), np.zeros(3))
    if how == "scale":
        fit = fit._replace(scale=_least_squares(places, target))
    elif how != "none":
        fit = umeyama(places, target, scale=how == "7dof")
    moved = predicted.copy()
    moved[:, :3, :3] = fit.rotation @ predicted[:, :3, :3]
    moved[:, :3, 3] = fit.scale * places @ fit.rotation.T + fit.translation
    return Aligned(truth, moved, fit.scale)


def _least_squares(points: np.ndarray, target: np.ndarray) -> float:
    square = np.sum(points * points)
    return float(np.sum(points * target) / square) if _counts(square) else 1.0


def _counts(square: float) -> bool:
    """Whether one may divide by it: not by what is left of zero."""
    return bool(square > np.finfo(np.float64).tiny)
