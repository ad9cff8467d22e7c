"""From weights and a config to the figures of its test frames: what `evaluate` does."""

import json
from functools import partial
from pathlib import Path

import jax

from amlr_jax.config import check
from amlr_jax.data import sources
from amlr_jax.data.views import batches as view_batches
from amlr_jax.evaluate import frame_report, presets, side_outputs, tables
from amlr_jax.evaluate.measure_frames import RESULT, as_json, measure_frames, of_data
from amlr_jax.evaluate.predictor import frame_predictor
from amlr_jax.evaluate.protocol import Evaluation
from amlr_jax.models import pretrained
from amlr_jax.runtime import files, workdir
from amlr_jax.runtime import mesh as parallel
from amlr_jax.runtime.console import bar, show
from amlr_jax.runtime.errors import InputError, preview


def run(
    config, folder: Path, checkpoint: Path | None = None, *, resolutions: bool = False
) -> Evaluation:
    """Measures the weights in `checkpoint`, or the run in `folder`, on the test frames.

    Leaves evaluation.json, per_image.csv and frames.png in `folder`; with `resolutions`
    also resolutions.json, the figures of each side output. The network is that of the
    weights; of a run in `folder` it must be the config's. InputError for what a user
    can mend.
    """
    check(config)
    config = config.copy_and_resolve_references()
    config.data.split = presets.split_of(config)
    network, variables = _network(config, folder, checkpoint)
    if resolutions:
        side_outputs.heads(network)
    protocol = presets.protocol(config, network)
    files.make_writable(folder)
    if config.objective == "self_supervised":
        data = view_batches.measured(config)
    else:
        data = sources.load(config.data, bar=bar)
    if not len(data.test):
        raise InputError(f"data.split={data.split} has no test frame to measure")
    protocol = of_data(protocol, data)
    mesh = parallel.make_mesh()
    # Once, and not with every frame.
    variables = jax.device_put(variables, parallel.replicated(mesh))
    predict = frame_predictor(network, mesh, protocol, at_once=config.eval.at_once)
    predict = partial(predict, variables)
    result, keys = measure_frames(predict, data, protocol, config=config)
    source = checkpoint or folder
    weights = {"weights": str(source), **_step(source)}
    files.write_json(folder / RESULT, as_json(result, protocol, **weights))
    frame_report.write_csv(result, keys, folder / frame_report.PER_IMAGE)
    frame_report.write_pictures(
        result,
        folder / frame_report.FRAMES,
        data=data,
        predict=predict,
        protocol=protocol,
        count=-(-config.eval.pictures // 2),
    )
    title = f"Weights of {source}"
    show(tables.metric_table(result, protocol=protocol, title=title))
    names = [RESULT, frame_report.PER_IMAGE, frame_report.FRAMES]
    if resolutions:
        rows = side_outputs.measure(
            network, variables, data, protocol, finest=result, config=config, mesh=mesh
        )
        values = side_outputs.rows_json(rows, protocol, **weights)
        files.write_json(folder / side_outputs.RESULT, values)
        show(side_outputs.table(rows, protocol=protocol, title=title))
        names.append(side_outputs.RESULT)
    show(
        f"Results in {folder}: {', '.join(n for n in names if (folder / n).is_file())}"
    )
    return result


def _step(source: Path) -> dict:
    """The step of a run's newest good checkpoint; nothing for converted weights."""
    step = pretrained.newest_good(source)
    return {} if step is None else {"step": int(step.name)}


def _network(config, folder: Path, checkpoint: Path | None) -> tuple:
    """The network and its variables, from `checkpoint` or the run in `folder`."""
    if checkpoint is None:
        _require_run(config, folder)
    network, variables, _ = pretrained.load_network(checkpoint or folder)
    return network, variables


def _require_run(config, folder: Path) -> None:
    """Raises InputError unless `folder` holds a checkpoint of the config's network."""
    if not (folder / workdir.CONFIG).is_file():
        raise InputError(
            f"workdir '{folder}' holds no run; train there with amlr_jax.main, or name "
            "the weights with --checkpoint=DIR"
        )
    try:
        theirs = json.loads((folder / workdir.CONFIG).read_text())["model"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"'{folder / workdir.CONFIG}' is damaged: {error}") from error
    ours = json.loads(json.dumps(config.model.to_dict()))
    differing = sorted(
        key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key)
    )
    if differing:
        changes = (
            f"model.{k} was {theirs.get(k)}, now {ours.get(k)}" for k in differing
        )
        raise InputError(
            f"workdir '{folder}' holds another network (model: "
            f"{preview(changes, limit=6)}); repeat its config, or give "
            f"--checkpoint={folder} and another --workdir"
        )
