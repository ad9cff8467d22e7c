"""Statistics of a study: mean and spread over the seeds, and paired differences.

Seeds pair the runs: each row is compared with the first one by the differences of runs
with equal seeds, as a Student-t interval of 95 % of their mean.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from amlr_jax.ablation.study import Study, StudyRow, folder_of
from amlr_jax.evaluate.comparison import CONFIDENCE
from amlr_jax.runtime import workdir
from amlr_jax.runtime.errors import InputError


class Statistics(NamedTuple):
    """The results of one row, by metric."""

    seeds: list[int]
    values: dict[str, list[float]]  # of each seed
    mean: dict[str, float]
    spread: dict[str, float]  # sample standard deviation; NaN for one seed
    change: dict[str, float]  # mean difference to the first row
    interval: dict[str, float]  # half of its 95 % interval; NaN for one seed

    def differs(self, name: str) -> bool:
        """Whether the interval of the difference to the first row excludes 0."""
        return abs(self.change[name]) > self.interval[name]  # NaN: False


def statistics(
    study: Study, output: Path, seeds: Sequence[int]
) -> list[Statistics | None]:
    """The statistics of each row, None where no seed has been measured yet."""
    rows = [_read(row, study, output, seeds) for row in study.rows]
    return [_of_row(found, rows[0], study.metrics) if found else None for found in rows]


def _read(row: StudyRow, study: Study, output: Path, seeds) -> dict[int, dict]:
    """The metrics of each finished seed."""
    found = {}
    for seed in seeds:
        name = workdir.EVALUATION if row.head is None else workdir.SIDE_OUTPUTS
        path = folder_of(output, row.run.name, seed) / name
        if path.is_file():
            metrics = _metrics(path, row)
            found[seed] = {name: metrics[name] for name in study.metrics}
    return found


def _metrics(path: Path, row: StudyRow) -> dict[str, float]:
    try:
        found = json.loads(path.read_text())
        one = found if row.head is None else found["resolutions"][row.head]
        return one["metrics"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(f"'{path}' has no metrics ({error}); remove it") from error


def _of_row(found: dict, first: dict, names: Sequence[str]) -> Statistics:
    seeds = sorted(found)
    shared = [seed for seed in seeds if seed in first]
    values = {name: [found[seed][name] for seed in seeds] for name in names}
    paired = {n: np.array([found[s][n] - first[s][n] for s in shared]) for n in names}
    return Statistics(
        seeds,
        values,
        {name: float(np.mean(v)) for name, v in values.items()},
        {name: _deviation(v) for name, v in values.items()},
        {n: float(np.mean(d)) if len(d) else np.nan for n, d in paired.items()},
        {name: _half_interval(d) for name, d in paired.items()},
    )


def _deviation(values: Sequence[float] | np.ndarray) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _half_interval(differences: np.ndarray) -> float:
    count = len(differences)
    if count < 2:
        return float("nan")
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)
    return float(quantile * _deviation(differences) / np.sqrt(count))
