"""Evaluates a run during and after training, or a set of weights."""

import csv
import json
from collections.abc import Callable
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
    metric_sets,
    pictures,
    protocols,
    published,
    side_outputs,
    tables,
)
from amlr_jax.evaluate.measure import (
    Evaluation,
    evaluate_test_set,
    fitted_to_set,
    require_depth,
    with_predictions,
)
from amlr_jax.evaluate.metric_sets import NO_CHOICES, Choices
from amlr_jax.evaluate.predictor import pasted, predictor
from amlr_jax.evaluate.protocols import Protocol
from amlr_jax.metrics import KB_CROP_SHAPE
from amlr_jax.models import depth, pretrained
from amlr_jax.models.depth_network import is_calibrated
from amlr_jax.runtime import compilation, files, workdir
from amlr_jax.runtime import mesh as parallel
from amlr_jax.runtime.console import bar, show
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
        made = protocols.protocol(config, network, data)
        self.protocol = protocols.with_choices(made, choices)
        require_depth(data, self.protocol)
        self._config, self._data, self._folder = config, data, folder
        options = {"at_once": config.eval.at_once, "mode": self.protocol.mode}
        options["batch_size"] = config.eval.batch_size
        self._predictor = predictor(network, mesh, **options)

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
        predict = partial(self._predictor, variables)
        return pasted(predict) if self.protocol.paste_back else predict

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
        self, predict: Callable, facts: dict, *, title: str, writes: bool = True
    ) -> Evaluation:
        """`__call__` for a predictor; `facts` are written with the metrics."""
        data, config = self._data, self._config
        self.protocol = fitted_to_set(predict, data, self.protocol, config=config)
        result = evaluate_test_set(predict, data, self.protocol, config=config)
        if writes and is_first():
            write_json(result, self._folder, protocol=self.protocol, facts=facts)
        tables.show_result(result, protocol=self.protocol, title=title)
        return result

    def facts(self) -> dict:
        """The protocol and its published rows, for `report.keep`."""
        rows, _ = published.rows_beside(self.protocol)
        return {"protocol": self.protocol.recorded(), "published": rows}

    def held_out(self, variables: dict) -> list[dict]:
        """`config.eval.pictures` evenly spaced test frames; see `with_predictions`."""
        frames = len(self._data.test)
        count = min(self._config.eval.pictures, frames)
        indices = np.linspace(0, frames - 1, count).round() if count else ()
        predict = self.predict(variables)
        return with_predictions(indices, predict, self._data, self.protocol)


def write_json(
    result: Evaluation, folder: Path, *, protocol: Protocol, facts: dict
) -> None:
    """Writes evaluation.json."""
    values = as_json(result, protocol, **facts)
    files.write_json(folder / workdir.EVALUATION, values)


def as_json(result: Evaluation, protocol: Protocol, **facts: Any) -> dict:
    """The content of evaluation.json."""
    ratio = {} if result.ratio is None else {"median_ratio": result.ratio}
    bands = {"bands": list(result.bands)} if result.bands else {}
    return {
        **facts,
        "protocol": protocol.recorded(),
        "described": protocol.line(),
        "metrics": result.metrics,
        "constant": result.constant,
        "frames": result.frames,
        "frames_without_depth": result.skipped,
        **ratio,
        **bands,
    }


def write_csv(result: Evaluation, path: Path) -> None:
    """One line per frame: key, metrics, evaluated pixels and, if scaled, the ratio.

    Then scale and shift, if aligned, and what is by distance. Metrics of a frame
    without such a pixel are empty.
    """
    found = result.images[0]
    known = [name for names in metric_sets.SETS.values() for name in names]
    columns = [name for name in known if name in found]
    columns += ["pixels"] + (["ratio"] if result.ratio else [])
    columns += [name for name in ("scale", "shift") if name in found]
    columns += [name for name in found if "@" in name]
    with files.replacing(path) as temporary, temporary.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["key", *columns])
        for row in result.images:
            cells = (row[name] for name in columns)
            lines.writerow([row["key"], *("" if np.isnan(c) else c for c in cells)])


def extremes(result: Evaluation, count: int) -> dict[str, list[dict]]:
    """The `count` worst and `count` best images by abs_rel, fewer if there are fewer.

    Without the standard metrics by the first one. No image is in both; of an odd number
    the middle one counts as worst.
    """
    measured = [row for row in result.images if row["pixels"]]
    name = _ranking(result)
    sign = 1 if tables.HEADINGS[name].endswith("↑") else -1
    ordered = sorted(measured, key=lambda row: sign * row[name])
    half = -(-len(ordered) // 2)
    return {"worst": ordered[:half][:count], "best": ordered[half:][::-1][:count]}


def _ranking(result: Evaluation) -> str:
    """The metric by which images are ordered."""
    return next(name for name in tables.HEADINGS if name in result.images[0])


def write_pictures(
    result: Evaluation,
    path: Path,
    *,
    data: Any,
    predict: Callable[[np.ndarray], np.ndarray],
    protocol: Protocol,
    count: int,
) -> None:
    """A panel of the `count` worst frames and, below, of the `count` best.

    `predict` maps an image [1, H, W, 3] to depth [1, H, W] in metres.
    """
    frames, name = [], _ranking(result)
    for kind, rows in extremes(result, count).items():
        indices = [row["index"] for row in rows]
        found = with_predictions(indices, predict, data, protocol)
        for row, frame in zip(rows, found, strict=True):
            label = f"{kind}, {name} {row[name]:.3f}, {frame['key']}"
            frames.append({**frame, "key": label})
    if frames:
        pictures.panel(frames, path, max_depth=protocol.max_depth)


def evaluate_weights(
    config: ConfigDict,
    folder: Path,
    checkpoint: Path | None = None,
    *,
    resolutions: bool = False,
    choices: Choices = NO_CHOICES,
) -> Evaluation:
    """Evaluates weights in `checkpoint`, or the run in `folder`, on the test frames.

    Writes evaluation.json, per_image.csv and frames.png to `folder`; with `resolutions`
    also resolutions.json, the metrics of each side output. The network is that of the
    weights; for a run in `folder` it must be the config's. Raises InputError for
    invalid input.
    """
    protocols.check(config)
    metric_sets.check(choices)
    if resolutions and choices != NO_CHOICES:
        raise InputError(
            "--resolutions measures the standard metrics; leave out --align, "
            "--metrics and --bands"
        )
    config = config.copy_and_resolve_references()
    config.data.split = protocols.split_of(config)
    if checkpoint is None:
        _require_run(config, folder)
    compilation.use_cache(
        cache_folder(config.data.cache), wanted=config.compilation_cache
    )
    source = checkpoint or folder
    network, variables, _ = pretrained.load_network(source)
    if resolutions:
        side_outputs.heads(network)
    files.make_writable(folder)
    if trains_on_video(config):
        data = view_batches.measured(config)
    else:
        data = sources.load(config.data, bar=bar)
    if not len(data.test):
        raise InputError(f"data.split={data.split} has no test frame to measure")
    mesh = parallel.make_mesh()
    evaluator = Evaluator(config, network, data, mesh, folder, choices)
    # Transferred once, not for every frame.
    variables = jax.device_put(variables, parallel.replicated(mesh))
    predict = evaluator.predict(variables)
    facts: dict = {"weights": str(source), **_step(source)}
    facts["computed_in"] = depth.precision_of(network)._asdict()
    if is_calibrated(network):
        facts["calibration"] = network.calibration
    title = f"Weights of {source}"
    result = evaluator.measure(predict, facts, title=title)
    protocol = evaluator.protocol
    write_csv(result, folder / workdir.PER_IMAGE)
    write_pictures(
        result,
        folder / workdir.FRAMES_PICTURE,
        data=data,
        predict=predict,
        protocol=protocol,
        count=-(-config.eval.pictures // 2),
    )
    names = [workdir.EVALUATION, workdir.PER_IMAGE, workdir.FRAMES_PICTURE]
    if resolutions:
        rows = side_outputs.measure(
            network, variables, data, protocol, finest=result, config=config, mesh=mesh
        )
        values = as_json(result, protocol, **facts)
        files.write_json(
            folder / workdir.SIDE_OUTPUTS, side_outputs.as_json(rows, values)
        )
        show(side_outputs.table(rows, protocol=protocol, title=title))
        names.append(workdir.SIDE_OUTPUTS)
    there = [name for name in names if (folder / name).is_file()]
    show(f"Results in {folder}: {', '.join(there)}")
    return result


def _step(source: Path) -> dict:
    """The step of a run's checkpoint; nothing for converted weights."""
    step = pretrained.good_checkpoint(source)
    return {} if step is None else {"step": int(step.name)}


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
    try:
        changed = files.differences(
            json.loads(path.read_text())["model"], config.model.to_dict()
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"'{path}' is damaged: {error}") from error
    changed = {k: v for k, v in changed.items() if not _same(k, *v)}
    if changed:
        changes = (f"model.{k} was {a}, now {b}" for k, (a, b) in changed.items())
        raise InputError(
            f"workdir '{folder}' holds another network (model: "
            f"{preview(changes, limit=6)}); repeat its config, or give "
            f"--checkpoint={folder} and another --workdir"
        )


def _same(key: str, old: Any, new: Any) -> bool:
    """Whether a key of `config.model` may differ from that of a trained network."""
    chosen = key == "dtype" and AUTO in (old, new)
    return chosen or workdir.is_free(f"model.{key}")
