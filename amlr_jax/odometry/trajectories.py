"""Camera trajectories: steps between frames, alignment, and the errors papers report.

A trajectory is first_from_i, [N, 4, 4] in metres: the camera of frame i in the frame of
the first. Its steps are next_from_previous, [N - 1, 4, 4]: what a pose network predicts
for each pair of consecutive frames. A car that drives forward has a negative z in its
steps and a positive one in its trajectory. All arrays are NumPy's, in float64.
"""

from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from amlr_jax.runtime import files

# How a prediction is aligned to the truth: a monocular camera knows no scale.
ALIGNMENTS = {
    "7dof": "rotation, translation and scale (Umeyama), from the first frames",
    "6dof": "rotation and translation (Umeyama), from the first frames",
    "scale": "scale by least squares, from the first frames",
    "none": "from the first frames alone",
}
SNIPPET = 5  # frames
LENGTHS = (100, 200, 300, 400, 500, 600, 700, 800)  # metres of KITTI's segments
EVERY = 10  # frames from the start of one segment to the start of the next
STANDS = 1.0  # metres; a camera that stays within them stands, and gives no scale


class Aligned(NamedTuple):
    """Two trajectories [N, 4, 4]; the true one starts at the identity."""

    truth: np.ndarray
    predicted: np.ndarray
    scale: float  # true metres for one unit of the prediction


class Measurement(NamedTuple):
    """The errors of one predicted drive.

    `values` has the names and units of odometry.json; it lacks what the drive is too
    short for. `aligned` is None where the camera stands.
    """

    values: dict
    aligned: Aligned | None
    notes: tuple[str, ...] = ()


def steps_of(trajectory: np.ndarray) -> np.ndarray:
    """The steps P_(i+1)^-1 P_i, [N - 1, 4, 4], of a trajectory [N, 4, 4]."""
    return np.linalg.inv(trajectory[1:]) @ trajectory[:-1]


def chain(steps: np.ndarray) -> np.ndarray:
    """The trajectory of steps: P_0 = I, P_(i+1) = P_i S_i^-1; [N, 4, 4]."""
    back = np.linalg.inv(steps)
    return np.stack([*accumulate(back, np.matmul, initial=np.eye(4))])


def from_first(trajectory: np.ndarray) -> np.ndarray:
    """The trajectory in the frame of its own first camera."""
    return np.linalg.inv(trajectory[:1]) @ trajectory


def pose_of(axis_angle: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """[R | t], [N, 4, 4], of axis-angle [N, 3] in radians and translation [N, 3].

    As `geometry.pose_from_axis_angle` in float64: a long chain adds up errors.
    """
    poses = np.tile(np.eye(4), (len(axis_angle), 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(axis_angle).as_matrix()
    poses[:, :3, 3] = translation
    return poses


def straight(count: int) -> np.ndarray:
    """The steps [count, 4, 4] of a camera moving straight ahead at constant speed."""
    steps = np.tile(np.eye(4), (count, 1, 1))
    steps[:, 2, 3] = -1.0
    return steps


def distances(trajectory: np.ndarray) -> np.ndarray:
    """Metres driven up to each frame, [N]."""
    positions = trajectory[:, :3, 3]
    moved = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(moved)])


def write_kitti(trajectory: np.ndarray, path: Path) -> None:
    """Writes KITTI's poses/NN.txt: 12 numbers a line, the rows of [R | t]."""
    rows = trajectory[:, :3].reshape(-1, 12)
    with files.replacing(path) as temporary:
        np.savetxt(temporary, rows, fmt="%.9e")


def umeyama(
    points: np.ndarray, target: np.ndarray, *, scale: bool
) -> tuple[float, np.ndarray, np.ndarray]:
    """The similarity x -> s R x + t that brings `points` nearest to `target` [N, 3].

        C = 1/N sum (y - mean y)(x - mean x)^T = U D V^T
        R = U S V^T,  s = tr(D S) / var x,  t = mean y - s R mean x

    S is the identity, or has -1 last where U V^T is a reflection (Umeyama, PAMI 1991,
    Eq. 34 to 43). s is 1 without `scale`, and where all points coincide.

    Returns:
      s, R [3, 3] and t [3].
    """
    means = points.mean(0), target.mean(0)
    x, y = points - means[0], target - means[1]
    u, d, v = np.linalg.svd(y.T @ x / len(x))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(v))])
    rotation = u @ np.diag(signs) @ v
    variance = np.sum(x * x) / len(x)
    factor = _ratio(d @ signs, variance, default=1.0) if scale else 1.0
    return factor, rotation, means[1] - factor * rotation @ means[0]


def align(truth: np.ndarray, predicted: np.ndarray, how: str = "7dof") -> Aligned:
    """Aligns `predicted` to `truth`, after both are moved to start at the identity.

    The similarity is fitted to the positions, and rotates the cameras along with them.
    On a straight drive it makes any straight prediction fit, even a sideways one: there
    the errors of steps and snippets tell more than the ATE.

    Args:
      truth, predicted: trajectories [N, 4, 4].
      how: one of `ALIGNMENTS`.
    """
    truth, predicted = from_first(truth), from_first(predicted)
    points, target = predicted[:, :3, 3], truth[:, :3, 3]
    scale, rotation, shift = 1.0, np.eye(3), np.zeros(3)
    if how == "scale":
        scale = _ratio(np.sum(points * target), np.sum(points**2), default=1.0)
    elif how != "none":
        scale, rotation, shift = umeyama(points, target, scale=how == "7dof")
    moved = predicted.copy()
    moved[:, :3, :3] = rotation @ predicted[:, :3, :3]
    moved[:, :3, 3] = scale * points @ rotation.T + shift
    return Aligned(truth, moved, scale)


def _ratio(above: float, below: float, *, default: float) -> float:
    """above / below, or `default` where `below` is zero but for rounding."""
    return float(above / below) if below > np.finfo(np.float64).tiny else default


def measure(truth: np.ndarray, steps: np.ndarray, how: str = "7dof") -> Measurement:
    """All errors of a predicted drive.

    Args:
      truth: trajectory [N, 4, 4] in metres, N at least 2.
      steps: predicted next_from_previous, [N - 1, 4, 4], in any unit.
      how: one of `ALIGNMENTS`.
    """
    each = snippet_errors(steps_of(truth), steps)
    values = {
        "ate_5_frames_mean_m": float(each.mean()),
        "ate_5_frames_std_m": float(each.std()),
    }
    if _extent(truth) < STANDS:
        note = f"the camera stands: it stays within {STANDS:g} m, so there is no scale"
        return Measurement(values, None, (note,))
    predicted = chain(steps)
    aligned = align(truth, predicted, how)
    metres, degrees = relative_errors(*aligned[:2])
    values |= drift(*aligned[:2])
    values |= {"ate_rmse_m": ate(*aligned[:2]), "scale": aligned.scale}
    values |= {"rpe_m": metres, "rpe_deg": degrees}
    notes = ("the prediction does not move: its scale of 1 means nothing",)
    return Measurement(values, aligned, () if _extent(predicted) > 0 else notes)


def _extent(trajectory: np.ndarray) -> float:
    """The greatest distance of the camera from its start, metres."""
    positions = trajectory[:, :3, 3]
    return float(np.linalg.norm(positions - positions[0], axis=1).max())


def snippet_errors(
    truth: np.ndarray, predicted: np.ndarray, *, frames: int = SNIPPET
) -> np.ndarray:
    """The error over five frames that papers on video depth report for KITTI odometry.

        x_0 = 0,  x_k = translation of S_i S_(i+1) ... S_(i+k-1)
        s   = sum_k x_k . y_k / sum_k y_k . y_k          x true, y predicted
        e_i = sqrt(sum_k |s y_k - x_k|^2) / n            n positions, x_0 among them

    S are the steps next_from_previous, chained as they are: x_k is no position of the
    camera, but the same is done to both. e_i is a root of a sum over n, and no root
    mean square. A snippet starts at each frame but the last; the last snippets have 4,
    3 and 2 frames. All of it is as monodepth2 measures (Godard et al., ICCV 2019),
    after Zhou et al. (CVPR 2017). A prediction that stands has s = 0, theirs is NaN.

    Args:
      truth, predicted: steps, [N - 1, 4, 4]; metres, and any unit.
      frames: of a whole snippet, at least 2.

    Returns:
      [N - 1] in metres; papers give its mean and standard deviation.
    """
    errors = []
    for start in range(len(truth)):
        x, y = (_positions(s[start:][: frames - 1]) for s in (truth, predicted))
        scale = _ratio(np.sum(x * y), np.sum(y * y), default=0.0)
        errors.append(np.sqrt(np.sum((scale * y - x) ** 2)) / len(x))
    return np.array(errors)


def _positions(steps: np.ndarray) -> np.ndarray:
    chained = accumulate(steps, np.matmul, initial=np.eye(4))
    return np.stack([pose[:3, 3] for pose in chained])


def ate(truth: np.ndarray, aligned: np.ndarray) -> float:
    """Absolute trajectory error: sqrt(mean |p_i - q_i|^2) of the positions, metres."""
    difference = truth[:, :3, 3] - aligned[:, :3, 3]
    return float(np.sqrt(np.mean(np.sum(difference**2, axis=1))))


def relative_errors(truth: np.ndarray, aligned: np.ndarray) -> tuple[float, float]:
    """Mean error of a step from frame to frame: metres and degrees (RPE).

    E_i = (P_i^-1 P_(i+1))^-1 (Q_i^-1 Q_(i+1)); its translation and its angle.
    """
    true_move, move = (np.linalg.inv(steps_of(poses)) for poses in (truth, aligned))
    metres, degrees = _sizes(np.linalg.inv(true_move) @ move).mean(0)
    return float(metres), float(degrees)


def drift(truth: np.ndarray, aligned: np.ndarray) -> dict:
    """KITTI's drift over segments of 100 to 800 m, one of each every 10 frames.

        E = (Q_a^-1 Q_b)^-1 (P_a^-1 P_b),  b the first frame beyond a + length

    The mean of |translation of E| / length in percent, and of angle of E / length in
    degrees for 100 m, over all segments of the drive with equal weight (Geiger et al.,
    CVPR 2012, and its development kit).

    Returns:
      t_err_percent, r_err_deg_per_100m, segments (their number), and by_length_m with
      the same of each length; empty for a drive shorter than the shortest segment.
    """
    driven = distances(truth)
    found = []
    for start in range(0, len(truth), EVERY):
        ends = np.searchsorted(driven, driven[start] + LENGTHS, side="right")
        found += [
            (start, end, metres)
            for end, metres in zip(ends, LENGTHS, strict=True)
            if end < len(truth)
        ]
    if not found:
        return {}
    start, end, metres = np.array(found).T
    true_move, move = (np.linalg.inv(p[start]) @ p[end] for p in (truth, aligned))
    errors = 100 * _sizes(np.linalg.inv(move) @ true_move) / metres[:, None]
    parts = {str(m): _means(errors[metres == m]) for m in np.unique(metres)}
    return _means(errors) | {"by_length_m": parts}


def _means(errors: np.ndarray) -> dict:
    translation, rotation = map(float, errors.mean(0))
    names = "t_err_percent", "r_err_deg_per_100m", "segments"
    return dict(zip(names, (translation, rotation, len(errors)), strict=True))


def _sizes(motions: np.ndarray) -> np.ndarray:
    """Metres |t| and degrees arccos((tr R - 1) / 2) of motions [N, 4, 4]; [N, 2].

    The cosine is clipped to [-1, 1], as the development kit does.
    """
    trace = np.trace(motions[:, :3, :3], axis1=1, axis2=2)
    angles = np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))
    return np.column_stack([np.linalg.norm(motions[:, :3, 3], axis=1), angles])
