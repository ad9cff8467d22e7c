"""A pose network sees pairs in the order of time, resized as for training."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import jax
import numpy as np
import pytest
from PIL import Image

from amlr_jax.models import depth, pretrained
from amlr_jax.models.pose import PoseNetwork, variable_shapes
from amlr_jax.odometry import pose_network, trajectories
from amlr_jax.runtime import mesh as parallel
from amlr_jax.runtime.errors import InputError
from tests.odometry import toy


@pytest.fixture
def told():
    return toy.codes(9)


@pytest.fixture
def paths(tmp_path, told):
    names = [tmp_path / f"{k:06d}.png" for k in range(len(told))]
    for name, code in zip(names, told, strict=True):
        toy.write_image(name, code)
    return names


def predictor(weights, **options):
    return pose_network.predictor(weights, parallel.make_mesh(), **options)


@pytest.mark.parametrize("batch_size", [1, 3, 8, 16])
def test_the_order_of_time_and_batches_of_any_size(paths, told, batch_size):
    done = []
    found = predictor(toy.weights(), batch_size=batch_size)(paths, done.append)
    np.testing.assert_allclose(trajectories.chain(found), toy.drive(told), atol=1e-4)
    assert sum(done) == 8 and max(done) <= max(batch_size, len(jax.devices()))
    assert found.dtype == np.float64


def test_compiled_or_not(paths):
    weights = toy.weights(1.7)
    compiled = predictor(weights)(paths)
    with jax.disable_jit():
        plain = predictor(weights)(paths)
    np.testing.assert_allclose(compiled, plain, atol=1e-5)


def test_images_are_resized_as_monodepth2_does(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 40, 100, 3), np.uint8)
    names = [tmp_path / "a.png", tmp_path / "b.png"]
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(name)
    with ThreadPoolExecutor(1) as pool:
        (frames,) = pose_network._batches(pool, names, (16, 48), 4)
    for image, got in zip(images, frames, strict=True):
        small = Image.fromarray(image).resize((48, 16), Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(got, small)


@pytest.mark.parametrize("batch_size", [2, 16])
def test_images_as_they_are_must_be_of_one_size(paths, batch_size):
    weights = toy.weights(size=None)
    assert len(predictor(weights)(paths)) == 8
    toy.write_image(paths[-1], (3, 3), size=(20, 48))
    with pytest.raises(InputError, match="8.png' has 20x48, those before it 16x48"):
        predictor(weights, batch_size=batch_size)(paths)


def test_damaged_images_and_weights(paths):
    with pytest.raises(InputError, match="no finite motion for 8 of 8 .*000000.png"):
        predictor(toy.weights(np.nan))(paths)
    paths[3].write_text("<html>")
    with pytest.raises(InputError, match="000003.png' is damaged"):
        predictor(toy.weights())(paths)
    cv2.imwrite(str(paths[3]), np.zeros(toy.SIZE, np.uint8))
    with pytest.raises(InputError, match="8-bit RGB"):
        predictor(toy.weights())(paths)
    paths[3].unlink()
    with pytest.raises(InputError, match="000003.png' cannot be read"):
        predictor(toy.weights())(paths)


# ------------------------------------------------------------------ which weights


def network_shapes(parts):
    shapes = variable_shapes(PoseNetwork())
    names = ("params", "batch_stats")
    return {name: dict.fromkeys(parts, shapes[name]) for name in names}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder whose weights are zeros in the parts and with the options asked for."""

    def make(parts=("encoder", "pose"), **options):
        tree = jax.tree.map(lambda s: np.zeros(s.shape), network_shapes(parts))
        model = {"source": "run", "name": "monodepth2", "options": options}
        found = pretrained.Pretrained(
            tmp_path, tree, {**model, "parts": list(parts), "complete": True}
        )
        monkeypatch.setattr(pretrained, "load", lambda _: found)
        return found

    return make


def test_a_pose_network_and_its_images(folder, tmp_path):
    folder()
    weights = pose_network.load(tmp_path)
    assert weights.size == (192, 640) and weights.network == PoseNetwork()
    assert weights.variables.keys() == {"params", "batch_stats"}
    assert weights.variables["params"].keys() == {"encoder", "decoder"}
    folder(input_size=[96, 320], dtype="bfloat16")
    weights = pose_network.load(tmp_path)
    assert weights.size == (96, 320)
    assert weights.network.dtype == depth.DTYPES["bfloat16"]


@pytest.mark.parametrize(
    "text, size", [("[64, 224]", (64, 224)), ("[]", None), ("null", (192, 640))]
)
def test_a_run_sees_its_views(folder, tmp_path, text, size):
    """The size of the views, and not that of the depth network's input."""
    folder(input_size=[96, 320])
    data = "{}" if text == "null" else f'{{"size": {text}}}'
    (tmp_path / "config.json").write_text(f'{{"data": {data}}}')
    assert pose_network.load(tmp_path).size == size


def test_weights_without_a_pose_network(folder, tmp_path):
    with pytest.raises(InputError, match="nowhere' does not exist"):
        pose_network.load(tmp_path / "nowhere")
    folder(parts=("encoder", "decoder"))
    with pytest.raises(InputError, match="no pose network, only encoder, decoder"):
        pose_network.load(tmp_path)


def test_weights_that_are_not_whole(folder, tmp_path):
    del folder().variables["params"]["pose"]["decoder"]["conv1"]
    with pytest.raises(InputError, match="lack some of pose"):
        pose_network.load(tmp_path)
    folder().variables["params"]["pose"]["decoder"]["conv1"]["bias"] = np.zeros(3)
    with pytest.raises(InputError, match="do not fit: .*conv1"):
        pose_network.load(tmp_path)
