"""Drives of our own making, for the tests beside it. Not a test module."""

import numpy as np


def rotation(axis_angle):
    """By the matrix exponential's series, for small and large angles alike."""
    x, y, z = axis_angle
    cross = np.array([(0, -z, y), (z, 0, -x), (-y, x, 0.0)])
    total = term = np.eye(3)
    for k in range(1, 40):
        term = term @ cross / k
        total = total + term
    return total


def pose(axis_angle=(0, 0, 0), translation=(0, 0, 0)):
    made = np.eye(4)
    made[:3, :3], made[:3, 3] = rotation(axis_angle), translation
    return made


def curve(frames, *, speed=1.0, turn=0.01, seed=0):
    """A trajectory that bends to the right, sways a little, and climbs."""
    rng = np.random.default_rng(seed)
    made = [np.eye(4)]
    for _ in range(frames - 1):
        angles = (0, turn, 0) + rng.normal(0, 0.002, 3)
        made.append(made[-1] @ pose(angles, (0, -0.01, speed * rng.uniform(0.8, 1.2))))
    return np.stack(made)


def disturbed(trajectory, *, angle=0.003, shift=0.02, scale=1.0, seed=1):
    """Steps next_from_previous of a trajectory, not quite right."""
    rng = np.random.default_rng(seed)
    steps = []
    for before, after in zip(trajectory, trajectory[1:], strict=False):
        wrong = pose(rng.normal(0, angle, 3), rng.normal(0, shift, 3))
        step = wrong @ np.linalg.inv(after) @ before
        step[:3, 3] *= scale
        steps.append(step)
    return np.stack(steps)
