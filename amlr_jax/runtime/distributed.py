"""Several processes as one run: how they find each other, and how they end together.

All of it is `jax.distributed`: its coordinator, which runs in process 0, its heartbeats
and its store of keys. A run of one process needs none of it and starts none of it.
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

from amlr_jax.runtime.cluster import ADDRESS, Place, from_environment
from amlr_jax.runtime.errors import InputError

# Seconds. A pod may still load its image while the first one waits.
PATIENCE = 600
HOUR = 3600.0  # reading all checkpoints takes long: no sign of a dead process
DAY = 24 * 3600
SHUTDOWN = 600  # for the first process, which draws pictures at the end
POLL = 0.5  # between looks at whether another process has failed
GRACE = 4 * POLL  # a failing process stays so long, that the others may read why

_FAILED = "amlr_jax/failed"
_ended = threading.Event()


def start(*, heartbeat: int, patience: int = PATIENCE) -> None:
    """Joins the processes that the environment speaks of; does nothing if it is one.

    To be called before anything touches a device. Afterwards a process from which
    nothing was heard for `heartbeat` seconds ends all others, by jax; see
    `ending_together` for one that fails with an exception.

    The environment is JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID,
    or what SLURM's srun or Open MPI's mpirun set. Raises InputError if that is half
    set or out of range. Processes that have not all met after `patience` seconds end
    with a line that says what to look at.
    """
    place = from_environment()
    if place is None:
        return
    if place.process == 0:
        _check_port(place.address)
    import jax

    giving_up = threading.Timer(patience, _give_up, [place, patience])
    giving_up.daemon = True
    giving_up.start()
    try:
        jax.distributed.initialize(
            coordinator_address=place.address,
            num_processes=place.count,
            process_id=place.process,
            local_device_ids=place.devices,
            # Later than ours: jax ends the process with a stack of C++ functions.
            initialization_timeout=patience + 60,
            heartbeat_timeout_seconds=heartbeat,
            shutdown_timeout_seconds=SHUTDOWN,
        )
    except RuntimeError as error:
        said = str(error).splitlines()[0]
        raise InputError(
            f"cannot start process {_process()} of {place.count} at "
            f"{_address(place)}: {said}"
        ) from error
    finally:
        giving_up.cancel()
    _watch()


def _check_port(address: str) -> None:
    """InputError for a port that another listens at, where jax itself would crash."""
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


def _give_up(place: Place, patience: int) -> None:
    address = _address(place)
    if _process() == 0:
        fault = f"not all {place.count} processes have come to {address}"
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
    """An exception inside ends all processes within seconds, each with a message.

    Does nothing where there is one process. Otherwise it prints the exception (an
    InputError as one line), tells the others and ends this process at once, since an
    ordinary end would wait for the others, and they for a step that never comes.
    """
    try:
        yield
    except BaseException as error:
        # A SystemExit was decided on by all, as after a signal that asked to stop.
        if _client() is None or isinstance(error, SystemExit):
            raise
        if _ended.is_set():  # another failed before, and this is what came of it
            time.sleep(3 * GRACE)
        _ended.set()
        if not isinstance(error, InputError):
            _say(traceback.format_exc().rstrip())
        said = " ".join(str(error).split()) or type(error).__name__
        _tell(f"process {_process()} on {socket.gethostname()} failed: {said}")
        _end(said, status=130 if isinstance(error, KeyboardInterrupt) else 1)


def _tell(text: str) -> None:
    # Fails if another told before or if process 0 is gone, which ends all as well.
    with contextlib.suppress(Exception):
        _client().key_value_set(_FAILED, text[:2000])
        time.sleep(GRACE)


def _end(message: str, *, status: int = 1, stay: float = 0) -> None:
    """Without Python's end, which would wait for processes that do not come."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    _say(f"error: {message}")
    time.sleep(stay)
    os._exit(status)


def _say(text: str) -> None:
    """On stderr, if it still has a reader: a closed terminal must not keep us here."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def _watch() -> None:
    """Ends this process when another says that it failed."""
    client = _client()

    def look() -> None:
        while not _ended.wait(POLL):
            try:
                said = client.key_value_try_get(_FAILED)
            except Exception:  # nobody has failed
                continue
            _ended.set()
            # The first process holds the store, in which the others read why.
            _end(f"ended, because {said}", stay=2 * GRACE if is_first() else 0)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    # Before jax's own handler, which closes the connection that `look` uses.
    atexit.register(lambda: (_ended.set(), thread.join(5)))


# ------------------------------------------------------------------ words between


def is_first() -> bool:
    """Whether this is process 0, which alone writes what there is once in a run."""
    return _process() == 0


def is_alone() -> bool:
    """Whether the run has one process."""
    return _client() is None


def from_first(name: str, text: str, *, seconds: float = PATIENCE) -> str:
    """The text of process 0, in every process; `name` may be used once in a run."""
    client = _client()
    if client is None:
        return text
    if is_first():
        client.key_value_set(f"amlr_jax/{name}", text)
        return text
    return client.blocking_key_value_get(f"amlr_jax/{name}", int(seconds * 1000))


_asked = itertools.count()


def of_first(value: Any) -> Any:
    """Process 0's `value`, which JSON can hold; those of the others are not looked at.

    All processes call it equally often, from the thread that runs the steps.
    """
    name = f"value {next(_asked)}"
    return json.loads(from_first(name, json.dumps(value), seconds=HOUR))


def meet(name: str, *, seconds: float = DAY) -> None:
    """Waits until all processes are here; `name` may be used once in a run.

    A process that prepares data may take hours, while a collective operation, in which
    the others would wait otherwise, may give up after half a minute.
    """
    client = _client()
    if client is not None:
        client.wait_at_barrier(f"amlr_jax/{name}", int(seconds * 1000))


def _state():
    """jax's state of the connection, which has no public name in jax 0.10 to 0.12."""
    import jax  # noqa: F401
    from jax._src import distributed

    return distributed.global_state


def _client():
    return _state().client


def _process() -> int:
    return _state().process_id


def _address(place: Place) -> str:
    return _state().coordinator_address or place.address or "an address yet unknown"
