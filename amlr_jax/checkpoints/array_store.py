"""Variables on disk, by orbax and its array store: quietly, and failing in one line."""

import contextlib
import errno
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from amlr_jax.models.from_torch.assign import leaves

COLLECTIONS = ("params", "batch_stats")
PATIENCE = 50  # tenths of a second for threads to end


def save(folder: Path, variables: dict) -> None:
    """Writes nested dicts of arrays; OSError or ValueError, see `reason`."""
    folder = folder.absolute()  # orbax takes no other
    needed = sum(leaf.nbytes for _, leaf in leaves(variables))
    check_space(folder.parent, needed)
    with _quiet(), ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, variables)


def restore(path: Path) -> dict:
    """Params and batch statistics as NumPy arrays; nothing else is read."""
    path = path.absolute()
    with _quiet(), ocp.PyTreeCheckpointer() as checkpointer:
        metadata = checkpointer.metadata(path).item_metadata
        if metadata is None:
            raise ValueError("it is no checkpoint of orbax")
        found = metadata.tree
        wanted = {name: found[name] for name in COLLECTIONS if found.get(name)}
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(np.ndarray), wanted)
        arguments = ocp.args.PyTreeRestore(
            wanted, restore_args=as_numpy, partial_restore=True
        )
        return checkpointer.restore(path, args=arguments)


def remove(folder: Path) -> None:
    """Threads of the array store may go on writing for a while after one has failed."""
    for _ in range(PATIENCE):
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.1)
        if not folder.exists():
            return


def check_space(folder: Path, needed: int) -> None:
    """OSError if fewer bytes are free in the file system of `folder`.

    Known before writing, because threads of the array store fail noisily.
    """
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC) + space(folder, needed))


def space(folder: Path, needed: int) -> str:
    """How much is needed and free there, to go after a reason."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return ""
    return f", {-(-needed >> 20)} MiB are needed and {free >> 20} free"


class Hush(logging.Filter):
    """While it is on, orbax and its threads log nothing: errors reach the caller."""

    def on(self) -> None:
        logging.getLogger("absl").addFilter(self)
        self._hook = sys.unraisablehook
        sys.unraisablehook = self._unraisable

    def off(self) -> None:
        logging.getLogger("absl").removeFilter(self)
        sys.unraisablehook = self._hook

    def filter(self, record: logging.LogRecord) -> bool:
        return f"{os.sep}orbax{os.sep}" not in record.pathname

    def _unraisable(self, found) -> None:
        """A thread that fails may speak to an event loop that is closed by then."""
        if str(found.exc_value) != "Event loop is closed":
            self._hook(found)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what orbax and its threads print; errors reach the caller as well."""
    logger, hook = logging.getLogger("absl"), sys.unraisablehook
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda _: None
    try:
        yield
    finally:
        sys.unraisablehook = hook
        logger.setLevel(level)


def reason(error: Exception) -> str:
    """The operating system's reason, which tensorstore puts into its own text."""
    code = re.search(r"os_error_code='(\d+)'", str(error))
    if code:
        return os.strerror(int(code[1]))
    return getattr(error, "strerror", None) or str(error).splitlines()[0]
