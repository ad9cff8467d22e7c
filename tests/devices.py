"""Programs run on simulated devices, whose number is fixed when jax starts."""

import os
import subprocess
import sys

from tests.conftest import REPOSITORY


def run(program: str, *, devices: int) -> str:
    """What `program` printed on so many CPU devices; fails if it failed."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(REPOSITORY),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
