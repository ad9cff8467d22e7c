"""A whole run: training, evaluation of the test frames, pictures and the report."""

from pathlib import Path

import cv2
import jax
from ml_collections import ConfigDict

from amlr_jax.config import of_each_set
from amlr_jax.evaluate import pictures, protocols
from amlr_jax.evaluate.evaluator import Evaluator
from amlr_jax.evaluate.results import as_json
from amlr_jax.models import depth
from amlr_jax.odometry import results as odometry
from amlr_jax.report import keep, page
from amlr_jax.runtime import workdir
from amlr_jax.runtime.console import show
from amlr_jax.runtime.distributed import is_first
from amlr_jax.train import loop
from amlr_jax.train.step import TrainState


def train(config: ConfigDict, folder: Path) -> TrainState:
    """`train.loop.train` with evaluation.json, pictures and report.html in `folder`."""
    cv2.setNumThreads(0)  # the threads that load data take the cores
    for one in of_each_set(config).values():
        protocols.check(one)  # before hours of preparing data
    return loop.train(config, folder, make_evaluator=Results)


class Results:
    """The results of a run, as `train.loop.RunEvaluator` describes them."""

    def __init__(self, run: loop.Run) -> None:
        self._run = run
        self._frames: list[dict] = []  # held-out ones, of the last evaluation
        # Each data set by its protocol; the metrics of the first rank the checkpoints.
        self._evaluators = {
            label: Evaluator(
                one,
                run.components.network,
                run.test_sets.sets[label],
                run.mesh,
                run.folder,
            )
            for label, one in of_each_set(run.config).items()
        }
        self._first, *_ = self._evaluators

    def start(self, parameters: int) -> None:
        """Writes run.json."""
        if is_first():
            run = self._run
            keep.save_facts(
                run.folder,
                run.train_sets.sets,
                run.test_sets.sets,
                network=run.config.model.name,
                parameters=parameters,
                computed_in=depth.precision_of(run.components.network)._asdict(),
                devices=f"{run.mesh.size} {jax.devices()[0].device_kind}",
                **self._evaluators[self._first].facts(),
            )

    def prepare(self, variables: dict) -> None:
        """Compiles the evaluation ahead."""
        for evaluator in self._evaluators.values():
            evaluator.prepare(variables)

    def evaluate(self, variables: dict, step: int) -> dict[str, float] | None:
        """Writes evaluation.json and panel.png, and prints the tables.

        Without test frames there are no metrics, and the panel shows training images.
        Of several data sets the metrics are those of the first, and those of the others
        after their label; evaluation.json has the others as `sets`.
        """
        metrics, facts = {}, {}
        for label, evaluator in list(self._evaluators.items())[1:]:
            result = evaluator(variables, step, writes=False)
            assert result, "every supervised set has test frames"
            facts[label] = as_json(result, evaluator.protocol)
            metrics |= {f"{label}/{k}": value for k, value in result.metrics.items()}
        first = self._evaluators[self._first](variables, step, sets=facts or None)
        every = self._evaluators.values()
        self._frames = [frame for one in every for frame in one.held_out(variables)]
        training = self._run.train_sets.sets
        shown = self._frames or [
            frame
            for label, one in self._evaluators.items()
            for frame in one.without_depth(variables, training[label].train)
        ]
        if shown and is_first():
            panel = self._run.folder / workdir.PANEL
            pictures.panel(shown, panel, max_depth=self._farthest)
        return None if first is None else first.metrics | metrics

    @property
    def _farthest(self) -> float:
        """The largest depth of the protocols, in metres."""
        every = self._evaluators.values()
        return max(evaluator.protocol.max_depth for evaluator in every)

    def finish(self, variables: dict, step: int) -> None:
        """Writes curves, frames.npz, the trajectory and report.html.

        The frames are those of the evaluation before, of the same variables.
        """
        folder, far = self._run.folder, self._farthest
        odometry.of_run(self._run.config, variables, folder)
        if not is_first():
            return
        if (folder / workdir.METRICS).is_file():
            pictures.curves(folder / workdir.METRICS, folder / workdir.CURVES)
        if self._frames:
            keep.save_frames(folder, self._frames, max_depth=far, step=step)
        page.write([folder], folder / workdir.REPORT)
        names = (workdir.EVALUATION, workdir.METRICS, workdir.CURVES, workdir.PANEL)
        written = [n for n in (*names, workdir.REPORT) if (folder / n).is_file()]
        show(
            f"Results in {folder}: {', '.join(written)}\nOn other images: python -m "
            f"amlr_jax.predict --checkpoint={folder} --input=IMAGES --output=DIR"
        )
