"""Errors of a whole trajectory beside the true one, both [N, 4, 4] in metres."""

from typing import NamedTuple

import numpy as np

from amlr_jax.odometry.poses import distances, steps_of

LENGTHS = (100, 200, 300, 400, 500, 600, 700, 800)  # metres of KITTI's segments
EVERY = 10  # frames from the start of one segment to the next


class Segments(NamedTuple):
    """KITTI's drift, over all segments and over those of each length.

    `translation` in percent of the length, `rotation` in degrees for 100 m.
    """

    translation: float
    rotation: float
    count: int
    by_length: dict[int, "Segments"]  # metres -> of these alone


def ate(truth: np.ndarray, aligned: np.ndarray) -> float:
    """Absolute trajectory error: sqrt(mean |p_i - q_i|^2) of the places, metres."""
    difference = truth[:, :3, 3] - aligned[:, :3, 3]
    return float(np.sqrt(np.mean(np.sum(difference**2, axis=1))))


def relative_errors(truth: np.ndarray, aligned: np.ndarray) -> tuple[float, float]:
    """Mean error of a step from frame to frame: metres and degrees (RPE).

    E_i = (P_i^-1 P_(i+1))^-1 (Q_i^-1 Q_(i+1)); its translation and its angle.
    """
    back = (np.linalg.inv(steps_of(poses)) for poses in (truth, aligned))
    true_move, move = back
    error = np.linalg.inv(true_move) @ move
    metres = np.linalg.norm(error[:, :3, 3], axis=1)
    return float(metres.mean()), float(np.degrees(_angles(error)).mean())


def segments(truth: np.ndarray, aligned: np.ndarray) -> Segments | None:
    """KITTI's drift over segments of 100 to 800 m, one of each every 10 frames.

        E = (Q_a^-1 Q_b)^-1 (P_a^-1 P_b),  b the first frame beyond a + length

    The mean of |translation of E| / length and of angle of E / length, over all
    segments of the drive alike (Geiger et al., CVPR 2012, and its development kit).
    None for a drive that is shorter than the shortest segment.
    """
    driven = distances(truth)
    found: dict[int, list] = {}
    for first in range(0, len(truth), EVERY):
        for metres in LENGTHS:
            last = int(np.searchsorted(driven, driven[first] + metres, side="right"))
            if last < len(truth):
                found.setdefault(metres, []).append((first, last))
    if not found:
        return None
    errors = {m: _drift(truth, aligned, np.array(p), m) for m, p in found.items()}
    parts = {m: _segments(errors[m]) for m in LENGTHS if m in errors}
    return _segments(np.concatenate(list(errors.values())))._replace(by_length=parts)


def _drift(truth, aligned, pairs: np.ndarray, metres: float) -> np.ndarray:
    """Percent and degrees for 100 m, [segments, 2]."""
    moves = (
        np.linalg.inv(poses[pairs[:, 0]]) @ poses[pairs[:, 1]]
        for poses in (truth, aligned)
    )
    true_move, move = moves
    error = np.linalg.inv(move) @ true_move
    away = np.linalg.norm(error[:, :3, 3], axis=1)
    degrees = np.degrees(_angles(error))
    return 100 * np.column_stack([away, degrees]) / metres


def _segments(errors: np.ndarray) -> Segments:
    translation, rotation = errors.mean(0)
    return Segments(float(translation), float(rotation), len(errors), {})


def _angles(poses: np.ndarray) -> np.ndarray:
    """Radians: arccos((tr R - 1) / 2), held in [-1, 1] as the development kit does."""
    trace = np.trace(poses[:, :3, :3], axis1=1, axis2=2)
    return np.arccos(np.clip((trace - 1) / 2, -1, 1))
