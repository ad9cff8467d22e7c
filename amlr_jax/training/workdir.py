"""The folder of a run: one config's, and left as it was if the run cannot start."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from amlr_jax.errors import InputError, preview

CONFIG = "config.json"
CHECKPOINTS = "checkpoints"
# What may differ when a run goes on: it does not touch what is learnt.
FREE = ("checkpoint", "log", "eval", "steps", "data.root", "data.cache")
FREE += ("data.threads", "data.workers", "parallel", "max_skipped")


@contextmanager
def claim(folder: Path, config: dict) -> Iterator[None]:
    """Makes `folder` this run's; on InputError inside, removes what it made.

    Raises InputError if the folder cannot be written or holds another run.
    """
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        make_writable(folder)
        check_same_run(folder, config)
        yield
    except InputError:
        _remove_empty(made)
        raise


def make_writable(folder: Path) -> None:
    """Makes the folder; InputError if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"workdir '{folder}' cannot be written: {error.strerror}; "
            "choose another with --workdir=DIR"
        ) from error


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:  # innermost first
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def check_same_run(folder: Path, config: dict) -> None:
    """Raises InputError if `folder` holds a run of another config."""
    path = folder / CONFIG
    if not path.is_file():
        if (folder / CHECKPOINTS).exists():
            raise InputError(
                f"workdir '{folder}' holds checkpoints but no {CONFIG}, so they are "
                "another run's; choose another with --workdir=DIR"
            )
        return
    old, new = _flat(_load(path)), _flat(json.loads(json.dumps(config)))
    names = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
    differing = [name for name in names if not _is_free(name)]
    if differing:
        changes = (f"{k} was {old.get(k)}, now {new.get(k)}" for k in differing)
        raise InputError(
            f"workdir '{folder}' holds another run ({preview(changes, limit=6)}); "
            "choose another with --workdir=DIR or repeat its config"
        )


def _is_free(name: str) -> bool:
    return any(name == free or name.startswith(free + ".") for free in FREE)


def _load(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise InputError(
            f"'{path}' is not JSON ({error}); the run is damaged"
        ) from error


def _flat(tree: dict, *, prefix: str = "") -> dict:
    flat = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, prefix=f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def write_json(path: Path, value) -> None:
    """Writes the file whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(temporary, path)
