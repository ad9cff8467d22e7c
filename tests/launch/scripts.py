"""Runs the scripts of launch/, with a program of the test in place of Python."""

import os
import subprocess
from pathlib import Path

from tests.conftest import REPOSITORY

LAUNCH = REPOSITORY / "launch"
MAIN = ["--config=configs/kitti.py:tiny", "--config.steps=3"]
# Of the machine or the session that runs the tests.
FOREIGN = ("JAX_", "SLURM_", "CUDA_VISIBLE_DEVICES", "PYTHON")


def environment(**changes: str) -> dict[str, str]:
    """The environment without variables that choose devices, processes or a Python."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    return kept | changes


def run(script: str, *arguments: str, **changes: str) -> subprocess.CompletedProcess:
    """The script in an environment with `changes`."""
    return subprocess.run(
        [LAUNCH / script, *map(str, arguments)],
        env=environment(**changes),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def executable(path: Path, text: str) -> Path:
    """A shell script."""
    path.write_text(f"#!/usr/bin/env bash\n{text}")
    path.chmod(0o755)
    return path
