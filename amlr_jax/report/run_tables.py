"""What was run, as tables: figures in brief, facts, config, and what is missing."""

import json
from collections.abc import Sequence
from html import escape
from typing import Any

from amlr_jax.config import base
from amlr_jax.report.gather import Run, flat, is_number

NOTHING = "-"


def summary(runs: Sequence[Run]) -> str:
    """A run's main figures in large; of several runs the tables tell more."""
    if len(runs) != 1:
        return f"<p>{len(runs)} runs side by side.</p>"
    run = runs[0]
    tiles = []
    values = (run.evaluation or {}).get("metrics", {})
    flat_depth = (run.evaluation or {}).get("constant", {})
    for key, title in (("abs_rel", "Abs Rel"), ("rmse", "RMSE, m"), ("d1", "δ1")):
        if is_number(values.get(key)):
            beside = flat_depth.get(key)
            beside = f"constant depth {beside:.3f}" if is_number(beside) else ""
            tiles.append((f"{values[key]:.3f}", title, beside))
    if run.rows:
        total = run.rows[-1].get("total")
        step = f"{run.rows[-1]['step']:,}"
        beside = f"total loss {total:.4g}" if is_number(total) else ""
        tiles.append((step, "steps", beside))
    return "".join(
        f'<div class="tile"><b>{a}</b><span>{b}</span><small>{c}</small></div>'
        for a, b, c in tiles
    )


def notes(runs: Sequence[Run]) -> str:
    """What is missing or damaged, by run."""
    lines = []
    for run in runs:
        prefix = f"{run.name}: " if len(runs) > 1 else ""
        lines += [f"<li>{escape(prefix + note)}</li>" for note in run.notes]
    return f'<ul class="notes">{"".join(lines)}</ul>' if lines else ""


def facts(runs: Sequence[Run]) -> str:
    """Network, data, losses, device and versions; a column a run."""
    columns = [_facts(run) for run in runs]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [(n, [column.get(n, NOTHING) for column in columns]) for n in names]
    return _table(runs, rows) if rows else ""


def _facts(run: Run) -> dict[str, str]:
    config, known = run.config or {}, run.facts
    data = _dict(known.get("data"))
    found = {
        "Network": _of(config, "model.name") or known.get("network"),
        "Parameters": _number(known.get("parameters"), ","),
        "Losses": ", ".join(_dict(config.get("losses"))),
        "Loss weights by": _of(config, "rebalance.rule"),
        "Training": _pair(config.get("steps"), config.get("batch_size")),
        "Data": " ".join(str(data[k]) for k in ("name", "split") if data.get(k))
        or _of(config, "data.name"),
        "Frames": _frames(data),
        "Pixels with depth": _number(data.get("valid_share"), ".1%"),
        "Median depth": _number(data.get("median_depth"), ".2f", " m"),
        "Device": known.get("devices"),
        "Versions": _versions(known.get("versions")),
    }
    return {name: str(value) for name, value in found.items() if value}


def _of(config: dict, name: str) -> Any:
    return flat(config).get(name)


def _number(value: Any, form: str, unit: str = "") -> str:
    return f"{value:{form}}{unit}" if is_number(value) else ""


def _pair(steps: Any, batch: Any) -> str:
    return (
        f"{steps:,} steps of {batch} images"
        if is_number(steps) and is_number(batch)
        else ""
    )


def _frames(data: dict) -> str:
    train, test = data.get("train"), data.get("test")
    both = is_number(train) and is_number(test)
    return f"{train:,} train, {test:,} test" if both else ""


def _versions(found: Any) -> str:
    return ", ".join(f"{name} {version}" for name, version in _dict(found).items())


def _dict(value: Any) -> dict:
    return value if isinstance(value, dict) else {}


def config(runs: Sequence[Run]) -> str:
    """The keys that are not the defaults' first, then all; keys by row."""
    if not any(run.config for run in runs):
        return '<p class="note">No config was found.</p>'
    defaults = flat(_plain(base().to_dict()))
    configs = [flat(run.config or {}) for run in runs]
    names = sorted({name for one in configs for name in one} | defaults.keys())
    rows = [(n, [one.get(n) for one in configs], defaults.get(n)) for n in names]
    changed = [
        (name, values, default)
        for name, values, default in rows
        if any(name in one and one[name] != default for one in configs)
    ]
    return (
        "<details open><summary>Config: what differs from the defaults "
        f"({len(changed)} keys)</summary>{_config_table(runs, changed)}</details>"
        f"<details><summary>Config: all {len(rows)} keys</summary>"
        f"{_config_table(runs, rows)}</details>"
    )


def _plain(value: Any) -> Any:
    """As JSON gives it back: tuples are lists."""
    return json.loads(json.dumps(value))


def _config_table(runs: Sequence[Run], rows: list[tuple]) -> str:
    cells = [
        (name, [_text(v) for v in values], _text(default))
        for name, values, default in rows
    ]
    return _table(runs, cells, extra="default")


def _text(value: Any) -> str:
    return NOTHING if value is None else json.dumps(value, ensure_ascii=False)


def _table(runs: Sequence[Run], rows: list[tuple], *, extra: str = "") -> str:
    """Names by row, runs by column; rows in which the runs differ are marked."""
    titles = [run.name for run in runs] if len(runs) > 1 else ["value"]
    titles += [extra] if extra else []
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = ""
    for name, values, *default in rows:
        mark = ' class="differs"' if len(set(values)) > 1 else ""
        cells = "".join(f"<td>{escape(v)}</td>" for v in [*values, *default])
        body += f'<tr{mark}><th scope="row">{escape(name)}</th>{cells}</tr>'
    show_head = len(runs) > 1 or extra
    head = f"<thead><tr><td></td>{head}</tr></thead>" if show_head else ""
    return (
        f'<div class="scroll"><table class="facts">{head}<tbody>{body}</tbody></table>'
        "</div>"
    )
