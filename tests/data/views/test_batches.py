"""Self-supervised runs: which views they read, and the whole road on a few frames."""

import json
import shutil
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from amlr_jax import pipeline
from amlr_jax.config import check
from amlr_jax.data import splits
from amlr_jax.data.views import batches as view_batches
from amlr_jax.evaluate import protocols
from amlr_jax.models import depth, fitting, pretrained
from amlr_jax.models.pose import PoseNetwork
from amlr_jax.models.pretrained import Pretrained
from amlr_jax.runtime.errors import InputError
from amlr_jax.train.objectives import self_supervised
from configs import kitti_selfsup
from tests import tiny_kitti


@pytest.fixture
def config(kitti_root, tmp_path):
    """configs/kitti_selfsup.py:tiny on two drives of six frames of 64x192."""
    made = kitti_selfsup.get_config("tiny")
    changes = {
        "data.root": str(kitti_root),
        "data.cache": str(tmp_path / "cache"),
        "data.split": "folder",
        "data.size": (32, 64),
        "model.input_size": (32, 64),
        "eval.crop": "none",
        "eval.pictures": 2,
        "batch_size": 2,
        "steps": 2,
    }
    calibration = kitti_root / "raw_data" / tiny_kitti.DATE / "calib_cam_to_cam.txt"
    right = "P_rect_03: 100 0 96 -49.5 0 110 32 0.2 0 0 1 0.003\n"
    calibration.write_text(tiny_kitti.CALIBRATION + right)
    with made.unlocked():
        made.update_from_flattened_dict(changes)
    return made


def test_no_view_shows_a_frame_of_the_test(config):
    """Of six frames the last is the test's, so frame 4 is no target; drive 0002 is one
    of the Eigen test."""
    views = view_batches.load(config)
    numbers = [int(views.train[i]["key"][-10:]) for i in range(len(views.train))]
    assert sorted(numbers) == [1, 2, 3]


@pytest.fixture
def raw_alone(config, monkeypatch):
    """The raw drives with two scans, no annotated depth; 0002 is all of the test."""
    root = Path(config.data.root)
    shutil.rmtree(root / "data_depth_annotated")
    date, drive = root / "raw_data" / tiny_kitti.DATE, tiny_kitti.drive("0002")
    scans = date / drive / "velodyne_points" / "data"
    scans.mkdir(parents=True)
    points = np.float32([[8, 0, 0, 0], [10, 1, 0, 0], [20, -2, 0.5, 0]])
    for number in (0, 4):
        points.tofile(scans / f"{number:010d}.bin")
    turn = "R: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 0\n"
    (date / "calib_velo_to_cam.txt").write_text(turn)
    with (date / "calib_cam_to_cam.txt").open("a") as file:
        file.write("R_rect_00: 1 0 0 0 1 0 0 0 1\n")
    wanted = {drive: [0, 4]}
    monkeypatch.setattr(splits, "eigen_test", lambda with_depth=True: wanted)
    config.data.split = "eigen_697"
    return config


def test_only_the_frames_of_the_test_need_depth(raw_alone):
    """Not one annotated depth map, and scans of the test frames alone."""
    data = view_batches.measured(raw_alone)
    assert (len(data.train), len(data.test)) == (0, 2)
    assert data.test[0]["depth"].max() == 20  # the scan's forward axis
    assert data.median_depth == 10  # of the test frames, there being no others
    views = view_batches.load(raw_alone)
    drives = {views.train[i]["key"][:26] for i in range(len(views.train))}
    assert drives == {tiny_kitti.drive("0001")}


def test_a_lost_scan_is_named_with_the_way_out(raw_alone):
    place = Path(raw_alone.data.root) / "raw_data" / tiny_kitti.DATE
    next(place.glob("*/velodyne_points/data/*4.bin")).unlink()
    with pytest.raises(InputError, match="scans of 1 of 2 .*--config.data.split=none"):
        view_batches.measured(raw_alone)


def test_nothing_need_have_depth(raw_alone, capsys):
    raw_alone.data.split = "none"
    data = view_batches.measured(raw_alone)
    assert (data.name, data.split, len(data.test)) == ("kitti", "none", 0)
    assert capsys.readouterr().out.count("nothing is measured") == 1
    assert len(view_batches.load(raw_alone).train) == 4
    network = depth.network("monodepth2", max_depth=100.0)
    assert protocols.protocol(raw_alone, network, data).split == "none"


def test_a_list_names_views_and_not_frames_with_depth(config):
    config.data.list = "views.txt"
    assert view_batches.with_depth(config).list == ""
    assert config.data.list == "views.txt"


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("data.name", "nyu", "self-supervision needs data.name kitti, street, frames"),
        ("data.stereo", True, "no image of the other camera"),
    ],
)
def test_views_that_cannot_be(config, key, value, message):
    config.update_from_flattened_dict({key: value})
    with pytest.raises(InputError, match=message):
        check(config)
        view_batches.load(config)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("objective", "unsupervised", "objective must be one of supervised, self_sup"),
        ("selfsup.kind", "ssim", "kind.*monodepth2, ssim_m, ssim_a"),
        ("selfsup.neighbours", False, "selfsup.neighbours=True and data.offsets"),
        ("model.name", "swin_v2_nano", "model.name monodepth2 or five_level"),
        ("rebalance.weights", {"mae": 1.0}, "rebalance.weights must name each loss"),
        ("rebalance.held", {"smoothnes": 1.0}, "rebalance.held must name some of the"),
        ("optimizer.schedule", "cosine", "optimizer.schedule must be one of poly"),
        ("optimizer.drop_at", 0.0, "drop_at"),
    ],
)
def test_bad_values_are_named(config, tmp_path, key, value, message):
    with config.unlocked():
        holder, _, name = key.rpartition(".")
        (config[holder] if holder else config)[name] = value
    with pytest.raises(InputError, match=message):
        pipeline.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_from_views_to_its_results(config, tmp_path):
    config.data.offsets = (1,)  # one pass of the pose network: half the compilation
    state = pipeline.train(config, tmp_path / "run")
    assert state.params.keys() == {"encoder", "decoder", "pose"}
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[0]["weights"]["structure"] == pytest.approx(0.7)
    evaluation = json.loads((tmp_path / "run/evaluation.json").read_text())
    assert evaluation["protocol"]["median_scaling"] is True
    assert evaluation["frames"] == 2
    assert np.isfinite(evaluation["metrics"]["abs_rel"])


@pytest.mark.slow
def test_a_run_without_any_depth(config, kitti_root, tmp_path, capsys):
    """Nothing is measured, and everything else is there."""
    shutil.rmtree(kitti_root / "data_depth_annotated")
    config.data.split = "none"
    config.data.offsets = (1,)
    pipeline.train(config, tmp_path / "run")
    assert "nothing is measured" in capsys.readouterr().out
    there = {path.name for path in (tmp_path / "run").iterdir()}
    results = {"metrics.jsonl", "curves.png", "panel.png", "report.html"}
    assert results | {"checkpoints"} <= there
    assert "evaluation.json" not in there
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["data"]["train"] > 0
    assert facts["data"]["test"] == 0


@pytest.fixture(scope="module")
def both() -> dict:
    """Shapes of the variables of both networks."""
    network = depth.network("monodepth2", max_depth=100.0)
    initial = partial(self_supervised.initial_variables, network, PoseNetwork())
    return jax.eval_shape(initial, jax.random.key(0))


def weights(both: dict, *parts: str) -> Pretrained:
    """Random weights of these parts."""
    rng = np.random.default_rng(0)
    found = {
        name: {part: tree[part] for part in parts if part in tree}
        for name, tree in both.items()
    }
    made = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), found)
    return Pretrained(Path("weights"), made, {"name": "monodepth2"})


def test_the_pose_encoder_starts_from_the_images_encoder(both):
    """Two equal images give what one image gave; all else is the encoder's."""
    given = weights(both, "encoder")
    merged, report = pretrained.merge(both, fitting.with_pose_encoder(given))
    assert report.initial.keys() == {"decoder", "pose"}
    assert report.initial["pose"] == 8  # four convolutions with a bias
    source, pose = (given.variables[n]["encoder"] for n in ("params", "batch_stats"))
    got = merged["params"]["pose"]["encoder"]
    kernel = got["conv1"]["kernel"]
    assert kernel.shape == (7, 7, 6, 64)
    both_halves = kernel[:, :, :3] + kernel[:, :, 3:]
    np.testing.assert_allclose(both_halves, source["conv1"]["kernel"], rtol=1e-6)
    np.testing.assert_array_equal(kernel[:, :, :3], kernel[:, :, 3:])
    last = "layer4_block1"
    np.testing.assert_array_equal(
        got[last]["conv2"]["kernel"], source[last]["conv2"]["kernel"]
    )
    means = merged["batch_stats"]["pose"]["encoder"]["bn1"]["mean"]
    np.testing.assert_array_equal(means, pose["bn1"]["mean"])
    assert "pose" not in given.variables["params"]


def test_weights_with_a_pose_network_keep_it(both):
    given = weights(both, "encoder", "pose")
    assert fitting.with_pose_encoder(given) is given
    alone = weights(both, "decoder")
    assert fitting.with_pose_encoder(alone) is alone
