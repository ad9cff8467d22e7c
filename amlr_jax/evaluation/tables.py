"""Metrics as a table in the paper's order."""

from rich.table import Table

from amlr_jax.evaluation.protocol import Evaluation, Protocol

# Key and heading, in the order of the paper's Table 1; an arrow says which way is good.
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
    """The network above, the constant predictor below, the protocol under both."""
    skipped = (
        f", {result.skipped} without a pixel that counts" if result.skipped else ""
    )
    caption = f"{protocol.line()}; {result.frames} frames{skipped}"
    table = Table(title=title, caption=caption, caption_justify="left")
    table.add_column("", no_wrap=True)
    for _, heading in COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, values in (("network", result.metrics), ("constant", result.constant)):
        table.add_row(name, *(f"{values[key]:.3f}" for key, _ in COLUMNS))
    return table
