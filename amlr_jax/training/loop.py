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

from amlr_jax import metrics, parallel
from amlr_jax.config import check
from amlr_jax.console import bar, show
from amlr_jax.data import loader, sources
from amlr_jax.data.augment import Augmentation
from amlr_jax.data.prepared import Prepared
from amlr_jax.errors import InputError
from amlr_jax.evaluation import pictures, tables
from amlr_jax.evaluation.predict import predictor
from amlr_jax.evaluation.protocol import Protocol, evaluate
from amlr_jax.training import build, record, workdir
from amlr_jax.training.checkpoint import Checkpoints
from amlr_jax.training.state import TrainState
from amlr_jax.training.step import compile_step


class Run(NamedTuple):
    """What stays the same from the first step to the last."""

    config: object
    folder: Path
    data: Prepared
    made: build.Pieces
    mesh: Mesh
    checkpoints: Checkpoints
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
        mesh = parallel.make_mesh(fsdp=config.parallel.fsdp)
        parallel.share_of_batch(mesh, config.batch_size)
        data = sources.load(config.data, bar=bar)
        _check_first_examples(config, data)
        workdir.write_json(folder / workdir.CONFIG, plain)
    folder_of_checkpoints = folder / workdir.CHECKPOINTS
    checkpoints = Checkpoints(folder_of_checkpoints, keep=config.checkpoint.keep)
    with closing(checkpoints):
        predict = predictor(made.network, mesh)
        run = Run(config, folder, data, made, mesh, checkpoints, predict)
        state, consumed = _restored_or_new(run)
        _introduce(run, state)
        state = _advance(run, state, consumed)
        _conclude(run, state)
    return state


def _check_first_examples(config, data: Prepared) -> None:
    """Crops that do not fit are an error now, and not hours later."""
    with closing(_batches(config, data, start=0, batch_size=1)) as batches:
        next(batches)
    frame = loader.test_frame(data, 0, kb_crop=config.data.kb_crop)
    try:
        metrics.evaluation_mask(*frame["depth"].shape, crop=config.eval.crop)
    except ValueError as error:
        raise InputError(f"eval.crop: {error}") from error


def _batches(config, data, *, start: int, batch_size: int) -> Iterator:
    options = config.data
    return loader.training_batches(
        data,
        Augmentation(
            crop=tuple(options.crop),
            flip=options.flip,
            brightness_contrast=options.brightness_contrast,
            gamma=options.gamma,
            hue_saturation=options.hue_saturation,
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
        return jax.jit(initial, out_shardings=whole)(), 0
    show(f"Resuming from step {step} of {run.config.steps}")
    return run.checkpoints.restore(jax.eval_shape(initial), whole, step=step)


def _introduce(run: Run, state: TrainState) -> None:
    data, config = run.data, run.config
    overview = parameter_overview.get_parameter_overview(state.params)
    (run.folder / "parameters.txt").write_text(overview + "\n")
    count = parameter_overview.count_parameters(state.params)
    devices = f"{run.mesh.size} {jax.devices()[0].device_kind}"
    show(
        f"{data.name} {data.split}: {len(data.train)} training and {len(data.test)} "
        f"test frames, {data.valid_share:.1%} of pixels with depth, median "
        f"{data.median_depth:.2f} m (prepared in {data.folder})\n"
        f"{config.model.name}: {count:,} parameters on {devices}; losses "
        f"{', '.join(config.losses)}; loss weights by {config.rebalance.rule}\n"
        f"Workdir {run.folder}"
    )


def _advance(run: Run, state: TrainState, consumed: int) -> TrainState:
    """Steps from the state's own to `config.steps`, on the batches that follow."""
    config, start = run.config, int(state.step)
    step_function = compile_step(run.mesh, **_step_pieces(run.made))
    share = parallel.share_of_batch(run.mesh, config.batch_size)
    written = record.Record(run.folder, after=start)
    batches = _batches(config, run.data, start=consumed, batch_size=share)
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
    config, data = run.config, run.data
    protocol = Protocol(
        dataset=data.name,
        split=data.split,
        crop=config.eval.crop,
        min_depth=config.eval.min_depth,
        max_depth=config.eval.max_depth,
        kb_crop=config.data.kb_crop,
        median_depth=data.median_depth,
    )
    with bar("Evaluating", len(data.test)) as report:
        result = evaluate(
            partial(run.predict, _variables(state)),
            _test_batches(run),
            protocol=protocol,
            advance=report.advance,
        )
    step = int(state.step)
    workdir.write_json(
        run.folder / "evaluation.json",
        {
            "step": step,
            "protocol": protocol._asdict(),
            "metrics": result.metrics,
            "constant": result.constant,
            "frames": result.frames,
            "frames_without_depth": result.skipped,
        },
    )
    if written is not None:
        written.scalars(step, result.metrics, prefix="eval/")
    title = f"Test frames after step {step}"
    show(tables.metric_table(result, protocol=protocol, title=title))


def _variables(state: TrainState) -> dict:
    return {"params": state.params, "batch_stats": state.batch_stats}


def _test_batches(run: Run) -> Iterator[dict[str, np.ndarray]]:
    return loader.evaluation_batches(
        run.data,
        batch_size=run.config.eval.batch_size,
        kb_crop=run.config.data.kb_crop,
        threads=run.config.data.threads,
    )


def _conclude(run: Run, state: TrainState) -> None:
    """The last evaluation and the pictures, once the last checkpoint is safe."""
    run.checkpoints.wait()
    _evaluate(run, state)
    pictures.curves(run.folder / record.METRICS, run.folder / "curves.png")
    count = min(run.config.eval.pictures, len(run.data.test))
    if count:
        chosen = np.linspace(0, len(run.data.test) - 1, count).round().astype(int)
        frames = [
            loader.test_frame(run.data, int(i), kb_crop=run.config.data.kb_crop)
            for i in chosen
        ]
        depths = [run.predict(_variables(state), f["image"][None])[0] for f in frames]
        output, limit = run.folder / "panel.png", run.config.eval.max_depth
        pictures.panel(frames, depths, output, max_depth=limit)
    show(
        f"Results in {run.folder}: evaluation.json, metrics.jsonl, "
        "curves.png, panel.png"
    )
