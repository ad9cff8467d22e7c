"""The written record of a run: metrics.jsonl, and the same for TensorBoard."""

import json
import math
import os
from pathlib import Path

import jax
from tensorboardX import SummaryWriter

METRICS = "metrics.jsonl"


class Record:
    """Appends one line a step; on resume, forgets what came after the checkpoint."""

    def __init__(self, folder: Path, *, after: int) -> None:
        path = folder / METRICS
        _keep_until(path, step=after)
        self._file = path.open("a")
        self._board = SummaryWriter(
            str(folder / "tensorboard"), purge_step=after + 1, flush_secs=10
        )

    def write(self, row: dict) -> None:
        """One JSON object: step, total, losses, weights, learning_rate, grad_norm."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        self.scalars(row["step"], {k: v for k, v in row.items() if k != "step"})

    def scalars(self, step: int, values: dict, *, prefix: str = "") -> None:
        """Numbers, and dicts of numbers, to TensorBoard."""
        for name, value in values.items():
            if isinstance(value, dict):
                self.scalars(step, value, prefix=f"{prefix}{name}/")
            else:
                self._board.add_scalar(prefix + name, value, step)

    def close(self) -> None:
        """Writes what is left."""
        self._file.close()
        self._board.close()


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
    """Metrics of the step, fetched from the device in one go, as plain numbers."""
    return {"step": step} | jax.tree.map(float, jax.device_get(metrics))


def not_finite(row: dict) -> list[str]:
    """The names of losses and of the total that are NaN or infinite."""
    values = {"total": row["total"], **row["losses"], "grad_norm": row["grad_norm"]}
    return [name for name, value in values.items() if not math.isfinite(value)]
