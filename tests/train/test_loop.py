"""Runs from config to results: learning, resuming, refusing."""

import json
import sys
import threading

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from amlr_jax import pipeline
from amlr_jax.runtime import compilation
from amlr_jax.runtime import mesh as meshes
from amlr_jax.runtime.errors import InputError
from tests import tiny_kitti


def rows(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").open()]


def assert_same_state(got, want):
    """Bit for bit, the random key and the rebalancer's state included."""
    got, want = (jax.tree.map(_bits, state) for state in (got, want))
    jax.tree.map(np.testing.assert_array_equal, got, want)


def saved_state(folder):
    """The newest saved state of a run, as orbax alone reads it."""
    newest = max((folder / "checkpoints").glob("[0-9]*"))
    return ocp.StandardCheckpointer().restore(newest.absolute() / "state")


def _bits(leaf):
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def test_a_run_leaves_its_results(tiny_config, tmp_path, capsys):
    folder = tmp_path / "run"
    tiny_config.eval.every_steps = 3
    pipeline.train(tiny_config, folder)
    assert "Test frames after step 3" in capsys.readouterr().out
    written = rows(folder)
    assert [row["step"] for row in written] == [1, 2, 3, 4, 5, 6]
    assert written[0].keys() == {
        "step", "total", "losses", "weights", "learning_rate", "grad_norm",
        "skipped", "skipped_in_a_row", "skipped_updates",
    }  # fmt: skip
    assert written[0]["losses"].keys() == {"silog", "gradient"}
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert evaluation["protocol"]["crop"] == "none"
    assert evaluation["frames"] == 2
    assert evaluation["metrics"].keys() == evaluation["constant"].keys()
    for name in (
        "curves.png", "panel.png", "report.html", "frames.npz",
        "config.json", "run.json", "parameters.txt",
    ):  # fmt: skip
        assert (folder / name).stat().st_size > 100
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == [
        "00000002", "00000004", "00000006",
    ]  # fmt: skip
    assert list((folder / "tensorboard").iterdir())
    *_, at_step_6, at_end = (json.loads(s) for s in (folder / "speed.jsonl").open())
    assert at_step_6["tflops_per_second"] > 0
    for shares in (at_step_6["goodput"], at_end["goodput"]):
        assert sum(shares.values()) == pytest.approx(1.0)
        assert min(shares.values()) >= 0.0
        assert shares["compiling"] > 0 < shares["steps"]
    assert at_end["goodput"]["evaluating"] > 0


@pytest.mark.slow
def test_learns_what_the_tiny_frames_show(tiny_config, tmp_path):
    """Brightness tells depth: a hundred steps halve the constant predictor's error."""
    tiny_config.steps = 100
    tiny_config.checkpoint.every_steps = 100
    tiny_config.data.brightness_contrast = tiny_config.data.gamma = 0.0
    pipeline.train(tiny_config, tmp_path / "run")
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert evaluation["metrics"]["abs_rel"] < 0.5 * evaluation["constant"]["abs_rel"]


@pytest.mark.slow
def test_resumed_in_the_process_equals_unbroken(tiny_config, tmp_path):
    """With windows of two, cut inside a window: at step 3 of 6."""
    tiny_config.rebalance.every_k_steps = 2
    tiny_config.checkpoint.every_steps = 3
    whole = pipeline.train(tiny_config, tmp_path / "whole")
    pipeline.train(tiny_config, tmp_path / "cut")
    last = tmp_path / "cut" / "checkpoints" / "00000006"
    last.rename(tmp_path / "lost")
    resumed = pipeline.train(tiny_config, tmp_path / "cut")
    assert_same_state(resumed, whole)
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def command(root, cache, workdir, *more) -> list[str]:
    flags = tiny_kitti.flags(root, cache=cache)
    return [
        sys.executable,
        "-m",
        "amlr_jax.main",
        *flags,
        f"--workdir={workdir}",
        *more,
    ]


def test_steps_that_are_not_finite_are_told_and_end_the_run(
    tiny_config, tmp_path, capsys
):
    """The first step is taken, at a learning rate of 1e30; the others cannot be."""
    tiny_config.optimizer.peak = tiny_config.optimizer.start = 1e30
    tiny_config.max_skipped = 3
    with pytest.raises(InputError, match="step 4: .*silog.* not finite on .*/0000"):
        pipeline.train(tiny_config, tmp_path)
    said = capsys.readouterr().out
    assert "Step 2 skipped: " in said
    assert "Step 3 skipped: " in said
    last = rows(tmp_path)[-1]
    assert last["skipped"] == last["skipped_in_a_row"] == 3
    assert len(last["samples"]) == 2


def test_the_step_is_compiled_while_initial_values_are_made(
    tiny_config, tmp_path, monkeypatch
):
    begun, make, compiled = threading.Event(), meshes.made_on_host, compilation.compiled

    def made_on_host(*arguments):
        assert begun.wait(60)
        return make(*arguments)

    def lacks_memory(*arguments, what, remedy):
        begun.set()
        with compilation.explained(f"out of memory: {what}; {remedy}"):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED")

    def compile_here(*arguments, **options):
        begun.set()
        return compiled(*arguments, **options)

    monkeypatch.setattr(meshes, "made_on_host", made_on_host)
    monkeypatch.setattr(compilation, "compiled", lacks_memory)
    with pytest.raises(InputError, match="out of memory: the training step, 2 x 64x96"):
        pipeline.train(tiny_config, tmp_path / "run")
    begun.clear()
    monkeypatch.setattr(compilation, "compiled", compile_here)
    assert int(pipeline.train(tiny_config, tmp_path / "run").step) == 6


@pytest.mark.slow
def test_too_many_parts_of_a_batch_are_refused(tiny_config, tmp_path):
    tiny_config.optimizer.accumulate = 4
    with pytest.raises(InputError, match="optimizer.accumulate = 4.*got 2"):
        pipeline.train(tiny_config, tmp_path / "run")


def test_best_checkpoint_stays(tiny_config, tmp_path):
    """Measured at 2, 4 and 6: the best and the latest are there."""
    tiny_config.eval.every_steps = 2
    tiny_config.checkpoint.keep = tiny_config.checkpoint.best = 1
    pipeline.train(tiny_config, tmp_path)
    folders = sorted((tmp_path / "checkpoints").iterdir())
    records = [json.loads((f / "data" / "metadata").read_text()) for f in folders]
    assert [f.name for f in folders][-1] == "00000006"
    assert len(folders) <= 2
    assert all((f / "metrics.json").is_file() for f in folders)
    assert {r["config"]["batch_size"] for r in records} == {2}


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("data.name", "kiti", "data.name must be one of kitti, nyu, custom, "),
        ("data.split", "eigne", "data.split must be one of .*eigen, .*got .eigne."),
        ("data.crop", (64, 999), "must fit in the image"),
        ("data.kb_crop", True, "kb_crop=False"),
        ("model.name", "swin_v3", "must be one of swin_v2_nano"),
        ("model.dtype", "float8", "must be one of float32, bfloat16"),
        ("model.attention", "flash", "must be one of xla, cudnn"),
        ("model.attention", "cudnn", "attention=cudnn needs an NVIDIA GPU"),
        ("rebalance.rule", "alr", "must be one of amlr, log_amlr"),
        ("rebalance.b1", 1.5, "b1"),
        ("rebalance.shares", {"silog": 1.0}, "must name each loss"),
        ("rebalance.shares", {"silog": 0.0, "gradient": 0.0}, "positive sum"),
        ("losses", {"silgo": {}}, "losses must be one of silog,.*did you mean silog"),
        ("losses", {"silog": {"focus": 1}}, "focus"),
        ("eval.crop", "grag", "garg"),
        ("parallel.fsdp", 3, "parallel.fsdp must divide"),
        ("optimizer.peak_at", 2.0, "peak_at"),
    ],
)
def test_bad_values_are_named_and_nothing_is_left(
    tiny_config, tmp_path, key, value, message
):
    with tiny_config.unlocked():
        tiny_config.update_from_flattened_dict({key: None})
        holder, _, name = key.rpartition(".")
        (tiny_config[holder] if holder else tiny_config)[name] = value
    with pytest.raises(InputError, match=message):
        pipeline.train(tiny_config, tmp_path / "new" / "run")
    assert not (tmp_path / "new").exists()


def test_a_run_whose_data_changed_is_refused(tiny_config, tmp_path):
    tiny_config.steps = 2
    pipeline.train(tiny_config, tmp_path / "run")
    root = tmp_path / "kitti"
    for frame in (4, 5):
        tiny_kitti.image_path(root, "0001", frame).unlink()
        tiny_kitti.depth_path(root, "0001", frame).unlink()
    tiny_config.steps = 4
    before = (tmp_path / "run/config.json").read_text()
    with pytest.raises(InputError, match="1 training frame now in the test .*0003"):
        pipeline.train(tiny_config, tmp_path / "run")
    assert (tmp_path / "run/config.json").read_text() == before


def test_test_frames_without_depth_are_found_before_training(tiny_config, tmp_path):
    tiny_config.eval.max_depth = 0.01
    with pytest.raises(InputError, match="no pixel to evaluate in 2 test frames"):
        pipeline.train(tiny_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
