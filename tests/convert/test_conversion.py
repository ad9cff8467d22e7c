"""From the files of each published system to weights that training starts from."""

import hashlib
import json

import jax
import numpy as np
import pytest

from amlr_jax import __version__, pipeline
from amlr_jax.convert import conversion
from amlr_jax.models import depth, fitting, pretrained
from amlr_jax.runtime.errors import InputError
from tests.models.from_torch import state_dicts

pytest.importorskip("torch")


def converted(source: str, tensors: dict, folder, **options) -> pretrained.Pretrained:
    state_dicts.save(tensors, folder / "x.pth")
    conversion.convert(source, folder / "x.pth", folder / "out", **options)
    return pretrained.load(folder / "out")


def leaf(found: pretrained.Pretrained, path: str) -> np.ndarray:
    node = found.variables
    for name in path.split("/"):
        node = node[name]
    return node


def total(found: pretrained.Pretrained) -> int:
    return sum(array.size for array in jax.tree.leaves(found.variables["params"]))


def sizes(tensors: dict) -> int:
    """How many values are parameters, not statistics or buffers."""
    skip = ("running_", "num_batches", "relative_", "attn_mask", "mask_token")
    return sum(v.size for n, v in tensors.items() if not any(s in n for s in skip))


CONV = (2, 3, 1, 0)
BLOCK = "params/encoder/stage1_block1/"


@pytest.mark.parametrize("prefix", ["encoder.", ""])
def test_simmim(tmp_path, prefix, capsys):
    given = state_dicts.simmim()
    found = converted(
        "simmim",
        {
            prefix + n.removeprefix("encoder."): v
            for n, v in given.items()
            if n.startswith("encoder.")
        },
        tmp_path,
    )
    name = "encoder.layers.1.blocks.1."
    for theirs, ours in (
        ("attn.qkv.weight", "attn/qkv/kernel"),
        ("attn.rpe_mlp.0.weight", "attn/rpe_mlp/fc1/kernel"),
        ("mlp.fc2.weight", "mlp/fc2/kernel"),
    ):
        np.testing.assert_array_equal(leaf(found, BLOCK + ours), given[name + theirs].T)
    for theirs, ours in (
        ("attn.q_bias", "attn/q_bias"),
        ("attn.logit_scale", "attn/logit_scale"),
        ("norm2.weight", "norm2/scale"),
    ):
        np.testing.assert_array_equal(leaf(found, BLOCK + ours), given[name + theirs])
    np.testing.assert_array_equal(
        leaf(found, "params/encoder/patch_embed/proj/kernel"),
        given["encoder.patch_embed.proj.weight"].transpose(CONV),
    )
    model = found.model
    assert (model["name"], model["complete"]) == ("swin_v2_nano", False)
    assert model["parts"] == ["encoder"]
    assert model["options"] == {
        "convention": "mim_depth",
        "pretrained_window_size": [12, 12, 12, 6],
    }
    out = capsys.readouterr().out
    assert "encoder/stage0_blocks" in out
    assert "not in the input: stays initial" in out


@pytest.mark.parametrize("kept", [True, False])
def test_the_last_norm_of_simmim_is_not_taken(kept, tmp_path, capsys):
    """MIM-Depth does not load it; the identity is what it starts from."""
    given = state_dicts.simmim()
    names = [name for name in given if not name.startswith("encoder.norm.")]
    assert len(names) == len(given) - 2
    found = converted(
        "simmim", given if kept else {n: given[n] for n in names}, tmp_path
    )
    assert "norm" not in found.variables["params"]["encoder"]
    assert "encoder/norm" in capsys.readouterr().out
    options = {"pretrained_window_size": (12, 12, 12, 6), "max_depth": 80.0}
    fitting.what_fits(depth.network("swin_v2_nano", **options), found, partly=False)


@pytest.mark.parametrize("prefix", ["", "encoder."])
def test_swinv2(tmp_path, prefix):
    given = state_dicts.swinv2(windows=(24, 24, 24, 12), pretrained=(12, 12, 12, 6))
    found = converted("swinv2", {prefix + n: v for n, v in given.items()}, tmp_path)
    assert total(found) == sizes(given) - given["head.weight"].size - 1000
    np.testing.assert_array_equal(
        leaf(found, BLOCK + "attn/rpe_mlp/fc1/kernel"),
        given["layers.1.blocks.1.attn.cpb_mlp.0.weight"].T,
    )
    assert found.model["options"] == {
        "convention": "official",
        "pretrained_window_size": [12, 12, 12, 6],
    }


def test_mim_depth(tmp_path):
    given = state_dicts.mim_depth()
    found = converted("mim_depth", given, tmp_path, max_depth=10.0)
    assert total(found) == sizes(given)
    np.testing.assert_array_equal(
        leaf(found, "params/decoder/deconv1/kernel"),
        given["decoder.deconv_layers.3.weight"].transpose(2, 3, 0, 1),
    )
    np.testing.assert_array_equal(
        leaf(found, "batch_stats/decoder/deconv2_norm/var"),
        given["decoder.deconv_layers.7.running_var"],
    )
    np.testing.assert_array_equal(
        leaf(found, "params/encoder/norm/scale"), given["encoder.norm3.weight"]
    )
    assert found.model["options"] == {
        "convention": "mim_depth",
        "pretrained_window_size": [12, 12, 12, 6],
        "window_size": [22, 22, 22, 11],
        "decoder_channels": [32, 24, 16],
        "decoder_activation": "relu",
        "max_depth": 10.0,
    }
    network, variables, max_depth, *_ = pretrained.load_network(tmp_path / "out")
    assert max_depth == network.decoder.max_depth == 10.0
    assert variables.keys() == {"params", "batch_stats"}
    fitting.what_fits(network, found, partly=False)


def test_glpdepth(tmp_path):
    given = state_dicts.glpdepth()
    found = converted("glpdepth", given, tmp_path)
    assert total(found) == sizes(given)
    np.testing.assert_array_equal(
        leaf(found, "params/encoder/stage2_block0/attn/kv/kernel"),
        given["encoder.block3.0.attn.kv.weight"].T,
    )
    np.testing.assert_array_equal(
        leaf(found, "batch_stats/decoder/fusion2/norm2/mean"),
        given["decoder.fusion2.conv2.1.running_mean"],
    )
    assert found.model["name"] == "glpdepth_b1"
    assert found.model["options"] == {"max_depth": 80.0}
    assert pretrained.load_network(tmp_path / "out")[2] == 80.0


def test_mit(tmp_path):
    given = state_dicts.mit(dims=(64, 128, 320, 512), depths=(3, 4, 6, 3))
    found = converted("mit", given, tmp_path)
    assert total(found) == sizes(given) - 513 * 1000
    assert (found.model["name"], found.model["options"]) == ("glpdepth_b2", {})
    np.testing.assert_array_equal(
        leaf(found, "params/encoder/stage0_block2/attn/sr/kernel"),
        given["block1.2.attn.sr.weight"].transpose(CONV),
    )


def test_monodepth2(tmp_path):
    given = state_dicts.monodepth2()
    for stem, tensors in given.items():
        state_dicts.save(tensors, tmp_path / "in" / f"{stem}.pth")
    conversion.convert("monodepth2", tmp_path / "in", tmp_path / "out")
    found = pretrained.load(tmp_path / "out")
    # Encoder, decoder, pose encoder, pose decoder, without classifiers.
    assert total(found) == 11_176_512 + 3_152_724 + 11_185_920 + 1_314_572
    assert found.model["parts"] == ["encoder", "decoder", "pose"]
    assert found.model["options"] == {"input_size": [192, 640], "max_depth": 100.0}
    assert found.model["sha256"].keys() == {f"{stem}.pth" for stem in given}
    np.testing.assert_array_equal(
        leaf(found, "params/decoder/level3_conv1/kernel"),
        given["depth"]["decoder.3.conv.conv.weight"].transpose(CONV),
    )
    np.testing.assert_array_equal(
        leaf(found, "params/pose/encoder/conv1/kernel"),
        given["pose_encoder"]["encoder.conv1.weight"].transpose(CONV),
    )
    np.testing.assert_array_equal(
        leaf(found, "batch_stats/pose/encoder/layer2_block0/downsample_bn/var"),
        given["pose_encoder"]["encoder.layer2.0.downsample.1.running_var"],
    )
    network, variables, *_ = pretrained.load_network(tmp_path / "out")
    assert network.seen_size(375, 1242) == (192, 640)
    assert variables["params"].keys() == {"encoder", "decoder"}


def test_monodepth2_without_pose(tmp_path):
    given = state_dicts.monodepth2()
    for stem in ("encoder", "depth"):
        state_dicts.save(given[stem], tmp_path / "in" / f"{stem}.pth")
    conversion.convert("monodepth2", tmp_path / "in", tmp_path / "out")
    assert pretrained.load(tmp_path / "out").model["parts"] == ["encoder", "decoder"]
    state_dicts.save(given["pose"], tmp_path / "in" / "pose.pth")
    with pytest.raises(InputError, match="lacks 100 tensors .* pose/encoder/"):
        conversion.convert("monodepth2", tmp_path / "in", tmp_path / "other")


def test_resnet18(tmp_path):
    given = state_dicts.resnet18()
    found = converted("resnet18", given, tmp_path)
    assert total(found) == 11_176_512
    for upsampling in ("nearest", "subpixel_head"):
        options = {"max_depth": 100.0, "upsampling": upsampling}
        fitting.what_fits(depth.network("five_level", **options), found, partly=False)


def test_the_hash_and_the_version_are_kept(tmp_path):
    found = converted("simmim", state_dicts.simmim(), tmp_path)
    digest = hashlib.sha256((tmp_path / "x.pth").read_bytes()).hexdigest()
    assert found.model["sha256"] == {"x.pth": digest}
    assert found.model["version"] == __version__


@pytest.mark.slow
def test_training_starts_from_a_converted_encoder(tiny_config, tmp_path, capsys):
    """Its few small steps leave the encoder near the file's."""
    given = state_dicts.simmim(windows=(11, 11, 6, 6))
    scaled = {n: 0.1 * v for n, v in given.items() if "relative" not in n}
    converted("simmim", scaled, tmp_path)
    tiny_config.init_from = str(tmp_path / "out")
    state = pipeline.train(tiny_config, tmp_path / "run")
    np.testing.assert_allclose(
        state.params["encoder"]["stage3_block1"]["mlp"]["fc1"]["kernel"],
        scaled["encoder.layers.3.blocks.1.mlp.fc1.weight"].T,
        atol=0.01,
    )
    assert "encoder: 149 tensors" in capsys.readouterr().out
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert written["init_from"] == str(tmp_path / "out")


def test_half_precision_and_safetensors(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    half = {
        n: v.astype(np.float16) if v.dtype == np.float32 else v
        for n, v in state_dicts.simmim().items()
        if "coords_table" not in n
    }
    numpy.save_file(half, tmp_path / "x.safetensors")
    conversion.convert("simmim", tmp_path / "x.safetensors", tmp_path / "out")
    found = pretrained.load(tmp_path / "out")
    kernel = leaf(found, BLOCK + "mlp/fc1/kernel")
    assert kernel.dtype == np.float32
    want = half["encoder.layers.1.blocks.1.mlp.fc1.weight"].T
    np.testing.assert_array_equal(kernel, want)
    assert found.model["options"] == {"convention": "mim_depth"}  # no table, no window
