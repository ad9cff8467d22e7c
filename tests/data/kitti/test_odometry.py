"""KITTI odometry: sequences and poses belong together, and what is missing is named."""

import numpy as np
import pytest

from amlr_jax.data.kitti import odometry
from amlr_jax.runtime.errors import InputError

LENGTH = 3


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "sequences" / "09"
    (folder / "image_2").mkdir(parents=True)
    for frame in range(LENGTH):
        (folder / "image_2" / f"{frame:06d}.png").touch()
    (folder / "calib.txt").write_text("P2: 100 0 96 6 0 90 32 0 0 0 1 0\n")
    write_poses(tmp_path, 9, LENGTH)
    return tmp_path


def write_poses(root, number, count):
    row = " ".join(f"{value:e}" for value in np.eye(3, 4).ravel())
    (root / "poses").mkdir(exist_ok=True)
    (root / "poses" / f"{number:02d}.txt").write_text(f"{row}\n" * count)


def test_sequence(root):
    images, poses, camera = odometry.read_sequence(root, 9)
    assert [int(path.stem) for path in images] == [0, 1, 2]
    assert poses.shape == (LENGTH, 4, 4)
    assert camera == (100.0, 90.0, 96.0, 32.0)
    write_poses(root, 1, LENGTH)
    with pytest.raises(InputError, match="no images in '.*01/image_2'"):
        odometry.read_sequence(root, 1)


def test_poses_and_images_of_different_number(root):
    write_poses(root, 9, 5)
    with pytest.raises(InputError, match="5 poses .* 3 images; missing: 3, 4"):
        odometry.read_sequence(root, 9)
    write_poses(root, 9, 2)
    with pytest.raises(InputError, match="2 poses .* 3 images"):
        odometry.read_sequence(root, 9)


@pytest.mark.parametrize("text", ["", "1 2 3\n", "a " * 12, "nan " * 12])
def test_poses_that_are_none(tmp_path, text):
    (tmp_path / "09.txt").write_text(text)
    with pytest.raises(InputError, match="poses '.*09.txt'.* must hold 12 numbers"):
        odometry.read_poses(tmp_path / "09.txt")


@pytest.mark.parametrize("number, count", [(9, 1591), (10, 1201)])
def test_real_poses(real_data, number, count):
    poses = odometry.read_poses(real_data / f"odometry/poses/{number:02d}.txt")
    assert poses.shape == (count, 4, 4)
    rotations = poses[:, :3, :3]
    eye = np.einsum("nij,nkj->nik", rotations, rotations)
    np.testing.assert_allclose(eye, np.tile(np.eye(3), (count, 1, 1)), atol=2e-5)
    np.testing.assert_allclose(poses[0], np.eye(4), atol=1e-8)
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    assert steps.max() < 3.0  # metres in a tenth of a second
