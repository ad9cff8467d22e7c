"""The command: a run's weights or converted ones, measured in any protocol and mode."""

import csv
import json
import shutil
import subprocess
import sys
from contextlib import closing
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax import pipeline
from amlr_jax.checkpoints.manager import Checkpoints
from amlr_jax.evaluate.evaluator import evaluate_weights
from amlr_jax.models import pretrained
from amlr_jax.runtime import files
from amlr_jax.runtime.errors import InputError
from amlr_jax.train import build
from tests import tiny_kitti
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The end of a run that learnt nothing, never changed: (folder, root, cache)."""
    base = tmp_path_factory.mktemp("evaluate")
    root, cache = tiny_kitti.write(base / "kitti"), base / "cache"
    config = tiny_kitti.config(root, cache=cache)
    initial = partial(build.state_before_training, config, build.components(config))
    state = jax.jit(initial)()._replace(step=jnp.int32(config.steps))
    with closing(Checkpoints(base / "run" / "checkpoints", keep=1)) as checkpoints:
        checkpoints.save(state, step=config.steps)
    files.write_json(base / "run" / "config.json", config.to_dict())
    return base / "run", root, cache


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run, and the config that trained it."""
    folder, root, cache = trained
    shutil.copytree(folder, tmp_path / "run")
    return tmp_path / "run", tiny_kitti.config(root, cache=cache)


@pytest.fixture(scope="module")
def measured(trained, tmp_path_factory):
    """The metrics of that run in the mode of its config."""
    folder, root, cache = trained
    config = tiny_kitti.config(root, cache=cache)
    return evaluate_weights(config, tmp_path_factory.mktemp("once"), folder).metrics


def result_of(folder) -> dict:
    return json.loads((folder / "evaluation.json").read_text())


def lines(folder) -> list[dict]:
    with (folder / "per_image.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_equals_the_evaluation_of_the_run(run):
    folder, config = run
    pipeline.train(config, folder)  # at its end: only measured
    before = result_of(folder)
    evaluate_weights(config, folder)
    after = result_of(folder)
    assert after["weights"] == str(folder)
    assert after["step"] == before["step"] == config.steps
    for name in ("metrics", "constant"):
        assert after[name] == pytest.approx(before[name], rel=1e-5)
    assert after["protocol"] == before["protocol"]
    assert [line["key"] for line in lines(folder)] == [
        f"{tiny_kitti.drive(n)}/0000000005" for n in tiny_kitti.DRIVES
    ]
    mean = np.mean([float(line["abs_rel"]) for line in lines(folder)])
    assert mean == pytest.approx(after["metrics"]["abs_rel"], rel=1e-6)
    assert (folder / "frames.png").stat().st_size > 1000


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_run_of_a_gpu_is_measured_here(run, capsys, dtype):
    """Its config names a kernel that this device lacks."""
    folder, config = run
    want = evaluate_weights(config, folder).metrics
    saved = json.loads((folder / "config.json").read_text())
    saved["model"] |= {"dtype": dtype, "attention": "cudnn"}
    files.write_json(folder / "config.json", saved)
    capsys.readouterr()
    assert evaluate_weights(config, folder).metrics == want
    computed_in = {"dtype": "float32", "attention": "xla"}
    assert result_of(folder)["computed_in"] == computed_in
    out = " ".join(capsys.readouterr().out.split())
    assert "swin_v2_nano: computing in float32 with xla attention" in out


@pytest.mark.parametrize("mode", ["flip", "flip_ramps", "shifted_flip"])
def test_each_mode(run, measured, capsys, mode):
    folder, config = run
    config.eval.test_mode, config.eval.windows = mode, 3
    got = evaluate_weights(config, folder).metrics["abs_rel"]
    assert np.isfinite(got) and got != measured["abs_rel"]
    assert f"test mode {mode}" in " ".join(capsys.readouterr().out.split())


def test_median_scaling_and_the_split_that_stays(run, capsys):
    """On a partial copy the protocol of the 697 frames measures its test frames."""
    folder, config = run
    config.eval.protocol = "kitti_eigen_697"
    result = evaluate_weights(config, folder)
    assert result_of(folder)["protocol"]["split"] == "folder"
    assert result_of(folder)["median_ratio"] == result.ratio
    ratios = [float(line["ratio"]) for line in lines(folder)]
    assert np.median(ratios) == pytest.approx(result.ratio["median"], rel=1e-5)
    out = " ".join(capsys.readouterr().out.split())
    assert "median ratio" in out and "here split folder" in out


def test_converted_weights(run, measured, tmp_path):
    """A folder of weights has its own network; the results go to the workdir."""
    folder, config = run
    found = pretrained.load(folder)
    pretrained.save(tmp_path / "weights", found.variables, found.model)
    config.model.name = "swin_v2_large"  # of no concern here
    evaluate_weights(config, tmp_path / "results", tmp_path / "weights")
    got = result_of(tmp_path / "results")
    assert got["metrics"] == pytest.approx(measured, rel=1e-5)
    assert (got["weights"], got["step"]) == (str(tmp_path / "weights"), 6)


def test_the_loop_uses_the_test_mode(run, tmp_path):
    folder, config = run
    config.eval.test_mode = "flip"
    pipeline.train(config, folder)
    assert result_of(folder)["protocol"]["test_mode"] == "flip"
    evaluate_weights(config, tmp_path / "again", folder)
    want = result_of(tmp_path / "again")["metrics"]
    assert result_of(folder)["metrics"] == pytest.approx(want, rel=1e-5)


def spoil(folder, fault: str) -> None:
    if fault == "no run":
        shutil.rmtree(folder)
    if fault == "no checkpoint":
        shutil.rmtree(folder / "checkpoints")
    if fault == "damaged":
        (folder / "config.json").write_text("{")


@pytest.mark.parametrize(
    "fault, keys, message",
    [
        ("no run", {}, "holds no run; train there .* --checkpoint=DIR"),
        ("no checkpoint", {}, "has no checkpoint yet"),
        ("damaged", {}, "config.json' is damaged"),
        ("", {"model.name": "swin_v2_tiny"}, "name was swin_v2_nano, now swin_v2_tiny"),
        ("", {"eval.protocol": "kiti"}, "eval.protocol must be one of"),
        ("", {"eval.protocol": "nyu"}, "is for data.name nyu"),
        ("", {"eval.test_mode": "flp"}, "did you mean flip?"),
        ("", {"eval.crop": "nyu"}, "eval.crop=nyu of .* defined for"),
        ("", {"eval.protocol": "kitti_eigen_bts", "data.kb_crop": True}, "at least"),
        ("", {"data.split": "eigen"}, "frames of data.split=eigen"),
    ],
)
def test_mistakes(run, fault, keys, message):
    folder, config = run
    spoil(folder, fault)
    config.update_from_flattened_dict(keys)
    with pytest.raises(InputError, match=message):
        evaluate_weights(config, folder)


def test_no_folder_is_made_for_nothing(run, tmp_path):
    _, config = run
    with pytest.raises(InputError, match="nowhere"):
        evaluate_weights(config, tmp_path / "results", tmp_path / "nowhere")
    assert not (tmp_path / "results").exists()


def command(config_flags, *more) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "amlr_jax.evaluate", *config_flags, *more],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command(run, trained):
    folder, _ = run
    _, root, cache = trained
    flags = tiny_kitti.flags(root, cache=cache)
    more = "--test_mode=shifted", "--config.eval.windows=2", "--protocol=kitti_eigen"
    done = command(flags, f"--workdir={folder}", *more)
    assert done.returncode == 0, done.stderr
    assert "test mode shifted (2 windows" in " ".join(done.stdout.split())
    assert result_of(folder)["protocol"]["windows"] == 2
    bad = command(flags, f"--workdir={folder}", "--test_mode=shiftd")
    assert bad.returncode == 1 and "Traceback" not in bad.stderr
    assert "did you mean shifted?" in bad.stderr.strip().splitlines()[-1]
