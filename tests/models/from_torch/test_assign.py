"""Each kind of tensor goes to its place, and each is accounted for."""

import jax
import numpy as np
import pytest

from amlr_jax.models.from_torch.assign import Module, assign, place
from amlr_jax.runtime.errors import InputError

TABLE = (
    Module("stem", "encoder/stem", "conv"),
    Module("(fc|old_fc)", "encoder/fc", "linear"),
    Module("norm", "encoder/norm", "norm"),
    Module("bn", "decoder/bn", "batch_norm"),
    Module(r"head\..*|relative_index", "", "buffer"),
)


def shape(*sizes: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, np.float32)


SHAPES = {
    "params": {
        "encoder": {
            "stem": {"kernel": shape(5, 4, 3, 2), "bias": shape(2)},
            "fc": {"kernel": shape(2, 6)},
            "norm": {"scale": shape(6)},
        },
        "decoder": {"bn": {"scale": shape(6), "bias": shape(6)}},
    },
    "batch_stats": {"decoder": {"bn": {"mean": shape(6), "var": shape(6)}}},
}


def tensors(**changes: np.ndarray | None) -> dict[str, np.ndarray]:
    """All that the network takes; `changes` replaces, adds or (None) removes."""
    rng = np.random.default_rng(0)
    sizes = {
        "stem.weight": (2, 3, 5, 4), "stem.bias": (2,), "fc.weight": (6, 2),
        "norm.weight": (6,), "bn.weight": (6,), "bn.bias": (6,),
        "bn.running_mean": (6,), "bn.running_var": (6,),
    }  # fmt: skip
    made = {name: rng.random(s, np.float32) for name, s in sizes.items()}
    made["bn.num_batches_tracked"] = np.array(3)
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    return {name: v for name, v in (made | changes).items() if v is not None}


def assigned(given: dict, parts=("encoder", "decoder"), **options):
    return assign(given, TABLE, SHAPES, parts=parts, **options)


def test_values_and_report():
    given = tensors(head__weight=np.ones(3), relative_index=np.arange(4))
    variables, report = assigned(given)
    kernel = variables["params"]["encoder"]["stem"]["kernel"]
    assert kernel[4, 3, 2, 1] == given["stem.weight"][1, 2, 4, 3]
    np.testing.assert_array_equal(
        variables["params"]["encoder"]["fc"]["kernel"], given["fc.weight"].T
    )
    mean = variables["batch_stats"]["decoder"]["bn"]["mean"]
    np.testing.assert_array_equal(mean, given["bn.running_mean"])
    got = jax.tree.map(lambda x: (x.shape, x.dtype), variables)
    want = jax.tree.map(lambda x: (x.shape, np.dtype(np.float32)), SHAPES)
    assert got == want
    assert report.used["encoder/fc/kernel"] == "fc.weight"
    assert len(report.used) == 8
    assert report.unused == ("head.weight",)
    assert set(report.rebuilt) == {"bn.num_batches_tracked", "relative_index"}
    assert report.missing == ()


def test_an_encoder_leaves_the_decoder_initial():
    given = {n: v for n, v in tensors().items() if not n.startswith("bn")}
    variables, report = assigned(given, parts=("encoder",))
    assert variables.keys() == {"params"}
    assert all(path.startswith("decoder/") for path in report.missing)
    assert len(report.missing) == 4


def test_what_a_source_may_miss():
    options = {"parts": ("encoder", "decoder"), "may_miss": "encoder/norm/.*"}
    _, report = assigned(tensors(norm__weight=None), **options)
    assert report.missing == ("encoder/norm/scale",)
    with pytest.raises(InputError, match="encoder/norm/scale"):
        assigned(tensors(norm__weight=None))


def with_value(shape: tuple, value: float) -> np.ndarray:
    array = np.ones(shape, np.float32)
    array.flat[-1] = value
    return array


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"fc__weight": None, "stem__bias": None},
         "lacks 2 tensors .* for encoder/stem/bias, encoder/fc/kernel"),
        ({"fc__weight": np.ones((2, 6))},
         r"'fc.weight' of shape \(2, 6\) does not fit encoder/fc/kernel, which takes "
         r"\(6, 2\) here, so \(2, 6\) in our layout"),
        ({"stem__weight": np.ones((2, 3, 4, 5))},
         r"'stem.weight' of shape \(2, 3, 4, 5\) .* takes \(2, 3, 5, 4\)"),
        ({"stem__weight": np.ones((2, 3))}, r"'stem.weight' of shape \(2, 3\)"),
        ({"extra__weight": np.ones(2)}, "no known place: extra.weight"),
        ({"fc__bias": np.ones(6)}, "'fc.bias' goes to encoder/fc/bias.* lacks"),
        ({"old_fc__weight": np.ones((6, 2))},
         "'fc.weight' and 'old_fc.weight' both go to encoder/fc/kernel"),
        ({"norm__weight": with_value((6,), np.nan)}, "'norm.weight' holds values that"),
        ({"bn__running_var": with_value((6,), np.inf)}, "'bn.running_var' holds"),
    ],
)  # fmt: skip
def test_faults_are_named(changes, message):
    with pytest.raises(InputError, match=message):
        assigned(tensors(**changes))


# ---------------------------------------------------------------- places

KINDS = (
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
    found = place("layers.2.blocks.17.fc.weight", KINDS)
    assert found.path == ("encoder", "stage2_block17", "fc", "kernel")
    assert found.collection == "params"


def test_linear():
    weight = tensor(3, 2)  # out, in
    ours = place("layers.0.blocks.0.fc.weight", KINDS).transform(weight)
    assert ours.shape == (2, 3)
    assert ours[1, 2] == weight[2, 1]


def test_convolution():
    weight = tensor(5, 4, 3, 2)  # out, in, height, width
    ours = place("stem.weight", KINDS).transform(weight)
    assert ours.shape == (3, 2, 4, 5)
    assert ours[2, 1, 3, 4] == weight[4, 3, 2, 1]


def test_deconvolution():
    weight = tensor(4, 5, 2, 2)  # in, out, height, width
    ours = place("up.weight", KINDS).transform(weight)
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
    found = place(name, KINDS)
    assert (found.collection, "/".join(found.path)) == (collection, path)
    np.testing.assert_array_equal(found.transform(tensor(4)), tensor(4))


@pytest.mark.parametrize("name", ["bn.num_batches_tracked", "index_table"])
def test_buffers_go_nowhere(name):
    assert place(name, KINDS).collection == ""


@pytest.mark.parametrize(
    "name",
    ["stem", "stem.gamma", "xstem.weight", "stem.weight.x", "attn.q_bias.weight"],
)
def test_names_that_the_table_does_not_know(name):
    assert place(name, KINDS) is None
