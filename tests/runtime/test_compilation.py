"""Compiled functions on disk: kept, found again, damaged, refused; and memory."""

import os
import stat
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from amlr_jax.runtime import compilation
from amlr_jax.runtime.errors import InputError
from tests.conftest import REPOSITORY

PROGRAM = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp
from amlr_jax.runtime import compilation
compilation.SHORTEST = 0.0
compilation.use_cache(Path(sys.argv[1]), wanted=sys.argv[2] == "True")
def step(x):
    return jnp.sin(x @ x).sum()
with compilation.announced("the step"):
    compiled = jax.jit(step).lower(jnp.ones((8, 8))).compile()
print("result", float(compiled(jnp.ones((8, 8)))))
"""


def start(folder, *, wanted=True, **variables) -> str:
    """What a process that compiles a function printed; fails if it failed."""
    found = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY)}
    found.pop("JAX_COMPILATION_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(folder), str(wanted)],
        cwd=REPOSITORY,
        env=found | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "result" in done.stdout
    return done.stdout + done.stderr


def entries(folder) -> list:
    return sorted(folder.glob("xla/*/jit_step-*-cache"))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder of caches that a process has filled; each test leaves it intact."""
    folder = tmp_path_factory.mktemp("caches")
    assert "Compiled in" in start(folder)
    return folder


def test_the_next_start_loads(kept):
    out = start(kept)
    assert "Compiling the step" in out and "Loaded from the cache in" in out
    assert "note" not in out


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


DAMAGE = {"truncated": truncated, "empty": lambda data: b""}
DAMAGE["other"] = lambda data: b"no executable" * 50


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_one_line_and_made_again(kept, damage):
    (entry,) = entries(kept)
    good = entry.stat().st_size
    entry.write_bytes(DAMAGE[damage](entry.read_bytes()))
    out = start(kept)
    assert out.count("damaged") == 1 and "Traceback" not in out
    assert "Compiled in" in out
    assert entries(kept)[0].stat().st_size == pytest.approx(good, rel=0.1)
    again = start(kept)
    assert "Loaded from the cache" in again and "damaged" not in again


# Root may write everywhere.
@pytest.mark.parametrize("fault", ["file", "no permission"][: 1 + (os.geteuid() > 0)])
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, fault):
    folder = tmp_path / "caches"
    if fault == "file":
        folder.write_text("")
    else:
        folder.mkdir()
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    out = start(folder)
    (line,) = [line for line in out.splitlines() if "cannot be written" in line]
    assert "compiled functions are not kept" in line and "Compiled in" in out


def test_switches(tmp_path):
    """The key, jax's own variable, a cache that is set, several CPU devices."""
    own = tmp_path / "own"
    start(tmp_path / "a", wanted=False)
    start(tmp_path / "b", JAX_ENABLE_COMPILATION_CACHE="false")
    start(tmp_path / "c", JAX_COMPILATION_CACHE_DIR=str(own))
    several = "--xla_force_host_platform_device_count=2"
    start(tmp_path / "d", XLA_FLAGS=several)
    start(tmp_path / "e", XLA_FLAGS=several, JAX_COMPILATION_CACHE_DIR=str(own))
    assert not any((tmp_path / name).exists() for name in "abcde")
    assert not entries(tmp_path)


def test_the_oldest_entries_go_first(tmp_path, monkeypatch):
    older, newer = (tmp_path / f"jit_{n}-0-cache" for n in range(2))
    for entry in (older, newer):
        entry.write_bytes(b"x" * 100)
    os.utime(older, (1, 1))
    monkeypatch.setattr(compilation, "MOST_BYTES", 150)
    compilation.remove_oldest(tmp_path)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["jit_1-0-cache"]


def test_several_processes_fill_one_folder(tmp_path):
    found = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY)}
    found.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), "True"]
    started = [subprocess.Popen(command, env=found) for _ in range(3)]
    assert [process.wait(timeout=300) for process in started] == [0, 0, 0]
    assert "Loaded from the cache" in start(tmp_path)


# ---------------------------------------------------------------- memory


def compiled(size: int):
    return jax.jit(lambda x: (x @ x).sum()).lower(jnp.ones((size, size))).compile()


def test_a_function_that_fits_is_called():
    made = compiled(16)
    call = compilation.within_memory(made, what="it", remedy="do", limit=2**20)
    assert call(jnp.ones((16, 16))) == 16**3
    assert 2 * 16 * 16 * 4 <= compilation.memory_need(made) < 2**16


def test_too_little_memory_is_known_before_the_start():
    with pytest.raises(InputError, match="out of memory: the step needs .* GiB on"):
        compilation.within_memory(
            compiled(512), what="the step", remedy="lower batch_size", limit=2**20
        )


def failing(message: str) -> SimpleNamespace:
    def call(*_):
        raise jax.errors.JaxRuntimeError(message)

    class Failing(SimpleNamespace):
        __call__ = staticmethod(call)

    return Failing(memory_analysis=lambda: compiled(16).memory_analysis())


def test_running_out_of_memory_is_one_line():
    message = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8.1GiB."
    call = compilation.within_memory(
        failing(message), what="the step of 24", remedy="lower batch_size (24)"
    )
    with pytest.raises(InputError, match="the step of 24 needs .*; lower batch_size"):
        call()
    other = compilation.within_memory(failing("INTERNAL: no"), what="", remedy="")
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        other()


def test_an_allocation_beyond_this_machine():
    with (
        pytest.raises(InputError, match="^too large$"),
        compilation.explained("too large"),
    ):
        jax.block_until_ready(jnp.ones((2**24, 2**24)))
