"""The written record of a run: metrics.jsonl, speed.jsonl, both for TensorBoard too.

metrics.jsonl holds what is learnt: that of a resumed run equals an unbroken one's, line
by line. speed.jsonl holds how it went, by the clock: every start of the run appends.
"""

import json
import math
import os
import time
from pathlib import Path
from typing import TextIO

import jax
import numpy as np
from tensorboardX import SummaryWriter

METRICS = "metrics.jsonl"
SPEED = "speed.jsonl"


class Record:
    """Appends one line a step; on resume, forgets what came after the checkpoint.

    With `writes=False`, as in all processes but the first, it does nothing at all.
    """

    def __init__(self, folder: Path, *, after: int, writes: bool = True) -> None:
        self._writes = writes
        if not writes:
            return
        path = folder / METRICS
        _keep_until(path, step=after)
        _drop_cut_line(folder / SPEED)
        self._file = path.open("a")
        self._speed = (folder / SPEED).open("a")
        self._board = SummaryWriter(
            str(folder / "tensorboard"), purge_step=after + 1, flush_secs=10
        )

    def write(self, row: dict) -> None:
        """One JSON object: step, total, losses, weights, learning_rate, grad_norm."""
        if not self._writes:
            return
        _append(self._file, row)
        self.scalars(row["step"], {k: v for k, v in row.items() if k != "step"})

    def speed(self, step: int, values: dict[str, float]) -> None:
        """How the run goes by now, see `Meter.values`; `time` is that of day, in s."""
        if not self._writes:
            return
        _append(self._speed, {"step": step, "time": time.time()} | values)
        self.scalars(step, values, prefix="run/")

    def scalars(self, step: int, values: dict, *, prefix: str = "") -> None:
        """Numbers that are finite, and dicts of them, to TensorBoard; no lists."""
        if not self._writes:
            return
        for name, value in values.items():
            if isinstance(value, dict):
                self.scalars(step, value, prefix=f"{prefix}{name}/")
            elif not isinstance(value, list) and math.isfinite(value):
                self._board.add_scalar(prefix + name, value, step)

    def close(self) -> None:
        """Writes what is left."""
        if not self._writes:
            return
        self._file.close()
        self._speed.close()
        self._board.close()


def _append(file: TextIO, row: dict) -> None:
    file.write(json.dumps(row) + "\n")
    file.flush()


def _drop_cut_line(path: Path) -> None:
    """A last line without its end is one that a kill cut short."""
    if not path.is_file():
        return
    whole = path.read_bytes().rfind(b"\n") + 1
    if whole < path.stat().st_size:
        os.truncate(path, whole)


def _keep_until(path: Path, *, step: int) -> None:
    """Drops later lines, and a last line that a kill cut short."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError):
            break
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text("".join(kept))
    os.replace(temporary, path)


def as_row(step: int, metrics: dict) -> dict:
    """Metrics of the step, fetched from the device in one go, as plain numbers.

    The samples are named where the step was skipped, as a list; else left out.
    """
    row = {"step": step}
    row |= jax.tree.map(_plain, jax.device_get(metrics))
    if not row.get("skipped_in_a_row"):
        row.pop("samples", None)
    return row


def _plain(value) -> int | float | list:
    return np.asarray(value).tolist()


def not_finite(row: dict) -> list[str]:
    """The names of losses and of the total that are NaN or infinite."""
    values = {"total": row["total"], **row["losses"], "grad_norm": row["grad_norm"]}
    return [name for name, value in values.items() if not math.isfinite(value)]
