"""The tables of the page: what was run, its config, and its metrics, best in bold."""

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from amlr_jax.config import base
from amlr_jax.report.gather import RunFiles, as_dict, is_number
from amlr_jax.runtime.files import flatten

NOTHING = "-"


def summary(runs: Sequence[RunFiles]) -> str:
    """The main values of a run in large; of several runs the tables tell more."""
    if len(runs) != 1:
        return f"<p>{len(runs)} runs side by side.</p>"
    (run,) = runs
    tiles = []
    result = run.evaluation or {"metrics": {}, "constant": {}}
    for key, title in (("abs_rel", "Abs Rel"), ("rmse", "RMSE, m"), ("d1", "δ1")):
        value = _number(result["metrics"].get(key), ".3f")
        constant = _number(result["constant"].get(key), ".3f")
        tiles.append((value, title, constant and f"constant depth {constant}"))
    if run.rows:
        total = _number(run.rows[-1].get("total"), ".4g")
        step = f"{run.rows[-1]['step']:,}"
        tiles.append((step, "steps", total and f"total loss {total}"))
    return "".join(
        f'<div class="tile"><b>{a}</b><span>{b}</span><small>{c}</small></div>'
        for a, b, c in tiles
        if a
    )


def _number(value: Any, form: str, unit: str = "") -> str:
    return f"{value:{form}}{unit}" if is_number(value) else ""


def notes(runs: Sequence[RunFiles]) -> str:
    """What is missing or damaged, by run."""
    lines = []
    for run in runs:
        prefix = f"{run.name}: " if len(runs) > 1 else ""
        lines += [f"<li>{escape(prefix + note)}</li>" for note in run.notes]
    return f'<ul class="notes">{"".join(lines)}</ul>' if lines else ""


def facts(runs: Sequence[RunFiles]) -> str:
    """Network, data, losses, device and versions; a column a run."""
    columns = [_facts(run) for run in runs]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [(n, [column.get(n, NOTHING) for column in columns]) for n in names]
    return _table(runs, rows) if rows else ""


def _facts(run: RunFiles) -> dict[str, str]:
    config, known = flatten(run.config or {}), run.facts
    versions, sets = as_dict(known.get("versions")), as_dict(known.get("sets"))
    sets = sets or {"": known.get("data")}  # more than one of data.mix
    every = [as_dict(one) for one in sets.values()]
    named = (
        " ".join(str(one[k]) for k in ("name", "split") if one.get(k)) for one in every
    )
    steps = _number(config.get("steps"), ",", " steps")
    last = run.rows[-1] if run.rows else {}
    losses = as_dict((run.config or {}).get("losses")) or as_dict(last.get("losses"))
    average = _number(config.get("optimizer.ema") or None, "g")
    found = {
        "Network": config.get("model.name") or known.get("network"),
        "Parameters": _number(known.get("parameters"), ","),
        "Losses": ", ".join(losses),
        "Loss weights by": config.get("rebalance.rule"),
        "Skipped updates of them": _number(last.get("skipped_updates") or None, ","),
        "Training": steps and f"{steps} of {config.get('batch_size', '?')} images",
        "Data": ", ".join(filter(None, named)) or config.get("data.name"),
        "Training frames": _of_each(every, "train", ","),
        "Test frames": _of_each(every, "test", ","),
        "Pixels with depth": _of_each(every, "valid_share", ".1%"),
        "Median depth": _of_each(every, "median_depth", ".2f", " m"),
        "Evaluated weights": average and f"moving average, decay {average}",
        "Device": known.get("devices"),
        "Computed in": as_dict(known.get("computed_in")).get("dtype"),
        "Versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
    }
    return {name: str(value) for name, value in found.items() if value}


def _of_each(every: Sequence[dict], key: str, form: str, unit: str = "") -> str:
    """A number of each data set, in their order."""
    texts = (_number(one.get(key), form, unit) for one in every)
    return ", ".join(filter(None, texts))


def config(runs: Sequence[RunFiles]) -> str:
    """The keys that are not the defaults' first, then all; keys by row."""
    if not any(run.config for run in runs):
        return '<p class="note">No config was found.</p>'
    # As JSON gives it back: tuples are lists.
    defaults = flatten(json.loads(json.dumps(base().to_dict())))
    configs = [flatten(run.config or {}) for run in runs]
    names = sorted({name for one in configs for name in one} | defaults.keys())
    rows = {n: [_text(c.get(n)) for c in (*configs, defaults)] for n in names}
    changed = {
        name: cells
        for name, cells in rows.items()
        if any(name in c and c[name] != defaults.get(name) for c in configs)
    }
    return (
        "<details open><summary>Config: what differs from the defaults "
        f"({len(changed)} keys)</summary>"
        f"{_table(runs, changed.items(), extra='default')}</details>"
        f"<details><summary>Config: all {len(rows)} keys</summary>"
        f"{_table(runs, rows.items(), extra='default')}</details>"
    )


def _text(value: Any) -> str:
    return NOTHING if value is None else json.dumps(value, ensure_ascii=False)


def _table(runs: Sequence[RunFiles], rows: Iterable[tuple], *, extra: str = "") -> str:
    """Names by row, runs by column; rows in which the runs differ are marked."""
    titles = [run.name for run in runs] if len(runs) > 1 else ["value"]
    head = "".join(f'<th scope="col">{escape(t)}</th>' for t in (*titles, extra) if t)
    body = ""
    for name, values in rows:
        mark = ' class="differs"' if len(set(values[: len(runs)])) > 1 else ""
        cells = "".join(f"<td>{escape(v)}</td>" for v in values)
        body += f'<tr{mark}><th scope="row">{escape(name)}</th>{cells}</tr>'
    head = f"<thead><tr><td></td>{head}</tr></thead>" if len(runs) > 1 or extra else ""
    return (
        f'<div class="scroll"><table class="facts">{head}<tbody>{body}</tbody></table>'
        "</div>"
    )


# Of AMLR's Tables 1 and 4: key, heading and whether less is better.
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
# Parts of a protocol that published rows beside it need not share.
FREE = ("test_mode", "windows", "window_form", "median_depth")


def metrics(runs: Sequence[RunFiles]) -> str:
    """All tables, or a line that there is nothing to tabulate."""
    groups: dict[str, list[RunFiles]] = {}
    every = (one for run in runs for one in (run, *_other_sets(run)))
    for run in every:
        if run.evaluation:
            groups.setdefault(_identity(run.evaluation), []).append(run)
    if not groups:
        return '<p class="note">No run has been evaluated yet.</p>'
    text = "".join(map(_metric_table, groups.values()))
    if len(groups) == 1:
        return text
    return (
        '<p class="note">These runs were measured by different protocols, whose values '
        f"cannot be compared: one table each.</p>{text}"
    )


def _other_sets(run: RunFiles) -> Iterable[RunFiles]:
    """The run as measured on the sets of data.mix after the first."""
    whole = as_dict(run.evaluation)
    for label, found in as_dict(whole.get("sets")).items():
        parts = (as_dict(found).get(k) for k in ("metrics", "constant", "protocol"))
        if all(isinstance(part, dict) for part in parts):
            found = found | {"step": whole.get("step")}
            yield run._replace(name=f"{run.name} on {label}", evaluation=found)


def _identity(evaluation: dict) -> str:
    """The same for runs that may be compared: one protocol, one number of frames.

    The constant, which is of the training frames, may differ.
    """
    protocol = _without(evaluation["protocol"], ("median_depth", "window_form"))
    frames = [evaluation.get(k) for k in ("frames", "frames_without_depth")]
    return json.dumps([protocol, frames], sort_keys=True)


def _without(protocol: dict, names: Sequence[str]) -> dict:
    return {k: v for k, v in protocol.items() if k not in names}


def _metric_table(runs: Sequence[RunFiles]) -> str:
    rows = [(_network(run), run.evaluation["metrics"], "network") for run in runs]
    rows += _constants(runs)
    best = {key: _best([v for _, v, _ in rows], key, less) for key, _, less in COLUMNS}
    body = "".join(_line(name, v, css, best) for name, v, css in rows)
    published = dict(row for run in runs for row in _published(run))
    body += "".join(_line(n, v, "published", {}) for n, v in published.items())
    head = "".join(
        f'<th scope="col">{name} <span class="arrow" aria-label="'
        f'{"less" if less else "more"} is better">{"↓" if less else "↑"}</span></th>'
        for _, name, less in COLUMNS
    )
    return (
        f'<div class="scroll"><table class="metrics"><thead><tr>'
        f'<th scope="col">Method</th>{head}</tr></thead><tbody>{body}</tbody></table>'
        f'</div><p class="protocol">{escape(_protocol(runs[0].evaluation))}</p>'
    )


def _network(run: RunFiles) -> str:
    name, step = escape(run.name), run.evaluation.get("step")
    if step is None:
        return name
    return f"{name} <small>after step {escape(str(step))}</small>"


def _constants(runs: Sequence[RunFiles]) -> list[tuple[str, dict, str]]:
    found: dict[str, dict] = {}
    for run in runs:
        depth = run.evaluation["protocol"].get("median_depth")
        label = f"constant {depth:.2f} m" if is_number(depth) else "constant"
        found.setdefault(label, run.evaluation["constant"])
    return [(label, values, "constant") for label, values in found.items()]


def _published(run: RunFiles) -> list[tuple[str, dict]]:
    """The rows in run.json, if they are for the protocol of evaluation.json.

    The test mode may differ; each row names its own.
    """
    kept = as_dict(run.facts.get("published"))
    theirs, ours = as_dict(kept.get("protocol")), run.evaluation["protocol"]
    if _without(theirs, FREE) != _without(ours, FREE):
        return []
    return [
        (f"{escape(m)} <small>{escape(s)}, test mode {escape(t)}</small>", values)
        for m, s, t, values in kept.get("rows", ())
    ]


def _best(rows: list[dict], key: str, less: bool) -> str | None:
    """The best cell as printed, so that all that look equal are bold."""
    values = [row[key] for row in rows if is_number(row.get(key))]
    return _cell((min if less else max)(values)) if values else None


def _cell(value: Any) -> str:
    return _number(value, ".3f") or NOTHING


def _line(name: str, values: dict, css: str, best: dict) -> str:
    cells = []
    for key, _, _ in COLUMNS:
        value, text = values.get(key), _cell(values.get(key))
        if is_number(value):
            shown = f"<strong>{text}</strong>" if best.get(key) == text else text
            text = f'<data value="{value!r}">{shown}</data>'
        cells.append(f"<td>{text}</td>")
    return f'<tr class="{css}"><th scope="row">{name}</th>{"".join(cells)}</tr>'


def _protocol(evaluation: dict) -> str:
    """Which frames, pixels and depths a table is about, in one line."""
    parts = (f"{k} {v}" for k, v in evaluation["protocol"].items())
    text = str(evaluation.get("described") or ", ".join(parts))
    text += f", {evaluation.get('frames', '?')} frames"
    if evaluation.get("frames_without_depth"):
        text += f", {evaluation['frames_without_depth']} without depth"
    return text
