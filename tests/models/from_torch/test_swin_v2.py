"""Names of the PyTorch Swin-v2 checkpoints to the paths of our parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.models import depth_network, swin_v2
from amlr_jax.models.decoders.depth import GradualDecoder
from amlr_jax.models.from_torch.assign import place
from amlr_jax.models.from_torch.tables import TABLES

DEPTHS = (2, 1, 3, 1)

ATTENTION = (
    "logit_scale",
    "q_bias",
    "v_bias",
    "qkv.weight",
    "proj.weight",
    "proj.bias",
    "{}_mlp.0.weight",
    "{}_mlp.0.bias",
    "{}_mlp.2.weight",
)
BUFFERS = ("relative_coords_table", "relative_position_index")


def encoder_names(prefix, norm, bias_mlp):
    """Names of an encoder of `DEPTHS`, as the reference systems save them."""
    pairs = [f"patch_embed.{part}" for part in ("proj", "norm")] + [norm]
    names = []
    for stage, depth in enumerate(DEPTHS):
        for block in range(depth):
            at = f"layers.{stage}.blocks.{block}"
            pairs += [f"{at}.{p}" for p in ("norm1", "norm2", "mlp.fc1", "mlp.fc2")]
            parts = (*(a.format(bias_mlp) for a in ATTENTION), *BUFFERS)
            names += [f"{at}.attn.{part}" for part in parts]
        names.append(f"layers.{stage}.blocks.1.attn_mask")
        if stage < len(DEPTHS) - 1:
            names.append(f"layers.{stage}.downsample.reduction.weight")
            pairs.append(f"layers.{stage}.downsample.norm")
    names += [f"{pair}.{leaf}" for pair in pairs for leaf in ("weight", "bias")]
    return [prefix + name for name in names]


def decoder_names():
    norms = [f"decoder.deconv_layers.{i}" for i in (1, 4, 7)]
    norms.append("decoder.conv_layers.1")
    leaves = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = [f"{norm}.{leaf}" for norm in norms for leaf in leaves]
    names += [f"decoder.deconv_layers.{i}.weight" for i in (0, 3, 6)]
    convolutions = ("decoder.conv_layers.0", "last_layer_depth.0", "last_layer_depth.2")
    return names + [f"{c}.{leaf}" for c in convolutions for leaf in ("weight", "bias")]


SOURCES = {
    "swinv2": [*encoder_names("", "norm", "cpb"), "head.weight", "head.bias"],
    "simmim": [
        *encoder_names("encoder.", "norm", "rpe"),
        *("encoder.mask_token", "decoder.0.weight", "decoder.0.bias"),
    ],
    "simmim without prefix": [*encoder_names("", "norm", "cpb"), "mask_token"],
    "mim_depth": [*encoder_names("encoder.", "norm3", "rpe"), *decoder_names()],
}


@pytest.fixture(scope="module")
def our_paths():
    """{source: the paths of the variables that it fills}."""
    encoder = swin_v2.SwinV2(
        embed_dim=8,
        depths=DEPTHS,
        num_heads=(1, 2, 2, 2),
        window_size=(4,) * 4,
        pretrained_window_size=(4,) * 4,
        use_shift=(True,) * 4,
    )
    net = depth_network.DepthNetwork(
        encoder, GradualDecoder(channels=(8, 8, 8), head_channels=8)
    )
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    init = functools.partial(net.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), image)
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    whole = {tuple(key.key for key in path) for path, _ in leaves}
    encoders = {path for path in whole if path[1] == "encoder"}
    pretraining = {path for path in encoders if path[2] != "norm"}  # left out
    return {"mim_depth": whole, "swinv2": encoders, "simmim": pretraining}


@pytest.mark.parametrize("source", SOURCES)
def test_every_variable_is_filled_once_and_no_tensor_is_unknown(source, our_paths):
    table = TABLES[source.split()[0]]
    found = []
    for name in SOURCES[source]:
        where = place(name, table)
        assert where is not None, name
        if where.collection:
            found.append((where.collection, *where.path))
    assert len(set(found)) == len(found)
    assert set(found) == our_paths[source.split()[0]]


@pytest.mark.parametrize(
    ("source", "name", "path"),
    [
        (
            "swinv2",
            "layers.2.blocks.17.attn.cpb_mlp.2.weight",
            "encoder/stage2_block17/attn/rpe_mlp/fc2/kernel",
        ),
        ("swinv2", "norm.weight", "encoder/norm/scale"),
        ("mim_depth", "encoder.norm3.bias", "encoder/norm/bias"),
        (
            "mim_depth",
            "encoder.layers.0.downsample.norm.weight",
            "encoder/stage0_merge/norm/scale",
        ),
        ("mim_depth", "last_layer_depth.2.weight", "decoder/head_depth/kernel"),
        (
            "mim_depth",
            "decoder.deconv_layers.4.running_var",
            "decoder/deconv1_norm/var",
        ),
    ],
)
def test_places_by_hand(source, name, path):
    assert place(name, TABLES[source]).path == tuple(path.split("/"))


def test_matrices_are_transposed_and_vectors_are_not():
    matrix = np.arange(6.0).reshape(2, 3)
    where = place("layers.0.blocks.0.attn.qkv.weight", TABLES["swinv2"])
    np.testing.assert_array_equal(where.transform(matrix), matrix.T)
    scale = np.arange(3.0).reshape(3, 1, 1)
    where = place("layers.0.blocks.0.attn.logit_scale", TABLES["swinv2"])
    np.testing.assert_array_equal(where.transform(scale), scale)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("swinv2", "layers.0.blocks.0.attn.relative_position_bias_table"),  # version 1
        ("mim_depth", "encoder.norm.weight"),
    ],
)
def test_foreign_tensors_have_no_place(source, name):
    where = place(name, TABLES[source])
    assert where is None
