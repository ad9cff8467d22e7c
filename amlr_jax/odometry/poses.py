"""Trajectories and the steps between their frames.

A trajectory is first_from_i, [N, 4, 4] in metres: the camera of frame i in the frame of
the first. Its steps are next_from_previous, [N - 1, 4, 4]: what a pose network predicts
for each two frames in the order of time. A drive ahead has a negative z in its steps
and a positive one in its trajectory.
"""

from pathlib import Path

import numpy as np

from amlr_jax.predict import outputs


def steps_of(trajectory: np.ndarray) -> np.ndarray:
    """P_(i+1)^-1 P_i, [N - 1, 4, 4] of [N, 4, 4]."""
    trajectory = checked("trajectory", trajectory)
    return np.linalg.inv(trajectory[1:]) @ trajectory[:-1]


def chain(steps: np.ndarray) -> np.ndarray:
    """The trajectory of steps: P_0 = I, P_(i+1) = P_i S_i^-1; [N, 4, 4]."""
    back = np.linalg.inv(checked("steps", steps))
    trajectory = [np.eye(4)]
    for step in back:
        trajectory.append(trajectory[-1] @ step)
    return np.stack(trajectory)


def from_first(trajectory: np.ndarray) -> np.ndarray:
    """The trajectory in the frame of its own first camera."""
    trajectory = checked("trajectory", trajectory)
    return np.linalg.inv(trajectory[:1]) @ trajectory


def pose_of(axis_angle: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """[R | t] of axis-angle [N, 3] in radians and translation [N, 3], in float64.

        R = I + sin(a) / a [v] + (1 - cos(a)) / a^2 [v]^2,  a = |v|

    As `geometry.pose_from_axis_angle`, whose float32 a long chain would add up.
    """
    v = np.asarray(axis_angle, np.float64)
    angle = np.linalg.norm(v, axis=-1)[:, None, None]
    cross = np.zeros((len(v), 3, 3))
    cross[:, (2, 0, 1), (1, 2, 0)] = v
    cross[:, (1, 2, 0), (2, 0, 1)] = -v
    half = np.sinc(angle / (2 * np.pi))  # sin(a / 2) / (a / 2), 1 at 0
    turn = np.sinc(angle / np.pi) * cross + half**2 / 2 * cross @ cross
    poses = np.tile(np.eye(4), (len(v), 1, 1))
    poses[:, :3, :3] += turn
    poses[:, :3, 3] = translation
    return poses


def length(trajectory: np.ndarray) -> float:
    """How far the camera drove, in metres."""
    return float(distances(trajectory)[-1])


def distances(trajectory: np.ndarray) -> np.ndarray:
    """Metres driven up to each frame, [N]."""
    places = checked("trajectory", trajectory)[:, :3, 3]
    ways = np.linalg.norm(np.diff(places, axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(ways)])


def write_kitti(trajectory: np.ndarray, path: Path) -> None:
    """KITTI's poses/NN.txt: 12 numbers a line, the rows of [R | t]."""
    rows = checked("trajectory", trajectory)[:, :3].reshape(-1, 12)
    lines = (" ".join(f"{value:.9e}" for value in row) for row in rows)
    outputs.write_whole(path, ("\n".join(lines) + "\n").encode())


def checked(name: str, poses: np.ndarray) -> np.ndarray:
    """Finite float64 [N, 4, 4] with N > 0; ValueError otherwise."""
    poses = np.asarray(poses, np.float64)
    if poses.ndim != 3 or poses.shape[1:] != (4, 4) or not len(poses):
        raise ValueError(f"`{name}` must be [N, 4, 4], got shape {poses.shape}.")
    if not np.isfinite(poses).all():
        raise ValueError(f"`{name}` must be finite.")
    return poses
