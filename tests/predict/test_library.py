"""`amlr_jax.load`: a function from an image to depth, whatever the image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import amlr_jax
from amlr_jax.models import pretrained
from amlr_jax.models.decoders.disparity import SkipDecoder
from amlr_jax.runtime.errors import InputError
from tests.predict.test_images_to_depth import Quick


@pytest.fixture
def loaded(monkeypatch):
    """The names that were loaded; each is a network that compiles in no time."""
    names = []
    network = Quick()
    variables = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)

    def load_network(path):
        names.append(str(path))
        relative = SkipDecoder(max_depth=100.0) if "selfsup" in names[-1] else None
        made = network.clone(decoder=relative)
        return pretrained.Loaded(made, variables, 80.0)

    monkeypatch.setattr(pretrained, "load_network", load_network)
    return names


def test_an_image_becomes_metres(loaded, tmp_path):
    network = amlr_jax.load("runs/kitti@741")
    assert loaded == ["runs/kitti@741"]
    image = np.random.default_rng(0).integers(0, 256, (20, 31, 3), np.uint8)
    depth = network(image)
    assert isinstance(depth, np.ndarray)
    assert (depth.shape, depth.dtype) == ((20, 31), np.float32)
    as_module = network.network.apply(
        network.variables, image[None] / np.float32(255), train=False
    )
    np.testing.assert_allclose(depth, as_module[0], rtol=1e-5)
    for same in (image / 255, (image / 255).astype(np.float32)):
        np.testing.assert_array_equal(network(same), depth)
    np.testing.assert_allclose(network(np.stack([image, image]))[1], depth, rtol=1e-6)
    Image.fromarray(image).save(tmp_path / "a.png")
    np.testing.assert_array_equal(network(tmp_path / "a.png"), depth)
    assert (network.unit, network.max_depth) == ("m", 80.0)
    leaves = jax.tree.leaves(network.variables["params"])
    assert network.parameters == sum(leaf.size for leaf in leaves)
    assert "runs/kitti@741" in repr(network) and "80 m" in repr(network)


def test_a_network_without_scale_claims_no_metres(loaded):
    network = amlr_jax.load("selfsup")
    assert network.unit == "relative" and "80 relative" in repr(network)


def test_a_test_mode(loaded):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    once, both = amlr_jax.load("a"), amlr_jax.load("a", test_mode="flip")
    mean = (once(image) + once(image[:, ::-1])[:, ::-1]) / 2
    np.testing.assert_allclose(both(image), mean, rtol=1e-5)
    with pytest.raises(InputError, match="test_mode must be one of none, flip"):
        amlr_jax.load("a", test_mode="flop")


@pytest.mark.parametrize(
    "image, message",
    [
        (np.zeros((4, 5), np.uint8), r"got the shape \[4, 5\]"),
        (np.zeros((4, 5, 4), np.uint8), r"got the shape \[4, 5, 4\]"),
        (np.zeros((0, 5, 3), np.uint8), r"got the shape \[0, 5, 3\]"),
        (np.zeros((4, 5, 3), np.int32), "got int32"),
        (np.full((4, 5, 3), 200.0), "got values 200 to 200"),
        (np.full((4, 5, 3), np.nan), "got values nan"),
        ("nowhere.png", "'nowhere.png' cannot be read"),
    ],
)
def test_what_is_no_image(loaded, image, message):
    with pytest.raises(InputError, match=message):
        amlr_jax.load("a")(image)


def test_weights_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match="does not exist; give a folder that"):
        amlr_jax.load(tmp_path / "nowhere")
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        amlr_jax.lod  # noqa: B018
