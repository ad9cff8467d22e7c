"""One row of each kind, against PyTorch's own layouts written out by index."""

import numpy as np
import pytest

from amlr_jax.models.from_torch.names import Module, place

TABLE = (
    Module(
        r"layers\.(\d+)\.blocks\.(\d+)\.fc", "encoder/stage{0}_block{1}/fc", "linear"
    ),
    Module("stem", "encoder/stem", "conv"),
    Module("up", "decoder/up", "deconv"),
    Module("ln", "encoder/ln", "norm"),
    Module("bn", "encoder/bn", "batch_norm"),
    Module(r"attn\.q_bias", "encoder/q_bias", "array"),
    Module(r"index_\w+", "", "buffer"),
)


def tensor(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_groups_of_the_pattern_go_into_the_path():
    found = place("layers.2.blocks.17.fc.weight", TABLE)
    assert found.path == ("encoder", "stage2_block17", "fc", "kernel")
    assert found.collection == "params"


def test_linear():
    weight = tensor(3, 2)  # out, in
    ours = place("layers.0.blocks.0.fc.weight", TABLE).transform(weight)
    assert ours.shape == (2, 3)
    assert ours[1, 2] == weight[2, 1]


def test_convolution():
    weight = tensor(5, 4, 3, 2)  # out, in, height, width
    ours = place("stem.weight", TABLE).transform(weight)
    assert ours.shape == (3, 2, 4, 5)
    assert ours[2, 1, 3, 4] == weight[4, 3, 2, 1]


def test_deconvolution():
    weight = tensor(4, 5, 2, 2)  # in, out, height, width
    ours = place("up.weight", TABLE).transform(weight)
    assert ours.shape == (2, 2, 4, 5)
    assert ours[1, 0, 3, 4] == weight[3, 4, 1, 0]


@pytest.mark.parametrize(
    "name, collection, path",
    [
        ("ln.weight", "params", "encoder/ln/scale"),
        ("ln.bias", "params", "encoder/ln/bias"),
        ("bn.weight", "params", "encoder/bn/scale"),
        ("bn.bias", "params", "encoder/bn/bias"),
        ("bn.running_mean", "batch_stats", "encoder/bn/mean"),
        ("bn.running_var", "batch_stats", "encoder/bn/var"),
        ("stem.bias", "params", "encoder/stem/bias"),
        ("attn.q_bias", "params", "encoder/q_bias"),
    ],
)
def test_vectors_stay_as_they_are(name, collection, path):
    found = place(name, TABLE)
    assert (found.collection, "/".join(found.path)) == (collection, path)
    np.testing.assert_array_equal(found.transform(tensor(4)), tensor(4))


@pytest.mark.parametrize("name", ["bn.num_batches_tracked", "index_table"])
def test_buffers_go_nowhere(name):
    assert place(name, TABLE).collection == ""


@pytest.mark.parametrize(
    "name",
    ["stem", "stem.gamma", "xstem.weight", "stem.weight.x", "attn.q_bias.weight"],
)
def test_names_that_the_table_does_not_know(name):
    assert place(name, TABLE) is None
