"""Where the numbers and pictures of a run are logged besides metrics.jsonl.

A writer is made in rank 0 by `opened`; its package is imported there and nowhere else.
wandb and MLflow keep what they log in the workdir. They send it only where the
environment says so: WANDB_MODE=online, MLFLOW_TRACKING_URI=URL.
"""

import contextlib
import importlib.util
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from amlr_jax.runtime import files, workdir
from amlr_jax.runtime.errors import InputError

PROJECT = "amlr_jax"  # of wandb; the experiment of MLflow


class Writer(Protocol):
    """A place for the log of a run."""

    id: str  # by which the run is found again when it goes on; "" if it needs none

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Logs finite numbers by name."""

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Logs an image, uint8 [H, W, 3]."""

    def close(self) -> None:
        """Ends after all is written."""


class TensorBoard:
    """Event files in the workdir; those after the checkpoint are hidden on resume."""

    id = ""

    def __init__(self, folder: Path, *, after: int, **options: Any) -> None:
        from tensorboardX import SummaryWriter

        del options
        self._board = SummaryWriter(
            str(folder / workdir.TENSORBOARD), purge_step=after + 1, flush_secs=10
        )

    def scalars(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        self._board.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        self._board.close()


class Wandb:
    """A run of wandb in `wandb/` of the workdir; `wandb sync` sends it."""

    def __init__(self, folder: Path, *, config: dict, id: str, **options: Any) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # of wandb to itself
        import wandb

        del options
        self._image = wandb.Image
        self._run = wandb.init(
            project=PROJECT,
            name=folder.name,
            dir=str(folder),
            config=config,
            id=id or None,
            resume="allow",
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=wandb.Settings(console="off", silent=True),
        )
        self.id = self._run.id

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        self._run.log({name: self._image(image)}, step=step)

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """A run of MLflow in `mlruns/` of the workdir, or where the environment says."""

    def __init__(self, folder: Path, *, config: dict, id: str, **options: Any) -> None:
        # MLflow 3 asks for this before it writes files without a data base.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow

        del options
        self._entities = mlflow.entities
        place = (folder.absolute() / "mlruns").as_uri()
        uri = os.environ.get("MLFLOW_TRACKING_URI", place)
        self._client = mlflow.MlflowClient(tracking_uri=uri)
        self.id = id or self._created(folder.name, config)

    def _created(self, name: str, config: dict) -> str:
        found = self._client.get_experiment_by_name(PROJECT)
        experiment = (
            found.experiment_id if found else self._client.create_experiment(PROJECT)
        )
        run = self._client.create_run(experiment, run_name=name).info.run_id
        flat = files.flatten(config).items()
        parameters = [self._entities.Param(key, str(value)) for key, value in flat]
        for start in range(0, len(parameters), 100):  # the most that it takes at once
            self._client.log_batch(run, params=parameters[start : start + 100])
        return run

    def scalars(self, step: int, values: dict[str, float]) -> None:
        now = int(1000 * time.time())
        found = [self._entities.Metric(k, v, now, step) for k, v in values.items()]
        self._client.log_batch(self.id, metrics=found)

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        self._client.log_image(self.id, image, key=name, step=step)

    def close(self) -> None:
        self._client.set_terminated(self.id)


# Each with its package, which the extra of its name installs, TensorBoard's "train".
WRITERS: dict[str, tuple[Callable[..., Writer], str]] = {
    "tensorboard": (TensorBoard, "tensorboardX"),
    "wandb": (Wandb, "wandb"),
    "mlflow": (MLflow, "mlflow"),
}


def check_installed(names: Sequence[str]) -> None:
    """Raises InputError, with the extra to install, for a package that is not there."""
    for name in names:
        _, package = WRITERS[name]
        if importlib.util.find_spec(package) is None:
            extra = "train" if name == "tensorboard" else name
            raise InputError(
                f"log.writers={name} needs the package {package}, which is not "
                f"installed; pip install 'amlr_jax[{extra}]', or leave {name} out"
            )


def opened(
    names: Sequence[str], folder: Path, *, after: int, config: dict
) -> list[Writer]:
    """The writers of a run that goes on after step `after`.

    Raises InputError, in one line, for a writer that cannot start.
    """
    path, made = folder / workdir.WRITERS, []
    ids: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError):
        ids = dict(json.loads(path.read_text()))
    for name in names:
        options = {"after": after, "config": config, "id": ids.get(name, "")}
        try:
            made.append(WRITERS[name][0](folder, **options))
        except Exception as error:  # whatever a package of others raises
            line = " ".join(str(error).split())
            raise InputError(f"log.writers={name} cannot start: {line}") from error
        ids[name] = made[-1].id
    found = {name: one for name, one in ids.items() if one}
    if found:
        files.write_json(path, found)
    return made
