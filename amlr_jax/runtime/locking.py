"""One process at a time: what many would prepare at once, one prepares for all.

The lock is the kernel's (`flock`) on a file beside what is prepared. It ends with the
process that holds it, however that ends, so a lock file that lies there means nothing:
it is left, since removing one that another process has just opened would give two locks
of one name.

On NFS the lock holds between hosts from Linux 2.6.12 on if the server runs a lock
service and the mount has no `local_lock=flock` or `nolock`; on Lustre with `-o flock`.
Mounted otherwise, it holds among the processes of one host. Two hosts may then prepare
the same, each in a folder of its own which is renamed when it is whole, so that the
later one does work for nothing but no file is mixed. A file system without locks says
so, and that is an InputError.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from amlr_jax.runtime.errors import InputError


@contextmanager
def only_one(path: Path, *, doing: str, key: str) -> Iterator[None]:
    """Holds the lock file `path`, whose folder is made; waits for one that holds it.

    A line says that it waits, for whom and for what: `doing`, as in "prepare kitti".
    Raises InputError, which names the config's `key`, where the file cannot be made or
    locked.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise _cannot(path, error, key) from error
    with file:
        _lock(file, doing=doing, key=key)
        _sign(file)
        yield


def _lock(file, *, doing: str, key: str) -> None:
    path = Path(file.name)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"Waiting for {_holder(file)} to {doing} (lock file {path})")
            fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        raise _cannot(path, error, key) from error


def _sign(file) -> None:
    """Names this process, for the line of those that wait."""
    with suppress(OSError):  # a full disk may not tear down what needs no space
        os.ftruncate(file.fileno(), 0)
        text = f"process {os.getpid()} on {socket.gethostname()}"
        os.write(file.fileno(), text.encode())


def _holder(file) -> str:
    file.seek(0)
    return file.read(200).strip() or "another process"


def _say(line: str) -> None:
    from amlr_jax.runtime.console import show

    show(line)


def _cannot(path: Path, error: OSError, key: str) -> InputError:
    return InputError(
        f"cannot lock '{path}': {error.strerror or error}; choose a folder that can be "
        f"written, on a file system with locks, with --config.{key}=DIR"
    )
