"""The folder of a run's checkpoints as files, without orbax.

00000500/state        the arrays, by orbax
00000500/data         a record of JSON: what `record` returns
00000500/metrics.json metrics measured after it was saved, if any
00000500/checksums.json  of every file, written once it has been read back
bad.00000500          a damaged one, put aside and never read
deleted.00000500, 00000500.orbax-checkpoint-tmp*   on their way out or in
"""

import contextlib
import json
import os
import shutil
from pathlib import Path

METRICS = "metrics.json"
CHECKSUMS = "checksums.json"
BAD = "bad."
DELETED = "deleted."


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is or will be."""
    return folder / f"{step:08d}"


def steps(folder: Path) -> list[Path]:
    """The checkpoints that are there as a whole, oldest first; not looked into."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if p.name.isdigit() and p.is_dir()]
    return sorted(found, key=step_of)


def step_of(path: Path) -> int:
    """The optimizer step of a checkpoint."""
    return int(path.name)


def newest(folder: Path) -> int | None:
    """The step of the newest checkpoint."""
    found = steps(folder)
    return step_of(found[-1]) if found else None


def unfinished(folder: Path, step: int | None = None) -> list[Path]:
    """Halves of checkpoints, or of one step's: their saving did not come to its end."""
    name = "*" if step is None else path_of(folder, step).name
    return list(folder.glob(f"{name}.orbax-checkpoint-tmp*"))


def record(path: Path) -> dict:
    """What was saved beside the arrays; OSError or ValueError if it cannot be read.

        step, batches   taken and consumed
        time            of saving, seconds since 1970
        config          of the run, or None
        metrics         {name: number}, measured before or after saving
        leaves          {name: [shape, dtype, fingerprint]}

    Checkpoints made by earlier versions have batches alone.
    """
    found = json.loads((path / "data" / "metadata").read_text())
    if not isinstance(found, dict) or "batches" not in found:
        raise ValueError("its record has no batches")
    later = path / METRICS
    if later.is_file():
        with contextlib.suppress(ValueError):  # only the choice of the best needs it
            found["metrics"] = {**found.get("metrics", {}), **_read(later)}
    return found


def _read(path: Path) -> dict:
    return dict(json.loads(path.read_text()))


def config_of(folder: Path) -> dict | None:
    """The config that made the newest checkpoint in `folder`; None: not known."""
    for path in reversed(steps(folder)):
        with contextlib.suppress(OSError, ValueError):
            return record(path).get("config")
    return None


def write_json(path: Path, value) -> None:
    """Writes the file whole or not at all, and down to the disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w") as file:
            json.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def set_aside(path: Path) -> Path:
    """Renames a damaged checkpoint, in place of an earlier damaged one of that step."""
    aside = path.with_name(BAD + path.name)
    shutil.rmtree(aside, ignore_errors=True)
    return path.rename(aside)


def delete(path: Path) -> None:
    """Deletes a checkpoint; a kill meanwhile leaves no half of one."""
    going = path.with_name(DELETED + path.name)
    with contextlib.suppress(OSError):
        going = path.rename(going)
    shutil.rmtree(going, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed process left behind."""
    for path in (*folder.glob(f"{DELETED}*"), *unfinished(folder)):
        shutil.rmtree(path, ignore_errors=True)
