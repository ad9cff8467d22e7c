"""Evaluates predictions that are files: no network, no checkpoint, any origin."""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from amlr_jax.config import DRIVES, base
from amlr_jax.data import custom, sources
from amlr_jax.data.frames import Layout
from amlr_jax.data.views.batches import with_depth
from amlr_jax.evaluate import metric_sets, protocols, results
from amlr_jax.evaluate.evaluator import Evaluator
from amlr_jax.evaluate.measure import Evaluation, evaluated
from amlr_jax.evaluate.metric_sets import NO_CHOICES, Choices
from amlr_jax.evaluate.prediction_files import PredictionFiles, depth_folder
from amlr_jax.evaluate.protocols import Protocol
from amlr_jax.metrics.alignment import DISPARITY, SHIFTED
from amlr_jax.runtime import files
from amlr_jax.runtime import mesh as parallel
from amlr_jax.runtime.console import show
from amlr_jax.runtime.errors import InputError, counted


def default_config() -> ConfigDict:
    """The config of `evaluate_predictions` where the user gives none."""
    config = base()
    config.data.name, config.data.kb_crop = "custom", False
    return config


def evaluate_predictions(
    config: ConfigDict,
    predictions: Path,
    ground_truth: Path | None = None,
    *,
    folder: Path | None = None,
    scale: float = 0.0,
    resize: bool = False,
    choices: Choices = NO_CHOICES,
) -> Evaluation:
    """Evaluates files on a folder of ground truth, or on the test frames of a config.

    Prints the table and, in `folder`, writes evaluation.json, per_image.csv and
    frames.png. `scale` and `resize` are those of `PredictionFiles`. Raises InputError
    for invalid input.
    """
    protocols.check(config)
    metric_sets.check(choices)
    config = config.copy_and_resolve_references()
    config.eval.test_mode = "none"  # that of the predictions is not known
    layout = _layout(config, ground_truth)
    data = PredictionFiles(
        predictions,
        layout,
        scale=scale,
        resize=resize,
        mark="disparity" if choices.align == DISPARITY else "depth",
        kb_crop=config.data.kb_crop and config.data.name in DRIVES,
    )
    for note in (*layout.notes, *data.notes):
        show(note)
    if folder is not None:
        files.make_writable(folder)
    mesh = parallel.make_mesh()
    evaluator = Evaluator(config, None, data, mesh, folder or Path(), choices)
    result = evaluator.measure(
        _as_it_is,
        {"predictions": str(predictions)},
        title=f"Predictions of {predictions}",
        first="predictions",
        writes=folder is not None,
        inspect=_require_everywhere,
    )
    for old, new in sorted(data.resized):
        show("Predictions of {} x {} were resized to {} x {}".format(*old, *new))
    if folder is not None:
        shown: dict = {"data": data, "predict": _as_it_is, "picture": data.picture}
        shown["protocol"] = evaluator.protocol
        results.write_frames(result, folder, config=config, **shown)
    return result


def _layout(config: ConfigDict, ground_truth: Path | None) -> Layout:
    data = config.data
    if data.mix:
        raise InputError(
            f"--predictions are of one data set, and data.mix has {len(data.mix)}; "
            "choose one: --config.data.mix='()' --config.data.name=NAME and its keys"
        )
    if ground_truth is None:
        if data.name == sources.NYU_TFDS or data.resize:
            raise InputError(
                "--predictions are measured on the files of a data set as they are; "
                f"got data.name={data.name}, data.resize={data.resize}"
            )
        data.split = protocols.split_of(config)
        return sources.read_layout(with_depth(config), test_only=True)
    if data.name != "custom":
        raise InputError(
            f"--ground_truth is for data.name=custom, got {data.name}; leave it out to "
            "measure the test frames of the config"
        )
    return depth_folder(ground_truth, **{name: data[name] for name in custom.UNITS})


def _as_it_is(prediction: np.ndarray) -> np.ndarray:
    """Takes the place of a network whose images are the predictions."""
    return prediction


def _require_everywhere(
    prediction: np.ndarray, batch: dict, *, protocol: Protocol
) -> None:
    """InputError if an evaluated pixel has no prediction."""
    good = np.isfinite(prediction)
    if protocol.choices.align not in SHIFTED:
        good &= prediction > 0
    where = np.asarray(evaluated(batch["depth"], protocol=protocol))
    for key, holes, wanted in zip(batch["key"], where & ~good, where, strict=True):
        if holes.any():
            raise InputError(
                f"the prediction of frame {key} is 0, negative or not finite at "
                f"{holes.sum():,} of {counted(int(wanted.sum()), 'evaluated pixel')}; "
                "fill these, or take them out of the ground truth"
            )
