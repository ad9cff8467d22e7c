"""report.html: one file with all of its style, code, numbers and pictures inside."""

import base64
import hashlib
import json
import os
import re
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path

from amlr_jax.report import cloud, gather, metric_tables, pictures, run_tables, series
from amlr_jax.report.gather import Run
from amlr_jax.runtime.errors import InputError

REPORT = "report.html"
MAX_CLOUDS = 6


def write(folders: Sequence[Path], output: Path) -> None:
    """Writes the page of the runs in `folders`, whole or not at all.

    Raises InputError for a folder that is no run and for an output that cannot be
    written.
    """
    text = render(gather.gather(folders))
    temporary = output.with_name(f".{output.name}.tmp")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, output)
    except OSError as error:
        raise InputError(
            f"output '{output}' cannot be written: {error.strerror}; choose another "
            "with --output=FILE"
        ) from error


def render(runs: Sequence[Run]) -> str:
    """The page as text. Nothing in it asks for another file, by its own policy too."""
    script = _asset("core.js") + _asset("page.js")
    digest = hashlib.sha256(script.encode()).digest()
    title = ", ".join(run.name for run in runs)
    parts = {
        "title": escape(f"{title} - amlr_jax"),
        "hash": base64.b64encode(digest).decode(),
        "style": _asset("report.css"),
        "heading": escape(title),
        "summary": run_tables.summary(runs),
        "notes": run_tables.notes(runs),
        "facts": run_tables.facts(runs),
        "config": run_tables.config(runs),
        "metrics": metric_tables.html(runs),
        "frames": pictures.html(runs),
        "data": embedded(_data(runs)),
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m[1]], _asset("report.html"))


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _data(runs: Sequence[Run]) -> dict:
    return {
        "runs": [run.name for run in runs],
        "charts": series.charts(runs),
        "clouds": [
            {"name": run.name, **cloud.packed(run.frames[0])}
            for run in runs
            if run.frames
        ][:MAX_CLOUDS],
    }


def embedded(value) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
