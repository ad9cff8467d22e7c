"""Whether a checkpoint on disk is what was saved.

Twice: once written, its arrays are read back and their fingerprints compared with the
device's (`read_back`), and the checksum of every file is put beside them; before it is
used, the files are compared with those (`damage`), which costs one reading of them.
"""

import functools
import json
import os
import zlib
from pathlib import Path

import tensorstore

from amlr_jax.checkpoints import array_store, fingerprint
from amlr_jax.checkpoints import files as steps

BLOCK = 1 << 20  # bytes read at a time


def read_back(path: Path, record: dict, *, write: bool = True) -> str:
    """Why the checkpoint differs from the record of what was saved; "" if it does not.

    Then its checksums are written. Reads each array once, one after the other.
    """
    try:
        sums = checksums(path)  # before the arrays: what was compared is what stays
        found = steps.record(path)
        if any(found.get(k) != v for k, v in record.items() if k != "metrics"):
            return "its record is another one"
        different = _different_arrays(path / "state", record["leaves"])
    except (OSError, ValueError, KeyError) as error:
        return array_store.reason(error)
    if different:
        return f"{different} was read back with other values than were saved"
    if write:
        _write(path, sums)
    return ""


def _write(path: Path, sums: dict) -> None:
    try:
        steps.write_json(path / steps.CHECKSUMS, sums)
    except OSError:
        return  # a full disk: the next start reads this checkpoint back again


def _different_arrays(state: Path, leaves: dict[str, list]) -> str:
    """The name of the first array on disk that is not what the record says."""
    form = json.loads((state / "_METADATA").read_text())
    zarr = "zarr3" if form.get("use_zarr3") else "zarr"
    context = tensorstore.Context({"cache_pool": {"total_bytes_limit": 64 << 20}})
    for name, (_, _, wanted) in leaves.items():
        store = {"driver": "ocdbt", "base": f"file://{state}/", "path": f"{name}/"}
        if not form.get("use_ocdbt", True):
            store = {"driver": "file", "path": f"{state / name}/"}
        spec = {"driver": zarr, "kvstore": store}
        array = tensorstore.open(spec, context=context, open=True, read=True).result()
        if fingerprint.of_array(array.read().result()) != wanted:
            return name
    return ""


def checksums(path: Path) -> dict[str, list[int]]:
    """{file: [bytes, CRC-32]} of all that was there when the checkpoint was saved."""
    return {name: [file.stat().st_size, _crc(file)] for name, file in _files(path)}


def _files(path: Path) -> list[tuple[str, Path]]:
    files = (Path(top, name) for top, _, names in os.walk(path) for name in names)
    named = sorted((str(file.relative_to(path)), file) for file in files)
    ours = (steps.CHECKSUMS, steps.METRICS)
    return [(n, f) for n, f in named if n not in ours and not n.startswith(".")]


def _crc(file: Path) -> int:
    value = 0
    with file.open("rb", buffering=0) as opened:
        while block := opened.read(BLOCK):
            value = zlib.crc32(block, value)
    return value


def newest_good(
    folder: Path, *, bad: dict[str, str] | None = None, write: bool = False
) -> tuple[Path | None, dict[str, str]]:
    """The newest checkpoint without `damage`, and why all newer ones are bad, by name.

    `bad` are known to be. None: no checkpoint is good, or there is none.
    """
    bad = dict(bad or {})
    for path in reversed(steps.steps(folder)):
        if path.name not in bad:
            why = damage(path, write=write)
            if not why:
                return path, bad
            bad[path.name] = why
    return None, bad


def damage(path: Path, *, write: bool = False) -> str:
    """Why a checkpoint cannot be used; "" if its files are what was written.

    One that was not read back before its process ended is now, and with `write` this is
    remembered. Of one made by earlier versions nothing is known but that it is there.
    """
    try:
        seen = tuple((str(p), *_state_of(p)) for p in sorted(path.rglob("*")))
    except OSError as error:
        return array_store.reason(error)
    return _damage(path, seen, write=write)


def _state_of(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


@functools.lru_cache(maxsize=64)
def _damage(path: Path, seen: tuple, *, write: bool) -> str:
    """For files last `seen` like this: they are not read twice by one process."""
    del seen
    try:
        record = steps.record(path)
    except FileNotFoundError as error:
        return f"{Path(error.filename).relative_to(path)} is missing"
    except (OSError, ValueError) as error:
        return f"its record cannot be read: {array_store.reason(error)}"
    if (path / steps.CHECKSUMS).exists():
        return _differing_file(path)
    return read_back(path, record, write=write) if "leaves" in record else ""


def _differing_file(path: Path) -> str:
    """The first file that is not what its checksum says, and how."""
    try:
        wanted = json.loads((path / steps.CHECKSUMS).read_text())
        wanted = {name: (int(size), int(crc)) for name, (size, crc) in wanted.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return f"{steps.CHECKSUMS} cannot be read"
    try:
        for name, (size, crc) in wanted.items():
            found = (path / name).stat().st_size
            if found != size:
                return f"{name} has {found} bytes of {size}"
            if _crc(path / name) != crc:
                return f"{name} has changed"
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as error:
        return f"{name}: {array_store.reason(error)}"
    return ""
