"""Shared fixtures, and the rule that nothing may skip where all is meant to run."""

import os
from pathlib import Path

import pytest

from tests import tiny_kitti

# Each function is compiled once for all sessions and their subprocesses. Also the small
# ones, which are most: each operation outside of jit is a function to XLA.
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE / "amlr_jax_tests"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real KITTI and NYU samples, $AMLR_REAL_DATA."""
    default = REPOSITORY.parent / "shared" / "data"
    folder = Path(os.environ.get("AMLR_REAL_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real samples at '{folder}'; set AMLR_REAL_DATA")
    return folder


@pytest.fixture
def tiny_config(kitti_root, tmp_path):
    """A run of seconds: the smallest network on the tiny frames."""
    return tiny_kitti.config(kitti_root, cache=tmp_path / "cache")


@pytest.fixture
def kitti_root(tmp_path) -> Path:
    """A tiny copy of KITTI's layout of our own making: 2 drives of 6 frames."""
    return tiny_kitti.write(tmp_path / "kitti")


def pytest_collection_modifyitems(items):
    """The longest files first, so that no process waits for one of them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_sessionfinish(session, exitstatus):
    """With AMLR_NO_SKIP=1 a skipped test fails the session."""
    del exitstatus
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if os.environ.get("AMLR_NO_SKIP") and skipped:
        reporter.write_line(f"AMLR_NO_SKIP: {len(skipped)} tests skipped", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
