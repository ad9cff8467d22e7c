"""DINOv2, DINOv3 and Depth Anything V2: each naming gives the same weights."""

import re

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from amlr_jax.convert import conversion
from amlr_jax.models import depth, fitting, pretrained
from amlr_jax.models.depth_network import has_scale
from amlr_jax.models.from_torch import files, namings, sources
from amlr_jax.models.from_torch.assign import unassign
from amlr_jax.models.from_torch.tables import TABLES
from amlr_jax.runtime.errors import InputError
from tests.models.from_torch import state_dicts

pytest.importorskip("torch")
DINOV3 = {"patch": 16, "positions": 0, "registers": 4}


def hugging_face(tensors: dict, *, version: int, hub: bool) -> dict:
    """The names of transformers, in files of its hub or of its version 5."""
    found = {}
    layer = "encoder.layer." if version == 2 else "layer."
    rows = {
        r"(?:pretrained\.)?": "",
        r"(cls_token|mask_token|register_tokens)": r"embeddings.\1",
        r"pos_embed": "embeddings.position_embeddings",
        r"patch_embed\.proj": "embeddings.patch_embeddings"
        + (".projection" if version == 2 else ""),
        r"norm\.": "layernorm." if version == 2 else "norm.",
        r"blocks\.": layer,
    }
    inner = {
        r"\.attn\.proj": ".attention." + ("output.dense" if hub else "o_proj"),
        r"\.ls([12])\.gamma": r".layer_scale\1.lambda1",
    }
    if version == 3:
        inner |= {
            r"mlp\.fc1": "mlp.up_proj",
            r"mlp\.fc2": "mlp.down_proj",
            r"attn\.([qv])_bias": r"attention.\1_proj.bias",
        }
    heads = {
        r"depth_head\.projects\.(\d)": r"neck.reassemble_stage.layers.\1.projection",
        r"depth_head\.resize_layers\.(\d)": r"neck.reassemble_stage.layers.\1.resize",
        r"depth_head\.scratch\.output_conv1": "head.conv1",
        r"depth_head\.scratch\.output_conv2\.0": "head.conv2",
        r"depth_head\.scratch\.output_conv2\.2": "head.conv3",
        r"\.out_conv": ".projection",
        r"\.resConfUnit([12])\.conv": r".residual_layer\1.convolution",
    }
    for name, value in tensors.items():
        for pattern, new in rows.items():
            name = re.sub(f"^{pattern}", new, name)
        for pattern, new in (inner | heads).items():
            name = re.sub(pattern, new, name)
        name = re.sub(
            r"depth_head\.scratch\.layer(\d)_rn",
            lambda m: f"neck.convs.{int(m[1]) - 1}",
            name,
        )
        name = re.sub(
            r"depth_head\.scratch\.refinenet(\d)",
            lambda m: f"neck.fusion_stage.layers.{4 - int(m[1])}",
            name,
        )
        found |= _split(name, value, hub=hub)
    return found


def _split(name: str, value: np.ndarray, *, hub: bool) -> dict:
    """The joined q, k, v as three tensors."""
    if ".attn.qkv." not in name:
        return {name: value}
    whole = ("query", "key", "value") if hub else ("q_proj", "k_proj", "v_proj")
    inside = "attention.attention." if hub else "attention."
    parts = zip(whole, np.split(value, 3), strict=True)
    return {name.replace("attn.qkv.", f"{inside}{p}."): x for p, x in parts}


def same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)


def small(**options) -> dict:
    return state_dicts.vision_transformer(width=16, depth=2, **options)


@pytest.mark.parametrize("hub", [True, False])
def test_hugging_faces_names(hub):
    for given, version in (
        (small(positions=3), 2),
        (small(positions=3, registers=4), 2),
        (small(**DINOV3), 3),
        (small(positions=3) | state_dicts.dpt(inputs=16), 2),
    ):
        hub = hub and version == 2  # DINOv3 has one naming
        renamed = hugging_face(given, version=version, hub=hub)
        assert len(renamed.keys() & given.keys()) <= 2  # norm.weight, norm.bias
        same(namings.official(renamed), given)


def test_the_joined_gate_of_transformers_5():
    given = small(positions=3, gated=True)
    renamed = hugging_face(given, version=2, hub=False)
    for n in (0, 1):
        for leaf in ("weight", "bias"):
            name = f"encoder.layer.{n}.mlp."
            gate, up = np.split(renamed.pop(f"{name}w12.{leaf}"), 2)
            renamed |= {f"{name}gate_proj.{leaf}": gate, f"{name}up_proj.{leaf}": up}
            renamed[f"{name}down_proj.{leaf}"] = renamed.pop(f"{name}w3.{leaf}")
    same(namings.official(renamed), given)


def test_the_masked_bias_of_the_official_dinov3():
    wanted = small(**DINOV3)
    given = {n: x for n, x in wanted.items() if "_bias" not in n}
    for n in (0, 1):
        name = f"blocks.{n}.attn."
        q, v = wanted[name + "q_bias"], wanted[name + "v_bias"]
        given[name + "qkv.bias"] = np.concatenate([q, np.full_like(q, 7), v])
        mask = np.concatenate([np.ones(16), np.full(16, np.nan), np.ones(16)])
        given[name + "qkv.bias_mask"] = mask
    found = namings.official(given)
    assert {n for n in found if "bias_mask" not in n} == wanted.keys()
    same({n: found[n] for n in wanted}, wanted)


@pytest.fixture(scope="module")
def relative(tmp_path_factory):
    """Weights of Depth Anything V2 small, converted as relative ones."""
    folder = tmp_path_factory.mktemp("relative")
    given = state_dicts.depth_anything_v2()
    path = folder / "depth_anything_v2_vits.pth"
    state_dicts.save(given, path)
    conversion.convert("depth_anything_v2", path, folder / "out")
    return given, pretrained.load(folder / "out")


def test_a_whole_depth_network(relative):
    given, found = relative
    assert (found.model["name"], found.model["complete"]) == (
        "depth_anything_v2_small",
        True,
    )
    assert found.model["options"] == {"shorter_side": 518, "max_depth": 100.0}
    leaves = flatten_dict(found.variables["params"], sep="/")
    unused = given["pretrained.mask_token"].size + 2 * (64 * 64 * 9 + 64)
    assert sum(x.size for x in leaves.values()) == 24_710_849
    assert sum(x.size for x in given.values()) == 24_710_849 + unused
    for ours, theirs, axes in (
        ("encoder/patch_embed/kernel", "pretrained.patch_embed.proj.weight", 1),
        ("decoder/resize0/kernel", "depth_head.resize_layers.0.weight", 2),
        ("decoder/level3/kernel", "depth_head.scratch.layer4_rn.weight", 1),
        (
            "decoder/fusion0_unit2/conv1/kernel",
            "depth_head.scratch.refinenet1.resConfUnit2.conv1.weight",
            1,
        ),
    ):
        order = (2, 3, 1, 0) if axes == 1 else (2, 3, 0, 1)
        np.testing.assert_array_equal(leaves[ours], given[theirs].transpose(order))
    again = unassign(found.variables, TABLES["depth_anything_v2"])
    same(again, {name: given[name] for name in again})
    network, variables, *_ = loaded = pretrained.load_network(found.folder)
    assert (network.shorter_side, loaded.max_depth) == (518, 100.0)
    assert not has_scale(network)
    shapes = depth.variable_shapes(network)
    assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, shapes)


def test_metric_weights_start_from_relative_ones_but_for_the_last_layer(
    relative, capsys
):
    _, given = relative
    name = "depth_anything_v2_small_metric_indoor"
    network = depth.network(name, max_depth=10.0)
    with pytest.raises(InputError, match="depth in another unit.*init_partly=True"):
        fitting.what_fits(network, given, partly=False)
    found = fitting.what_fits(network, given, partly=True)
    said = " ".join(capsys.readouterr().out.split())
    assert said.endswith("not taken: decoder/head_depth")
    kept, before = (flatten_dict(x.variables["params"]) for x in (found, given))
    left = {path[:2] for path in before.keys() - kept.keys()}
    assert left == {("decoder", "head_depth")}
    base = depth.network("dinov2_base_dpt", max_depth=10.0)
    with pytest.raises(InputError, match="embed_dim is 384, this network's 768"):
        fitting.what_fits(base, given, partly=True)


def recognised(source: str, tensors: dict) -> sources.Recognised:
    return sources.recognise(source, files.Weights(tensors, {}, {}))


def shapes_only(**options) -> dict:
    """Small networks whose values do not matter."""
    made = state_dicts.vision_transformer(**options)
    return {name: np.broadcast_to(np.float32(0), x.shape) for name, x in made.items()}


def test_sizes_and_registers_are_read_from_the_tensors():
    found = recognised("dinov2", shapes_only(registers=4))
    assert (found.name, found.options) == ("dinov2_small_dpt", {"registers": 4})
    found = recognised("dinov3", shapes_only(**DINOV3))
    assert (found.name, found.options) == ("dinov3_small_dpt", {})


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("dinov2", {"width": 192}, r"no dinov2 \(small, base, .* has embed_dim 192"),
        ("dinov2", {"depth": 11}, "embed_dim 384, depth 11"),
        ("dinov2", {"patch": 16}, "patch_size 16, as the input has"),
        ("dinov2", DINOV3, "no dinov2 .* patch_size 16"),
        ("dinov3", {}, "no dinov3 .* patch_size 14"),
        ("depth_anything_v2", {"patch": 8}, "patch_size 8"),
    ],
)
def test_another_size_is_one_line(source, options, message):
    with pytest.raises(InputError, match=message) as caught:
        recognised(source, shapes_only(**options))
    assert "\n" not in str(caught.value)


def test_missing_registers_another_grid_and_another_source(tmp_path):
    path = tmp_path / "x.pth"

    def refused(source: str, tensors: dict, message: str, **options) -> None:
        state_dicts.save(tensors, path)
        with pytest.raises(InputError, match=message) as caught:
            conversion.convert(source, path, tmp_path / "out", **options)
        assert "\n" not in str(caught.value)

    given = state_dicts.vision_transformer(**DINOV3)
    del given["register_tokens"]
    refused("dinov3", given, "lacks 1 tensors .* for encoder/register_tokens")
    refused(
        "dinov2", shapes_only(positions=16), r"'pos_embed' of shape \(1, 257, 384\)"
    )
    whole = state_dicts.depth_anything_v2()
    refused("dinov2", whole, "--source=depth_anything_v2")
    refused("depth_anything_v2", shapes_only(), "lacks .* for decoder/")
    (tmp_path / "config.json").write_text('{"depth_estimation_type": "metric"}')
    refused("depth_anything_v2", whole, "give its --max_depth, 20 indoors")


@pytest.mark.parametrize(("metres", "place"), [(20.0, "indoor"), (80.0, "outdoor")])
def test_with_a_largest_depth_weights_are_metric(metres, place, tmp_path):
    found = recognised("depth_anything_v2", state_dicts.depth_anything_v2())
    path = tmp_path / "depth_anything_v2_metric_hypersim_vits.pth"
    made = conversion._relative_or_metric(found, path, metres)
    assert made.name == f"depth_anything_v2_small_metric_{place}"
    with pytest.raises(InputError, match="is of a metric network by its name"):
        conversion._relative_or_metric(found, path, None)
