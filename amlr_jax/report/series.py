"""The curves of metrics.jsonl as charts of thinned series."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from amlr_jax.report.gather import Run, is_number

BINS = 400
DIGITS = 6  # significant, in the page


class Thinned(NamedTuple):
    """Points to draw, NaN where a line breaks, and the means to smooth."""

    steps: np.ndarray
    values: np.ndarray
    mean_steps: np.ndarray
    means: np.ndarray


def charts(runs: Sequence[Run]) -> list[dict]:
    """One chart a quantity: `title` and `series` of all runs, those that have any.

    `exact` are those that a rule sets and no batch makes noisy: they are not smoothed.
    """
    losses = _names(runs, "losses")
    weights = _names(runs, "weights")
    made = [
        _chart(runs, "Losses, unweighted", {n: _inner("losses", n) for n in losses}),
        _chart(runs, "Losses, weighted", {n: _weighted(n) for n in losses}),
        _chart(runs, "Loss weights", {n: _inner("weights", n) for n in weights}),
        _chart(runs, "Total loss", {"total": _outer("total")}),
        _chart(runs, "Learning rate", {"learning rate": _outer("learning_rate")}),
        _chart(runs, "Gradient norm", {"gradient norm": _outer("grad_norm")}),
    ]
    for chart in made:
        chart["exact"] = chart["title"] in ("Loss weights", "Learning rate")
    return [chart for chart in made if chart["series"]]


def _names(runs: Sequence[Run], group: str) -> list[str]:
    found = {}
    for run in runs:
        for row in run.rows:
            if isinstance(row.get(group), dict):
                found |= dict.fromkeys(row[group])
    return list(found)


def _outer(name: str) -> Callable[[dict], Any]:
    return lambda row: row.get(name)


def _inner(group: str, name: str) -> Callable[[dict], Any]:
    return lambda row: (row.get(group) or {}).get(name)


def _weighted(name: str) -> Callable[[dict], Any]:
    loss, weight = _inner("losses", name), _inner("weights", name)

    def product(row: dict):
        pair = loss(row), weight(row)
        return pair[0] * pair[1] if all(map(_is_float, pair)) else None

    return product


def _is_float(value: Any) -> bool:
    return type(value) in (int, float)


def _chart(runs: Sequence[Run], title: str, sources: dict[str, Callable]) -> dict:
    series = []
    for number, run in enumerate(runs):
        for dash, (name, source) in enumerate(sources.items()):
            pairs = [(row["step"], source(row)) for row in run.rows]
            pairs = [(step, value) for step, value in pairs if _is_float(value)]
            if pairs:
                series.append({"name": name, "run": number, "kind": dash, **_of(pairs)})
    return {"title": title, "series": series}


def _of(pairs: list[tuple]) -> dict:
    steps, values = (
        np.array(column, np.float64) for column in zip(*pairs, strict=True)
    )
    thinned = thin(steps, values)
    entry = {"x": _plain(thinned.steps), "y": _plain(thinned.values)}
    entry["bad"] = int((~np.isfinite(values)).sum())
    if len(thinned.mean_steps):
        entry["mx"], entry["my"] = _plain(thinned.mean_steps), _plain(thinned.means)
    return entry


def thin(steps: np.ndarray, values: np.ndarray, *, bins: int = BINS) -> Thinned:
    """At most four points of each of `bins` equal runs of points, in their order.

    They are the least and the greatest finite value, so that no spike is lost, and the
    first and the last point; where a bin has a value that is not finite, a NaN breaks
    the line. Few points stay as they are, without means.
    """
    values = np.where(np.isfinite(values), values, np.nan)
    nothing = np.empty(0)
    if len(values) <= 4 * bins:
        return Thinned(steps, values, nothing, nothing)
    kept, centres, means = [], [], []
    for part in np.array_split(np.arange(len(values)), bins):
        finite = part[np.isfinite(values[part])]
        broken = part[~np.isfinite(values[part])]
        chosen = {*broken[:1]}
        if len(finite):
            chosen |= {finite[0], finite[-1]}
            chosen |= {finite[values[finite].argmin()], finite[values[finite].argmax()]}
            centres.append(steps[finite].mean())
            means.append(values[finite].mean())
        kept += sorted(chosen)
    return Thinned(steps[kept], values[kept], np.array(centres), np.array(means))


def _plain(values: np.ndarray) -> list:
    """Numbers for JSON: whole ones as such, others rounded, NaN as None."""
    return [_short(value) if is_number(value) else None for value in values.tolist()]


def _short(value: float) -> float:
    whole = abs(value) < 1e15 and value == int(value)
    return int(value) if whole else float(f"{value:.{DIGITS}g}")
