"""The files of a run, read for its page: what is missing or damaged is a note there."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from amlr_jax.report import keep
from amlr_jax.runtime.errors import InputError, preview

CONFIG = "config.json"
METRICS = "metrics.jsonl"
RESULT = "evaluation.json"


class Run(NamedTuple):
    """One workdir; what could not be read is None or empty, and `notes` say why."""

    name: str
    config: dict | None
    facts: dict
    rows: list[dict]  # of metrics.jsonl, those that are whole
    evaluation: dict | None
    frames: list[keep.Kept]
    notes: list[str]


def gather(folders: Sequence[Path]) -> list[Run]:
    """Reads each workdir; InputError for a folder that is no run."""
    for folder in folders:
        _require_run(folder)
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError("a workdir is named twice; name each run once")
    return [_read(f, name) for f, name in zip(folders, _names(folders), strict=True)]


def _require_run(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"workdir '{folder}' is not a folder")
    if not any((folder / name).is_file() for name in (CONFIG, METRICS, RESULT)):
        raise InputError(
            f"workdir '{folder}' holds no run: none of {CONFIG}, {METRICS}, {RESULT}; "
            "name the --workdir of amlr_jax.main or amlr_jax.evaluate"
        )


def _names(folders: Sequence[Path]) -> list[str]:
    """The last parts of each path, as many as make them differ."""
    parts = [folder.resolve().parts for folder in folders]
    length = 1
    while len({p[-length:] for p in parts}) < len(parts):
        length += 1
    return ["/".join(p[-length:]) for p in parts]


def _read(folder: Path, name: str) -> Run:
    notes: list[str] = []
    config = _json(folder / CONFIG, notes)
    facts = _json(folder / keep.FACTS, notes, missing="no versions, devices, data")
    rows = read_metrics(folder / METRICS, notes)
    evaluation = _evaluation(folder / RESULT, notes)
    return Run(
        name, config, facts or {}, rows, evaluation, _frames(folder, notes), notes
    )


def _json(path: Path, notes: list[str], *, missing: str = "") -> dict | None:
    """The object in a file, or None and a note."""
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        notes.append(f"{path.name} is missing" + (f": {missing}" if missing else ""))
        return None
    except (OSError, ValueError) as error:
        notes.append(f"{path.name} is damaged: {error}")
        return None
    if not isinstance(value, dict):
        notes.append(f"{path.name} is damaged: it holds no object")
        return None
    return value


def _evaluation(path: Path, notes: list[str]) -> dict | None:
    if not path.is_file():
        notes.append(f"not evaluated yet: {path.name} is missing")
        return None
    value = _json(path, notes)
    parts = ("metrics", "constant", "protocol")
    if value and not all(isinstance(value.get(part), dict) for part in parts):
        notes.append(f"{path.name} is damaged: it needs {', '.join(parts)}")
        return None
    return value


def _frames(folder: Path, notes: list[str]) -> list[keep.Kept]:
    path = folder / keep.FRAMES
    if not path.is_file():
        notes.append(
            f"no frames to show: {path.name} is missing; the end of a run leaves it "
            "unless eval.pictures is 0"
        )
        return []
    try:
        return keep.load_frames(path)
    except ValueError as error:
        notes.append(f"{path.name} is damaged: {error}")
        return []


def read_metrics(path: Path, notes: list[str]) -> list[dict]:
    """The whole lines of metrics.jsonl in order of step; damaged ones are noted."""
    if not path.is_file():
        notes.append(f"no curves: {path.name} is missing")
        return []
    rows, damaged = [], []
    text = path.read_text(errors="replace")
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        row = _row(line)
        if row is None:
            damaged.append(number)
        else:
            rows.append(row)
    if damaged:
        word = "lines" if len(damaged) > 1 else "line"
        notes.append(
            f"{path.name}: {word} {preview(damaged, limit=5)} damaged and left out"
        )
    if not rows:
        notes.append(f"no curves: {path.name} has no whole line")
    return sorted(rows, key=lambda row: row["step"])


def _row(line: str) -> dict | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and is_number(row.get("step")) else None


def is_number(value: Any) -> bool:
    """Whether it is a finite number, and no bool."""
    return type(value) in (int, float) and math.isfinite(value)


def flat(tree: dict, *, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, with dots in the names."""
    found = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            found |= flat(value, prefix=f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
