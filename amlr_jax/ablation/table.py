"""A study's statistics and its table, as Markdown, which is shown, JSON and a picture.

Seeds pair the runs: each row is compared with the first one by the differences of runs
with equal seeds, as a Student-t interval of 95 % of their mean.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from rich.markdown import Markdown
from scipy import stats

from amlr_jax.ablation.study import Study, StudyRow, folder_of
from amlr_jax.evaluate.comparison import CONFIDENCE
from amlr_jax.evaluate.tables import HEADINGS, rises
from amlr_jax.runtime import files, workdir
from amlr_jax.runtime.console import show
from amlr_jax.runtime.errors import InputError

CAPTION = (
    "mean ± standard deviation over seeds; bold: best mean. Last column: mean "
    "difference to row 1 of equal seeds ± half of its 95 % interval, * if without 0"
)


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


Rows = Sequence[Statistics | None]


def write(study: Study, output: Path, seeds: Sequence[int]) -> None:
    """Writes table.md, table.json and table.png to `output`; prints the table."""
    rows = statistics(study, output, seeds)
    text = markdown(study, rows)
    files.write_text(output / "table.md", text)
    files.write_json(output / "table.json", as_json(study, rows))
    write_picture(study, rows, output / "table.png")
    show(Markdown(text), f"Results in {output}: table.md, table.json, table.png")


def headings(study: Study) -> list[str]:
    """Factors, seeds, metrics, and the change of the first metric."""
    names = [HEADINGS[name] for name in study.metrics]
    return [*study.factors, "seeds", *names, f"{names[0].split(' ↓')[0]} - row 1"]


def cells(study: Study, rows: Rows) -> list[list[str]]:
    """The lines of the table: of each row what is measured and what is published."""
    best = _best(study, rows)
    lines = []
    for place, (row, found) in enumerate(zip(study.rows, rows, strict=True)):
        line = _measured(study, row.label, found, best)
        lines.append(line if place else [*line[:-1], ""])
        if row.published:
            values = [row.published.get(name) for name in study.metrics]
            shown = ["-" if value is None else f"{value:.3f}" for value in values]
            lines.append([*row.label, "paper", *shown, ""])
    return lines


def _best(study: Study, rows: Rows) -> dict[str, float]:
    means = [found.mean for found in rows if found]
    pick = {name: max if rises(name) else min for name in study.metrics}
    return {n: pick[n](m[n] for m in means) for n in study.metrics} if means else {}


def _measured(study: Study, label, found: Statistics | None, best: dict) -> list[str]:
    if found is None:
        return [*label, "0", *["-"] * len(study.metrics), ""]
    shown = []
    for name in study.metrics:
        text = _with_spread(found.mean[name], found.spread[name])
        shown.append(f"**{text}**" if found.mean[name] == best[name] else text)
    first, change = study.metrics[0], ""
    if not np.isnan(found.interval[first]):
        change = _with_spread(found.change[first], found.interval[first], sign="+")
        change += " *" * found.differs(first)
    return [*label, str(len(found.seeds)), *shown, change]


def _with_spread(value: float, spread: float, *, sign: str = "") -> str:
    return f"{value:{sign}.3f}" + ("" if np.isnan(spread) else f" ± {spread:.3f}")


def markdown(study: Study, rows: Rows) -> str:
    """The table as Markdown."""
    head = headings(study)
    aligned = [":--" if i < len(study.factors) else "--:" for i in range(len(head))]
    lines = [head, aligned, *cells(study, rows)]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    note = f"\n\n{study.note}" if study.note else ""
    return f"# {study.title}\n\n{body}\n\n{CAPTION}.{note}\n"


def as_json(study: Study, rows: Rows) -> dict:
    """Everything that the table is made of."""
    return {
        "title": study.title,
        "rows": [
            {
                "label": list(row.label),
                "run": row.run._asdict(),
                "head": row.head,
                "published": dict(row.published),
                "measured": found._asdict() if found else None,
            }
            for row, found in zip(study.rows, rows, strict=True)
        ],
    }


def write_picture(study: Study, rows: Rows, path: Path) -> None:
    """Draws a dot for each seed and a bar for the mean, of up to four metrics."""
    names = study.metrics[:4]
    figure = Figure(figsize=(14, 1.2 + 0.35 * len(rows)), layout="constrained")
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        for place, found in enumerate(rows):
            if found:
                values = found.values[name]
                axis.plot(values, [place] * len(values), "o", color="tab:blue", ms=4)
                axis.plot([found.mean[name]], [place], "|", color="black", ms=14, mew=2)
        axis.set_title(HEADINGS[name])
        axis.grid(alpha=0.3)
    axes[0].set_yticks(range(len(rows)), [" ".join(r.label) for r in study.rows])
    axes[0].invert_yaxis()
    figure.suptitle(study.title)
    with files.replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
