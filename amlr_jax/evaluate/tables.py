"""Metrics as a table in the paper's order, with published rows."""

from rich.table import Table

from amlr_jax.evaluate import published
from amlr_jax.evaluate.measure import Evaluation
from amlr_jax.evaluate.protocols import Protocol
from amlr_jax.runtime.errors import counted

# Key and heading, in the order of the paper's Table 1; arrows point to better values.
COLUMNS = (
    ("abs_rel", "Abs Rel ↓"),
    ("sq_rel", "Sq Rel ↓"),
    ("rmse", "RMSE ↓"),
    ("rmse_log", "RMSE log ↓"),
    ("log10", "log10 ↓"),
    ("d1", "δ1 ↑"),
    ("d2", "δ2 ↑"),
    ("d3", "δ3 ↑"),
    ("silog", "SILog ↓"),
)


def metric_table(result: Evaluation, *, protocol: Protocol, title: str) -> Table:
    """The network first, then the constant predictor and published rows.

    The caption is the protocol; a value that a source does not give is "-".
    """
    table = Table(title=title, caption_justify="left")
    table.add_column("", overflow="fold")
    for _, heading in COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_row("network", *_cells(result.metrics))
    constant = f"constant {protocol.median_depth:.2f} m"
    table.add_row(constant, *_cells(result.constant))
    rows, nothing = published.rows_beside(protocol)
    if rows:
        table.add_section()
    for row in rows:
        table.add_row(f"{row.method} \\[{row.test}]", *_cells(row.metrics))
    if rows:
        nothing = "published, [test mode]: " + "; ".join(
            dict.fromkeys(row.source for row in rows)
        )
    table.caption = f"{protocol.line()}; {_counts(result)}\n{nothing}".replace(
        "[test mode]", "\\[test mode]"
    )
    return table


def _cells(values: dict[str, float]) -> list[str]:
    return [f"{values[key]:.3f}" if key in values else "-" for key, _ in COLUMNS]


def _counts(result: Evaluation) -> str:
    text = counted(result.frames, "frame")
    if result.skipped:
        text += f", {result.skipped} without an evaluated pixel"
    if result.narrow:
        text += f", {result.narrow} not wider than high and so without windows"
    if result.ratio:
        median, spread = result.ratio["median"], result.ratio["std"]
        text += f"; median ratio {median:.3f}, std / median {spread:.3f}"
    return text
