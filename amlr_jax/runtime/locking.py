"""Locks between processes: one prepares a data set, and one trains in a workdir.

A lock is a kernel lock (`flock`) on a file, and the kernel releases it when its process
ends. The file of a data set is never removed: another process may just have opened it,
and a new file of that name would be a second lock.

On NFS the lock holds between hosts (Linux 2.6.12 and newer) if the server runs a lock
service and the mount has no `local_lock=flock` or `nolock`; on Lustre with `-o flock`.
Otherwise it holds within one host. Two hosts may then prepare the same data, each in
its own folder, which is renamed at the end; so no files are mixed. In a workdir the
owner also counts in the lock file every few seconds, which other hosts see.
"""

import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from amlr_jax.runtime.errors import InputError

BEAT = 5.0  # seconds between two counts of the owner of a workdir
WATCH = 6 * BEAT  # seconds without a count until an owner on another host is gone


@contextmanager
def only_one(path: Path, *, doing: str, key: str) -> Iterator[None]:
    """Holds the lock file `path`, and makes its folder; waits for another holder.

    While it waits, a line names the holder and what it is `doing`, as in "prepare
    kitti". Raises InputError, which names the config's `key`, if the file cannot be
    made or locked.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _open(path)
    except OSError as error:
        raise _cannot(path, error, key) from error
    with file:
        _lock(file, path, doing=doing, key=key)
        _sign(file)
        yield


def _lock(file: Any, path: Path, *, doing: str, key: str) -> None:
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _first_line(_read(path))
            _say(f"Waiting for {holder} to {doing} (lock file {path})")
            fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        raise _cannot(path, error, key) from error


@contextmanager
def owned(path: Path, *, what: str) -> Iterator[None]:
    """Holds the lock file `path` of the folder around it, a `what`; never waits for it.

    Raises InputError if another process holds it. A file that a killed process left
    behind is taken over: on the same host at once; one of another host only if nothing
    is counted there for `WATCH` seconds.
    """
    file, locks = _take(path, what)
    with file:
        left = _read(path)
        here = locks and f"\n{_kernel()} " in left  # the kernel has released it
        if left and not here:
            if _is_counting(path, left):
                raise _in_use(path, what)
            _say(f"{_first_line(left)} does not run any more; its lock is taken over")
        with _counting(file):
            try:
                yield
            finally:
                path.unlink(missing_ok=True)


def _take(path: Path, what: str) -> tuple[Any, bool]:
    """The lock file, and whether the kernel holds it for this process."""
    while True:
        file, locks = _open(path), True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise _in_use(path, what) from error
        except OSError:  # the counts decide alone
            locks = False
        with suppress(FileNotFoundError):  # not one that its last owner has removed
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file, locks
        file.close()


def _open(path: Path) -> Any:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+")


@contextmanager
def _counting(file: Any) -> Iterator[None]:
    """Signs the file again every `BEAT` seconds."""
    ended = threading.Event()

    def count() -> None:
        beats = 0
        while not ended.wait(BEAT):
            _sign(file, beats := beats + 1)

    _sign(file)
    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _is_counting(path: Path, left: str) -> bool:
    """Whether the owner on another host still counts; watches for `WATCH` seconds."""
    _say(f"Watching for {WATCH:g} s whether {_first_line(left)} still runs")
    until = time.monotonic() + WATCH
    while time.monotonic() < until:
        time.sleep(min(1.0, WATCH / 10))
        if _read(path) != left:
            return True
    return False


def _in_use(path: Path, what: str) -> InputError:
    holder = _first_line(_read(path))
    return InputError(
        f"{what} '{path.parent}' is in use by {holder}; wait until it has ended, or "
        f"choose another with --{what}=DIR"
    )


def _sign(file: Any, beats: int = 0) -> None:
    """Writes the name of this process, which others print, its kernel and a count."""
    with suppress(OSError):  # a full disk must not stop what needs no space
        name = f"process {os.getpid()} on {socket.gethostname()}"
        text = f"{name}\n{_kernel()} {beats}\n".encode()
        os.pwrite(file.fileno(), text, 0)  # never empty for who reads it meanwhile
        os.ftruncate(file.fileno(), len(text))
        os.fsync(file.fileno())  # to the server, where another host reads it


def _kernel() -> str:
    """Of this boot of this host; host names need not differ, as in containers."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def _read(path: Path) -> str:
    """The signature, opened anew, because NFS asks the server then; "" without."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _first_line(signature: str) -> str:
    return signature.partition("\n")[0] or "another process"


def _say(line: str) -> None:
    from amlr_jax.runtime.console import show

    show(line)


def _cannot(path: Path, error: OSError, key: str) -> InputError:
    return InputError(
        f"cannot lock '{path}': {error.strerror or error}; choose a folder that can be "
        f"written, on a file system with locks, with --config.{key}=DIR"
    )
