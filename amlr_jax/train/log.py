"""The log of a run: metrics.jsonl, speed.jsonl, `log.writers` and the progress bar.

metrics.jsonl is reproducible: a resumed run writes the same lines as an uninterrupted
one. speed.jsonl holds times and memory; each start of the run appends to it.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np
from ml_collections import ConfigDict

from amlr_jax.data import images
from amlr_jax.data.sources import Joined
from amlr_jax.runtime import files, workdir
from amlr_jax.runtime.console import Bar, show
from amlr_jax.runtime.errors import InputError, counted, preview
from amlr_jax.runtime.watchdog import Watchdog
from amlr_jax.train.meter import Meter
from amlr_jax.train.writers import Writer, opened


class Record:
    """Appends one line per step; on resume, drops the lines after the checkpoint.

    With `writes=False`, as in all ranks but 0, it does nothing.
    """

    def __init__(
        self,
        folder: Path,
        *,
        after: int,
        writes: bool = True,
        writers: Sequence[str] = (),
        config: dict | None = None,
    ) -> None:
        self._writes, self._folder = writes, folder
        self._writers: list[Writer] = []
        if not writes:
            return
        _keep_until(folder / workdir.METRICS, step=after)
        _keep_until(folder / workdir.SPEED, step=math.inf)
        self._writers = opened(writers, folder, after=after, config=config or {})
        self._file = (folder / workdir.METRICS).open("a")

    def write(self, row: dict) -> None:
        """One JSON object: step, total, losses, weights, learning_rate, grad_norm."""
        if self._writes:
            _append(self._file, row)
        self.scalars(row["step"], {k: v for k, v in row.items() if k != "step"})

    def speed(self, step: int, values: dict) -> None:
        """Writes `Meter.values` to speed.jsonl, with the time, and to the writers."""
        if self._writes:
            with (self._folder / workdir.SPEED).open("a") as file:
                _append(file, {"step": step, "time": time.time()} | values)
        self.scalars(step, values, prefix="run/")

    def scalars(self, step: int, values: dict, *, prefix: str = "") -> None:
        """Gives finite numbers, and dicts of them, to the writers; skips lists."""
        flat = {
            prefix + name.replace(".", "/"): value
            for name, value in files.flatten(values).items()
            if not isinstance(value, list) and math.isfinite(value)
        }
        self._tell("scalars", step, flat)

    def evaluation(self, step: int, metrics: Mapping[str, float] | None) -> None:
        """Gives metrics of the test frames, and their panel, to the writers."""
        if metrics is None:
            return
        self.scalars(step, dict(metrics), prefix="eval/")
        path = self._folder / workdir.PANEL
        if self._writers and path.is_file():
            self._tell("picture", step, "eval/frames", images.read_as_rgb(path))

    def _tell(self, method: str, *values: Any) -> None:
        """Calls the writers; one that fails is reported and not called again."""
        for writer in tuple(self._writers):
            try:
                getattr(writer, method)(*values)
            except Exception as error:  # as of a server that does not answer
                self._writers.remove(writer)
                show(
                    f"[yellow]warning[/yellow] log.writers: {type(writer).__name__} "
                    f"failed, the run goes on without it: {error}"
                )

    def close(self) -> None:
        """Closes the files."""
        if self._writes:
            self._file.close()
        self._tell("close")


class StepLog:
    """Logs the metrics of a step while the device computes the next one."""

    def __init__(
        self,
        config: ConfigDict,
        train_sets: Joined,
        record: Record,
        meter: Meter,
        progress: Bar,
        watchdog: Watchdog,
    ) -> None:
        self._config, self._train_sets, self._record = config, train_sets, record
        self._meter, self._progress, self._watchdog = meter, progress, watchdog
        self._pending: tuple[int, dict] | None = None
        self._row: dict = {}  # the last one logged
        self._updates = self._told = 0  # skipped by the rule; when last shown

    def step(self, step: int, metrics: dict) -> None:
        """Logs the previous step, and keeps the metrics of this one on the device."""
        self.flush()
        self._pending = step, metrics

    def flush(self) -> None:
        """Fetches and logs the metrics of the last step."""
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        row = as_row(step, metrics)
        self._watchdog.beat()
        if step % self._config.log.every_steps == 0 or row["skipped_in_a_row"]:
            self._record.write(row)
        if row["skipped_in_a_row"]:
            self._meter.skip()
            self._report_skipped(row)
        if self._meter.due():
            self._record.speed(step, self._meter.values())
        # Warns when the rule skips its first update, its tenth, its hundredth, ...
        self._row, self._updates = row, row["skipped_updates"]
        if self._updates >= max(10 * self._told, 1):
            self._warn_of_rule()
        note = f"total {row['total']:.4f} {self._meter.note()}"
        if self._updates:
            note += f", {counted(self._updates, 'skipped update')} of the weights"
        self._progress.advance(note=note)

    def _report_skipped(self, row: dict) -> None:
        """Names the losses and the samples; ends the run after `max_skipped`."""
        bad = ", ".join(not_finite(row)) or "a batch statistic"
        names = [self._train_sets.key(i) for i in row.get("samples", ())]
        fault = f"{bad} not finite on {preview(names, limit=8)}"
        count = row["skipped_in_a_row"]
        if count >= self._config.max_skipped:
            raise InputError(
                f"step {row['step']}: {fault}. It is the last of {count} skipped in a "
                "row (max_skipped); the parameters are those of before them. Lower "
                "optimizer.peak, set optimizer.clip_norm, or look at these samples"
            )
        show(f"Step {row['step']} skipped: {fault} ({row['skipped']} so far)")

    def _warn_of_rule(self) -> None:
        rebalance, row = self._config.rebalance, self._row
        free = {k: x for k, x in row["losses"].items() if k not in rebalance.held}
        low = [f"{name} is {x:.3g}" for name, x in free.items() if not x > 0]
        why = f" ({', '.join(low)})" if low else ""
        show(
            f"[yellow]warning[/yellow] step {row['step']}: {rebalance.rule} has left "
            f"out a loss in {counted(self._updates, 'update')} of the loss weights"
            f"{why}. A loss keeps its weight while it, or its gradient, is 0 or not "
            "finite. Remove that loss, or give it a constant weight by rebalance.held"
        )
        self._told = self._updates

    def close(self) -> None:
        """Logs the last step; warns of what the rule skipped since the last warning."""
        self.flush()
        if self._updates > self._told:
            self._warn_of_rule()


def _append(file: TextIO, row: dict) -> None:
    file.write(json.dumps(row) + "\n")
    file.flush()


def _keep_until(path: Path, *, step: float) -> None:
    """Drops later lines, and an incomplete last line, left by a killed process."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError):
            break
    files.write_text(path, "".join(kept))


def as_row(step: int, metrics: dict) -> dict:
    """Metrics of a step, fetched from the device at once, as plain numbers.

    `samples` stays only where the step was skipped.
    """
    values = jax.tree.map(lambda x: np.asarray(x).tolist(), jax.device_get(metrics))
    if not values.get("skipped_in_a_row"):
        values.pop("samples", None)
    return {"step": step, **values}


def not_finite(row: dict) -> list[str]:
    """The names of losses, total and gradient norm that are NaN or infinite."""
    values = {"total": row["total"], **row["losses"], "grad_norm": row["grad_norm"]}
    return [name for name, value in values.items() if not math.isfinite(value)]
