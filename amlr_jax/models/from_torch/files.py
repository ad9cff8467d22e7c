"""Files of PyTorch weights to NumPy arrays by name; nothing in a file is ever run.

PyTorch is imported here alone, and only when a file of it is read.
"""

import hashlib
import json
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from amlr_jax.runtime.errors import InputError, preview

# Around the tensors, beside the optimizer; the first that is there. The averaged
# weights (EMA) count only where there are no others.
WRAPPERS = ["state_dict", "model", "module", "model_state_dict", "net", "network"]
WRAPPERS += ["weights", "params"]
WRAPPERS += ["model_ema", "state_dict_ema", "ema_state_dict", "ema"]
# Of PyTorch's wrappers (DataParallel, compile) and of models that hold an encoder.
PREFIXES = re.compile(r"(?:module\.|_orig_mod\.|model\.|backbone\.)+")
INDEX = ".index.json"  # of weights in several files
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
    """The tensors of a .safetensors file, a file of torch.save, or an index of several.

    A dict under a name of WRAPPERS, or the only dict with tensors, is unwrapped, and
    leading PREFIXES of the names are dropped. `advance` is called for every CHUNK
    bytes. Raises InputError for what is missing, damaged, no weights or holds code.
    """
    if path.is_dir():
        raise InputError(f"input '{path}' is a folder; give the file with the weights")
    if not path.is_file():
        raise InputError(f"no input file '{path}'")
    paths = parts(path)
    found: dict[str, Any] = {}
    sha256 = {}
    for part in paths:
        if not part.is_file():
            raise InputError(f"input '{path}' names {part.name}, which is not there")
        try:
            found |= _unwrap(_read_one(part), part)
            sha256[part.name] = _hash(part, advance)
        except OSError as error:
            raise _damaged(part, error.strerror) from error
    tensors, extras = _sort(_without_prefixes(found, path), path)
    return Weights(tensors, extras, sha256)


def parts(path: Path) -> list[Path]:
    """The files with the tensors: the file itself, or those that an index names."""
    if path.name.lower().endswith(INDEX):
        try:
            named = json.loads(path.read_text())["weight_map"].values()
            return [path.parent / name for name in sorted(set(named))]
        except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
            raise InputError(
                f"input '{path}' is no index of weights: it must be JSON with "
                "'weight_map', the file of each tensor"
            ) from error
    if match := re.fullmatch(r"(.+)-\d{5}-of-(\d{5})(\.\w+)", path.name):
        stem, count, ending = match.groups()
        if int(count) > 1:
            raise InputError(
                f"input '{path}' is one of {int(count)} files of the weights; give the "
                f"index of all, {stem}{ending}{INDEX}"
            )
    return [path]


def _read_one(path: Path) -> Any:
    """What a file holds; its content decides which kind it is, then its ending."""
    with path.open("rb") as file:
        head = file.read(64)
    _check_kind(head.lstrip().lower(), path)
    if head[8:9] != b"{" and path.suffix.lower() != ".safetensors":
        return _read_torch(path)
    try:
        return load_file(path)  # bfloat16 is known to NumPy since jax was imported
    except SafetensorError as error:
        raise _damaged(path, error) from error


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


def _check_kind(head: bytes, path: Path) -> None:
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
        if code := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise InputError(
                f"input '{path}' holds code ({code[1]}) and was not run; give a file "
                "with the tensors alone, as torch.save(model.state_dict(), FILE) "
                "writes it"
            ) from error
        raise _damaged(path, "no file of torch.save") from error
    except (EOFError, RuntimeError, ValueError, LookupError, AttributeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, why: Any) -> InputError:
    line = str(why).splitlines()[0] if str(why) else "it ends early"
    return InputError(
        f"input '{path}' cannot be read, it is cut off, damaged or no weights "
        f"({line[:100].rstrip('.')}); download it again"
    )


def _unwrap(found: Any, path: Path) -> dict[str, Any]:
    """The dict that holds the tensors."""
    while isinstance(found, dict):
        inner = [key for key in WRAPPERS if isinstance(found.get(key), dict)]
        if not inner and not any(map(_is_tensor, found.values())):
            inner = [
                str(key)
                for key, value in found.items()
                if isinstance(value, dict) and any(map(_is_tensor, value.values()))
            ]
            if len(inner) > 1:
                raise InputError(
                    f"input '{path}' holds several sets of weights ({preview(inner)}); "
                    "save the one you want with torch.save(found[NAME], FILE)"
                )
        if not inner:
            break
        found = found[inner[0]]
    if not isinstance(found, dict):
        raise InputError(
            f"input '{path}' holds {type(found).__name__}, not tensors by name; save "
            "them with torch.save(model.state_dict(), FILE)"
        )
    return {str(name): value for name, value in found.items()}


def _is_tensor(value: Any) -> bool:
    return isinstance(value, np.ndarray) or hasattr(value, "detach")


def _without_prefixes(found: dict[str, Any], path: Path) -> dict[str, Any]:
    """By the names behind PREFIXES; InputError where two become one."""
    names: dict[str, str] = {}
    for name in found:
        short = PREFIXES.sub("", name, count=1) if PREFIXES.match(name) else name
        if names.setdefault(short, name) != name:
            raise InputError(
                f"input '{path}' holds both '{names[short]}' and '{name}', two copies "
                "of the weights; save one of them under names without a prefix"
            )
    return {short: found[name] for short, name in names.items()}


def _sort(found: dict[str, Any], path: Path) -> tuple[dict, dict]:
    """Arrays, and plain numbers; other things beside the tensors are left out."""
    tensors, extras = {}, {}
    for name, value in found.items():
        if isinstance(value, bool | int | float):
            extras[name] = value
        elif _is_tensor(value):
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
