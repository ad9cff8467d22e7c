"""From a folder of drives to odometry.json, poses and pictures, or to one line."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict

from amlr_jax.data.kitti import files
from amlr_jax.data.kitti.odometry import read_poses
from amlr_jax.odometry import drives, pose_network, results
from amlr_jax.runtime.errors import InputError
from tests.conftest import REPOSITORY
from tests.odometry import toy

FRAMES = 90  # of sequence 9; longer than 100 m
DRIVE, OTHER = "2000_01_01_drive_0001_sync", "2000_01_01_drive_0002_sync"
HELD_OUT = "2011_09_26_drive_0002_sync"  # of the Eigen test


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Sequences 9 and 10."""
    folder = tmp_path_factory.mktemp("odometry")
    toy.write_sequence(folder, 9, toy.codes(FRAMES))
    toy.write_sequence(folder, 10, toy.codes(12, seed=1))
    return folder


@pytest.fixture
def raw(tmp_path):
    toy.write_raw(tmp_path / "raw", DRIVE, 8)
    toy.write_raw(tmp_path / "raw", OTHER, 6)
    return tmp_path / "raw"


def measure(root, output, *, factor=0.5, how="7dof", **chosen):
    """As the command with a network that predicts `factor` of the true motion."""
    weights = toy.weights(factor)
    made = results.measure_drives(weights, drives.find(root, **chosen), how=how)
    output.mkdir()
    facts = {"weights": "of a toy", "step": weights.step, "size": weights.size}
    results.write(made, output, how=how, **facts)
    return made


def test_sequences(root, tmp_path):
    """The network predicts half of the true motion: only the scale must be fitted."""
    made = measure(root, tmp_path / "out")
    assert [result.drive.name for result in made] == ["09", "10"]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["09.png", "09.txt", "10.png", "10.txt", "odometry.json"]
    values = json.loads((tmp_path / "out/odometry.json").read_text())
    assert values["weights"] == "of a toy"
    assert values["protocol"]["image_size"] == [*toy.SIZE]
    assert values["protocol"]["alignment"] == "7dof"
    long, short = values["drives"].values()
    network = long["network"]
    assert network["scale"] == pytest.approx(2, rel=1e-4)
    assert max(network["ate_rmse_m"], network["ate_5_frames_mean_m"]) < 1e-3
    assert network["t_err_percent"] < 0.01 < 1 < long["straight_on"]["t_err_percent"]
    assert network["segments"] > 0 and list(network["by_length_m"]) == ["100"]
    assert (long["frames"], long["poses"]) == (FRAMES, "poses/09.txt")
    assert "t_err_percent" not in short["network"]
    assert short["notes"] == ["too short for t_err and r_err"]
    found = read_poses(tmp_path / "out/09.txt")
    truth = read_poses(root / "poses/09.txt")
    np.testing.assert_allclose(found, truth, atol=0.02)
    assert cv2.imread(str(tmp_path / "out/09.png")).shape[0] > 600


def test_the_picture_shows_the_prediction(root, tmp_path):
    measure(root, tmp_path / "a", sequences=["9"])
    measure(root, tmp_path / "b", sequences=["9"], factor=0.25, how="6dof")
    one, other = (cv2.imread(str(tmp_path / f"{x}/09.png")) for x in "ab")
    assert one.shape == other.shape and np.abs(one.astype(int) - other).max() > 100


def test_raw_drives(raw, tmp_path, capsys):
    made = measure(raw, tmp_path / "out")
    assert [result.drive.name for result in made] == [DRIVE, OTHER]
    assert made[0].drive.source == "oxts"
    assert made[0].network.values["scale"] == pytest.approx(2, rel=0.01)
    assert "2000_01_01_drive_0001 " in capsys.readouterr().out
    short = drives.find(raw, names=[OTHER.removesuffix("_sync"), OTHER])
    assert [drive.name for drive in short] == [OTHER]


def test_a_gap_leaves_the_longest_run(raw):
    files.image_path(raw, DRIVE, files.LEFT, 2).unlink()
    (drive,) = drives.find(raw, names=[DRIVE])
    assert [int(path.stem) for path in drive.images] == [3, 4, 5, 6, 7]
    np.testing.assert_allclose(drive.truth[:, 2, 3], range(5), atol=1e-3)
    assert drive.notes[0].startswith("frames 3 to 7, the longest run without a gap: 5")
    assert drives.longest_run({9, 1, 2, 8}) == [1, 2]
    cut = drives.raw_drive(raw, DRIVE, limit=3)
    assert len(cut.images) == len(cut.truth) == 3 and cut.notes[1] == (
        "the first 3 of 5 frames"
    )


def test_a_car_that_stands_has_no_picture(tmp_path):
    toy.write_raw(tmp_path / "raw", DRIVE, 5)
    record = files.drive_folder(tmp_path / "raw", DRIVE) / "oxts" / "data"
    still = (record / "0000000000.txt").read_text()
    for path in record.iterdir():
        path.write_text(still)
    measure(tmp_path / "raw", tmp_path / "out")
    values = json.loads((tmp_path / "out/odometry.json").read_text())["drives"][DRIVE]
    assert "the camera stands" in values["notes"][0]
    assert values["network"].keys() == {"ate_5_frames_mean_m", "ate_5_frames_std_m"}
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"{DRIVE}.txt", "odometry.json"]


# ------------------------------------------------------------------ what is wrong


@pytest.mark.parametrize(
    "options, words",
    [
        ({"sequences": ["9"], "names": ["all"]}, "not both"),
        ({"sequences": ["nine"]}, "--sequences must be numbers as 09,10; got nine"),
        ({"sequences": ["8"]}, "poses '.*08.txt' cannot be read"),
        ({"names": ["all"]}, "no KITTI data"),
    ],
)
def test_mistakes(root, options, words):
    with pytest.raises(InputError, match=words):
        drives.find(root, **options)


def test_sequences_of_one_frame_or_damaged(root, tmp_path):
    toy.write_sequence(tmp_path, 9, toy.codes(1))
    with pytest.raises(InputError, match="sequence 09 has 1 consecutive frame; odom"):
        drives.find(tmp_path)
    toy.write_sequence(tmp_path, 9, toy.codes(3))
    (tmp_path / "poses/09.txt").write_text("nan " * 12)
    with pytest.raises(InputError, match="must hold 12 numbers"):
        drives.find(tmp_path, sequences=["9"])
    with pytest.raises(InputError, match="--root '.*/nothing' is no folder"):
        drives.find(tmp_path / "nothing")


def test_raw_drives_without_what_they_need(raw):
    with pytest.raises(InputError, match="names '2011_x', which is not there; it has"):
        drives.find(raw, names=["2011_x"])
    records = files.drive_folder(raw, DRIVE) / "oxts" / "data"
    (records / "0000000003.txt").unlink()
    with pytest.raises(InputError, match="1 of 8 frames of .* no oxts record"):
        drives.find(raw)
    (raw / "raw_data/2000_01_01/calib_imu_to_velo.txt").unlink()
    with pytest.raises(InputError, match="no drive under .* has oxts records"):
        drives.find(raw, names=["all"])
    with pytest.raises(InputError, match="calib_imu_to_velo.txt' cannot be read"):
        drives.find(raw, names=[OTHER])


# ------------------------------------------------------------------ at the end of a run


def config(root, **data):
    data = {"name": "street", "root": str(root), "list": "", "size": toy.SIZE, **data}
    return ConfigDict({"data": data, "model": {"dtype": "float32"}})


@pytest.fixture
def in_memory(monkeypatch):
    monkeypatch.setattr(pose_network, "of_state", lambda *_: toy.weights(0.5))


@pytest.mark.usefixtures("in_memory")
def test_the_end_of_a_run(raw, tmp_path, capsys):
    assert results.of_run(config(raw), {}, tmp_path)
    values = json.loads((tmp_path / "odometry.json").read_text())
    assert [*values["drives"]] == [DRIVE, OTHER]
    assert values["choice"] == "2 of 2 drives with poses, with training frames"
    height, width = cv2.imread(str(tmp_path / "trajectory.png")).shape[:2]
    assert width > 1.9 * height  # two panels
    assert "trajectory.png" in capsys.readouterr().out


@pytest.mark.usefixtures("in_memory")
def test_drives_that_were_not_trained_on_come_first(raw, tmp_path):
    toy.write_raw(raw, HELD_OUT, 5)
    results.of_run(config(raw, name="kitti"), {}, tmp_path)
    values = json.loads((tmp_path / "odometry.json").read_text())
    assert [*values["drives"]] == [HELD_OUT]
    assert values["choice"] == "1 of 3 drives with poses, without a training frame"
    listed = tmp_path / "list.txt"
    listed.write_text(f"2011_09_26/{HELD_OUT} 1 l\n2000_01_01/{DRIVE} 1 l\n")
    results.of_run(config(raw, name="kitti", list=str(listed)), {}, tmp_path)
    values = json.loads((tmp_path / "odometry.json").read_text())
    assert [*values["drives"]] == [OTHER]


@pytest.mark.usefixtures("in_memory")
def test_data_without_poses_is_one_line(raw, tmp_path, capsys):
    (raw / "raw_data/2000_01_01/calib_imu_to_velo.txt").unlink()
    assert not results.of_run(config(raw), {}, tmp_path)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("No trajectory: no drive under")
    assert not results.of_run(config(raw, name="nyu"), {}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_a_run_without_a_pose_network_has_no_trajectory(raw, tmp_path):
    variables = {"params": {"encoder": {}}, "batch_stats": {}}
    assert not results.of_run(config(raw), variables, tmp_path)


def test_the_pose_network_of_a_state():
    parts = {"encoder": 1, "pose": {"decoder": 2}}
    found = pose_network.of_state(
        config("x"), {"params": parts, "batch_stats": parts, "more": {}}
    )
    assert found.size == toy.SIZE
    assert found.variables == dict.fromkeys(("params", "batch_stats"), parts["pose"])
    assert (
        pose_network.of_state(
            config("x", size=()), {"params": parts, "batch_stats": parts}
        ).size
        is None
    )


# ------------------------------------------------------------------ the command

# The command on a network of one number, whatever the checkpoint.
ON_A_TOY = """
import runpy
from amlr_jax.odometry import pose_network
from tests.odometry import toy
pose_network.load = lambda folder: toy.weights(0.5)
runpy.run_module("amlr_jax.odometry", run_name="__main__")
"""


def command(start, *arguments):
    return subprocess.run(
        [sys.executable, *start, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command(root, tmp_path):
    done = command(
        ["-c", ON_A_TOY],
        "--checkpoint=anything",
        f"--root={root}",
        f"--output={tmp_path / 'out'}",
        "--sequences=10",
        "--align=scale",
        "--batch_size=4",
    )
    assert done.returncode == 0, done.stderr
    assert "Odometry" in done.stdout and "aligned by scale" in done.stdout
    values = json.loads((tmp_path / "out/odometry.json").read_text())
    assert [*values["drives"]] == ["10"]
    assert values["protocol"]["alignment"] == "scale"


@pytest.mark.parametrize(
    "options, words",
    [
        ([], "--checkpoint missing"),
        (["--checkpoint=nowhere", "--align=8dof"], "should be one of <7dof|6dof|scale"),
    ],
)
def test_mistakes_are_one_line(root, tmp_path, options, words):
    paths = [f"--root={root}", f"--output={tmp_path / 'out'}"]
    done = command(["-m", "amlr_jax.odometry"], *paths, *options)
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ") and words in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_results_never_replace_poses(root):
    done = command(
        ["-m", "amlr_jax.odometry"],
        "--checkpoint=anything",
        f"--root={root}",
        f"--output={root / 'poses'}",
    )
    assert done.returncode == 1 and "must not be in --root" in done.stderr
