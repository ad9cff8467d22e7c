"""The metrics of several runs as tables: one for each protocol, best in bold.

The columns are those of AMLR's Tables 1 and 4.
"""

import json
from collections.abc import Sequence
from html import escape
from typing import Any

from amlr_jax.report.gather import Run, is_number

# Key, heading and whether less is better.
COLUMNS = (
    ("abs_rel", "Abs Rel", True),
    ("sq_rel", "Sq Rel", True),
    ("rmse", "RMSE", True),
    ("rmse_log", "RMSE log", True),
    ("log10", "log10", True),
    ("d1", "δ<sub>1</sub>", False),
    ("d2", "δ<sub>2</sub>", False),
    ("d3", "δ<sub>3</sub>", False),
)


def by_protocol(runs: Sequence[Run]) -> list[list[Run]]:
    """Evaluated runs, those together whose figures may be compared.

    These have the same protocol on the same number of frames; only the constant, which
    is of the training frames, may differ.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run.evaluation:
            groups.setdefault(_identity(run.evaluation), []).append(run)
    return list(groups.values())


def _identity(evaluation: dict) -> str:
    protocol = _without_constant(evaluation["protocol"])
    frames = [evaluation.get(k) for k in ("frames", "frames_without_depth")]
    return json.dumps([protocol, frames], sort_keys=True)


def _without_constant(protocol: dict) -> dict:
    return {k: v for k, v in protocol.items() if k != "median_depth"}


def html(runs: Sequence[Run]) -> str:
    """All tables, or a line that there is nothing to tabulate."""
    groups = by_protocol(runs)
    if not groups:
        return '<p class="note">No run has been evaluated yet.</p>'
    text = "".join(_table(group) for group in groups)
    if len(groups) > 1:
        text = (
            '<p class="note">These runs were measured by different protocols, whose '
            "figures say nothing about each other: one table each.</p>" + text
        )
    return text


def _table(runs: Sequence[Run]) -> str:
    rows = [(_network(run), run.evaluation["metrics"], "network") for run in runs]
    rows += _constants(runs)
    best = {key: _best([v for _, v, _ in rows], key, less) for key, _, less in COLUMNS}
    body = "".join(_line(name, v, css, best) for name, v, css in rows)
    published = [row for run in runs for row in _published(run)]
    body += "".join(_line(n, v, "published", {}) for n, v in dict(published).items())
    head = "".join(
        f'<th scope="col">{name} <span class="arrow" aria-label="'
        f'{"less" if less else "more"} is better">{"↓" if less else "↑"}</span></th>'
        for _, name, less in COLUMNS
    )
    return (
        f'<div class="scroll"><table class="metrics"><thead><tr>'
        f'<th scope="col">Method</th>{head}</tr></thead><tbody>{body}</tbody></table>'
        f'</div><p class="protocol">{escape(protocol_line(runs[0].evaluation))}</p>'
    )


def _network(run: Run) -> str:
    step = run.evaluation.get("step")
    after = (
        f" <small>after step {escape(f'{step}')}</small>" if step is not None else ""
    )
    return f"{escape(run.name)}{after}"


def _constants(runs: Sequence[Run]) -> list[tuple[str, dict, str]]:
    found: dict[str, dict] = {}
    for run in runs:
        depth = run.evaluation["protocol"].get("median_depth")
        label = f"constant {depth:.2f} m" if is_number(depth) else "constant"
        found.setdefault(label, run.evaluation["constant"])
    return [(label, values, "constant") for label, values in found.items()]


def _published(run: Run) -> list[tuple[str, dict]]:
    """The rows in run.json, if they are for the protocol of evaluation.json.

    The test mode may differ; each row names its own.
    """
    kept = run.facts.get("published")
    if not isinstance(kept, dict) or not {"protocol", "rows"} <= kept.keys():
        return []
    mode = {"test_mode": "", "windows": 0, "window_form": "", "median_depth": 0}
    if kept["protocol"] | mode != run.evaluation["protocol"] | mode:
        return []
    return [
        (f"{escape(m)} <small>{escape(s)}, test mode {escape(t)}</small>", values)
        for m, s, t, values in kept["rows"]
    ]


def _best(rows: list[dict], key: str, less: bool) -> str | None:
    """The best cell as printed, so that all that look equal are bold."""
    values = [row[key] for row in rows if is_number(row.get(key))]
    return _cell((min if less else max)(values)) if values else None


def _cell(value: Any) -> str:
    return f"{value:.3f}" if is_number(value) else "-"


def _line(name: str, values: dict, css: str, best: dict) -> str:
    cells = []
    for key, _, _ in COLUMNS:
        value, text = values.get(key), _cell(values.get(key))
        if is_number(value):
            shown = f"<strong>{text}</strong>" if best.get(key) == text else text
            text = f'<data value="{value!r}">{shown}</data>'
        cells.append(f"<td>{text}</td>")
    return f'<tr class="{css}"><th scope="row">{name}</th>{"".join(cells)}</tr>'


def protocol_line(evaluation: dict) -> str:
    """Which frames, pixels and depths a table is about, in one line."""
    p = evaluation["protocol"]
    get = lambda key, default="?": p.get(key, default)  # noqa: E731
    cap = f"{get('min_depth')} < depth < {get('max_depth')} m"
    if not get("cap_target", True):
        cap = f"every depth, clamped to {get('max_depth')} m"
    mode = f"test mode {get('test_mode')}"
    if "shifted" in str(get("test_mode")):
        mode += f" ({get('windows')} windows, {get('window_form')})"
    parts = [
        *(["KB crop"] if get("kb_crop", False) else []),
        *(["pasted back"] if get("paste_back", False) else []),
        f"{get('crop')} crop",
        cap,
        *(["clamped"] if get("clamp", False) else []),
        "median scaling" if get("median_scaling", False) else "no median scaling",
        mode,
        f"{evaluation.get('frames', '?')} frames",
    ]
    if evaluation.get("frames_without_depth"):
        parts.append(f"{evaluation['frames_without_depth']} without depth")
    return f"{get('name', '')} on {get('dataset')} {get('split')}: {', '.join(parts)}"
