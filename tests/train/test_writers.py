"""The log in other places: TensorBoard's files, and stand-ins for wandb and MLflow."""

import json
import struct
import sys
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from amlr_jax import pipeline
from amlr_jax.runtime.errors import InputError
from amlr_jax.runtime.workdir import PANEL
from amlr_jax.train import writers
from amlr_jax.train.log import Record

CONFIG = {"seed": 3, "optimizer": {"peak": 1e-3}, "data": {"crop": (64, 96)}}
PICTURE = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)


def logged(folder, names, *, after=0) -> None:
    """Two steps and an evaluation with a picture."""
    Image.fromarray(PICTURE).save(folder / PANEL)
    record = Record(folder, after=after, writers=names, config=CONFIG)
    for step in (after + 1, after + 2):
        losses = {"silog": 0.5 / step, "gradient": float("nan")}
        record.write({"step": step, "total": 1.0 / step, "losses": losses})
    record.evaluation(after + 2, {"abs_rel": 0.25})
    record.close()


def events(folder) -> list[Event]:
    """All events of TensorBoard's files: records of length, CRC, data and CRC."""
    found = []
    for path in sorted((folder / "tensorboard").iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            found.append(Event.FromString(data[at + 12 : at + 12 + length]))
            at += length + 16
    return found


def test_tensorboard_read_back(tmp_path):
    logged(tmp_path, ["tensorboard"])
    values = [(e.step, v) for e in events(tmp_path) for v in e.summary.value]
    numbers = {(step, v.tag): v.simple_value for step, v in values if not v.image.width}
    assert numbers == {
        (1, "total"): 1.0, (1, "losses/silog"): 0.5,
        (2, "total"): 0.5, (2, "losses/silog"): 0.25, (2, "eval/abs_rel"): 0.25,
    }  # fmt: skip
    ((step, picture),) = [(step, v) for step, v in values if v.image.width]
    assert (step, picture.tag) == (2, "eval/frames")
    assert (picture.image.width, picture.image.height) == (12, 8)


def modules() -> dict:
    """Stand-ins for wandb and MLflow with what is used of them."""
    wandb = mock.MagicMock()
    wandb.init.return_value.id = "abc"
    mlflow = mock.MagicMock()
    mlflow.entities.Metric = mlflow.entities.Param = lambda *values: values
    client = mlflow.MlflowClient.return_value
    client.create_run.return_value = SimpleNamespace(info=SimpleNamespace(run_id="r1"))
    client.get_experiment_by_name.return_value = None
    return {"wandb": wandb, "mlflow": mlflow}


def test_wandb_is_offline_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with mock.patch.dict(sys.modules, modules()) as found:
        logged(tmp_path, ["wandb"])
        wandb = found["wandb"]
        logged(tmp_path, ["wandb"], after=2)
    first, again = (call.kwargs for call in wandb.init.call_args_list)
    assert first["mode"] == "offline" and first["config"] == CONFIG
    assert (first["id"], again["id"]) == (None, "abc")
    assert first["dir"] == str(tmp_path)
    run = wandb.init.return_value
    assert run.log.call_args_list[0].args == ({"total": 1.0, "losses/silog": 0.5},)
    assert [call.kwargs["step"] for call in run.log.call_args_list] == [
        1, 2, 2, 2, 3, 4, 4, 4,
    ]  # fmt: skip
    np.testing.assert_array_equal(wandb.Image.call_args.args[0], PICTURE)
    assert run.finish.call_count == 2


def test_mlflow_writes_to_the_workdir_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with mock.patch.dict(sys.modules, modules()) as found:
        logged(tmp_path, ["mlflow"])
        logged(tmp_path, ["mlflow"], after=2)
        client = found["mlflow"].MlflowClient.return_value
        uri = found["mlflow"].MlflowClient.call_args.kwargs["tracking_uri"]
    assert uri == (tmp_path / "mlruns").as_uri()
    assert client.create_run.call_count == 1
    assert json.loads((tmp_path / "writers.json").read_text()) == {"mlflow": "r1"}
    parameters, one, *_ = (call.kwargs for call in client.log_batch.call_args_list)
    assert ("data.crop", "(64, 96)") in parameters["params"]
    named = [(name, value, step) for name, value, _, step in one["metrics"]]
    assert named == [("total", 1.0, 1), ("losses/silog", 0.5, 1)]
    assert client.log_image.call_args.kwargs == {"key": "eval/frames", "step": 4}


def test_a_writer_that_fails_does_not_end_the_run(tmp_path, capsys):
    found = modules()
    found["wandb"].init.return_value.log.side_effect = OSError("no answer")
    with mock.patch.dict(sys.modules, found):
        logged(tmp_path, ["wandb", "tensorboard"])
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("Wandb failed, the run goes on without it: no answer") == 1
    assert any(e.step == 2 for e in events(tmp_path))


def test_a_writer_that_cannot_start_is_one_line(tmp_path):
    found = modules()
    found["wandb"].init.side_effect = RuntimeError("no key\nlog in")
    with (
        mock.patch.dict(sys.modules, found),
        pytest.raises(InputError, match="wandb cannot start: no key log in"),
    ):
        logged(tmp_path, ["wandb"])


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_package_that_is_missing(name, tiny_config, tmp_path):
    """Before anything is made."""
    tiny_config.log.writers = (name,)
    with (
        mock.patch.object(writers.importlib.util, "find_spec", lambda name: None),
        pytest.raises(InputError, match=rf"pip install 'amlr_jax\[{name}\]'"),
    ):
        pipeline.train(tiny_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_nothing_is_imported_unasked(tmp_path):
    logged(tmp_path, [])
    assert not (tmp_path / "tensorboard").exists()
    assert not {"wandb", "mlflow"} & sys.modules.keys()
