"""From known distances to metres in every command, and bad lists in one line each."""

import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

import amlr_jax
from amlr_jax.calibrate import calibrate, ground, known
from amlr_jax.data import images
from amlr_jax.evaluate import protocols
from amlr_jax.models import calibration, depth, pretrained
from amlr_jax.models.depth_network import has_scale
from amlr_jax.predict import images_to_depth
from amlr_jax.predict.images_to_depth import Options
from amlr_jax.runtime.errors import InputError
from tests import tiny_kitti

SIZE = (64, 96)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of monodepth2, whose depth has no scale, and three images."""
    options = {"max_depth": 100.0, "dtype": "float32"}
    rng = np.random.default_rng(0)
    network = depth.network("monodepth2", **options)
    variables = jax.tree.map(
        lambda leaf: (0.04 * rng.standard_normal(leaf.shape) + (leaf.ndim == 1)).astype(
            np.float32
        ),
        depth.variable_shapes(network),
    )
    folder = tmp_path_factory.mktemp("calibrate")
    model = {"source": "test", "name": "monodepth2", "options": options}
    model |= {"complete": True, "parts": ["encoder", "decoder"]}
    pretrained.save(folder / "weights", variables, model)
    (folder / "images").mkdir()
    for number in range(3):
        pixels = rng.integers(0, 256, (*SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"images/{number}.png")
    raw = amlr_jax.load(folder / "weights")
    assert raw.unit == "relative"
    depths = [raw(folder / f"images/{n}.png") for n in range(3)]
    assert depths[0].max() > 1.2 * depths[0].min()
    return folder, depths


@pytest.fixture
def checkpoint(weights):
    """The folder of the weights, not calibrated."""
    (weights[0] / "weights/calibration.json").unlink(missing_ok=True)
    return weights[0] / "weights"


@pytest.fixture
def given(weights, checkpoint):
    """A list of five points that are 30 times the depth of the network."""
    folder, depths = weights
    pixels = [(0, 5, 7), (0, 90, 60), (1, 0, 0), (2, 95, 63), (2, 40, 20)]
    rows = [f"{n}.png, {x}, {y}, {30 * depths[n][y, x]:.6f}" for n, x, y in pixels]
    path = folder / "points.csv"
    path.write_text("\n".join(["image,x,y,metres", *rows, ""]))
    return path


def test_points_put_metres_on_every_command(
    weights, given, checkpoint, tmp_path, capsys
):
    folder, depths = weights
    points = known.of_points(given, folder / "images")
    found = calibrate.run(checkpoint, points, source="a list")
    assert found.calibration.factor == pytest.approx(30, rel=1e-4)
    shown = " ".join(capsys.readouterr().out.split())
    assert "metres = 30 * depth of the network, from 5 distances in 3 images" in shown
    assert "0.png (5, 7): " in shown and "off by 0.0% in the median" in shown
    kept = json.loads((checkpoint / "calibration.json").read_text())
    assert (kept["points"], kept["images"], kept["step"]) == (5, 3, None)
    low, high = kept["interval_95"]["factor"]
    assert low <= kept["factor"] <= high

    network, _, max_depth, *_ = pretrained.load_network(checkpoint)
    assert has_scale(network) and max_depth == pytest.approx(3000, rel=1e-4)
    assert "metres = 30 * depth" in " ".join(capsys.readouterr().out.split())
    loaded = amlr_jax.load(checkpoint)
    assert loaded.unit == "m"
    image = images.read_as_rgb(folder / "images/1.png")
    np.testing.assert_allclose(loaded(image), 30 * depths[1], rtol=1e-4)
    options = Options(save=("npy", "png16", "disparity"))
    images_to_depth.run(checkpoint, folder / "images/1.png", tmp_path, options)
    written = np.load(tmp_path / "1_depth.npy")
    np.testing.assert_allclose(written, 30 * depths[1], rtol=1e-4)
    record = json.loads((tmp_path / "predictions.json").read_text())
    assert record["unit"] == "m" and record["png16_codes_per_unit"] == 256
    assert record["settings"]["calibration"][0] == pytest.approx(30, rel=1e-4)
    near, far = record["disparity_depths"]
    s = np.load(tmp_path / "1_disparity.npy")
    np.testing.assert_allclose(1 / (1 / far + (1 / near - 1 / far) * s), written, 1e-4)
    # Results that were made with another calibration are not mixed with new ones.
    calibration.save(checkpoint, calibration.Calibration(31.0), step=None)
    with pytest.raises(InputError, match="calibration was .* now"):
        images_to_depth.run(checkpoint, folder / "images/1.png", tmp_path, options)


def test_a_folder_of_sparse_depth(weights, checkpoint, tmp_path):
    folder, depths = weights
    rng = np.random.default_rng(0)
    scale = 60000 / (2 * max(depths[0].max(), depths[2].max()) + 0.5)
    for number in (0, 2):
        metres = np.where(rng.random(SIZE) < 0.05, 2 * depths[number] + 0.5, 0)
        codes = np.rint(scale * metres).astype(np.uint16)
        Image.fromarray(codes).save(tmp_path / f"{number}.png")
    maps = known.of_folders(folder / "images", tmp_path, depth_scale=scale)
    found = calibrate.run(checkpoint, maps, source="maps", with_shift=True)
    np.testing.assert_allclose(found.calibration, (2, 0.5), rtol=2e-3)
    depth = amlr_jax.load(checkpoint)(folder / "images/0.png")
    np.testing.assert_allclose(depth, 2 * depths[0] + 0.5, rtol=5e-3)
    with pytest.raises(InputError, match="not calibrated with a shift"):
        options = Options(save=("disparity",))
        source = folder / "images/0.png"
        images_to_depth.run(checkpoint, source, tmp_path / "out", options)


def test_evaluation_keeps_the_calibrated_scale(weights, given, checkpoint):
    network, *_ = pretrained.load_network(checkpoint)
    scaled = network.clone(calibration=(30.0, 0.0))
    config = tiny_kitti.config(given.parent, cache=given.parent)
    data = ConfigDict({"name": "kitti", "split": "folder", "median_depth": 9.0})
    data.test, data.test_sizes = (), {}
    for one, option, expected in (
        (network, "", True),
        (scaled, "", False),
        (scaled, "on", True),
    ):
        config.eval.median_scaling = option
        assert protocols.protocol(config, one, data).median_scaling == expected


def test_a_calibration_of_another_step_is_not_applied(tmp_path, capsys):
    calibration.save(tmp_path, calibration.Calibration(30.0), step=500)
    assert calibration.load(tmp_path, step=500).factor == 30
    assert calibration.load(tmp_path, step=741) is None
    shown = " ".join(capsys.readouterr().out.split())
    assert "is of step 500, these weights are of step 741: not applied" in shown
    for text in ("{", '{"factor": -1, "shift": 0}', '{"factor": 2}'):
        (tmp_path / "calibration.json").write_text(text)
        with pytest.raises(InputError, match="is damaged; remove it"):
            calibration.load(tmp_path, step=500)


@pytest.mark.parametrize(
    "lines, message",
    [
        ("", "holds no point"),
        ("image,x,y,metres", "holds no point"),
        (
            "0.png,1,2,3\n0.png,1,2\n",
            "line 2 must be image,x,y,m.*got '0.png,1,2'",
        ),
        ("image,x,y,metres\n0.png,1,2,3m", "line 2 must be .*got '0.png,1,2,3m'"),
        ("image,x,y,metre\n0.png,1,2,3", "line 1 must be"),
        ("0.png,1,2,0", "line 1 must be .*metres above 0"),
        ("0.png,1,2,-4", "line 1 must be .*metres above 0"),
        ("0.png,1,2,nan", "line 1 must be"),
        (
            "0.png,1,2,3\n\n1.png,96,2,3",
            r"line 3: \(96, 2\) is outside of '1.png'",
        ),
        ("0.png,1,-1,3", r"line 1: \(1, -1\) is outside"),
        ("0.png,1,2,3\n9.png,1,2,3", "line 2: no image '.*9.png'; names are relative"),
    ],
)
def test_bad_lists(weights, checkpoint, tmp_path, lines, message):
    path = tmp_path / "points.csv"
    path.write_text(lines)
    with pytest.raises(InputError, match=message) as caught:
        points = known.of_points(path, weights[0] / "images")
        calibrate.run(checkpoint, points, source="a list")
    assert "\n" not in str(caught.value)
    assert not (checkpoint / "calibration.json").exists()


def test_bad_folders(weights, checkpoint, tmp_path):

    def run(truth):
        maps = known.of_folders(weights[0] / "images", truth, depth_scale=0)
        calibrate.run(checkpoint, maps, source=str(truth))

    (tmp_path / "empty").mkdir()
    other = tmp_path / "other"
    other.mkdir()
    for name, size in (("a", SIZE), ("sub/0", SIZE)):
        (other / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros(size, np.uint16)).save(other / f"{name}.png")
    with pytest.raises(InputError, match="is no folder with depth files"):
        run(tmp_path / "empty")
    with pytest.raises(InputError, match="no name is both in"):
        run(other)
    (other / "a.png").rename(other / "0.png")
    with pytest.raises(InputError, match="has no measured pixel"):
        run(other)
    Image.fromarray(np.ones((5, 5), np.uint16)).save(other / "0.png")
    with pytest.raises(InputError, match="differ in size"):
        run(other)
    with pytest.raises(InputError, match="cannot be read"):
        list(known.of_points(tmp_path / "nowhere.csv", None))


def road(height: float, *, pitch: float) -> tuple[np.ndarray, tuple]:
    """Depth of a road that many metres below a camera, with a car on it."""
    camera = (200.0, 210.0, 95.5, 40.0)
    v = np.arange(120)[:, None]
    slope = (v - camera[3]) / camera[1]
    below = np.maximum(np.cos(pitch) * slope - np.sin(pitch), 1e-3)
    depth = np.broadcast_to(np.minimum(height / below, 80.0), (120, 192)).copy()
    depth[70:95, 70:90] = 4.0
    return depth, camera


@pytest.mark.parametrize("pitch", [-0.06, 0.0, 0.05])
def test_the_height_over_a_road(pitch):
    depth, camera = road(1.65, pitch=pitch)
    assert ground.height(depth, camera) == pytest.approx(1.65, rel=0.01)
    assert ground.height(depth / 50, camera) == pytest.approx(1.65 / 50, rel=0.01)
    assert np.isnan(ground.height(np.full((120, 192), 5.0), camera))  # a wall


def test_the_height_of_a_camera(weights, checkpoint, monkeypatch, capsys):
    depth, camera = road(0.033, pitch=0.0)
    walls = [depth, np.full((120, 192), 5.0), 1.01 * depth]
    monkeypatch.setattr(
        calibrate, "with_weights", lambda *_: lambda image: [walls.pop()]
    )
    heights = known.of_camera(weights[0] / "images", 1.65, lambda *_: camera)
    found = calibrate.run(checkpoint, heights, source="height")
    assert found.calibration.factor == pytest.approx(50, rel=0.02)
    assert "1 image is left out: no level road" in capsys.readouterr().out
    with pytest.raises(InputError, match="is no folder with images"):
        list(known.of_camera(checkpoint / "nowhere", 1.65, lambda *_: camera))
