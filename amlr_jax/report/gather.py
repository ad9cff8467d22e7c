"""The files of a run, read for its page; missing and damaged ones are notes there.

Of a checkpoint, chosen as WORKDIR@STEP or WORKDIR@best, the page shows the losses up to
it, the metrics that were saved with it, and frames only if they are of its step.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from amlr_jax.checkpoints import disk
from amlr_jax.report import keep
from amlr_jax.runtime import workdir
from amlr_jax.runtime.errors import InputError, preview


class RunFiles(NamedTuple):
    """One workdir; what could not be read is None or empty, and `notes` say why."""

    name: str
    config: dict | None = None
    facts: dict = {}
    rows: Sequence[dict] = ()  # the whole lines of metrics.jsonl
    evaluation: dict = {}
    frames: Sequence[keep.Kept] = ()
    notes: Sequence[str] = ()


def gather(paths: Sequence[Path]) -> list[RunFiles]:
    """Reads each workdir; InputError for a folder that is no run."""
    needed = workdir.CONFIG, workdir.METRICS, workdir.EVALUATION
    chosen = [disk.chosen(path) for path in paths]
    folders = [disk.place_of(path)[0] for path in paths]
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"workdir '{folder}' is not a folder")
        if not any((folder / name).is_file() for name in needed):
            raise InputError(
                f"workdir '{folder}' holds no run: none of {', '.join(needed)}; name "
                "the --workdir of amlr_jax.main or amlr_jax.evaluate"
            )
    real = [folder.resolve() for folder in folders]
    if len({*zip(real, chosen, strict=True)}) < len(paths):
        raise InputError("a workdir is named twice; name each run once")
    names = dict(zip(unique := [*dict.fromkeys(folders)], _names(unique), strict=True))
    runs = {folder: _read(folder, names[folder]) for folder in unique}
    return [
        _at(runs[folder], checkpoint) if checkpoint else runs[folder]
        for folder, checkpoint in zip(folders, chosen, strict=True)
    ]


def _at(run: RunFiles, checkpoint: Path) -> RunFiles:
    """What is known of one checkpoint of a run."""
    step, notes, measured = int(checkpoint.name), list(run.notes), None
    try:
        measured = disk.record(checkpoint).get("metrics")
    except (OSError, ValueError) as error:
        notes.append(f"checkpoint {step} is damaged: {error}")
    result = run.evaluation
    if measured and result:
        result = {**result, "metrics": measured, "step": step}
    elif result and result.get("step") != step:
        result = {}
        notes.append(
            f"checkpoint {step} was not measured: run amlr_jax.evaluate with "
            f"--checkpoint=DIR@{step} and another --workdir, and name that here"
        )
    frames = [frame for frame in run.frames if frame.step == step]
    if run.frames and not frames:
        notes.append(f"{workdir.FRAMES} is of another step: no frames to show")
    rows = [row for row in run.rows if row["step"] <= step]
    return RunFiles(
        f"{run.name}@{step}", run.config, run.facts, rows, result, frames, notes
    )


def _names(folders: Sequence[Path]) -> list[str]:
    """The last parts of each path, as many as make them differ."""
    parts = [folder.resolve().parts for folder in folders]
    length = 1
    while len({p[-length:] for p in parts}) < len(parts):
        length += 1
    return ["/".join(p[-length:]) for p in parts]


def _read(folder: Path, name: str) -> RunFiles:
    notes: list[str] = []

    config = _noted(folder / workdir.CONFIG, notes)
    facts = _noted(folder / workdir.FACTS, notes, ": no versions, devices, data")
    rows = read_metrics(folder / workdir.METRICS, notes)
    untested = as_dict((facts or {}).get("data")).get("test") == 0
    if untested and not (folder / workdir.EVALUATION).is_file():
        notes.append("no test frame to measure or show; amlr_jax.predict shows depth")
        return RunFiles(name, config, facts or {}, rows, {}, [], notes)
    result = _noted(folder / workdir.EVALUATION, notes, ": not evaluated yet")
    parts = ("metrics", "constant", "protocol")
    if result and not all(isinstance(result.get(part), dict) for part in parts):
        notes.append(f"{workdir.EVALUATION} is damaged: it needs {', '.join(parts)}")
        result = None
    none = ": no frames to show; a run writes it at its end unless eval.pictures is 0"
    frames = _noted(folder / workdir.FRAMES, notes, none, read=keep.load_frames) or []
    return RunFiles(name, config, facts or {}, rows, result or {}, frames, notes)


def _noted(
    path: Path, notes: list[str], missing: str = "", *, read: Callable | None = None
) -> Any:
    """What `read`, or else JSON, finds in a file; None and a note of what is wrong."""
    if not path.is_file():
        notes.append(f"{path.name} is missing{missing}")
        return None
    try:
        return (read or _object)(path)
    except (OSError, ValueError) as error:
        notes.append(f"{path.name} is damaged: {error}")
        return None


def _object(path: Path) -> dict:
    value = json.loads(path.read_text())
    if not isinstance(value, dict):
        raise ValueError("it holds no object")
    return value


def read_metrics(path: Path, notes: list[str]) -> list[dict]:
    """The whole lines of metrics.jsonl in order of step; damaged ones are noted."""
    if not path.is_file():
        notes.append(f"{path.name} is missing: no curves")
        return []
    lines = path.read_text(errors="replace").split("\n")
    found = {n: _row(line) for n, line in enumerate(lines, start=1) if line.strip()}
    damaged = [number for number, row in found.items() if row is None]
    rows = [row for row in found.values() if row is not None]
    if damaged:
        word = "lines" if len(damaged) > 1 else "line"
        which = preview(damaged, limit=5)
        notes.append(f"{path.name}: {word} {which} damaged and left out")
    if not rows:
        notes.append(f"{path.name} has no whole line: no curves")
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


def as_dict(value: Any) -> dict:
    """The value if it is a dictionary, else an empty one."""
    return value if isinstance(value, dict) else {}
