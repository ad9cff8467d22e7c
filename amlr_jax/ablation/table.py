"""A study's table for the terminal, as Markdown and as JSON, and its picture."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from rich.table import Table

from amlr_jax.ablation.figures import Figures, is_beyond_spread
from amlr_jax.ablation.study import Study
from amlr_jax.evaluate.tables import COLUMNS

matplotlib.use("Agg")  # no screen on a training machine
from matplotlib import pyplot as plt  # noqa: E402

HEADINGS = dict(COLUMNS)
RISING = {"d1", "d2", "d3"}  # larger is better
Rows = Sequence[Figures | None]


def headings(study: Study) -> list[str]:
    """Factors, runs, metrics, and the change of the first metric."""
    first = HEADINGS[study.metrics[0]].split(" ↓")[0]
    names = [HEADINGS[name] for name in study.metrics]
    return [*study.factors, "seeds", *names, f"{first} - row 1"]


def cells(study: Study, rows: Rows) -> list[tuple[list[str], bool]]:
    """Lines of text, each with whether it is a published one."""
    best = _best(study, rows)
    lines = []
    for place, (row, found) in enumerate(zip(study.rows, rows, strict=True)):
        line = _measured(study, row.label, found, best)
        lines.append((line if place else [*line[:-1], ""], False))
        if row.published:
            shown = [_number(row.published.get(name)) for name in study.metrics]
            lines.append(([*row.label, "paper", *shown, ""], True))
    return lines


def _measured(study: Study, label, found: Figures | None, best: dict) -> list[str]:
    if found is None:
        return [*label, "0", *["-"] * len(study.metrics), ""]
    shown = []
    for name in study.metrics:
        spread = found.spread[name]
        text = _number(found.mean[name])
        text += f" ± {spread:.3f}" if spread == spread else ""
        shown.append(f"**{text}**" if found.mean[name] == best[name] else text)
    return [*label, str(len(found.seeds)), *shown, _change(found, study.metrics[0])]


def _change(found: Figures, name: str) -> str:
    if found.interval[name] != found.interval[name]:
        return ""
    text = f"{found.change[name]:+.3f} ± {found.interval[name]:.3f}"
    return text + (" *" if is_beyond_spread(found, name) else "")


def _best(study: Study, rows: Rows) -> dict[str, float]:
    means = [found.mean for found in rows if found]
    pick = {name: max if name in RISING else min for name in study.metrics}
    return {n: pick[n](m[n] for m in means) for n in study.metrics} if means else {}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


CAPTION = (
    "mean ± standard deviation over seeds; bold: best mean. Last column: mean "
    "difference to row 1 of equal seeds ± half of its 95 % interval, * if without 0"
)


def rich_table(study: Study, rows: Rows) -> Table:
    """For the terminal."""
    caption = f"{CAPTION}. {study.note}" if study.note else CAPTION
    table = Table(title=study.title, caption=caption, caption_justify="left")
    for place, heading in enumerate(headings(study)):
        left = place < len(study.factors)
        table.add_column(heading, justify="left" if left else "right")
    for line, is_published in cells(study, rows):
        style = "dim" if is_published else None
        shown = [_bold(cell) for cell in line]
        table.add_row(*shown, style=style)
    return table


def _bold(cell: str) -> str:
    return f"[bold]{cell.strip('*')}[/bold]" if cell.startswith("**") else cell


def markdown(study: Study, rows: Rows) -> str:
    """The same table as Markdown."""
    head = headings(study)
    aligned = [":--" if i < len(study.factors) else "--:" for i in range(len(head))]
    lines = [head, aligned, *(line for line, _ in cells(study, rows))]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    note = f"\n\n{study.note}" if study.note else ""
    return f"# {study.title}\n\n{body}\n\n{CAPTION}.{note}\n"


def as_json(study: Study, rows: Rows) -> dict:
    """Everything that the table was made of."""
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


def picture(study: Study, rows: Rows, output: Path) -> None:
    """A dot for each seed and a bar for the mean: the first four metrics."""
    names = study.metrics[:4]
    figure, axes = plt.subplots(
        1, 4, figsize=(14, 1.2 + 0.35 * len(rows)), sharey=True, layout="constrained"
    )
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
    figure.savefig(output, dpi=110)
    plt.close(figure)
