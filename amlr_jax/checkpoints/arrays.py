"""Arrays on disk through orbax, without its log lines and with errors in one line.

`load` reads a .safetensors file, too, in which the path of an array is its name:
"params/encoder/norm/scale".
"""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from amlr_jax.checkpoints import disk
from amlr_jax.runtime import files

COLLECTIONS = ("params", "batch_stats")
AVERAGE = "average"  # of both, in the state of a run with optimizer.ema
PATIENCE = 50  # tenths of a second in which threads of the array store end


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides the log lines of orbax and its threads; their errors reach the caller."""
    logger, hook = logging.getLogger("absl"), sys.unraisablehook

    def of_others(record: logging.LogRecord) -> bool:
        return f"{os.sep}orbax{os.sep}" not in record.pathname

    def unraisable(found: Any) -> None:
        # A thread that fails may call an event loop that is closed by then.
        if str(found.exc_value) != "Event loop is closed":
            hook(found)

    logger.addFilter(of_others)
    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        logger.removeFilter(of_others)
        sys.unraisablehook = hook


@contextlib.contextmanager
def _causes() -> Iterator[None]:
    """Raises the cause of a bare `Exception`, which orbax puts around errors."""
    try:
        yield
    except Exception as error:
        if type(error) is Exception and isinstance(error.__cause__, Exception):
            raise error.__cause__ from None
        raise


def save(folder: Path, variables: dict) -> None:
    """Writes nested dicts of arrays to a new folder, whole or not at all.

    Raises OSError or ValueError, whose cause `disk.reason` tells.
    """
    folder = folder.absolute()  # orbax takes no relative path
    try:
        with quiet(), ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder, variables)
    except (OSError, ValueError):
        remove_unfinished(folder)
        raise


def save_file(path: Path, variables: dict) -> None:
    """Writes nested dicts of arrays to a .safetensors file, as `load` reads it."""
    flat = flatten_dict(variables, sep="/")
    tensors = {name: np.ascontiguousarray(array) for name, array in flat.items()}
    safetensors.save_file(tensors, path, metadata={"format": "jax"})


def load(folder: Path) -> dict:
    """Parameters and batch statistics as NumPy arrays, their averages if there are any.

    Reads nothing else.

    Raises OSError, ValueError or KeyError.
    """
    folder = folder.absolute()
    if folder.suffix == ".safetensors":
        try:
            return unflatten_dict(safetensors.load_file(folder), sep="/")
        except SafetensorError as error:
            raise ValueError(f"it is cut off or damaged ({error})") from error
    with quiet(), _causes(), ocp.PyTreeCheckpointer() as checkpointer:
        metadata = checkpointer.metadata(folder).item_metadata
        if metadata is None:
            raise ValueError("it is not a checkpoint of orbax")
        found = metadata.tree
        averages = bool(found.get(AVERAGE))
        found = found[AVERAGE] if averages else found
        wanted = {name: found[name] for name in COLLECTIONS if found.get(name)}
        wanted = {AVERAGE: wanted} if averages else wanted
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(np.ndarray), wanted)
        options = {"restore_args": as_numpy, "partial_restore": True}
        arguments = ocp.args.PyTreeRestore(wanted, **options)
        restored = checkpointer.restore(folder, args=arguments)
        return restored[AVERAGE] if averages else restored


def load_onto(folder: Path, like: Any, sharding: Any) -> Any:
    """A tree of arrays on devices; all processes call it.

    `like` has the shapes and dtypes. `sharding` is one for all leaves, or a tree like
    `like`; it need not be the sharding with which the arrays were saved.
    """
    if isinstance(sharding, jax.sharding.Sharding):
        sharding = jax.tree.map(lambda _: sharding, like)
    targets = jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
        like,
        sharding,
    )
    with _causes(), ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(folder, present(targets))
    return like._replace(**restored) if hasattr(like, "_replace") else restored


def present(state: Any) -> Any:
    """The state as it is saved: a NamedTuple as a dict, without what is None."""
    if not hasattr(state, "_asdict"):
        return state
    return {name: x for name, x in state._asdict().items() if x is not None}


def remove_unfinished(path: Path) -> None:
    """Removes what a failed save left, whose threads may write for a while."""
    for half in disk.unfinished(path):
        for _ in range(PATIENCE):
            files.remove(half)
            time.sleep(0.1)
            if not half.exists():
                break
