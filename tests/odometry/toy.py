"""Synthetic trajectories, and a pose network with drives that it predicts exactly.

The red value of an image encodes the position along z, the green value the heading, and
the network decodes both. Not a test module.
"""

import cv2
import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from amlr_jax.odometry.pose_network import PoseWeights
from amlr_jax.street import rig

SIZE = (16, 48)
TURN = 0.01  # radians of a step of green
CALIBRATION = "".join(
    f"P{k}: 100 0 24 {shift} 0 100 8 0 0 0 1 0\n"
    for k, shift in enumerate((0, -54, 6, -48))
)


class Reader(nn.Module):
    """second_from_first of the mean red and green; `factor` stands for the scale."""

    @nn.compact
    def __call__(self, first, second, *, train: bool):
        factor = self.param("factor", nn.initializers.ones, ())
        moved = 255 * (second - first).mean((1, 2))
        none = jnp.zeros_like(moved[:, 0])
        turn = jnp.stack([none, -TURN * moved[:, 1], none], -1)
        return turn, factor * jnp.stack([none, none, -moved[:, 0]], -1)


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
    """Steps next_from_previous of a trajectory, with noise."""
    rng = np.random.default_rng(seed)
    steps = []
    for before, after in zip(trajectory, trajectory[1:], strict=False):
        wrong = pose(rng.normal(0, angle, 3), rng.normal(0, shift, 3))
        step = wrong @ np.linalg.inv(after) @ before
        step[:3, 3] *= scale
        steps.append(step)
    return np.stack(steps)


def weights(factor=1.0, size=SIZE):
    variables = {"params": {"factor": np.float32(factor)}, "batch_stats": {}}
    return PoseWeights(Reader(), variables, size)


def drive(codes):
    """The trajectory that images of these (red, green) codes encode."""
    poses = [np.eye(4)]
    for (z0, turn0), (z1, turn1) in zip(codes, codes[1:], strict=False):
        step = pose((0, -TURN * (turn1 - turn0), 0), (0, 0, -(z1 - z0)))
        poses.append(poses[-1] @ np.linalg.inv(step))
    return np.stack(poses)


def codes(frames, *, seed=0):
    """Steps of 1 or 2 m with turns now and then."""
    rng = np.random.default_rng(seed)
    ways = np.cumsum(rng.integers(1, 3, frames))
    return np.column_stack([ways, np.cumsum(rng.integers(0, 4, frames))]).tolist()


def write_image(path, code, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    red, green = code
    cv2.imwrite(str(path), np.full((*size, 3), (0, green, red), np.uint8))


def write_sequence(root, number, told):
    """A sequence of KITTI odometry, with the poses that its images encode."""
    folder = root / "sequences" / f"{number:02d}"
    for frame, code in enumerate(told):
        write_image(folder / "image_2" / f"{frame:06d}.png", code)
    (folder / "calib.txt").write_text(CALIBRATION)
    rows = (" ".join(f"{v:.12e}" for v in p[:3].ravel()) for p in drive(told))
    (root / "poses").mkdir(exist_ok=True)
    (root / "poses" / f"{number:02d}.txt").write_text("\n".join(rows) + "\n")


def write_raw(root, name, frames, *, first=0):
    """A raw drive of one metre north a frame, with the calibration of the street."""
    date = root / "raw_data" / name[:10]
    for k in range(first, first + frames):
        image = date / name / "image_02" / "data" / f"{k:010d}.png"
        write_image(image, (k, 0))
        record = date / name / "oxts" / "data" / f"{k:010d}.txt"
        record.parent.mkdir(parents=True, exist_ok=True)
        latitude = 49 + np.degrees(k / rig.EARTH)
        rest = " ".join(["0"] * 24)
        record.write_text(f"{latitude:.14g} 8.4 115 0 0 {np.pi / 2!r} {rest}\n")
    for file, text in rig.calibration_files().items():
        (date / file).write_text(text)
