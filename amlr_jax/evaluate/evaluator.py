"""Evaluates a run during and after training, or a set of weights."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from amlr_jax.checkpoints import disk
from amlr_jax.config import of_record, trains_on_video
from amlr_jax.data import loader, sources
from amlr_jax.data.prepared import cache_folder
from amlr_jax.data.views import batches as view_batches
from amlr_jax.evaluate import (
    confidence,
    measure,
    metric_sets,
    protocols,
    published,
    results,
    side_outputs,
    tables,
)
from amlr_jax.evaluate.measure import Evaluation
from amlr_jax.evaluate.metric_sets import NO_CHOICES, Choices
from amlr_jax.evaluate.predictor import in_frame, predictor
from amlr_jax.metrics import KB_CROP_SHAPE
from amlr_jax.models import depth, pretrained
from amlr_jax.models.depth_network import is_calibrated
from amlr_jax.runtime import compilation, files, workdir
from amlr_jax.runtime import mesh as parallel
from amlr_jax.runtime.console import show
from amlr_jax.runtime.distributed import is_first
from amlr_jax.runtime.errors import InputError, preview
from amlr_jax.runtime.rules import AUTO


class Evaluator:
    """Evaluates a network on the test frames of a config, by the config's protocol.

    Args:
      config: of the run.
      network: `models.depth_network.DepthNetwork`, or a module called like it.
      data: the prepared data set; its test part may be empty.
      mesh: the devices, of all processes.
      folder: workdir, for evaluation.json.
      choices: what is measured beyond the config.

    `variables` are {"params", "batch_stats"}, replicated on every device. All processes
    call the methods; rank 0 writes. Raises InputError for a protocol that is invalid or
    does not fit a test frame, and if no test frame has depth.
    """

    def __init__(
        self,
        config: ConfigDict,
        network: Any,
        data: Any,
        mesh: Mesh,
        folder: Path,
        choices: Choices = NO_CHOICES,
    ) -> None:
        self.protocol = protocols.protocol(config, network, data, choices)
        measure.require_depth(data, self.protocol)
        self._config, self._data, self._folder = config, data, folder
        options = {k: config.eval[k] for k in ("at_once", "batch_size")}
        self._predictor = predictor(network, mesh, mode=self.protocol.mode, **options)

    def __call__(
        self,
        variables: dict,
        step: int,
        *,
        writes: bool = True,
        sets: dict | None = None,
    ) -> Evaluation | None:
        """Prints the table and writes evaluation.json; None without a test frame.

        `sets` are the values of other data sets, written beside those of this one.
        """
        if not len(self._data.test):
            return None
        found = self.predict(variables)
        facts = {"step": step} | ({"sets": sets} if sets else {})
        title = f"Test frames after step {step}"
        return self.measure(found, facts, title=title, writes=writes)

    def predict(self, variables: dict) -> Callable[[np.ndarray], np.ndarray]:
        """Maps images uint8 [B, H, W, 3] to depth float32 [B, H, W] in metres.

        In the protocol's test mode, and in its frame.
        """
        return in_frame(partial(self._predictor, variables), self.protocol)

    def prepare(self, variables: dict) -> None:
        """Compiles for the first test frame; `variables` may be shapes with sharding.

        The others have its size, where frames are cropped for the protocol.
        """
        if not len(self._data.test):
            return
        kb_crop = self.protocol.crops_frames
        size = loader.test_frame(self._data, 0, kb_crop=kb_crop)["image"].shape[:2]
        size = KB_CROP_SHAPE if self.protocol.paste_back else size
        shape = (self._config.eval.batch_size, *size, 3)
        self._predictor.prepare(variables, shape)

    def measure(
        self,
        predict: Callable,
        facts: dict,
        *,
        title: str,
        first: str = "network",
        writes: bool = True,
        inspect: Callable | None = None,
    ) -> Evaluation:
        """`__call__` for a predictor; `facts` are written with the metrics.

        `first` names it in the table. `inspect` is called as that of
        `measure.evaluate`, with the `protocol`, too.
        """
        data, config = self._data, self._config
        self.protocol = measure.fitted_to_set(
            predict, data, self.protocol, config=config
        )
        options: dict = {"config": config}
        if inspect:
            options["inspect"] = partial(inspect, protocol=self.protocol)
        result = measure.evaluate_test_set(predict, data, self.protocol, **options)
        if writes and is_first():
            values = results.as_json(result, self.protocol, **facts)
            files.write_json(self._folder / workdir.EVALUATION, values)
        shown = {"title": title, "first": first}
        tables.show_result(result, protocol=self.protocol, **shown)
        return result

    def facts(self) -> dict:
        """The protocol and its published rows, for `report.keep`."""
        rows, _ = published.rows_beside(self.protocol)
        return {"protocol": self.protocol.recorded(), "published": rows}

    def held_out(self, variables: dict) -> list[dict]:
        """`config.eval.pictures` evenly spaced test frames; see `with_predictions`."""
        predict, indices = self.predict(variables), self._evenly(self._data.test)
        return measure.with_predictions(indices, predict, self._data, self.protocol)

    def without_depth(self, variables: dict, examples: Sequence[dict]) -> list[dict]:
        """As many of these examples, such as training views, as `held_out` returns."""
        chosen = [examples[index] for index in self._evenly(examples)]
        return [
            {
                "image": example["image"],
                "key": example["key"],
                "depth": np.zeros(example["image"].shape[:2], np.float32),
                "prediction": self._predictor(variables, example["image"][None])[0],
            }
            for example in chosen
        ]

    def _evenly(self, examples: Sequence) -> list[int]:
        count = min(self._config.eval.pictures, len(examples))
        return np.linspace(0, len(examples) - 1, count).round().astype(int).tolist()


def evaluate_weights(
    config: ConfigDict,
    folder: Path,
    checkpoint: Path | None = None,
    *,
    resolutions: bool = False,
    with_confidence: bool = False,
    choices: Choices = NO_CHOICES,
) -> Evaluation:
    """Evaluates weights in `checkpoint`, or the run in `folder`, on the test frames.

    Writes evaluation.json, per_image.csv and frames.png to `folder`; with `resolutions`
    also resolutions.json, the metrics of each side output; `with_confidence` adds
    confidence.json and .png (`confidence.measure`). The network is that of the
    weights; for a run in `folder` it must be the config's. Raises InputError for
    invalid input.
    """
    config = _checked(config, choices, resolutions=resolutions)
    if checkpoint is None:
        _require_run(config, folder)
    compilation.use_cache(
        cache_folder(config.data.cache), wanted=config.compilation_cache
    )
    source = checkpoint or folder
    loaded = pretrained.load_network(source)
    network, variables = loaded.network, loaded.variables
    if resolutions:
        side_outputs.heads(network)
    files.make_writable(folder)
    data, mesh = _test_set(config), parallel.make_mesh()
    evaluator = Evaluator(config, network, data, mesh, folder, choices)
    if with_confidence:
        confidence.check(evaluator.protocol)
    # Transferred once, not for every frame.
    variables = jax.device_put(variables, parallel.replicated(mesh))
    predict, facts = evaluator.predict(variables), _facts(source, loaded)
    title, also, inspect = f"Weights of {source}", [], None
    if with_confidence:
        shared = {"protocol": evaluator.protocol, "config": config, "mesh": mesh}
        views = confidence.Views(network, variables, **shared)
        predict, inspect = views.predict, views.inspect
    result = evaluator.measure(predict, facts, title=title, inspect=inspect)
    protocol = evaluator.protocol
    shared = {"data": data, "config": config, "protocol": protocol}
    if resolutions:
        rows = side_outputs.measure(
            network, variables, finest=result, mesh=mesh, **shared
        )
        values = results.as_json(result, protocol, **facts)
        values = side_outputs.as_json(rows, values)
        files.write_json(folder / workdir.SIDE_OUTPUTS, values)
        show(side_outputs.table(rows, protocol=protocol, title=title))
        also = [workdir.SIDE_OUTPUTS]
    if with_confidence:
        found = views.result()
        confidence.write(found, folder, {**facts, "protocol": protocol.recorded()})
        show(found.line())
        also += [workdir.CONFIDENCE, workdir.CONFIDENCE_PICTURE]
    results.write_frames(result, folder, predict=predict, also=also, **shared)
    return result


def _checked(config: ConfigDict, choices: Choices, *, resolutions: bool) -> ConfigDict:
    """A copy of the config with the protocol's split; InputError if it is invalid."""
    protocols.check(config)
    metric_sets.check(choices)
    if resolutions and choices != NO_CHOICES:
        raise InputError(
            "--resolutions measures the standard metrics; leave out --align, "
            "--metrics and --bands"
        )
    config = config.copy_and_resolve_references()
    config.data.split = protocols.split_of(config)
    return config


def _test_set(config: ConfigDict) -> Any:
    """The prepared data set; InputError if it has no test frame."""
    if trains_on_video(config):
        data = view_batches.measured(config)
    else:
        data = sources.load(config.data)
    if not len(data.test):
        raise InputError(f"data.split={data.split} has no test frame to measure")
    return data


def _facts(source: Path, loaded: pretrained.Loaded) -> dict:
    """Weights, precision and calibration; of a run's checkpoint also its step."""
    facts: dict = {"weights": str(source)}
    if loaded.step is not None:
        facts["step"] = loaded.step
    facts["computed_in"] = depth.precision_of(loaded.network)._asdict()
    if is_calibrated(loaded.network):
        facts["calibration"] = loaded.network.calibration
    return facts


def config_of_run(source: Path) -> ConfigDict:
    """The config of the run that weights are of; InputError if they are of none."""
    folder, _ = disk.place_of(source)
    saved = disk.config_of(folder / workdir.CHECKPOINTS)
    found = workdir.config_of(folder, saved=saved)
    if found is None:
        raise InputError(
            f"--config is missing, and '{folder}' is not the workdir of a run; give "
            "--config=FILE, whose test frames are evaluated"
        )
    return of_record(found)


def _require_run(config: ConfigDict, folder: Path) -> None:
    """Raises InputError unless `folder` holds a run of the config's network."""
    path = folder / workdir.CONFIG
    if not path.is_file():
        raise InputError(
            f"workdir '{folder}' holds no run; train there with amlr_jax.main, or name "
            "the weights with --checkpoint=DIR"
        )
    trained = files.read_json(path, "model")["model"]
    changed = files.differences(trained, config.model.to_dict())
    changed = {
        k: both
        for k, both in changed.items()
        if not (workdir.is_free(f"model.{k}") or (k == "dtype" and AUTO in both))
    }
    if changed:
        changes = (files.changed(f"model.{k}", *v) for k, v in changed.items())
        raise InputError(
            f"workdir '{folder}' holds another network (model: "
            f"{preview(changes, limit=6)}); repeat its config, or give "
            f"--checkpoint={folder} and another --workdir"
        )
