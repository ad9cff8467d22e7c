"""A lock between processes, so that only one of them prepares a data set.

It is a kernel lock (`flock`) on a file beside the data, and the kernel releases it when
its process ends. The file is never removed: another process may just have opened it,
and a new file of that name would be a second lock.

On NFS the lock holds between hosts (Linux 2.6.12 and newer) if the server runs a lock
service and the mount has no `local_lock=flock` or `nolock`; on Lustre with `-o flock`.
Otherwise it holds within one host. Two hosts may then prepare the same data, each in
its own folder, which is renamed at the end; so no files are mixed. A file system
without locks is an InputError.
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
    """Holds the lock file `path`, and makes its folder; waits for another holder.

    While it waits, a line names the holder and what it is `doing`, as in "prepare
    kitti". Raises InputError, which names the config's `key`, if the file cannot be
    made or locked.
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
    """Writes the name of this process, which the waiting ones print."""
    with suppress(OSError):  # a full disk must not stop what needs no space
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
