"""Metrics as a table in the paper's order, with published rows."""

from collections.abc import Sequence

from rich.table import Table

from amlr_jax.evaluate import metric_sets, published
from amlr_jax.evaluate.measure import Evaluation
from amlr_jax.evaluate.protocols import Protocol
from amlr_jax.runtime.console import show
from amlr_jax.runtime.errors import counted

# Key and heading, in the order of the paper's Table 1; arrows point to better values.
COLUMNS = {
    "abs_rel": "Abs Rel ↓",
    "sq_rel": "Sq Rel ↓",
    "rmse": "RMSE ↓",
    "rmse_log": "RMSE log ↓",
    "log10": "log10 ↓",
    "d1": "δ1 ↑",
    "d2": "δ2 ↑",
    "d3": "δ3 ↑",
    "silog": "SILog ↓",
}

# Of the sets beside the standard one.
HEADINGS = COLUMNS | {
    "kitti_silog": "SILog x100 ↓",
    "kitti_sq_rel": "sqErrorRel % ↓",
    "kitti_abs_rel": "absErrorRel % ↓",
    "kitti_irmse": "iRMSE 1/km ↓",
    "d1.05": "δ<1.05 ↑",
    "d1.10": "δ<1.10 ↑",
    "boundary_f1": "boundary F1 ↑",
    "dbe_acc": "DBE acc px ↓",
    "dbe_com": "DBE com px ↓",
}


def rises(name: str) -> bool:
    """Whether larger values of a metric are better."""
    return HEADINGS[name].endswith("↑")


def show_result(result: Evaluation, *, protocol: Protocol, **options: str) -> None:
    """Prints `metric_table`, and tables of the other sets and by distance, if any."""
    show(metric_table(result, protocol=protocol, **options))
    choices, first = protocol.choices, options.get("first", "network")
    for name in choices.sets[1:]:
        rows = {first: result.metrics, _constant(protocol): result.constant}
        show(_set_table(name, rows, title=f"Metrics: {name}"))
    for name in metric_sets.by_distance(choices) if result.bands else ():
        counts = "{near:g}-{far:g} m: {pixels:,} pixels"
        rows = {counts.format(**band): band["metrics"] for band in result.bands}
        show(_set_table(name, rows, title=f"By distance: {name}"))


def _set_table(name: str, rows: dict[str, dict], *, title: str) -> Table:
    table, keys = _empty(name, title, next(iter(rows.values())))
    for label, values in rows.items():
        table.add_row(label, *_cells(values, keys))
    return table


def _empty(name: str, title: str, measured: dict) -> tuple[Table, list[str]]:
    """A table with a column for each metric of a set that was measured, and these."""
    table = Table(title=title, caption_justify="left")
    table.add_column("", overflow="fold")
    keys = [key for key in HEADINGS if key in metric_sets.SETS[name]]
    keys = [key for key in keys if key in measured]
    for key in keys:
        table.add_column(HEADINGS[key], justify="right", no_wrap=True)
    return table, keys


def metric_table(
    result: Evaluation, *, protocol: Protocol, title: str, first: str = "network"
) -> Table:
    """The network `first`, then the constant predictor and published rows.

    Of the first set of the protocol's choices. The caption is the protocol; a value
    that a source does not give is "-".
    """
    table, keys = _empty(protocol.choices.sets[0], title, result.metrics)
    table.add_row(first, *_cells(result.metrics, keys))
    table.add_row(_constant(protocol), *_cells(result.constant, keys))
    rows, nothing = published.rows_beside(protocol)
    if protocol.choices.sets[0] != "standard":
        rows = ()
    if rows:
        table.add_section()
        sources = dict.fromkeys(row.source for row in rows)
        nothing = f"published, [test mode]: {'; '.join(sources)}"
    for row in rows:
        table.add_row(f"{row.method} \\[{row.test}]", *_cells(row.metrics, keys))
    table.caption = f"{protocol.line()}; {_counts(result)}\n{nothing}".replace(
        "[test mode]", "\\[test mode]"
    )
    return table


def _constant(protocol: Protocol) -> str:
    return f"constant {protocol.median_depth:.2f} m"


def _cells(values: dict[str, float], keys: Sequence[str]) -> list[str]:
    return [f"{values[key]:.3f}" if key in values else "-" for key in keys]


def _counts(result: Evaluation) -> str:
    text = counted(result.frames, "frame")
    if result.skipped:
        text += f", {result.skipped} without an evaluated pixel"
    if result.narrow:
        text += f", {result.narrow} not wider than high and so without windows"
    if result.not_finite:
        text += f", {result.not_finite} WITH DEPTH THAT IS NOT FINITE"
    if result.ratio:
        median, spread = result.ratio["median"], result.ratio["std"]
        text += f"; median ratio {median:.3f}, std / median {spread:.3f}"
    falling = sum(row.get("scale", 1) < 0 for row in result.images)
    if falling:
        text += f"; {counted(falling, 'fit')} of negative scale: depth, or disparity?"
    return text
