"""The figures of a study: mean and spread over the seeds, and what they tell.

Seeds pair the runs: row i and the first row are compared by the differences of runs
with equal seeds, as a Student-t interval of 95 % of their mean.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from amlr_jax.ablation.study import Row, Study
from amlr_jax.evaluate.measure_frames import RESULT
from amlr_jax.evaluate.side_outputs import RESULT as HEADS
from amlr_jax.runtime.errors import InputError

CONFIDENCE = 0.95


class Figures(NamedTuple):
    """One row's results, by metric."""

    seeds: list[int]
    values: dict[str, list[float]]  # of each seed
    mean: dict[str, float]
    spread: dict[str, float]  # sample standard deviation; NaN of one seed
    change: dict[str, float]  # mean difference to the first row
    interval: dict[str, float]  # half of its 95 % interval; NaN of one seed


def figures(study: Study, output: Path, seeds: Sequence[int]) -> list[Figures | None]:
    """The figures of each row, None where no seed has been measured yet."""
    rows = [_values(row, study, output, seeds) for row in study.rows]
    return [_of_row(found, rows[0], study.metrics) if found else None for found in rows]


def _values(row: Row, study: Study, output: Path, seeds) -> dict[int, dict[str, float]]:
    """Metrics of each seed that is done."""
    found = {}
    for seed in seeds:
        folder = folder_of(output, row.run.name, seed)
        path = folder / (RESULT if row.head is None else HEADS)
        if path.is_file():
            metrics = _metrics(path, row)
            found[seed] = {name: metrics[name] for name in study.metrics}
    return found


def folder_of(output: Path, name: str, seed: int) -> Path:
    """The workdir of one run."""
    return output / name / f"seed_{seed}"


def _metrics(path: Path, row: Row) -> dict[str, float]:
    try:
        found = json.loads(path.read_text())
        one = found if row.head is None else found["resolutions"][row.head]
        return one["metrics"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(f"'{path}' has no metrics ({error}); remove it") from error


def _of_row(found: dict, first: dict, names: Sequence[str]) -> Figures:
    seeds = sorted(found)
    values = {name: [found[seed][name] for seed in seeds] for name in names}
    shared = [seed for seed in seeds if seed in first]
    paired = {
        name: np.array([found[s][name] - first[s][name] for s in shared])
        for name in names
    }
    return Figures(
        seeds,
        values,
        {name: float(np.mean(v)) for name, v in values.items()},
        {name: _deviation(v) for name, v in values.items()},
        {n: float(np.mean(d)) if len(d) else np.nan for n, d in paired.items()},
        {name: _half_interval(d) for name, d in paired.items()},
    )


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _half_interval(differences: np.ndarray) -> float:
    count = len(differences)
    if count < 2:
        return float("nan")
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)
    return float(quantile * _deviation(differences) / np.sqrt(count))


def is_beyond_spread(row: Figures, name: str) -> bool:
    """The interval of the difference to the first row does not hold 0."""
    return abs(row.change[name]) > row.interval[name]  # NaN: False
