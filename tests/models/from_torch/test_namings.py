"""Names of other libraries, windows from rounded tables, prefixes, wrappers, parts."""

import json
import re

import ml_dtypes
import numpy as np
import pytest

from amlr_jax.models.from_torch import files, namings, sources
from amlr_jax.models.from_torch.assign import place
from amlr_jax.models.from_torch.tables import TABLES
from amlr_jax.runtime.errors import InputError

torch = pytest.importorskip("torch")
save_file = pytest.importorskip("safetensors.torch").save_file

NAME = "layers.0.blocks.0.attn.relative_coords_table"
STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.bias": torch.ones(2)}


def table(window: int, pretrained: float, dtype=np.float32) -> np.ndarray:
    """Positions as the official code computes them, rounded to `dtype`."""
    x = 8 * np.arange(1.0 - window, window) / (pretrained - 1)
    x = np.sign(x) * np.log2(np.abs(x) + 1) / np.log2(8)
    whole = np.stack(np.meshgrid(x, x, indexing="ij"), -1)[None]
    return whole.astype(np.float32).astype(dtype).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize(
    "window,pretrained", [(7, 7), (8, 8), (16, 8), (24, 12), (24, 6)]
)
def test_windows_of_rounded_tables(dtype, window, pretrained):
    found = sources._windows({NAME: table(window, pretrained, dtype)})
    assert found == [(window, pretrained)]


@pytest.mark.parametrize(
    "wrong", [table(16, 12.4), table(16, 16) * 1.01, table(16, 16)[:, ::-1]]
)
def test_a_table_of_no_whole_window_is_said(wrong):
    with pytest.raises(InputError, match="no table of Swin-v2"):
        sources._windows({NAME: np.ascontiguousarray(wrong)})


def check(path) -> None:
    found = files.read(path).tensors
    assert found.keys() == STATE.keys()
    np.testing.assert_array_equal(found["a.weight"], STATE["a.weight"])


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "module._orig_mod.", "model.backbone.", "model."],
)
@pytest.mark.parametrize("wrapper", ["model_ema", "state_dict_ema", "my_weights", None])
def test_prefixes_and_wrappers(tmp_path, prefix, wrapper):
    state = {prefix + name: value for name, value in STATE.items()}
    optimizer = {"state": {0: {"m": torch.ones(2)}}}
    saved = {wrapper: state, "optimizer": optimizer} if wrapper else state
    torch.save(saved, tmp_path / "x.pth")
    check(tmp_path / "x.pth")


def test_two_copies_are_refused(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({**STATE, "module.a.weight": torch.ones(2, 3)}, path)
    with pytest.raises(InputError, match="two copies"):
        files.read(path)
    torch.save({"student": STATE, "teacher": STATE}, path)
    with pytest.raises(InputError, match="several sets.*student"):
        files.read(path)


@pytest.mark.parametrize("ending", [".SAFETENSORS", ".bin", ".Safetensors"])
def test_content_decides_what_a_file_is(tmp_path, ending):
    save_file(STATE, tmp_path / f"x{ending}")
    check(tmp_path / f"x{ending}")


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_shards_by_their_index(tmp_path, ending):
    names = {k: f"m-0000{i}-of-00002.{ending}" for i, k in enumerate(STATE, start=1)}
    for key, name in names.items():
        save = save_file if ending == "safetensors" else torch.save
        save({key: STATE[key]}, tmp_path / name)
    index = tmp_path / f"m.{ending}.index.json"
    with pytest.raises(InputError, match=rf"one of 2 files.*m\.{ending}\.index\.json"):
        files.read(tmp_path / names["a.weight"])
    index.write_text(json.dumps({"weight_map": names}))
    check(index)
    assert len(files.read(index).sha256) == 2
    (tmp_path / names["b.bias"]).unlink()
    with pytest.raises(InputError, match="00002-of-00002.*not there"):
        files.read(index)
    index.write_text("[]")
    with pytest.raises(InputError, match="no index of weights"):
        files.read(index)


def known(source: str, tensors: dict) -> dict:
    """The tensors by our path; every name must have a place."""
    places = {name: place(name, TABLES[source]) for name in tensors}
    assert not [name for name, target in places.items() if target is None]
    return {"/".join(t.path): tensors[n] for n, t in places.items() if t.collection}


def test_hugging_face_swin_and_segformer():
    transformers = pytest.importorskip("transformers")
    config = transformers.Swinv2Config(
        image_size=64, embed_dim=24, depths=[1, 1, 1, 1], window_size=8
    )
    model = transformers.Swinv2ForImageClassification(config)
    state = {k: v.numpy() for k, v in model.state_dict().items()}
    ours = known("swinv2", namings.official(state))
    at = "swinv2.encoder.layers.0.blocks.0.attention.self."
    parts = [state[f"{at}{n}.weight"] for n in ("query", "key", "value")]
    qkv = ours["encoder/stage0_block0/attn/qkv/kernel"]
    np.testing.assert_array_equal(qkv, np.concatenate(parts))
    bias = ours["encoder/stage0_block0/attn/v_bias"]
    np.testing.assert_array_equal(bias, state[f"{at}value.bias"])
    del state[f"{at}key.weight"]
    with pytest.raises(InputError, match="2 of the 3 parts"):
        namings.official(state)
    config = transformers.SegformerConfig(depths=[1, 1, 1, 1])
    model = transformers.SegformerForImageClassification(config)
    state = {k: v.numpy() for k, v in model.state_dict().items()}
    assert len(known("mit", namings.official(state))) == len(state) - 2 - 2 * 4


def hub_segformer(heads: int = 8) -> dict:
    """Names of a stage as the hub's files have them, with q = 0, k = 1, v = 2."""
    at, rng = "segformer.encoder.block.2.0.", np.random.default_rng(0)
    names = {
        "segformer.encoder.patch_embeddings.0.proj.weight": (heads, 3, 7, 7),
        "segformer.encoder.patch_embeddings.0.layer_norm.bias": (heads,),
        "segformer.encoder.layer_norm.3.weight": (heads,),
        f"{at}layer_norm_1.weight": (heads,),
        f"{at}attention.self.sr.weight": (heads, heads, 2, 2),
        f"{at}attention.self.layer_norm.bias": (heads,),
        f"{at}attention.output.dense.weight": (heads, heads),
        f"{at}mlp.dense1.weight": (4 * heads, heads),
        f"{at}mlp.dwconv.dwconv.bias": (4 * heads,),
        f"{at}mlp.dense2.bias": (heads,),
        "decode_head.classifier.weight": (3, heads),
    }
    state = {name: rng.random(shape) for name, shape in names.items()}
    for value, part in enumerate(("query", "key", "value")):
        state[f"{at}attention.self.{part}.weight"] = np.full((heads, heads), value)
    return state


def mm_segmentation(heads: int = 8) -> dict:
    at, rng = "layers.2.1.0.", np.random.default_rng(0)
    names = {
        "layers.0.0.projection.weight": (heads, 3, 7, 7),
        "layers.0.0.norm.bias": (heads,),
        "layers.3.2.weight": (heads,),
        f"{at}norm1.weight": (heads,),
        f"{at}attn.sr.weight": (heads, heads, 2, 2),
        f"{at}attn.norm.bias": (heads,),
        f"{at}attn.attn.out_proj.weight": (heads, heads),
        f"{at}ffn.layers.0.weight": (4 * heads, heads, 1, 1),
        f"{at}ffn.layers.1.bias": (4 * heads,),
        f"{at}ffn.layers.4.bias": (heads,),
        "decode_head.conv_seg.weight": (3, heads),
    }
    state = {name: rng.random(shape) for name, shape in names.items()}
    whole = np.repeat(np.arange(3), heads)[:, None] * np.ones(heads)
    return state | {f"{at}attn.attn.in_proj_weight": whole}


@pytest.mark.parametrize("state", [hub_segformer(), mm_segmentation()])
def test_files_of_the_hub_and_of_mmsegmentation(state):
    ours = known("mit", namings.official(state))
    q, kv = (ours[f"encoder/stage2_block0/attn/{n}/kernel"] for n in ("q", "kv"))
    assert (q == 0).all() and (kv[:8] == 1).all() and (kv[8:] == 2).all()
    assert ours["encoder/stage2_block0/mlp/fc1/kernel"].shape == (32, 8)
    assert {re.sub("/.*", "", path.removeprefix("encoder/")) for path in ours} == {
        "stage0_patch_embed",
        "stage2_block0",
        "stage3_norm",
    }


def test_timm_merges_one_stage_later():
    timm = {f"layers.{s}.downsample.norm.bias": np.full(1, s) for s in (1, 2, 3)}
    ours = known("swinv2", namings.official(timm | {"head.fc.bias": np.zeros(1)}))
    assert {path: int(x[0]) for path, x in ours.items()} == {
        f"encoder/stage{s - 1}_merge/norm/bias": s for s in (1, 2, 3)
    }


@pytest.mark.parametrize(
    "name,remedy",
    [
        ("stages.0.blocks.0.attn.meta_mlp.fc1.weight", "swinv2_cr"),
        ("stages.0.blocks.0.attn.w_msa.qkv.weight", "MMPretrain.*official"),
    ],
)
def test_other_networks_name_the_remedy(name, remedy):
    weights = files.Weights({name: np.zeros((2, 2))}, {}, {})
    with pytest.raises(InputError, match=remedy):
        sources.recognise("swinv2", weights)
