"""A run from config to results: data, state, steps, checkpoints, evaluation."""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from clu import parameter_overview
from jax.sharding import Mesh

from amlr_jax import parallel
from amlr_jax.config import check
from amlr_jax.console import bar, show
from amlr_jax.data import loader, sources
from amlr_jax.data.augment import Augmentation
from amlr_jax.data.cutdepth import CutDepth
from amlr_jax.data.prepared import Prepared
from amlr_jax.data.views import PreparedViews
from amlr_jax.errors import InputError
from amlr_jax.evaluation import pictures, presets, published, tables
from amlr_jax.evaluation.measure_frames import RESULT, as_json, measure_frames, of_data
from amlr_jax.evaluation.predict import frame_predictor
from amlr_jax.evaluation.protocol import Protocol, measure
from amlr_jax.evaluation.report import keep, page
from amlr_jax.training import build, fitting, record, view_batches, workdir
from amlr_jax.training.checkpoint import Checkpoints
from amlr_jax.training.pretrained import Pretrained
from amlr_jax.training.state import TrainState
from amlr_jax.training.step import compile_step


class Run(NamedTuple):
    """What stays the same from the first step to the last."""

    config: object
    folder: Path
    data: Prepared
    seen: Prepared | PreparedViews  # what training batches are made of
    made: build.Pieces
    weights: Pretrained | None  # to start from, unless there is a checkpoint
    mesh: Mesh
    checkpoints: Checkpoints
    protocol: Protocol
    predict: Callable


def train(config, folder: Path) -> TrainState:
    """Trains to `config.steps`, from the newest checkpoint in `folder` if there is one.

    Leaves metrics.jsonl, evaluation.json, curves.png, panel.png, config.json and
    checkpoints there, and returns the last state. InputError for what a user can mend.
    """
    check(config)
    plain = config.to_dict()
    with workdir.claim(folder, plain):
        made = build.pieces(config)
        protocol = presets.protocol(config, made.network)
        weights = fitting.starting_weights(config.init_from, made.network, folder)
        mesh = parallel.make_mesh(fsdp=config.parallel.fsdp)
        parallel.share_of_batch(mesh, config.batch_size)
        data = sources.load(view_batches.with_depth(config), bar=bar)
        seen = view_batches.load(config) or data
        _check_first_crop(config, seen)
        protocol = of_data(protocol, data)
        workdir.write_json(folder / workdir.CONFIG, plain)
    folder_of_checkpoints = folder / workdir.CHECKPOINTS
    checkpoints = Checkpoints(folder_of_checkpoints, keep=config.checkpoint.keep)
    with closing(checkpoints):
        run = Run(
            config,
            folder,
            data,
            seen,
            made,
            weights,
            mesh,
            checkpoints,
            protocol,
            frame_predictor(made.network, mesh, protocol, at_once=config.eval.at_once),
        )
        state, consumed = _restored_or_new(run)
        _introduce(run, state)
        state = _advance(run, state, consumed)
        _conclude(run, state)
    return state


def _check_first_crop(config, seen: Prepared | PreparedViews) -> None:
    """A crop that does not fit is an error now, and not hours later."""
    with closing(_batches(config, seen, start=0, batch_size=1)) as batches:
        next(batches)


def _batches(config, data, *, start: int, batch_size: int) -> Iterator:
    options = config.data
    if isinstance(data, PreparedViews):
        return view_batches.batches(config, data, start=start, batch_size=batch_size)
    return loader.training_batches(
        data,
        Augmentation(
            crop=tuple(options.crop),
            flip=options.flip,
            brightness_contrast=options.brightness_contrast,
            gamma=options.gamma,
            hue_saturation=options.hue_saturation,
            cut_depth=CutDepth(
                options.cut_depth,
                options.cut_depth_form,
                max_depth=config.model.max_depth,
                code_per_metre=data.depth_scale,
            ),
        ),
        batch_size=batch_size,
        seed=config.seed,
        kb_crop=options.kb_crop,
        start=start,
        process=(jax.process_index(), jax.process_count()),
        workers=options.workers,
        threads=options.threads,
    )


def _restored_or_new(run: Run) -> tuple[TrainState, int]:
    """The newest checkpoint's state, or the first, and the batches it has consumed."""
    initial = partial(build.initial_state, run.config, run.made)
    whole = parallel.replicated(run.mesh)
    step = run.checkpoints.latest()
    if step is None:
        state = jax.jit(initial, out_shardings=whole)()
        return fitting.start_from(state, run.weights, sharding=whole), 0
    show(f"Resuming from step {step} of {run.config.steps}")
    return run.checkpoints.restore(jax.eval_shape(initial), whole, step=step)


def _introduce(run: Run, state: TrainState) -> None:
    data, config = run.data, run.config
    overview = parameter_overview.get_parameter_overview(state.params)
    (run.folder / "parameters.txt").write_text(overview + "\n")
    count = parameter_overview.count_parameters(state.params)
    devices = f"{run.mesh.size} {jax.devices()[0].device_kind}"
    keep.save_facts(
        run.folder,
        data,
        network=config.model.name,
        parameters=count,
        devices=devices,
        protocol=run.protocol._asdict(),
        published=published.rows_beside(run.protocol)[0],
    )
    show(
        f"{data.name} {data.split}: {len(run.seen.train)} training and "
        f"{len(data.test)} test frames, {data.valid_share:.1%} of pixels with depth, "
        f"median {data.median_depth:.2f} m (prepared in {data.folder})\n"
        f"{config.model.name}: {count:,} parameters on {devices}; losses "
        f"{', '.join(build.loss_names(config))}; "
        f"loss weights by {config.rebalance.rule}\n"
        f"Workdir {run.folder}"
    )


def _advance(run: Run, state: TrainState, consumed: int) -> TrainState:
    """Steps from the state's own to `config.steps`, on the batches that follow."""
    config, start = run.config, int(state.step)
    step_function = compile_step(run.mesh, **_step_pieces(run.made))
    share = parallel.share_of_batch(run.mesh, config.batch_size)
    written = record.Record(run.folder, after=start)
    batches = _batches(config, run.seen, start=consumed, batch_size=share)
    with (
        closing(written),
        closing(batches),
        bar("Training", config.steps, done=start) as report,
    ):
        waiting = None
        for step in range(start + 1, config.steps + 1):
            batch = parallel.put_local(next(batches), run.mesh)
            state, measured = step_function(state, batch)
            # The device works on this step while the last one's figures are written.
            _write(written, waiting, report, every=config.log.every_steps)
            waiting = (step, measured)
            if _due(step, config.checkpoint.every_steps, config.steps):
                _write(written, waiting, report, every=config.log.every_steps)
                waiting = None
                run.checkpoints.save(state, step=step)
            if _due(step, config.eval.every_steps, None) and step < config.steps:
                _evaluate(run, state, written)
    return state


def _step_pieces(made: build.Pieces) -> dict:
    return {name: value for name, value in made._asdict().items() if name != "network"}


def _due(step: int, every: int, last: int | None) -> bool:
    return step == last or (every > 0 and step % every == 0)


def _write(written: record.Record, waiting, report, *, every: int) -> None:
    """Fetches and writes one step's metrics; stops the run if they are not finite."""
    if waiting is None:
        return
    step, measured = waiting
    row = record.as_row(step, measured)
    bad = record.not_finite(row)
    if bad:
        raise InputError(
            f"{', '.join(bad)} not finite at step {step}; the newest checkpoint is "
            "from before. Lower optimizer.peak, or set optimizer.clip_norm"
        )
    if step % every == 0:
        written.write(row)
    report.advance(note=f"total {row['total']:.4f}")


def _evaluate(run: Run, state: TrainState, written: record.Record | None = None):
    """Measures the test frames and writes evaluation.json."""
    predict = partial(run.predict, _variables(state))
    result, _ = measure_frames(predict, run.data, run.protocol, config=run.config)
    step = int(state.step)
    values = as_json(result, run.protocol, step=step)
    workdir.write_json(run.folder / RESULT, values)
    if written is not None:
        written.scalars(step, result.metrics, prefix="eval/")
    title = f"Test frames after step {step}"
    show(tables.metric_table(result, protocol=run.protocol, title=title))


def _variables(state: TrainState) -> dict:
    return {"params": state.params, "batch_stats": state.batch_stats}


def _as_measured(protocol: Protocol, frame: dict, depth: np.ndarray) -> np.ndarray:
    """In metres, where the protocol scales a prediction by the median."""
    if not protocol.median_scaling:
        return depth
    one = measure(depth[None], frame["depth"][None], protocol=protocol)
    scaled = depth * np.asarray(one["ratio"])
    return np.clip(scaled, protocol.min_depth, protocol.max_depth)


def _conclude(run: Run, state: TrainState) -> None:
    """The last evaluation and the pictures, once the last checkpoint is safe."""
    run.checkpoints.wait()
    _evaluate(run, state)
    pictures.curves(run.folder / record.METRICS, run.folder / "curves.png")
    count = min(run.config.eval.pictures, len(run.data.test))
    if count:
        chosen = np.linspace(0, len(run.data.test) - 1, count).round().astype(int)
        frames = [
            loader.test_frame(run.data, int(i), kb_crop=run.protocol.crops_frames)
            for i in chosen
        ]
        depths = [run.predict(_variables(state), f["image"][None])[0] for f in frames]
        output, limit = run.folder / "panel.png", run.protocol.max_depth
        shown = map(partial(_as_measured, run.protocol), frames, depths)
        pictures.panel(frames, list(shown), output, max_depth=limit)
        keep.save_frames(
            run.folder, frames, depths, protocol=run.protocol, step=int(state.step)
        )
    page.write([run.folder], run.folder / page.REPORT)
    show(
        f"Results in {run.folder}: evaluation.json, metrics.jsonl, "
        f"curves.png, panel.png, {page.REPORT}"
    )
