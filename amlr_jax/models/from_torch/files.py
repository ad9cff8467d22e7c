"""Files of PyTorch weights to NumPy arrays by name; nothing in a file is ever run.

PyTorch and safetensors are imported here alone, and only when a file is read.
"""

import hashlib
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from amlr_jax.runtime.errors import InputError, preview

WRAPPERS = ("state_dict", "model", "module")  # around the tensors, beside the optimizer
INSTALL = "pip install 'amlr_jax[convert]'"
CHUNK = 1 << 24  # bytes hashed at a time


class Weights(NamedTuple):
    """What the files held."""

    tensors: dict[str, np.ndarray]  # floats as float32
    extras: dict[str, int | float | bool]  # plain numbers beside the tensors
    sha256: dict[str, str]  # by the name of the file


class _Inert:
    """Stands for a harmless object that we do not need, and holds nothing."""

    def __new__(cls, *arguments: Any) -> "_Inert":
        del arguments
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        del state


# Objects that training scripts save beside the tensors. The name alone is known to the
# reader; the class that it means is not imported.
STAND_INS = {
    "yacs.config.CfgNode": OrderedDict,  # a dict with attributes
    "argparse.Namespace": OrderedDict,
    "numpy.core.multiarray.scalar": _Inert,
    "numpy._core.multiarray.scalar": _Inert,
    "numpy.dtype": _Inert,
    "numpy.dtypes.Float64DType": _Inert,
    "numpy.dtypes.Float32DType": _Inert,
}


def read(path: Path, *, advance: Callable[[], None] = lambda: None) -> Weights:
    """The tensors of a .safetensors file, or of a file that torch.save wrote.

    A dict under "state_dict", "model" or "module" is unwrapped, and a leading "module."
    of the names (DataParallel) is dropped. `advance` is called for every CHUNK bytes.
    Raises InputError for what is missing, damaged, no weights or holds code.
    """
    if path.is_dir():
        raise InputError(f"input '{path}' is a folder; give the file with the weights")
    if not path.is_file():
        raise InputError(f"no input file '{path}'")
    try:
        _check_kind(path)
        safe = path.suffix == ".safetensors"
        found = _read_safetensors(path) if safe else _unwrap(_read_torch(path), path)
        sha256 = {path.name: _hash(path, advance)}
    except OSError as error:
        raise _damaged(path, error.strerror) from error
    tensors, extras = _sort(found, path)
    return Weights(tensors, extras, sha256)


def read_folder(
    folder: Path,
    *,
    required: tuple[str, ...],
    optional: tuple[str, ...] = (),
    advance: Callable[[], None] = lambda: None,
) -> Weights:
    """The files <stem>.pth of a folder as one; names and extras become "<stem>:<name>".

    Raises InputError for a missing `required` stem, and as `read` does.
    """
    if not folder.is_dir():
        needed = ", ".join(f"{stem}.pth" for stem in required)
        what = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"input '{folder}' {what}; give the folder with {needed}")
    tensors, extras, sha256 = {}, {}, {}
    for stem in (*required, *optional):
        path = folder / f"{stem}.pth"
        if stem in optional and not path.exists():
            continue
        one = read(path, advance=advance)
        tensors |= {f"{stem}:{name}": value for name, value in one.tensors.items()}
        extras |= {f"{stem}:{name}": value for name, value in one.extras.items()}
        sha256 |= one.sha256
    return Weights(tensors, extras, sha256)


def _check_kind(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(64).lstrip().lower()
    if not head:
        raise InputError(f"input '{path}' is empty; download it again")
    if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise InputError(
            f"input '{path}' is a web page and no weights: the download went to a "
            "page that asks for something; open the link in a browser"
        )
    if head.startswith(b"version https://git-lfs"):
        raise InputError(
            f"input '{path}' is a Git LFS pointer and no weights; run git lfs pull"
        )


def _hash(path: Path, advance: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            advance()
    return digest.hexdigest()


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError as error:
        raise InputError(f"'{path}' needs safetensors: {INSTALL}") from error
    try:
        return load_file(path)  # bfloat16 is known to NumPy since jax was imported
    except SafetensorError as error:
        raise _damaged(path, error) from error


def _read_torch(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise InputError(f"'{path}' needs PyTorch to be read: {INSTALL}") from error
    stand_ins: list = [(kind, name) for name, kind in STAND_INS.items()]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from error
    except (EOFError, RuntimeError, ValueError, LookupError, AttributeError) as error:
        raise _damaged(path, error) from error


def _refused(path: Path, error: Exception) -> InputError:
    code = re.search(r"GLOBAL ([\w.]+)", str(error))
    if code is None:
        return _damaged(path, "no file of torch.save")
    return InputError(
        f"input '{path}' holds code ({code[1]}) and was not run; give a file with the "
        "tensors alone, as torch.save(model.state_dict(), FILE) writes it"
    )


def _damaged(path: Path, why: Any) -> InputError:
    line = str(why).splitlines()[0] if str(why) else "it ends early"
    return InputError(
        f"input '{path}' cannot be read, it is cut off, damaged or no weights "
        f"({line[:100].rstrip('.')}); download it again"
    )


def _unwrap(found: Any, path: Path) -> dict[str, Any]:
    """The dict that holds the tensors, by name without "module."."""
    while isinstance(found, dict):
        inner = [found[key] for key in WRAPPERS if isinstance(found.get(key), dict)]
        if not inner:
            break
        found = inner[0]
    if not isinstance(found, dict):
        raise InputError(
            f"input '{path}' holds {type(found).__name__}, not tensors by name; save "
            "them with torch.save(model.state_dict(), FILE)"
        )
    return {str(name).removeprefix("module."): value for name, value in found.items()}


def _sort(found: dict[str, Any], path: Path) -> tuple[dict, dict]:
    """Arrays, and plain numbers; other things beside the tensors are left out."""
    tensors, extras = {}, {}
    for name, value in found.items():
        if isinstance(value, bool | int | float):
            extras[name] = value
        elif isinstance(value, np.ndarray) or hasattr(value, "detach"):
            tensors[name] = _as_array(value, name, path)
    if not tensors:
        raise InputError(
            f"input '{path}' holds no tensors by name"
            + (f"; it has {preview(found)}" if found else "")
        )
    return tensors, extras


def _as_array(value: Any, name: str, path: Path) -> np.ndarray:
    try:
        if hasattr(value, "detach"):
            value = value.detach()
            value = (value.float() if value.is_floating_point() else value).numpy()
    except (RuntimeError, TypeError) as error:
        raise _damaged(path, f"{name}: {error}") from error
    floating = jnp.issubdtype(value.dtype, jnp.floating)
    return value.astype(np.float32) if floating else value
