"""Start and end of a run in several processes.

It uses the coordinator of `jax.distributed`, which runs in rank 0, with its heartbeats
and key-value store. A run of one process starts none of it.
"""

import atexit
import contextlib
import itertools
import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

from amlr_jax.runtime.cluster import ADDRESS, Rank, from_environment
from amlr_jax.runtime.errors import InputError

# Seconds to wait for all processes: a pod may still pull its image.
PATIENCE = 600
HOUR = 3600.0  # reading all checkpoints takes long: no sign of a dead process
DAY = 24 * 3600
SHUTDOWN = 600  # rank 0 draws pictures at the end
POLL = 0.5  # between checks whether another process has failed
GRACE = 4 * POLL  # a failing process waits so that the others can read its message

_FAILED = "amlr_jax/failed"
_ended = threading.Event()
_joined = threading.Event()


def start(*, heartbeat: int, patience: int = PATIENCE) -> None:
    """Joins the processes that the environment describes; nothing for a single one.

    Call it before any device is used. From then on jax ends all processes when one
    sends no heartbeat for `heartbeat` seconds; `ending_together` handles exceptions.

    The environment is JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID,
    or the variables of SLURM's srun or Open MPI's mpirun. Raises InputError for an
    incomplete or invalid one. If not all processes have joined after `patience`
    seconds, each ends with a line that says what to check.
    """
    rank = from_environment()
    if rank is None:
        return
    if rank.rank == 0 and rank.coordinator:
        _check_port(rank.coordinator)
    import jax

    giving_up = threading.Timer(patience, _give_up, [rank, patience])
    giving_up.daemon = True
    giving_up.start()
    try:
        jax.distributed.initialize(
            coordinator_address=rank.coordinator,
            num_processes=rank.world_size,
            process_id=rank.rank,
            local_device_ids=rank.devices,
            # Later than ours, because jax then prints a C++ stack trace.
            initialization_timeout=patience + 60,
            heartbeat_timeout_seconds=heartbeat,
            shutdown_timeout_seconds=SHUTDOWN,
        )
    except RuntimeError as error:
        said = str(error).splitlines()[0]
        raise InputError(
            f"cannot start process {_process()} of {rank.world_size} at "
            f"{_address(rank)}: {said}"
        ) from error
    finally:
        giving_up.cancel()
    _joined.set()
    _watch()


def _check_port(address: str) -> None:
    """InputError for a port in use, on which jax would crash."""
    port = int(address.rpartition(":")[2])
    with socket.socket(socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except (OSError, OverflowError) as error:
            raise InputError(
                f"process 0 cannot listen at port {port}: {error}; choose another in "
                f"{ADDRESS}, the same for all processes"
            ) from error


def _give_up(rank: Rank, patience: int) -> None:
    address = _address(rank)
    if _process() == 0:
        fault = f"not all {rank.world_size} processes have come to {address}"
        hint = "look into the logs of the others, and whether they were started at all"
    else:
        fault = _what_answers(address)
        hint = (
            "check that process 0 runs there, that the name means the same on every "
            f"host, and that no firewall closes the port; it is set by {ADDRESS}"
        )
    _end(f"process {_process()} waited {patience} s: {fault}; {hint}")


def _what_answers(address: str) -> str:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        return f"no process 0 at {address} ({error})"
    return f"process 0 answers at {address}, but not all processes have come"


# ------------------------------------------------------------------ end together


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Ends all processes within seconds after an exception in one of them.

    It prints the exception (an InputError as one line), sends it to the others and
    exits at once, because an ordinary exit waits for the other processes. A single
    process passes the exception on.
    """
    try:
        yield
    except BaseException as error:
        # All processes agree on a SystemExit, as after a signal that asks to stop.
        if isinstance(error, SystemExit) or _client() is None:
            raise
        if _ended.is_set():  # a consequence of another process that failed before
            time.sleep(3 * GRACE)
        _ended.set()
        if not isinstance(error, InputError):
            _say(traceback.format_exc().rstrip())
        said = " ".join(str(error).split()) or type(error).__name__
        line = f"process {_process()} on {socket.gethostname()} failed: {said}"
        # Fails if another process was first or rank 0 is gone; both end all processes.
        with contextlib.suppress(Exception):
            _client().key_value_set(_FAILED, line[:2000])
            time.sleep(GRACE)
        _end(said, status=130 if isinstance(error, KeyboardInterrupt) else 1)


def _end(message: str, *, status: int = 1, stay: float = 0) -> None:
    """Exits without Python's handlers, which wait for the other processes."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    _say(f"error: {message}")
    time.sleep(stay)
    os._exit(status)


def _say(text: str) -> None:
    """Prints to stderr; a closed terminal is ignored."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def _watch() -> None:
    """Starts a thread that ends this process when another one has failed."""
    client = _client()

    def look() -> None:
        while not _ended.wait(POLL):
            try:
                said = client.key_value_try_get(_FAILED)
            except Exception:  # nobody has failed
                continue
            _ended.set()
            # Rank 0 serves the store in which the others read the message.
            _end(f"ended, because {said}", stay=2 * GRACE if is_first() else 0)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    # Runs before jax's handler, which closes the connection that `look` uses.
    atexit.register(thread.join, 5)
    atexit.register(_ended.set)


# ------------------------------------------------------------- exchange of values


def is_first() -> bool:
    """Whether this is rank 0, the only one that writes shared files."""
    return _process() == 0


def has_joined() -> bool:
    """Whether this process has joined others; can be asked before jax is there."""
    return _joined.is_set()


def is_alone() -> bool:
    """Whether the world size is 1."""
    return _client() is None


def from_first(name: str, text: str, *, seconds: float = PATIENCE) -> str:
    """The text of rank 0, in each process; a `name` can be used once per run."""
    client = _client()
    if client is None:
        return text
    if is_first():
        client.key_value_set(f"amlr_jax/{name}", text)
        return text
    return client.blocking_key_value_get(f"amlr_jax/{name}", int(seconds * 1000))


_asked = itertools.count()


def of_first(value: Any) -> Any:
    """The `value` of rank 0, in each process; it must be valid JSON.

    All processes call it equally often, from the thread that runs the steps.
    """
    name = f"value {next(_asked)}"
    return json.loads(from_first(name, json.dumps(value), seconds=HOUR))


def meet(name: str, *, seconds: float = DAY) -> None:
    """Waits until all processes call it; a `name` can be used once per run.

    Preparing data takes hours, while a collective operation may time out within a
    minute.
    """
    client = _client()
    if client is not None:
        client.wait_at_barrier(f"amlr_jax/{name}", int(seconds * 1000))


def _state():
    """The state of jax.distributed, without a public name in jax 0.10 to 0.12."""
    import jax  # noqa: F401
    from jax._src import distributed

    return distributed.global_state


def _client():
    return _state().client


def _process() -> int:
    return _state().process_id


def _address(rank: Rank) -> str:
    return _state().coordinator_address or rank.coordinator or "an address yet unknown"
