"""What a run is measured by: test frames on the way, and pictures at its end."""

from amlr_jax.evaluate import pictures
from amlr_jax.evaluate.evaluator import Evaluator
from amlr_jax.evaluate.protocol import Evaluation
from amlr_jax.odometry import at_end
from amlr_jax.report import keep, page
from amlr_jax.runtime import mesh as parallel
from amlr_jax.runtime import workdir
from amlr_jax.runtime.console import show
from amlr_jax.runtime.distributed import is_first
from amlr_jax.train import record
from amlr_jax.train.run import Run
from amlr_jax.train.state import TrainState


def evaluate(run: Run, state: TrainState, written: record.Record) -> Evaluation | None:
    """Measures the test frames on the way; None if there are none."""
    step = int(state.step)
    result = _evaluator(run)(_variables(run, state), step)
    if result is not None:
        written.scalars(step, result.metrics, prefix="eval/")
    return result


def _evaluator(run: Run) -> Evaluator:
    return Evaluator(run.config, run.made.network, run.data, run.mesh, run.folder)


def _variables(run: Run, state: TrainState) -> dict:
    """What the network needs, whole on every device."""
    found = {"params": state.params, "batch_stats": state.batch_stats}
    if run.config.parallel.fsdp == 1:
        return found
    return parallel.gathered(found, run.mesh)


def conclude(run: Run, state: TrainState) -> Evaluation | None:
    """The last evaluation and the pictures, once the last checkpoint is safe."""
    evaluator = _evaluator(run)
    variables, step = _variables(run, state), int(state.step)
    result = evaluator(variables, step)
    frames = evaluator.held_out(variables)
    at_end.of_run(run.config, variables, run.folder)
    if is_first():
        draw(run.folder, frames, max_depth=evaluator.protocol.max_depth, step=step)
    names = (
        workdir.EVALUATION,
        workdir.METRICS,
        workdir.CURVES,
        workdir.PANEL,
        workdir.REPORT,
    )
    there = [name for name in names if (run.folder / name).is_file()]
    show(f"Results in {run.folder}: {', '.join(there)}")
    return result


def draw(folder, frames: list[dict], *, max_depth: float, step: int) -> None:
    """curves.png, panel.png, frames.npz and report.html; the first process calls it."""
    metrics = folder / workdir.METRICS
    if metrics.is_file():  # not of checkpoints that were put here
        pictures.curves(metrics, folder / workdir.CURVES)
    if frames:
        pictures.panel(frames, folder / workdir.PANEL, max_depth=max_depth)
        keep.save_frames(folder, frames, max_depth=max_depth, step=step)
    page.write([folder], folder / workdir.REPORT)
