"""The curves of metrics.jsonl as SVG, one chart for each quantity."""

import re
from collections.abc import Callable, Sequence
from html import escape
from io import StringIO
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from amlr_jax.report.gather import RunFiles, as_dict

BINS = 400  # of a long curve, each with at most three points
MEANS = 100  # points of the mean that is drawn over a noisy curve
DASHES = ((), (7, 3), (2, 3), (9, 3, 2, 3))
# Colours in the drawing, and those of the page, which change with its theme.
COLOURS = {f"#c0000{number}": f"var(--c{number})" for number in range(6)}
GRID, TEXT = "#c00006", "#c00007"
THEME = {**COLOURS, GRID: "var(--line)", TEXT: "var(--soft)"}
# Of a drawing that stands in a page: global style, names and what text inherits.
NOT_INLINE = (
    r"<defs>.*?</defs>|\s(?:id|xmlns(?::xlink)?|width|height|transform)=\"[^\"]*\""
    r'|font-family:[^;]*; |(?<=\.\d\d)\d+(?=[ "])|\n'
)


class Series(NamedTuple):
    """One curve: number of the run, number and name of the quantity, and points."""

    run: int
    kind: int
    name: str
    steps: np.ndarray
    values: np.ndarray


def html(runs: Sequence[RunFiles]) -> str:
    """All charts that have a curve, or a line that there is none."""
    found = {title: series_of(runs, read) for title, read in QUANTITIES.items()}
    text = "".join(_chart(runs, title, s) for title, s in found.items() if s)
    return text or '<p class="note">No run has written a line of metrics.jsonl yet.</p>'


def _weighted(row: dict) -> dict:
    losses, weights = as_dict(row.get("losses")), as_dict(row.get("weights"))
    both = {k: (v, weights.get(k)) for k, v in losses.items()}
    return {k: a * b for k, (a, b) in both.items() if _is_float(a) and _is_float(b)}


# The values of a row of metrics.jsonl by name, by title of their chart.
QUANTITIES: dict[str, Callable[[dict], dict]] = {
    "Losses, unweighted": lambda row: as_dict(row.get("losses")),
    "Losses, weighted": _weighted,
    "Loss weights": lambda row: as_dict(row.get("weights")),
    "Total loss": lambda row: {"total": row.get("total")},
    "Learning rate": lambda row: {"learning rate": row.get("learning_rate")},
    "Gradient norm": lambda row: {"gradient norm": row.get("grad_norm")},
}
# Set by a rule or a schedule: no mean is drawn.
EXACT = ("Loss weights", "Learning rate")


def _is_float(value: object) -> bool:
    return type(value) in (int, float)


def series_of(runs: Sequence[RunFiles], read: Callable[[dict], dict]) -> list[Series]:
    """The curves of all runs for one quantity."""
    kinds: dict[str, int] = {}
    found = []
    for number, run in enumerate(runs):
        points: dict[str, list] = {}
        for row in run.rows:
            for name, value in read(row).items():
                if _is_float(value):
                    points.setdefault(name, []).append((row["step"], value))
        for name, pairs in points.items():
            kind = kinds.setdefault(name, len(kinds))
            steps, values = np.array(pairs, np.float64).T
            values[~np.isfinite(values)] = np.nan  # breaks the line
            found.append(Series(number, kind, name, steps, values))
    return found


def thin(
    steps: np.ndarray, values: np.ndarray, *, bins: int = BINS
) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest value of each of `bins` equal runs of points.

    So no spike is lost; a NaN, which breaks the line, stays, too.
    """
    if len(values) <= 3 * bins:
        return steps, values
    kept = []
    for part in np.array_split(np.arange(len(values)), bins):
        missing = np.isnan(values[part])
        finite, chosen = part[~missing], {*part[missing][:1]}
        if len(finite):
            found = values[finite]
            chosen |= {finite[np.argmin(found)], finite[np.argmax(found)]}
        kept += sorted(chosen)
    return steps[kept], values[kept]


def means(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The means of `MEANS` equal runs of finite points."""
    finite = np.isfinite(values)
    parts = (np.array_split(x[finite], MEANS) for x in (steps, values))
    steps, values = (np.array([part.mean() for part in x]) for x in parts)
    return steps, values


def _chart(runs: Sequence[RunFiles], title: str, series: list[Series]) -> str:
    values = np.concatenate([one.values for one in series])
    positive = values[values > 0]
    counts = {
        "not above 0 are not on the log axis": (values <= 0).sum(),
        "are not finite": np.isnan(values).sum(),
    }
    notes = "; ".join(f"{n} values {why}" for why, n in counts.items() if n)
    log = positive.size and positive.max() > 20 * positive.min()
    return (
        f'<figure class="chart"><figcaption>{title}<label><input type="checkbox"'
        f"{' checked' if log else ''}>log</label></figcaption>"
        f"{_svg(runs, title, series, kind='linear')}"
        f"{_svg(runs, title, series, kind='log')}"
        f'<div class="legend">{"".join(_legend(runs, one) for one in series)}</div>'
        f"<small>{notes}</small></figure>"
    )


def _line(runs: Sequence[RunFiles], one: Series) -> tuple[str, tuple]:
    """Colour and dashes: several runs differ by colour and quantities by dashes."""
    colour, dash = (one.run, one.kind) if len(runs) > 1 else (one.kind, one.kind // 6)
    return list(COLOURS)[colour % len(COLOURS)], DASHES[dash % len(DASHES)]


def _legend(runs: Sequence[RunFiles], one: Series) -> str:
    colour, dashes = _line(runs, one)
    label = f"{runs[one.run].name}: {one.name}" if len(runs) > 1 else one.name
    return (
        '<span><svg aria-hidden="true"><path d="M0 4h26" '
        f'style="stroke:{COLOURS[colour]};stroke-dasharray:{",".join(map(str, dashes))}'
        f'"/></svg>{escape(label)}</span>'
    )


def _svg(
    runs: Sequence[RunFiles], title: str, series: list[Series], *, kind: str
) -> str:
    """The curves on one axis, linear or log, for a page that has their colours."""
    figure = Figure(figsize=(6, 2.8), layout="constrained")
    axis = figure.subplots()
    axis.set_frame_on(False)
    axis.grid(axis="y", color=GRID, clip_on=False)
    axis.tick_params(which="both", length=0, labelcolor=TEXT)
    axis.xaxis.set_major_formatter("{x:,.0f}")
    if kind == "log":
        axis.set_yscale("log", nonpositive="mask")
        axis.yaxis.set_major_formatter("{x:.4g}")
        # Between powers of ten only where these are few.
        axis.yaxis.set_minor_locator(LogLocator(subs=(2, 5), numticks=4))
        axis.yaxis.set_minor_formatter("{x:.4g}")
    for one in series:
        colour, dashes = _line(runs, one)
        steps, values = thin(one.steps, one.values)
        style: dict = {"color": colour, "clip_on": False, "solid_capstyle": "round"}
        if title not in EXACT and np.isfinite(one.values).sum() >= 2 * MEANS:
            axis.plot(steps, values, alpha=0.25, linewidth=0.8, **style)
            steps, values = means(one.steps, one.values)
        axis.plot(steps, values, dashes=dashes, linewidth=1.6, **style)
    with matplotlib.rc_context({"svg.fonttype": "none"}), StringIO() as file:
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
        text = file.getvalue()
    text = re.sub(NOT_INLINE, "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub("|".join(THEME), lambda found: THEME[found[0]], text)
    name = f"{title} over steps, {kind} axis"
    return text.replace(
        "<svg", f'<svg class="{kind}" role="img" aria-label="{name}"', 1
    )
