"""Programs run by several processes that jax joins on this machine, CPU and gloo."""

import subprocess
import sys

from tests import devices
from tests.conftest import REPOSITORY

JOIN = """
import sys, jax
port, count, index = map(int, sys.argv[1:4])
jax.distributed.initialize(
    f"127.0.0.1:{port}", count, index,
    initialization_timeout=60, heartbeat_timeout_seconds=10,
)
"""


def start(program: str, *, count: int = 2) -> list[subprocess.Popen]:
    """The processes; each prints to its own stdout, errors among it."""
    port = devices.free_port()
    return [
        subprocess.Popen(
            [sys.executable, "-u", "-c", JOIN + program, *map(str, (port, count, i))],
            cwd=REPOSITORY,
            env=devices.environment(alone=False),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(count)
    ]


def read_until(process: subprocess.Popen, text: str) -> None:
    """Reads what it prints to the line with `text`; fails if it ends before."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return
    raise AssertionError("".join(lines))


def finish(processes: list[subprocess.Popen], *, seconds: float = 60) -> list[str]:
    """The rest of what each printed, once all have ended."""
    try:
        return [process.communicate(timeout=seconds)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
