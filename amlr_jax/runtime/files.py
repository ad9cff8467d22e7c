"""Files that are written whole or not at all, folders that can be written, and the
differences of two nested dictionaries, as configs and records are.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from amlr_jax.runtime.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write a file or folder to; it becomes `path` at the end.

    It has the suffix of `path`, because libraries choose the format by it, and is
    hidden. If the block fails, it is removed and `path` is as it was. A file is
    flushed to the disk first, so a power cut leaves the old or the new one.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        if temporary.is_file():
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        remove(temporary)
        raise


@contextmanager
def refused(what: str, error: type[InputError] = InputError) -> Iterator[None]:
    """An OSError of the block as an `error` that says why `what` cannot be written."""
    try:
        yield
    except OSError as reason:
        raise error(f"{what} cannot be written: {reason.strerror}") from reason


def remove(path: Path) -> None:
    """Deletes a file or a folder that may not be there; errors of the disk pass."""
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def write_text(path: Path, text: str) -> None:
    """Writes the file whole or not at all, in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path, *keys: str, remedy: str = "create it again") -> dict:
    """The JSON object in a file; InputError if it is damaged or lacks one of `keys`."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in keys if key not in found]
        why = f"it has no {', '.join(missing)}" if missing else ""
    except (OSError, ValueError, TypeError) as error:
        why = str(error)
    if why:
        raise InputError(f"'{path}' is damaged: {why}; {remedy}")
    return found


def make_writable(folder: Path, *, option: str = "workdir") -> None:
    """Makes the folder; InputError, which names `--<option>`, if it is not writable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"{option} '{folder}' cannot be written: {error.strerror}; "
            f"choose another with --{option}=DIR"
        ) from error


def check_writable(path: Path, *, option: str) -> None:
    """Raises InputError if neither `path` nor a folder that would hold it is writable.

    Makes nothing, for commands that must not leave a folder behind when they fail.
    """
    above = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not above.is_dir() and above != path:
        raise InputError(f"--{option} '{path}' cannot be made: '{above}' is a file")
    above = above if above.is_dir() else above.parent
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(
            f"--{option} '{path}' cannot be written: no permission in '{above}'"
        )


def flatten(tree: Mapping[str, Any], *, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} to {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, prefix=f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """{dotted key: (old, new)} of what differs, as JSON keeps it; None: not there."""
    old, new = (flatten(json.loads(json.dumps(tree))) for tree in (old, new))
    keys = sorted(old.keys() | new.keys())
    return {k: (old.get(k), new.get(k)) for k in keys if old.get(k) != new.get(k)}


def changed(name: str, old: Any, new: Any) -> str:
    """One of the `differences` in words; what is empty is "not set"."""
    shown = [
        "not set" if value in ("", None, [], {}) else value for value in (old, new)
    ]
    return f"{name} was {shown[0]}, now {shown[1]}"
