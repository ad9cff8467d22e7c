"""Reading files that PyTorch and safetensors wrote, and refusing the rest by name."""

import argparse
import hashlib
import os
import pickle
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest

from amlr_jax.models.from_torch import files
from amlr_jax.runtime.errors import InputError

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.count": torch.tensor(7)}


def check(weights: files.Weights) -> None:
    assert weights.tensors.keys() == STATE.keys()
    np.testing.assert_array_equal(weights.tensors["a.weight"], STATE["a.weight"])
    assert weights.tensors["a.weight"].dtype == np.float32
    assert weights.tensors["a.count"] == 7


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrapper", ["state_dict", "model", "module", None])
def test_what_torch_saved(tmp_path, wrapper, legacy):
    path = tmp_path / "x.ckpt"
    optimizer = {"state": {}, "lr": 1e-3}
    found = STATE if wrapper is None else {wrapper: STATE, "optimizer": optimizer}
    torch.save(found, path, _use_new_zipfile_serialization=not legacy)
    weights = files.read(path)
    check(weights)
    assert weights.sha256 == {"x.ckpt": hashlib.sha256(path.read_bytes()).hexdigest()}


def test_safetensors(tmp_path):
    safetensors.save_file(STATE, tmp_path / "x.safetensors")
    check(files.read(tmp_path / "x.safetensors"))


def test_the_prefix_of_data_parallel_and_parameters(tmp_path):
    state = OrderedDict((f"module.{k}", v) for k, v in STATE.items())
    state["module.a.weight"] = torch.nn.Parameter(state["module.a.weight"])
    torch.save({"model": state}, tmp_path / "x.pth")
    check(files.read(tmp_path / "x.pth"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_other_floats_become_float32(tmp_path, dtype, suffix):
    state = {"a": torch.tensor([1.0, -0.3359375], dtype=dtype)}
    save = torch.save if suffix == "pth" else safetensors.save_file
    save(state, tmp_path / f"x.{suffix}")
    found = files.read(tmp_path / f"x.{suffix}").tensors["a"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, state["a"].float())


def test_what_training_scripts_save_beside_the_tensors(tmp_path, monkeypatch):
    """SimMIM saves its config, a yacs CfgNode, and a NumPy number as best accuracy."""
    module = types.ModuleType("yacs.config")
    module.CfgNode = type("CfgNode", (dict,), {"__module__": "yacs.config"})
    monkeypatch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", module)
    config = module.CfgNode({"MODEL": module.CfgNode({"NAME": "swin"})})
    config.frozen = True
    beside = {
        "config": config,
        "best": np.float64(0.5),
        "args": argparse.Namespace(a=1),
    }
    torch.save({"model": STATE, **beside}, tmp_path / "x.pth")
    monkeypatch.undo()  # the reader does not have yacs
    check(files.read(tmp_path / "x.pth"))


def test_a_folder(tmp_path):
    torch.save({"w": torch.ones(2), "height": 192, "stereo": False}, tmp_path / "a.pth")
    torch.save({"w": torch.zeros(2)}, tmp_path / "b.pth")
    weights = files.read_folder(tmp_path, required=("a",), optional=("b", "c"))
    assert weights.tensors.keys() == {"a:w", "b:w"}
    assert weights.extras == {"a:height": 192, "a:stereo": False}
    assert weights.sha256.keys() == {"a.pth", "b.pth"}


class Evil:
    """Pickled code."""

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_is_refused_and_not_run(tmp_path, legacy):
    evil = Evil()
    evil.target = str(tmp_path / "harm")
    state, path = {"state_dict": STATE, "x": evil}, tmp_path / "x.pth"
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InputError, match=r"holds code \(\w+\.mkdir\) and was not run"):
        files.read(path)
    assert not (tmp_path / "harm").exists()
    pickle.loads(pickle.dumps(evil))
    assert (tmp_path / "harm").exists()  # it would have worked


def test_a_whole_module_is_code_too(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"state_dict\(\)"):
        files.read(tmp_path / "x.pth")


PAGE = b"\n<!DOCTYPE html><html><head><title>Google Drive</title></head></html>"


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("x.pth", PAGE, "is a web page and no weights"),
        ("x.safetensors", b"<html></html>", "is a web page and no weights"),
        ("x.pth", b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ("x.pth", b"", "is empty"),
        ("x.pth", bytes(range(256)), "damaged or no weights"),
        ("x.safetensors", bytes(range(256)), "damaged or no weights"),
        ("x.pth", pickle.dumps({"a": 1}), "damaged or no weights"),
    ],
)
def test_no_weights(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        files.read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "saved, message",
    [
        ({"a": 1, "b": {}}, "no tensors by name; it has a, b"),
        ({}, "no tensors by name"),
        ({"model": {}}, "no tensors by name"),
        ([1, 2], "holds list, not tensors by name"),
        (torch.ones(3), "holds Tensor, not tensors by name"),
    ],
)
def test_no_state_dict(tmp_path, saved, message):
    torch.save(saved, tmp_path / "x.pth")
    with pytest.raises(InputError, match=message):
        files.read(tmp_path / "x.pth")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_truncated(tmp_path, kind, share):
    path = tmp_path / ("x.safetensors" if kind == "safetensors" else "x.pth")
    state = {"a": torch.randn(100, 100)}
    if kind == "safetensors":
        safetensors.save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match="cut off, damaged .* download it again"):
        files.read(path)


def test_paths(tmp_path):
    torch.save(STATE, tmp_path / "a.pth")
    with pytest.raises(InputError, match="is a folder; give the file"):
        files.read(tmp_path)
    with pytest.raises(InputError, match="no input file"):
        files.read(tmp_path / "b.pth")
    with pytest.raises(InputError, match=r"is a file; give the folder with a\.pth"):
        files.read_folder(tmp_path / "a.pth", required=("a",))
    with pytest.raises(InputError, match="does not exist; give the folder"):
        files.read_folder(tmp_path / "no", required=("a",))
    with pytest.raises(InputError, match=r"no input file '.*b\.pth'"):
        files.read_folder(tmp_path, required=("a", "b"))


def test_without_the_reader(tmp_path, monkeypatch):
    (tmp_path / "x.pth").write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"pip install 'amlr_jax\[convert\]'"):
        files.read(tmp_path / "x.pth")
