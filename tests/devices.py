"""Programs on simulated devices and in several processes, as jax starts only once."""

import os
import socket
import subprocess
import sys

from tests.conftest import REPOSITORY

PATIENCE = 300  # seconds until processes that wait for each other are given up
# Before the program of each process: its devices are then those of all processes.
JOIN = """
import jax
jax.distributed.initialize("127.0.0.1:{port}", {count}, {index})
"""


def run(program: str, *, devices: int) -> str:
    """What `program` printed on so many CPU devices; fails if it failed."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env=environment(devices),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_processes(program: str, *, count: int, devices: int = 1) -> list[str]:
    """What each of `count` processes with so many devices each printed.

    They are one job of jax.distributed, joined before `program` begins. Fails if one
    failed, after all have ended.
    """
    port = free_port()
    started = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                JOIN.format(port=port, count=count, index=i) + program,
            ],
            cwd=REPOSITORY,
            env=environment(devices, alone=False),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(count)
    ]
    try:
        printed = [process.communicate(timeout=PATIENCE) for process in started]
    finally:
        for process in started:
            process.kill()
    failed = [
        error
        for process, (_, error) in zip(started, printed, strict=True)
        if process.returncode
    ]
    assert not failed, "\n".join(failed)
    return [output for output, _ in printed]


def free_port() -> int:
    """A port of this machine that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(devices: int = 1, *, alone: bool = True) -> dict[str, str]:
    """Of a process with so many CPU devices, `alone` or one of several of a run."""
    found = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(REPOSITORY),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    if devices > 1 or not alone:
        # Collectives of CPU devices deadlock in executables that come from the cache.
        # What is compiled each time takes half as long without LLVM's optimization.
        found["JAX_ENABLE_COMPILATION_CACHE"] = "false"
        found["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"
    return found
