"""What a run is measured by: test frames on the way, and pictures at its end."""

from functools import partial

import numpy as np

from amlr_jax.data import loader
from amlr_jax.evaluate import pictures, tables
from amlr_jax.evaluate.measure_frames import RESULT, as_json, measure_frames
from amlr_jax.evaluate.protocol import Evaluation, Protocol, measure
from amlr_jax.odometry import at_end
from amlr_jax.report import keep, page
from amlr_jax.runtime import files
from amlr_jax.runtime import mesh as parallel
from amlr_jax.runtime.console import show
from amlr_jax.runtime.distributed import is_first
from amlr_jax.train import record
from amlr_jax.train.run import Run
from amlr_jax.train.state import TrainState


def evaluate(run: Run, state: TrainState, written: record.Record) -> Evaluation | None:
    """Measures the test frames on the way; None if there are none."""
    result = _measure(run, _variables(run, state), step=int(state.step))
    if result is not None:
        written.scalars(int(state.step), result.metrics, prefix="eval/")
    return result


def _variables(run: Run, state: TrainState) -> dict:
    """What the network needs, whole on every device."""
    found = {"params": state.params, "batch_stats": state.batch_stats}
    if run.config.parallel.fsdp == 1:
        return found
    return parallel.gathered(found, run.mesh)


def _measure(run: Run, variables: dict, *, step: int) -> Evaluation | None:
    """Shows what the test frames give and writes it to evaluation.json."""
    if not run.data.test:
        return None
    predict = partial(run.predict, variables)
    result, _ = measure_frames(predict, run.data, run.protocol, config=run.config)
    if is_first():
        values = as_json(result, run.protocol, step=step)
        files.write_json(run.folder / RESULT, values)
    title = f"Test frames after step {step}"
    show(tables.metric_table(result, protocol=run.protocol, title=title))
    return result


def conclude(run: Run, state: TrainState) -> Evaluation | None:
    """The last evaluation and the pictures, once the last checkpoint is safe."""
    variables, step = _variables(run, state), int(state.step)
    result = _measure(run, variables, step=step)
    metrics = run.folder / record.METRICS
    if is_first() and metrics.is_file():  # not of checkpoints that were put here
        pictures.curves(metrics, run.folder / "curves.png")
    _draw(run, variables, step=step)
    at_end.of_run(run.config, variables, run.folder)
    if is_first():
        page.write([run.folder], run.folder / page.REPORT)
    names = RESULT, record.METRICS, "curves.png", "panel.png", page.REPORT
    there = [name for name in names if (run.folder / name).is_file()]
    show(f"Results in {run.folder}: {', '.join(there)}")
    return result


def _draw(run: Run, variables: dict, *, step: int) -> None:
    """panel.png, and what the report shows; all processes predict, the first writes."""
    count = min(run.config.eval.pictures, len(run.data.test))
    if not count:
        return
    chosen = np.linspace(0, len(run.data.test) - 1, count).round().astype(int)
    frames = [
        loader.test_frame(run.data, int(i), kb_crop=run.protocol.crops_frames)
        for i in chosen
    ]
    depths = [run.predict(variables, frame["image"][None])[0] for frame in frames]
    if is_first():
        shown = list(map(partial(_as_measured, run.protocol), frames, depths))
        limit = run.protocol.max_depth
        pictures.panel(frames, shown, run.folder / "panel.png", max_depth=limit)
        keep.save_frames(run.folder, frames, depths, protocol=run.protocol, step=step)


def _as_measured(protocol: Protocol, frame: dict, depth: np.ndarray) -> np.ndarray:
    """In metres, where the protocol scales a prediction by the median."""
    if not protocol.median_scaling:
        return depth
    one = measure(depth[None], frame["depth"][None], protocol=protocol)
    scaled = depth * np.asarray(one["ratio"])
    return np.clip(scaled, protocol.min_depth, protocol.max_depth)
