"""Of many that would prepare the same, one does and the others wait for it."""

import fcntl
import multiprocessing
import subprocess
import sys

import pytest

from amlr_jax import street
from amlr_jax.runtime import locking
from amlr_jax.runtime.errors import InputError
from amlr_jax.runtime.locking import only_one
from tests.conftest import REPOSITORY

HOLD = """
import sys
from pathlib import Path
from amlr_jax.runtime.locking import only_one
with only_one(Path(sys.argv[1]), doing="prepare", key="a.b"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock until its stdin is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "a.lock")],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_waits_and_says_for_whom(holder, tmp_path, monkeypatch):
    said = []

    def say(line):
        said.append(line)
        holder.stdin.close()  # now it may end

    monkeypatch.setattr(locking, "_say", say)
    with only_one(tmp_path / "a.lock", doing="prepare kitti", key="a.b"):
        assert holder.wait(10) == 0
    (line,) = said
    assert f"Waiting for process {holder.pid} on " in line
    assert "to prepare kitti" in line
    assert str(tmp_path / "a.lock") in line


def test_a_killed_holder_leaves_nothing_behind(holder, tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "_say", lambda line: pytest.fail(line))
    holder.kill()
    holder.wait()
    with only_one(tmp_path / "a.lock", doing="prepare", key="a.b"):
        pass


def test_free_again_after_an_exception(tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "_say", lambda line: pytest.fail(line))
    with (
        pytest.raises(KeyError),
        only_one(tmp_path / "a.lock", doing="prepare", key="a.b"),
    ):
        raise KeyError
    with only_one(tmp_path / "a.lock", doing="prepare", key="a.b"):
        pass


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(file, how):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(InputError, match="cannot lock.*not implemented.*with locks"),
        only_one(tmp_path / "a.lock", doing="prepare", key="a.b"),
    ):
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match="cannot lock"),
        only_one(tmp_path / "file" / "a.lock", doing="prepare", key="a.b"),
    ):
        pass


def _street(root, queue):
    rendered = []
    street.generate(
        root, drives=1, frames=2, progress=lambda *a: rendered.append(a), workers=1
    )
    queue.put(len(rendered))


def test_one_of_three_renders_the_street(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    args = (tmp_path / "street", queue)
    processes = [context.Process(target=_street, args=args) for _ in range(3)]
    for process in processes:
        process.start()
    assert sorted(queue.get(timeout=60) for _ in processes) == [0, 0, 2]
    for process in processes:
        process.join()
    assert not list(tmp_path.glob(".street.*/"))
