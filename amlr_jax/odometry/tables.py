"""Figures of odometry as JSON, as a table, and as the title of a picture."""

from rich.table import Table

from amlr_jax.odometry.measure import Figures
from amlr_jax.odometry.trajectory import Segments

HEADINGS = ("frames", "metres", "5-frame\nATE (m)", "t_err\n(%)", "r_err °\n/100 m")
HEADINGS += ("ATE\n(m)", "RPE\n(m)", "RPE\n(°)", "scale")


def as_json(figures: Figures) -> dict:
    """Names with units; what the drive does not have is left out."""
    mean, std = figures.snippets
    values = {"ate_5_frames_mean_m": mean, "ate_5_frames_std_m": std}
    if figures.segments is not None:
        values |= _segments(figures.segments)
        parts = figures.segments.by_length.items()
        values["by_length_m"] = {str(m): _segments(part) for m, part in parts}
    if figures.ate is not None:
        values |= {"ate_rmse_m": figures.ate, "scale": figures.scale}
        values |= {"rpe_m": figures.rpe[0], "rpe_deg": figures.rpe[1]}
    return values


def _segments(found: Segments) -> dict:
    return {
        "t_err_percent": found.translation,
        "r_err_deg_per_100m": found.rotation,
        "segments": found.count,
    }


def table(rows: list[tuple[str, int, float, Figures, Figures]], *, caption: str):
    """A row for each (drive, frames, metres, network, straight); less is better.

    Under it a row of the car that drives straight on at one speed.
    """
    made = Table(title="Odometry", caption=caption, caption_justify="left")
    made.add_column("", no_wrap=True)
    for heading in HEADINGS:
        made.add_column(heading, justify="right", no_wrap=True)
    for name, frames, metres, network, straight in rows:
        short = name.removesuffix("_sync")
        made.add_row(short, f"{frames}", f"{metres:.0f}", *_cells(network))
        made.add_row("  straight on", "", "", *_cells(straight), style="dim")
    return made


def _cells(figures: Figures) -> list[str]:
    segments, rpe = figures.segments, figures.rpe or (None, None)
    values = (
        (segments and segments.translation, ".2f"),
        (segments and segments.rotation, ".2f"),
        (figures.ate, ".2f"),
        (rpe[0], ".3f"),
        (rpe[1], ".3f"),
        (figures.scale, ".3g"),
    )
    mean, std = figures.snippets
    rest = ["-" if value is None else format(value, form) for value, form in values]
    return [f"{mean:.3f} ± {std:.3f}", *rest]


def title(name: str, metres: float, figures: Figures, how: str) -> str:
    """Two lines: what it is, and its figures."""
    parts = [f"ATE {figures.ate:.2f} m"]
    if figures.segments is not None:
        parts += [f"t_err {figures.segments.translation:.2f} %"]
        parts += [f"r_err {figures.segments.rotation:.2f} °/100 m"]
    parts += [f"RPE {figures.rpe[0]:.3f} m, {figures.rpe[1]:.3f} °"]
    parts += [f"5 frames {figures.snippets[0]:.4f} m"]
    return f"{name}, {metres:.0f} m, aligned by {how}\n{'; '.join(parts)}"
