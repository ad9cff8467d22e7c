"""A whole run: training, evaluation of the test frames, pictures and the report."""

from pathlib import Path

import jax
from ml_collections import ConfigDict

from amlr_jax.evaluate import pictures, protocols
from amlr_jax.evaluate.evaluator import Evaluator
from amlr_jax.models import depth
from amlr_jax.odometry import at_end
from amlr_jax.report import keep, page
from amlr_jax.runtime import workdir
from amlr_jax.runtime.console import show
from amlr_jax.runtime.distributed import is_first
from amlr_jax.train import loop
from amlr_jax.train.step import TrainState


def train(config: ConfigDict, folder: Path) -> TrainState:
    """`train.loop.train` with evaluation.json, pictures and report.html in `folder`."""
    protocols.check(config)  # before hours of preparing data
    return loop.train(config, folder, make_evaluator=Results)


class Results:
    """The results of a run, as `train.loop.RunEvaluator` describes them."""

    def __init__(self, run: loop.Run) -> None:
        self._run = run
        self._frames: list[dict] = []  # held-out ones, of the last evaluation
        self._evaluator = Evaluator(
            run.config, run.components.network, run.test_set, run.mesh, run.folder
        )

    def start(self, parameters: int) -> None:
        """Writes run.json."""
        if is_first():
            run = self._run
            keep.save_facts(
                run.folder,
                run.test_set,
                trained_on=len(run.train_set.train),
                network=run.config.model.name,
                parameters=parameters,
                computed_in=depth.precision_of(run.components.network)._asdict(),
                devices=f"{run.mesh.size} {jax.devices()[0].device_kind}",
                **self._evaluator.facts(),
            )

    def prepare(self, variables: dict) -> None:
        """Compiles the evaluation ahead."""
        self._evaluator.prepare(variables)

    def evaluate(self, variables: dict, step: int) -> dict[str, float] | None:
        """Writes evaluation.json and panel.png, and prints the table.

        None without test frames.
        """
        result = self._evaluator(variables, step)
        self._frames = self._evaluator.held_out(variables)
        if self._frames and is_first():
            far = self._evaluator.protocol.max_depth
            panel = self._run.folder / workdir.PANEL
            pictures.panel(self._frames, panel, max_depth=far)
        return None if result is None else result.metrics

    def finish(self, variables: dict, step: int) -> None:
        """Writes curves, frames.npz, the trajectory and report.html.

        The frames are those of the evaluation before, of the same variables.
        """
        folder, far = self._run.folder, self._evaluator.protocol.max_depth
        at_end.of_run(self._run.config, variables, folder)
        if not is_first():
            return
        if (folder / workdir.METRICS).is_file():
            pictures.curves(folder / workdir.METRICS, folder / workdir.CURVES)
        if self._frames:
            keep.save_frames(folder, self._frames, max_depth=far, step=step)
        page.write([folder], folder / workdir.REPORT)
        names = (workdir.EVALUATION, workdir.METRICS, workdir.CURVES, workdir.PANEL)
        written = [n for n in (*names, workdir.REPORT) if (folder / n).is_file()]
        show(f"Results in {folder}: {', '.join(written)}")
