"""A network to give away: the same weights come back, and PyTorch's names are right."""

import json
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from amlr_jax.checkpoints import disk
from amlr_jax.convert import conversion
from amlr_jax.models import depth, pretrained
from amlr_jax.models.from_torch.assign import Module, unassign
from amlr_jax.models.pretrained import Pretrained
from amlr_jax.runtime.errors import InputError
from amlr_jax.share import hub, reference
from tests.models.from_torch import state_dicts
from tests.report import runs

OPTIONS = {"max_depth": 80.0, "decoder_channels": [8, 8, 8]}
MODEL = {"source": "x", "name": "swin_v2_nano", "options": OPTIONS, "complete": True}
MODEL |= {"parts": ["encoder", "decoder"]}


@pytest.fixture(scope="module")
def variables() -> dict:
    rng = np.random.default_rng(0)
    shapes = depth.variable_shapes(depth.network("swin_v2_nano", **OPTIONS))
    return jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), shapes)


@pytest.fixture
def weights(tmp_path, variables):
    pretrained.save(tmp_path / "weights", variables, MODEL)
    return tmp_path / "weights"


def assert_equal(got, want):
    jax.tree.map(np.testing.assert_array_equal, got, want)


def test_what_is_shared_is_loaded_bit_for_bit(weights, variables, tmp_path):
    (weights / "calibration.json").write_text(
        json.dumps({"factor": 2.0, "shift": 0.0, "step": None})
    )
    hub.share(weights, tmp_path / "new" / "shared", licence="mit")
    names = {path.name for path in (tmp_path / "new" / "shared").iterdir()}
    assert names == {"README.md", "calibration.json", "model.json", "model.safetensors"}
    found = pretrained.load(tmp_path / "new" / "shared")
    assert_equal(found.variables, variables)
    assert found.model == pretrained.load(weights).model
    network, _, farthest, *_ = pretrained.load_network(tmp_path / "new" / "shared")
    assert network.calibration == (2.0, 0.0) and farthest == 160.0
    assert pretrained.fingerprint(found.folder)
    card = (tmp_path / "new" / "shared" / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\nlibrary_name: amlr_jax\n")
    assert 'amlr_jax.load("shared")' in card and "have not been evaluated" in card
    assert "metres = 2 * depth" in card


@pytest.fixture
def trained(tmp_path, variables, monkeypatch):
    """A run of 30 steps, whose arrays are not read."""
    folder = runs.write(
        tmp_path / "run", **{"data.root": "/home/me/kitti", "model.name": MODEL["name"]}
    )
    (folder / "panel.png").write_bytes(b"picture")
    record = folder / "checkpoints" / "00000030" / "data" / "metadata"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"batches": 30, "leaves": {}}))
    found = Pretrained(folder, variables, {**MODEL, "step": 30})
    monkeypatch.setattr(pretrained, "load", lambda _: found)
    return folder


def test_the_card_of_a_run(trained, tmp_path):
    hub.share(trained, tmp_path / "shared")
    names = {path.name for path in (tmp_path / "shared").iterdir()}
    assert names >= {"config.json", "panel.png", "model.safetensors"}
    assert "/home/me" not in (tmp_path / "shared" / "config.json").read_text()
    card = (tmp_path / "shared" / "README.md").read_text()
    assert "license:" not in card and "not stated" in card
    assert "| network | 0.200 |" in card and "| constant | 0.500 |" in card
    assert (
        "kitti_eigen on kitti folder: KB crop" in card and "10 frames, step 30" in card
    )
    assert (
        "data: kitti, split `eigen`" in card and "depth in metres, up to 80 m" in card
    )


def test_a_step_that_was_not_measured_has_no_metrics(trained, tmp_path):
    result = runs.evaluation() | {"step": 20}
    (trained / "evaluation.json").write_text(json.dumps(result))
    hub.share(trained, tmp_path / "shared")
    card = (tmp_path / "shared" / "README.md").read_text()
    assert "have not been evaluated" in card and "0.200" not in card


def test_paths_leave_the_config_at_any_depth():
    config = {
        "init_from": "/a",
        "data": {"root": "/b", "mix": [{"root": "/c", "n": 1}]},
    }
    assert hub.without_paths(config) == {"data": {"mix": [{"n": 1}]}}


def test_a_damaged_file_is_one_line(weights, tmp_path):
    hub.share(weights, tmp_path / "shared")
    path = tmp_path / "shared" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"model\.safetensors' cannot be read: it is"):
        pretrained.load(tmp_path / "shared")


def test_mistakes(weights, tmp_path, variables):
    with pytest.raises(InputError, match="name their --licence"):
        hub.share(weights, tmp_path / "shared", repository="me/depth")
    encoder = {"params": {"encoder": variables["params"]["encoder"]}}
    pretrained.save(tmp_path / "part", encoder, {**MODEL, "complete": False})
    for write in (hub.share, reference.write):
        with pytest.raises(InputError, match="whole"):
            write(tmp_path / "part", tmp_path / "shared")
        with pytest.raises(InputError, match="is not empty"):
            write(weights, tmp_path / "part")
    assert not (tmp_path / "shared").exists()


# ------------------------------------------------------------------ the hub


@pytest.fixture
def huggingface(monkeypatch, tmp_path):
    """A hub that is a folder."""
    seen = {}

    class Api:
        def whoami(self):
            return {"name": "me"}

        def create_repo(self, name, *, exist_ok):
            seen["made"] = name

        def upload_folder(self, *, repo_id, folder_path):
            if "full" in repo_id:
                raise OSError("no space on the hub")
            seen[repo_id] = folder_path

    def snapshot_download(name, *, revision, allow_patterns):
        seen["asked"] = name, revision, tuple(allow_patterns)
        if name not in seen:
            raise FileNotFoundError(f"no repository {name}")
        return str(seen[name])

    made = types.ModuleType("huggingface_hub")
    made.HfApi, made.snapshot_download = Api, snapshot_download
    made.utils = types.ModuleType("huggingface_hub.utils")
    made.utils.validate_repo_id = lambda name: None
    monkeypatch.setitem(sys.modules, "huggingface_hub", made)
    monkeypatch.setitem(sys.modules, "huggingface_hub.utils", made.utils)
    disk._downloaded.cache_clear()
    yield seen
    disk._downloaded.cache_clear()


def test_what_is_pushed_is_read_by_its_name(weights, variables, huggingface, tmp_path):
    hub.share(weights, tmp_path / "shared", licence="mit", repository="me/depth")
    assert huggingface["made"] == "me/depth"
    assert "hf://me/depth" in (tmp_path / "shared" / "README.md").read_text()
    for name, revision in (("hf://me/depth", None), ("hf://me/depth@v2", "v2")):
        found = pretrained.load(Path(name))
        assert_equal(found.variables, variables)
        wanted = ("*.json", "*.safetensors")
        assert huggingface["asked"] == ("me/depth", revision, wanted)


def test_a_hub_that_fails_is_one_line(weights, huggingface, tmp_path):
    with pytest.raises(InputError, match="hf://me/none cannot be read: no repository"):
        pretrained.load(Path("hf://me/none"))
    with pytest.raises(InputError, match="me/full failed, and '.*shared' is complete"):
        hub.share(weights, tmp_path / "shared", licence="mit", repository="me/full")


@pytest.mark.parametrize("push", [True, False])
def test_without_the_library(weights, monkeypatch, tmp_path, push):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    disk._downloaded.cache_clear()
    with pytest.raises(InputError, match=r"pip install 'amlr_jax\[hub\]'"):
        if push:
            hub.share(weights, tmp_path / "x", licence="mit", repository="me/depth")
        pretrained.load(Path("hf://me/depth"))


# ------------------------------------------------------------------ PyTorch


def test_names_of_mim_depth(tmp_path):
    """The names and layouts of the original, each but the buffers."""
    given = state_dicts.mim_depth()
    state_dicts.save(given, tmp_path / "x.pth")
    conversion.convert("mim_depth", tmp_path / "x.pth", tmp_path / "weights")
    reference.write(tmp_path / "weights", tmp_path / "torch")
    _check_tensors(load_file(tmp_path / "torch" / "model.safetensors"), given)
    settings = json.loads((tmp_path / "torch" / "settings.json").read_text())
    assert settings["source"] == "mim_depth"
    assert settings["options"]["window_size"] == [22, 22, 22, 11]
    assert settings["options"]["pretrained_window_size"] == [12, 12, 12, 6]
    assert settings["options"]["decoder_activation"] == "relu"


def test_names_of_monodepth2(tmp_path):
    """Each file of the original by itself."""
    given = state_dicts.monodepth2()
    for stem, tensors in given.items():
        state_dicts.save(tensors, tmp_path / "in" / f"{stem}.pth")
    conversion.convert("monodepth2", tmp_path / "in", tmp_path / "weights")
    reference.write(tmp_path / "weights", tmp_path / "torch")
    for stem, tensors in given.items():
        found = load_file(tmp_path / "torch" / f"{stem}.safetensors")
        _check_tensors(found, {k: v for k, v in tensors.items() if np.ndim(v)})


def _check_tensors(found: dict, given: dict) -> None:
    buffers = ("relative_", "num_batches", "attn_mask", ".fc.")
    kept = {n: x for n, x in given.items() if not any(b in n for b in buffers)}
    assert set(found) == set(kept)
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor, np.float32(given[name]), err_msg=name)


def test_silu_is_said(weights, tmp_path, capsys):
    reference.write(weights, tmp_path / "torch")
    text = " ".join(capsys.readouterr().out.split())
    assert "The decoder has SiLU" in text and "load_state_dict" in text


def test_a_network_without_an_original(tmp_path, variables):
    pretrained.save(tmp_path / "five", variables, {**MODEL, "name": "five_level"})
    with pytest.raises(InputError, match="whole networks of .*five_level"):
        reference.write(tmp_path / "five", tmp_path / "torch")


def test_an_array_without_a_name():
    table = (Module("a", "encoder/a", "linear"),)
    good = {"params": {"encoder": {"a": {"kernel": np.ones((2, 3), np.float32)}}}}
    assert unassign(good, table)["a.weight"].shape == (3, 2)
    good["params"]["encoder"]["b"] = np.ones(2, np.float32)
    with pytest.raises(InputError, match="encoder/b has no name in PyTorch"):
        unassign(good, table)
