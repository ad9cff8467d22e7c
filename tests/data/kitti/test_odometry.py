"""KITTI odometry: sequences and poses belong together, and what is missing is named."""

import numpy as np
import pytest

from amlr_jax.data.kitti import odometry
from amlr_jax.runtime.errors import InputError

CALIBRATION = (
    "P0: 100 0 96 0 0 100 32 0 0 0 1 0\nP1: 100 0 96 -54 0 100 32 0 0 0 1 0\n"
    "P2: 100 0 96 6 0 100 32 0 0 0 1 0\nP3: 100 0 96 -48 0 100 32 0 0 0 1 0\n"
)
LENGTHS = {0: 4, 3: 5, 9: 3}
SPLIT = {"train": (0, 3), "test": (9,)}


@pytest.fixture
def root(tmp_path):
    for number, length in LENGTHS.items():
        folder = tmp_path / "sequences" / f"{number:02d}"
        for camera in ("image_2", "image_3"):
            (folder / camera).mkdir(parents=True)
            for frame in range(length):
                (folder / camera / f"{frame:06d}.png").touch()
        (folder / "calib.txt").write_text(CALIBRATION)
    write_poses(tmp_path, 9, LENGTHS[9])
    return tmp_path


def write_poses(root, number, count):
    row = " ".join(f"{value:e}" for value in np.eye(3, 4).ravel())
    (root / "poses").mkdir(exist_ok=True)
    (root / "poses" / f"{number:02d}.txt").write_text(f"{row}\n" * count)


def test_views_and_test_pairs(root):
    found = odometry.read_sequences(root, **SPLIT)
    assert [view.key for view in found.train] == [
        *("00/000001", "00/000002", "00/000001r", "00/000002r"),
        *(f"03/{n:06d}{side}" for side in ("", "r") for n in (1, 2, 3)),
    ]
    assert found.train[0].partner == found.train[2].image
    assert found.train[0].partner_from_target == pytest.approx((-0.54, 0, 0))
    assert found.train[2].partner_from_target == pytest.approx((0.54, 0, 0))
    assert found.train[0].intrinsics == (100.0, 100.0, 96.0, 32.0)
    assert [(view.key, len(view.sources)) for view in found.test] == [
        ("09/000000", 1),
        ("09/000001", 1),
    ]


def test_the_published_sequences_are_the_default(root):
    with pytest.raises(InputError, match="no images in '.*01/image_2'"):
        odometry.read_sequences(root)


def test_list(root, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("3 2 r\n0 1 l")
    found = odometry.read_sequences(root, train_list=str(path), **SPLIT)
    assert [view.key for view in found.train] == ["03/000002r", "00/000001"]
    assert found.train[0].partner.parts[-2] == "image_2"
    path.write_text("3 4 l\n0 1 l")
    with pytest.raises(InputError, match="1 of 2 frames .*: 3 4 l"):
        odometry.read_sequences(root, train_list=str(path), **SPLIT)
    path.write_text("date/drive 4 l")
    with pytest.raises(InputError, match="got the format of monodepth2"):
        odometry.read_sequences(root, train_list=str(path), **SPLIT)


def test_poses_and_images_of_different_number(root):
    write_poses(root, 9, 5)
    with pytest.raises(InputError, match="5 poses .* 3 images; missing: 3, 4"):
        odometry.read_sequences(root, **SPLIT)
    write_poses(root, 9, 2)
    with pytest.raises(InputError, match="2 poses .* 3 images"):
        odometry.read_sequences(root, **SPLIT)


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
