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
import functools
import json
import math
import os
import re
import zlib
from pathlib import Path

from amlr_jax.runtime import files, workdir
from amlr_jax.runtime.errors import InputError, preview

STATE = "state"
DATA = "data"
METRICS = "metrics.json"
CHECKSUMS = "checksums.json"
BAD = "bad."
DELETED = "deleted."
BLOCK = 1 << 20  # bytes read at a time
BEST = "best"
HUB = "hf:/"  # as a Path keeps hf://
HIGHER_IS_BETTER = ("d1", "d2", "d3")  # accuracies; all other metrics are errors
_CHOICE = re.compile(rf"(.*?)/*@(\d+|{BEST})")


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is or will be."""
    return folder / f"{step:08d}"


def all_of(folder: Path) -> list[Path]:
    """The finished checkpoints, oldest first, good or not."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if p.name.isdigit() and p.is_dir()]
    return sorted(found, key=lambda path: int(path.name))


def place_of(path: Path) -> tuple[Path, str]:
    """The folder and the choice of a user's DIR, DIR@STEP, DIR@best or hf://REPO.

    The choice is "", for the newest, "best" or the digits of a step. A folder whose own
    name ends like that is meant itself. REPO or REPO@REVISION of the Hugging Face hub
    is downloaded, once per process, to the cache of `huggingface_hub`.

    >>> place_of(Path("runs/kitti@741"))
    (PosixPath('runs/kitti'), '741')
    """
    if str(path).startswith(HUB):
        return _downloaded(str(path).removeprefix(HUB).lstrip("/")), ""
    found = _CHOICE.fullmatch(str(path))
    if path.exists() or not found:
        return path, ""
    return Path(found[1] or "."), found[2]


@functools.cache
def _downloaded(name: str) -> Path:
    """The files of a repository of the hub that `amlr_jax.share` wrote."""
    repository, _, revision = name.partition("@")
    files = ["*.json", "*.safetensors"]  # no code and no pickles
    try:
        from huggingface_hub import snapshot_download

        options: dict = {"revision": revision or None, "allow_patterns": files}
        return Path(snapshot_download(repository, **options))
    except ImportError as error:
        raise InputError(
            f"hf://{name} needs huggingface_hub: pip install 'amlr_jax[hub]'"
        ) from error
    except (OSError, ValueError, RuntimeError) as error:  # of the net, name and token
        line = str(error).strip().splitlines()[0]
        raise InputError(f"hf://{name} cannot be read: {line[:200]}") from error


def candidates(path: Path) -> list[Path]:
    """The checkpoints that a user's DIR, DIR@STEP or DIR@best may mean, best first.

    They are the finished ones from the newest, or the one that is chosen, good or not.
    InputError if there is none of that choice.
    """
    folder, choice = place_of(path)
    found = all_of(folder / workdir.CHECKPOINTS)
    if not choice:
        return found[::-1]
    if choice == BEST:
        return [_best(folder, found)]
    named = [one for one in found if int(one.name) == int(choice)]
    if not named:
        steps = preview((int(one.name) for one in found), limit=10) or "none"
        raise InputError(
            f"workdir '{folder}' has no checkpoint of step {choice}, only {steps}"
        )
    return named


def chosen(path: Path) -> Path | None:
    """The checkpoint of DIR@STEP or DIR@best; None for DIR. InputError as above."""
    return candidates(path)[0] if place_of(path)[1] else None


def _best(folder: Path, found: list[Path]) -> Path:
    """The checkpoint with the best metric `checkpoint.best_by`; of equals the last."""
    ranked = []
    for path in found:
        with contextlib.suppress(OSError, ValueError):  # its damage is told elsewhere
            known = record(path)
            rules = (known.get("config") or {}).get("checkpoint", {})
            by = rules.get("best_by", "abs_rel")
            value = known.get("metrics", {}).get(by, math.nan)
            if math.isfinite(value):
                ranked.append((value if by in HIGHER_IS_BETTER else -value, path))
    if not ranked:
        raise InputError(
            f"no checkpoint of workdir '{folder}' was measured, so none is the best; "
            "train with --config.checkpoint.best=1, or choose a step: "
            f"'{folder}@{int(found[-1].name) if found else 'STEP'}'"
        )
    return max(ranked, key=lambda one: (one[0], int(one[1].name)))[1]


def record(path: Path) -> dict:
    """What was saved beside the arrays; OSError or ValueError if it cannot be read.

    step, batches   optimizer steps taken and batches consumed
    time            of saving, seconds since 1970
    config          of the run, or None
    metrics         {name: number}, measured before or after saving
    leaves          {name: [shape, dtype]}
    """
    found = json.loads((path / DATA / "metadata").read_text())
    if not isinstance(found, dict) or not {"batches", "leaves"} <= found.keys():
        raise ValueError("it is not whole")
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

    Reads all of it.
    """
    name = f"{DATA}/metadata"
    try:
        record(path)
        name = CHECKSUMS
        for name, (size, crc) in json.loads((path / CHECKSUMS).read_text()).items():
            found = _checksum(path / name)
            if found[0] != size:
                return f"{name} has {found[0]} bytes of {size}"
            if found[1] != crc:
                return f"{name} has changed"
    except FileNotFoundError:
        return f"{name} is missing"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"{name} cannot be read: {reason(error)}"
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
    for path in (*folder.glob(f"{DELETED}*"), *unfinished(folder / "*")):
        files.remove(path)


def unfinished(path: Path) -> list[Path]:
    """What orbax has written of a folder whose saving did not end; "*" is a pattern."""
    return list(path.parent.glob(f"{path.name}.orbax-checkpoint-tmp*"))


def reason(error: Exception) -> str:
    """The operating system's reason, which the array store puts into its own text."""
    code = re.search(r"os_error_code='(\d+)'", str(error))
    if code:
        return os.strerror(int(code[1]))
    return getattr(error, "strerror", None) or str(error).splitlines()[0]
