"""The command: a user's mistake is one line, exit status 1, and nothing written."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from amlr_jax.convert import conversion
from amlr_jax.models import pretrained
from amlr_jax.runtime.errors import InputError
from tests.conftest import REPOSITORY
from tests.models.from_torch import state_dicts

pytest.importorskip("torch")


def without(tensors: dict, *parts: str) -> dict:
    return {n: v for n, v in tensors.items() if not any(p in n for p in parts)}


def nan(size: int) -> np.ndarray:
    return np.array([0.0, np.nan] * (size // 2), np.float32)


def swin(*missing: str, **other: np.ndarray) -> Callable[[], dict]:
    """A SimMIM checkpoint without some of its tensors and with others."""
    name = "encoder.layers.0.blocks.0."
    replaced = {name + key.replace("__", "."): value for key, value in other.items()}
    return lambda: without(state_dicts.simmim(), *missing) | replaced


SHORT = np.ones((48, 47), np.float32)
NO_TABLE = np.full((1, 23, 23, 2), 0.9876543, np.float32)


@pytest.mark.parametrize(
    "source, make, message",
    [
        ("simmin", swin(), "source must be one of .*'simmin'; did you mean simmim"),
        ("resnet18", swin(), "170 of 170 tensors .* --source=simmim"),
        ("mit", swin(), "--source=simmim"),
        ("swinv2", swin(), "mask_token.*--source=simmim"),
        ("simmim", state_dicts.swinv2, "head.* --source=swinv2"),
        ("simmim", state_dicts.resnet18, "--source=resnet18"),
        ("glpdepth", state_dicts.mit, "--source=mit"),
        ("depth_anything_v2", lambda: state_dicts.monodepth2()["depth"],
         "one file of monodepth2's network; give its folder"),
        ("simmim", lambda: state_dicts.monodepth2()["encoder"], "one file of monodep"),
        ("simmim", lambda: {"a": SHORT, "b": SHORT}, "2 of 2 .* that is for a Swin-v2"),
        ("simmim", swin("layers.1.blocks.0.mlp.fc1"),
         "lacks 2 tensors .* encoder/stage1_block0/mlp/fc1"),
        ("simmim", swin("patch_embed.proj"),
         "no tensor for encoder/patch_embed/proj/kernel"),
        ("simmim", swin("layers.3"), "no tensor for encoder/stage3_block0"),
        ("simmim", swin("layers.2.blocks.1"), r"has .*depths \(2, 2, 1, 2\)"),
        ("simmim", swin(norm1__bias=nan(48)),
         "'encoder.layers.0.blocks.0.norm1.bias' holds values that are not finite"),
        ("simmim", swin(attn__proj__weight=SHORT),
         r"proj.weight' of shape \(48, 47\) does not fit encoder/stage0_block0/attn/"
         r"proj/kernel, which takes \(48, 48\)"),
        ("simmim", swin(attn__relative_coords_table=NO_TABLE),
         "is no table of Swin-v2's logarithmic positions"),
        ("mit", lambda: state_dicts.mit(depths=(2, 2, 2, 3)),
         r"no glpdepth .* has embed_dims .* depths \(2, 2, 2, 3\)"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit(tmp_path, source, make, message):
    state_dicts.save(make(), tmp_path / "x.pth")
    with pytest.raises(InputError, match=message) as caught:
        conversion.convert(source, tmp_path / "x.pth", tmp_path / "new" / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "source, max_depth, message",
    [("simmim", 10.0, "is for whole depth networks"), ("mim_depth", -1.0, "positive")],
)
def test_max_depth(tmp_path, source, max_depth, message):
    state_dicts.save(getattr(state_dicts, source)(), tmp_path / "x.pth")
    with pytest.raises(InputError, match=message):
        conversion.convert(
            source, tmp_path / "x.pth", tmp_path / "out", max_depth=max_depth
        )


def test_the_output_is_checked_before_the_input_is_read(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(InputError, match="is not empty"):
        conversion.convert("simmim", tmp_path / "missing.pth", tmp_path / "out")


def command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "amlr_jax.convert", *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command(tmp_path):
    state_dicts.save(state_dicts.simmim(), tmp_path / "x.pth")
    flags = ["--source=simmim", f"--input={tmp_path / 'x.pth'}"]
    done = command(*flags, f"--output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert f"--config.init_from={tmp_path / 'out'}" in done.stdout.replace("\n", "")
    assert pretrained.load(tmp_path / "out").model["source"] == "simmim"


def test_a_mistake_on_the_command_line(tmp_path):
    out = tmp_path / "out"
    done = command("--source=simmim", "--input=no.pth", f"--output={out}")
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert "no input file" in line
    assert "Traceback" not in done.stderr
    assert not out.exists()
