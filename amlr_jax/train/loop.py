"""A run from config to results: data, state, steps, checkpoints, evaluation."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import jax

from amlr_jax.checkpoints.manager import Checkpoints
from amlr_jax.runtime import mesh as parallel
from amlr_jax.runtime import workdir
from amlr_jax.runtime.console import Bar, bar, mute, show
from amlr_jax.runtime.distributed import is_first
from amlr_jax.runtime.errors import InputError, preview
from amlr_jax.runtime.signals import Interrupt
from amlr_jax.runtime.watchdog import Watchdog, ending_in_time
from amlr_jax.train import record, results
from amlr_jax.train.meter import Meter, step_flops
from amlr_jax.train.profiling import Profile
from amlr_jax.train.run import Run, batches, introduce, prepare, restored_or_new
from amlr_jax.train.state import TrainState
from amlr_jax.train.step import compile_step


def train(config, folder: Path) -> TrainState:
    """Trains to `config.steps`, from the newest checkpoint in `folder` if there is one.

    Leaves metrics.jsonl, speed.jsonl, evaluation.json, curves.png, panel.png,
    report.html, config.json and checkpoints there, and returns the last state. Asked to
    stop by a signal, it saves and raises `Interrupted`. InputError for what a user can
    mend. In several processes all call it, and the first one writes.
    """
    if not is_first():
        mute()
    run = prepare(config, folder)
    checkpoints = Checkpoints(
        folder / workdir.CHECKPOINTS,
        **{k: v for k, v in config.checkpoint.items() if k != "every_steps"},
        config=config.to_dict(),
    )
    with closing(checkpoints), ending_in_time(active=jax.process_count() > 1):
        state, consumed = restored_or_new(run, checkpoints)
        introduce(run, state)
        state = _advance(run, state, consumed, checkpoints)
        checkpoints.wait()
        result = results.conclude(run, state)
        _keep_if_best(run, checkpoints, state, result)
    return state


class _Tools(NamedTuple):
    """What the steps of a run use, closed in the end."""

    checkpoints: Checkpoints
    written: record.Record
    profile: Profile
    report: Bar
    interrupt: Interrupt
    watchdog: Watchdog


def _advance(
    run: Run, state: TrainState, consumed: int, checkpoints: Checkpoints
) -> TrainState:
    """Steps from the state's own to `config.steps`, on the batches that follow."""
    config, start = run.config, int(state.step)
    if start >= config.steps:
        return state
    first, several = is_first(), jax.process_count() > 1
    with ExitStack() as stack:
        written = record.Record(run.folder, after=start, writes=first)
        profile = Profile(run.folder, config.log.profile, writes=first)
        found = batches(run, start=consumed)
        for one in (written, profile, found):
            stack.enter_context(closing(one))
        tools = _Tools(
            checkpoints,
            written,
            profile,
            stack.enter_context(bar("Training", config.steps, done=start)),
            stack.enter_context(Interrupt()),
            stack.enter_context(
                Watchdog(patience=config.parallel.patience, active=several)
            ),
        )
        return _steps(run, state, found, tools)


def _steps(run: Run, state: TrainState, found: Iterator, tools: _Tools) -> TrainState:
    config, waiting = run.config, None
    batch = parallel.put_local(next(found), run.mesh)
    with tools.watchdog.paused():
        step_function, meter = _compiled(run, state, batch)
    for step in range(int(state.step) + 1, config.steps + 1):
        tools.profile.before(step)
        state, measured = step_function(state, batch)
        tools.profile.after(step, measured)
        # The device works on this step while the last one's figures are written and
        # the next batch is fetched.
        _write(run, tools, waiting, meter)
        waiting = (step, measured)
        stops, is_last = tools.interrupt.requested(step), step == config.steps
        if stops or is_last or _due(step, config.checkpoint.every_steps):
            _write(run, tools, waiting, meter)
            waiting = None
            _save(state, tools, meter, step=step, stops=stops)
        if _due(step, config.eval.every_steps) and not is_last:
            with meter.paused(), tools.watchdog.paused():
                result = results.evaluate(run, state, tools.written)
                _keep_if_best(run, tools.checkpoints, state, result)
        if not is_last:
            with meter.waiting():
                batch = parallel.put_local(next(found), run.mesh)
        meter.step()
    tools.written.speed(config.steps, meter.values())
    return state


def _save(
    state: TrainState, tools: _Tools, meter: Meter, *, step: int, stops: bool
) -> None:
    """Starts saving; of a run that is asked to stop waits for it, and ends it."""
    with meter.paused(), tools.watchdog.paused():
        tools.checkpoints.save(state, step=step)
        if stops:
            tools.written.speed(step, meter.values())
            tools.checkpoints.wait()
            tools.interrupt.stop(step)


def _compiled(run: Run, state: TrainState, batch: dict) -> tuple[Any, Meter]:
    """The step for these shapes, and what measures its speed."""
    parts = run.config.optimizer.accumulate
    pieces = {k: v for k, v in run.made._asdict().items() if k != "network"}
    step_function = compile_step(
        run.mesh, state_sharding=run.sharding, accumulate=parts, **pieces
    )
    compiled = step_function.lower(state, batch).compile()
    meter = Meter(
        batch_size=run.config.batch_size,
        flops=step_flops(compiled, repeats=parts),
        dtype=run.config.model.dtype,
    )
    return compiled, meter


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _keep_if_best(run: Run, checkpoints: Checkpoints, state, result) -> None:
    """Saves what was measured, to be chosen from, if the best are to be kept."""
    if run.config.checkpoint.best and result is not None:
        checkpoints.save(state, step=int(state.step), metrics=result.metrics)


def _write(run: Run, tools: _Tools, waiting, meter: Meter) -> None:
    """Fetches and writes one step's metrics."""
    if waiting is None:
        return
    step, measured = waiting
    row = record.as_row(step, measured)
    tools.watchdog.beat()
    if step % run.config.log.every_steps == 0 or row["skipped_in_a_row"]:
        tools.written.write(row)
    if row["skipped_in_a_row"]:
        meter.skip()
        _tell_skipped(run, row)
    if meter.due():
        tools.written.speed(step, meter.values())
    tools.report.advance(note=f"total {row['total']:.4f} {meter.note()}")


def _tell_skipped(run: Run, row: dict) -> None:
    """Names what was not finite and on which samples; ends the run after too many."""
    bad = ", ".join(record.not_finite(row)) or "a batch statistic"
    names = [run.seen.train[i]["key"].decode() for i in row.get("samples", ())]
    said = f"{bad} not finite on {preview(names, limit=8)}"
    count = row["skipped_in_a_row"]
    if count >= run.config.max_skipped:
        raise InputError(
            f"step {row['step']}: {said}. It is the last of {count} skipped in a row "
            "(max_skipped); the parameters are those of before them. Lower "
            "optimizer.peak, set optimizer.clip_norm, or look at these samples"
        )
    show(f"Step {row['step']} skipped: {said} ({row['skipped']} so far)")
