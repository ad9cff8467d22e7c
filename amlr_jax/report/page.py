"""report.html: one file with all of its style, code, numbers and pictures inside."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from amlr_jax.report import charts, cloud, gather, keep, pictures, tables
from amlr_jax.runtime import files

MAX_CLOUDS = 6


def write(folders: Sequence[Path], output: Path) -> None:
    """Writes the page of the runs in `folders`, whole or not at all.

    Raises InputError for a folder that is no run and for an output that cannot be
    written.
    """
    text = render(gather.gather(folders))
    with files.refused(f"--output '{output}'"):
        output.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(output, text)


def render(runs: Sequence[gather.RunFiles]) -> str:
    """The page as text. It loads no other file, which its own policy forbids, too."""
    title = ", ".join(run.name for run in runs)
    shown = [run for run in runs if run.frames][:MAX_CLOUDS]
    return _filled(
        "report",
        title=escape(f"{title} - amlr_jax"),
        heading=escape(title),
        summary=tables.summary(runs),
        notes=tables.notes(runs),
        facts=tables.facts(runs),
        config=tables.config(runs),
        metrics=tables.metrics(runs),
        charts=charts.html(runs),
        frames=pictures.html(runs),
        data=embedded(
            [{"name": run.name, **cloud.packed(run.frames[0])} for run in shown]
        ),
    )


def render_frame(frame: keep.Kept, figure: str) -> str:
    """A page of one frame alone: its `pictures.frame`, and its points to be turned."""
    data = embedded([{"name": "", **cloud.packed(frame)}])
    return _filled("single", title=escape(frame.key), frame=figure, data=data)


def _filled(kind: str, **parts: str) -> str:
    """A page of that kind with the style, the script and its hash, and `parts`."""
    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts |= {
        "kind": kind,
        "script": script,
        "hash": digest,
        "style": _asset("report.css"),
    }
    page = _asset("page.html").replace("{{body}}", _asset(f"{kind}.html"))
    return re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m[1]], page)


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def embedded(value: Any) -> str:
    """JSON that cannot end the script element that contains it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
