"""Poses of own recordings, in each format, become the trajectory of their frames."""

import json

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from amlr_jax.odometry import own_recordings, pose_network, results
from amlr_jax.runtime.errors import InputError
from configs import custom_selfsup
from tests.odometry import toy

CODES = toy.codes(8)
TRUTH = toy.drive(CODES)
# The world is not the first camera.
WORLD = toy.pose((0.3, -1.2, 0.4), (5, 6, 7)) @ TRUTH


@pytest.fixture
def config(tmp_path):
    made = custom_selfsup.get_config("tiny")
    made.data.root, made.data.cache = str(tmp_path / "mine"), str(tmp_path / "cache")
    made.data.min_change = 0.0
    made.data.size = toy.SIZE
    return made


def frames(root, name="hall", ending="{}.png"):
    for number, code in enumerate(CODES):
        toy.write_image(root / name / ending.format(number), code)


def lines(root, rows, name="poses/hall.txt"):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("# a comment\n" + "\n".join(" ".join(map(repr, r)) for r in rows))


def tum(times=range(8)):
    turn = Rotation.from_matrix(WORLD[:, :3, :3]).as_quat()
    return np.c_[list(times), WORLD[:, :3, 3], turn].tolist()


def as_tum(root):
    frames(root)
    lines(root, tum())


def as_kitti(root):
    frames(root)
    lines(root, WORLD[:, :3].reshape(-1, 12).tolist())


def as_tum_by_time(root):
    """Frames beside each other; a pose too far from each of them in time is of none"""
    for number, code in enumerate(CODES):
        toy.write_image(root / "rgb" / f"{1305031100 + number}.25.png", code)
    rows = tum(1305031100.26 + np.arange(8))
    other = [1305031102.7, *rows[0][1:]]
    lines(root, [other, *rows[::-1], other], "groundtruth.txt")


def as_7_scenes(root):
    """Rounded as in the original files, beside the frames."""
    frames(root, "seq-01", "frame-00000{}.color.png")
    for number, pose in enumerate(WORLD):
        noisy = pose + 2e-4 * np.eye(4, k=1)
        noisy[3] = 0, 0, 0, 1
        lines(root, noisy.tolist(), f"seq-01/frame-00000{number}.pose.txt")


def as_files_of_the_only_recording(root):
    frames(root)
    for number, pose in enumerate(WORLD):
        lines(root, pose.tolist(), f"poses/{number}.txt")


@pytest.mark.parametrize(
    "write",
    [as_tum, as_kitti, as_tum_by_time, as_7_scenes, as_files_of_the_only_recording],
)
def test_formats(write, config, tmp_path):
    write(tmp_path / "mine")
    (drive,) = own_recordings.find(config.data)
    assert len(drive.images) == 8
    near = 5e-3 if write is as_7_scenes else 1e-9
    np.testing.assert_allclose(drive.truth, TRUTH, atol=near)
    assert drive.name == {"as_tum_by_time": "mine", "as_7_scenes": "seq-01"}.get(
        write.__name__, "hall"
    )


def test_the_longest_run_of_kept_frames_with_poses(config, tmp_path):
    """Frame 2 was lost by the tracker; min_change keeps every second of the others."""
    root = tmp_path / "mine"
    for number in range(12):
        image = np.full((*toy.SIZE, 3), 3 * number, np.uint8)
        (root / "hall").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / f"hall/{number}.png"), image)
        pose = toy.pose((0, 0, 0), (0, 0, number))
        pose = pose + np.nan if number == 2 else pose
        lines(root, pose.tolist(), f"poses/hall/{number}.txt")
    config.data.min_change = 5.0
    (drive,) = own_recordings.find(config.data)
    assert [path.stem for path in drive.images] == ["4", "6", "8", "10"]
    assert drive.notes[0].startswith("4 of 12 frames: consecutive ones with poses, dat")
    np.testing.assert_allclose(drive.truth[:, 2, 3], [0, 2, 4, 6], atol=1e-9)
    (cut,) = own_recordings.find(config.data, limit=3)
    assert len(cut.images) == len(cut.truth) == 3


def test_the_end_of_a_run(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pose_network, "of_state", lambda *_: toy.weights(0.5))
    as_tum(tmp_path / "mine")
    assert results.of_run(config, {}, tmp_path)
    values = json.loads((tmp_path / "odometry.json").read_text())
    assert values["choice"] == "1 of 1 recordings with poses, of the training"
    assert values["drives"]["hall"]["network"]["scale"] == pytest.approx(2, rel=1e-3)
    (tmp_path / "mine/poses/hall.txt").unlink()
    capsys.readouterr()
    assert not results.of_run(config, {}, tmp_path)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("No trajectory: no recording under '")


@pytest.mark.parametrize(
    "rows, message",
    [
        (tum()[:5], "hall.txt' has 5 lines and its recording 8 frames; give a line"),
        ([row[:7] for row in tum()], r"must hold lines of 8 numbers \(TUM\) or 12 \(K"),
        ([tum()[0], [1.0]], "must hold lines of 8 numbers"),
        ([["a"] * 8] * 8, "must hold lines of 8 numbers"),
        ((2 * WORLD[:, :3]).reshape(-1, 12).tolist(), "that of hall/0 is no rotation"),
        (
            [[1.0, 0, 0, 0, 0, 0, 0, 0]] * 8,
            "no recording under '.*' has poses: expected",
        ),
        ([], "must hold lines of 8 numbers"),
    ],
)
def test_bad_poses(rows, message, config, tmp_path):
    frames(tmp_path / "mine")
    lines(tmp_path / "mine", rows)
    with pytest.raises(InputError, match=message):
        own_recordings.find(config.data)
