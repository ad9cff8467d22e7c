"""The tables name every tensor of the four files, and every variable of ours."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.models import pose, resnet
from amlr_jax.models.decoders.disparity import SkipDecoder
from amlr_jax.models.from_torch import assign
from amlr_jax.models.from_torch.tables import TABLES

torch = pytest.importorskip("torch")
from tests.models import torch_monodepth2 as reference  # noqa: E402

FILES = {
    "encoder": reference.Encoder,
    "depth": reference.SkipDecoder,
    "pose_encoder": functools.partial(reference.Encoder, images=2),
    "pose": reference.PoseDecoder,
}


def _placed(state, table):
    """Path in our variables, with its collection, to the shape that goes there."""
    placed = {}
    for name, shape in state.items():
        place = assign.place(name, table)
        assert place is not None, name
        if place.collection:
            path = (place.collection, *place.path)
            assert path not in placed, name
            placed[path] = place.transform(np.empty(shape)).shape
    return placed


def _shapes(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {tuple(key.key for key in path): leaf.shape for path, leaf in leaves}


def _within(shapes, *prefix):
    """The variables of a network as a part of a larger one."""
    return {(c, *prefix, *path): shape for (c, *path), shape in shapes.items()}


def _ours():
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    key = jax.random.key(0)

    def init(net, *inputs, **options):
        make = functools.partial(net.init_with_output, train=False, **options)
        output, variables = jax.eval_shape(make, key, *inputs)
        return output, _shapes(variables)

    features, encoder = init(resnet.ResNet18(), image)
    _, decoder = init(SkipDecoder(), features, size=(64, 64))
    _, pose_network = init(pose.PoseNetwork(), image, image)
    return (
        _within(encoder, "encoder"),
        _within(decoder, "decoder"),
        _within(pose_network, "pose"),
    )


def test_monodepth2_covers_the_depth_and_the_pose_network():
    state = {
        f"{file}:{name}": tensor.shape
        for file, make in FILES.items()
        for name, tensor in make().state_dict().items()
    }
    assert len(state) == 122 + 28 + 122 + 8
    encoder, decoder, pose_network = _ours()
    placed = _placed(state, TABLES["monodepth2"])
    assert placed == {**encoder, **decoder, **pose_network}


def test_resnet18_covers_the_encoder():
    state = {k: v.shape for k, v in reference.ResNet18().state_dict().items()}
    encoder, _, _ = _ours()
    assert _placed(state, TABLES["resnet18"]) == encoder


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("depth:decoder.0.conv.conv.bias", "decoder/level4_conv0/bias"),
        ("depth:decoder.3.conv.conv.weight", "decoder/level3_conv1/kernel"),
        ("depth:decoder.9.conv.conv.weight", "decoder/level0_conv1/kernel"),
        ("depth:decoder.10.conv.weight", "decoder/head0/kernel"),
        ("depth:decoder.13.conv.bias", "decoder/head3/bias"),
        (
            "encoder:encoder.layer3.0.downsample.1.running_var",
            "encoder/layer3_block0/downsample_bn/var",
        ),
        ("pose:net.3.weight", "pose/decoder/conv3/kernel"),
    ],
)
def test_names(name, path):
    place = assign.place(name, TABLES["monodepth2"])
    assert "/".join(place.path) == path


@pytest.mark.parametrize(
    "name",
    [
        "depth:decoder.14.conv.weight",
        "encoder:encoder.layer5.0.conv1.weight",
        "encoder:encoder.layer1.2.conv1.weight",
        "encoder:encoder.layer1.0.conv3.weight",
        "encoder.conv1.weight",
        "encoder:height",
    ],
)
def test_other_names_have_no_place(name):
    assert assign.place(name, TABLES["monodepth2"]) is None
