"""A folder of checkpoints as files: names, records, checksums, and what is damaged.

00000500/state         the arrays, by orbax
00000500/data          a record in JSON; see `record`
00000500/checksums.json   size and CRC-32 of every file above
00000500/metrics.json  metrics measured after saving, if any
bad.00000500           a damaged checkpoint in quarantine, never read
deleted.00000500       a pruned checkpoint, until its files are deleted
00000500.orbax-checkpoint-tmp*   a checkpoint while it is written

A checkpoint is renamed to its step once all of it is written, checksums included, so a
process that is killed leaves it whole or not at all.
"""

import contextlib
import json
import zlib
from pathlib import Path

from amlr_jax.checkpoints import arrays
from amlr_jax.runtime import files

STATE = "state"
DATA = "data"
METRICS = "metrics.json"
CHECKSUMS = "checksums.json"
BAD = "bad."
DELETED = "deleted."
BLOCK = 1 << 20  # bytes read at a time


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is or will be."""
    return folder / f"{step:08d}"


def all_of(folder: Path) -> list[Path]:
    """The finished checkpoints, oldest first, good or not."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if p.name.isdigit() and p.is_dir()]
    return sorted(found, key=lambda path: int(path.name))


def record(path: Path) -> dict:
    """What was saved beside the arrays; OSError or ValueError if it cannot be read.

        step, batches   optimizer steps taken and batches consumed
        time            of saving, seconds since 1970
        config          of the run, or None
        metrics         {name: number}, measured before or after saving
        leaves          {name: [shape, dtype]}; a third entry is of earlier versions

    The first checkpoints of this project have `batches` alone.
    """
    found = json.loads((path / DATA / "metadata").read_text())
    if not isinstance(found, dict) or "batches" not in found:
        raise ValueError("it has no number of batches")
    later = path / METRICS
    if later.is_file():
        with contextlib.suppress(ValueError):  # only the choice of the best needs it
            measured = dict(json.loads(later.read_text()))
            found["metrics"] = {**found.get("metrics", {}), **measured}
    return found


def config_of(folder: Path) -> dict | None:
    """The config of the newest checkpoint whose record is readable; None without."""
    for path in reversed(all_of(folder)):
        with contextlib.suppress(OSError, ValueError):
            return record(path).get("config")
    return None


def write_checksums(path: Path) -> None:
    """Writes the manifest: {file: [bytes, CRC-32]} of arrays and record."""
    found = sorted(p for name in (STATE, DATA) for p in (path / name).rglob("*"))
    sums = {str(p.relative_to(path)): _checksum(p) for p in found if p.is_file()}
    files.write_json(path / CHECKSUMS, sums)


def _checksum(path: Path) -> list[int]:
    value = 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            value = zlib.crc32(block, value)
    return [path.stat().st_size, value]


def damage(path: Path) -> str:
    """Why a checkpoint cannot be used; "" if its files are those that were written.

    Reads all of it. One without checksums is of an earlier version: only its record is
    read here, and damage of its arrays shows when they are restored.
    """
    name = f"{DATA}/metadata"
    try:
        record(path)
        name = CHECKSUMS
        if not (path / CHECKSUMS).exists():
            return ""
        for name, (size, crc) in json.loads((path / CHECKSUMS).read_text()).items():
            found = _checksum(path / name)
            if found[0] != size:
                return f"{name} has {found[0]} bytes of {size}"
            if found[1] != crc:
                return f"{name} has changed"
    except FileNotFoundError:
        return f"{name} is missing"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"{name} cannot be read: {arrays.reason(error)}"
    return ""


def quarantine(path: Path) -> Path:
    """Renames a damaged checkpoint, replacing an earlier damaged one of its step."""
    target = path.with_name(BAD + path.name)
    files.remove(target)
    return path.rename(target)


def delete(path: Path) -> None:
    """Deletes a checkpoint; a kill meanwhile leaves no half of one under its step."""
    target = path.with_name(DELETED + path.name)
    with contextlib.suppress(OSError):
        files.remove(path.rename(target))


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed process left half written or half deleted."""
    for path in (*folder.glob(f"{DELETED}*"), *arrays.unfinished(folder / "*")):
        files.remove(path)
