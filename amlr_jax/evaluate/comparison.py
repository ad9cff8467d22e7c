"""Two evaluations of the same frames side by side, with intervals of the difference.

The frames of a test set are resampled in pairs: both evaluations lose and repeat the
same ones, so that what is hard for both cancels (paired bootstrap, Efron & Tibshirani
1993, percentile interval).
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from rich.table import Table

from amlr_jax.evaluate import metric_sets, tables
from amlr_jax.runtime import files, workdir
from amlr_jax.runtime.console import show
from amlr_jax.runtime.errors import InputError, counted, preview

CONFIDENCE = 0.95
RESAMPLES = 10_000


class Difference(NamedTuple):
    """A metric of two evaluations, and the interval of second - first."""

    first: float
    second: float
    low: float
    high: float

    @property
    def differs(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def bootstrap_interval(differences: ArrayLike) -> np.ndarray:
    """The percentile interval of 95 % of the means over resampled rows, seed 0.

    Args:
      differences: [N, M], a row for each image.

    Returns:
      float64 [2, M], the low and the high ends.

    >>> bootstrap_interval([[1.0], [1.0], [1.0]]).ravel().tolist()
    [1.0, 1.0]
    """
    values = np.asarray(differences, np.float64)
    rng = np.random.default_rng(0)
    count = len(values)
    means = [values[rng.integers(count, size=count)].mean(0) for _ in range(RESAMPLES)]
    tails = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    return np.quantile(means, tails, axis=0)


def compare(first: Path, second: Path, folder: Path | None = None) -> dict:
    """The differences by metric, of the metrics that both evaluations have.

    Prints them, and in `folder` writes comparison.json. InputError unless both
    per_image.csv have the same frames and evaluated pixels.
    """
    rows = [_read(path) for path in (first, second)]
    _require_pairs(*rows, folders=(first, second))
    names = [n for n in metric_sets.EVERY if all(n in found[0] for found in rows)]
    used = [[row for row in each if row["pixels"]] for each in rows]
    found = {name: _difference(name, *used) for name in names}
    show(_table(found, first, second, frames=len(used[0])))
    if folder is not None:
        files.make_writable(folder)
        facts = {"first": str(first), "second": str(second), "frames": len(used[0])}
        metrics = {name: one._asdict() for name, one in found.items()}
        value = {**facts, "confidence": CONFIDENCE, "metrics": metrics}
        files.write_json(folder / workdir.COMPARISON, value)
    return found


def _difference(name: str, rows: list[dict], others: list[dict]) -> Difference:
    """Of a metric, over the frames that have it: edges are not annotated in all."""
    pairs = np.array([(a[name], b[name]) for a, b in zip(rows, others, strict=True)])
    one, other = pairs[np.isfinite(pairs).all(1)].T
    low, high = bootstrap_interval((other - one)[:, None]).ravel()
    return Difference(*map(float, (one.mean(), other.mean(), low, high)))


def _read(folder: Path) -> list[dict]:
    """The rows of per_image.csv with numbers."""
    path = folder / workdir.PER_IMAGE
    if not path.is_file():
        raise InputError(
            f"'{folder}' has no {workdir.PER_IMAGE}; evaluate there first, with "
            f"--workdir={folder}"
        )
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return [
            {k: v if k == "key" else float(v or "nan") for k, v in row.items()}
            for row in rows
        ]
    except (ValueError, TypeError) as error:
        raise InputError(f"'{path}' is damaged: {error}; evaluate again") from error


def _require_pairs(
    one: Sequence[dict], other: Sequence[dict], *, folders: tuple[Path, Path]
) -> None:
    pixels = ({row["key"]: row["pixels"] for row in rows} for rows in (one, other))
    first, second = pixels
    alone = sorted(first.keys() ^ second.keys())
    if alone or list(first) != list(second):
        raise InputError(
            "--compare needs evaluations of the same frames; "
            f"{counted(len(alone), 'frame')} of '{folders[0]}' and '{folders[1]}' are "
            f"in one alone: {preview(alone)}"
        )
    changed = [key for key, count in first.items() if second[key] != count]
    if changed or not any(first.values()):
        raise InputError(
            f"--compare needs the same evaluated pixels, and {preview(changed)} have "
            "others; evaluate both by one protocol"
        )


def _table(
    found: dict[str, Difference], first: Path, second: Path, *, frames: int
) -> Table:
    title = f"1: {first}, 2: {second}"
    table = Table("", "1", "2", "2 - 1", "95 % interval", "better", title=title)
    for name, one in found.items():
        gain, rises = one.second - one.first, tables.rises(name)
        better = "-" if not one.differs else "2" if (gain > 0) == rises else "1"
        cells = f"{one.first:.4f}", f"{one.second:.4f}", f"{gain:+.4f}"
        interval = f"{one.low:+.4f} to {one.high:+.4f}"
        table.add_row(tables.HEADINGS[name], *cells, interval, better)
    table.caption = (
        f"{counted(frames, 'frame')}, resampled in pairs {RESAMPLES:,} times; -: the "
        "interval includes 0"
    )
    return table
