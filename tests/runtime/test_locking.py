"""Of many that would prepare the same, one does and the others wait for it."""

import fcntl
import multiprocessing
import os
import subprocess
import sys
import threading
import time

import pytest

from amlr_jax import street
from amlr_jax.runtime import locking
from amlr_jax.runtime.errors import InputError
from amlr_jax.runtime.locking import only_one
from amlr_jax.street import writer
from tests.conftest import REPOSITORY

HOLD = """
import sys
from pathlib import Path
from amlr_jax.runtime.locking import only_one
from amlr_jax.street import writer
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


# ------------------------------------------------------------- the owner of a folder

OWN = """
import sys
from pathlib import Path
from amlr_jax.runtime.locking import owned
with owned(Path(sys.argv[1]), what="workdir"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def lock(tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "BEAT", 0.05)
    monkeypatch.setattr(locking, "WATCH", 0.5)
    return tmp_path / ".lock"


@pytest.fixture
def owner(lock):
    """Another process that owns the folder until its stdin is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWN, str(lock)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def own(lock):
    with locking.owned(lock, what="workdir"):
        assert lock.is_file()


def test_a_folder_in_use_by_another_process(lock, owner):
    message = f"workdir '{lock.parent}' is in use by process {owner.pid} on .*--workdir"
    with pytest.raises(InputError, match=message):
        own(lock)
    owner.communicate()
    assert not lock.exists()  # it removes its file
    own(lock)
    assert not lock.exists()


def test_a_folder_in_use_by_the_same_process(lock):
    with locking.owned(lock, what="workdir"):
        with pytest.raises(InputError, match=f"in use by process {os.getpid()} on"):
            own(lock)
        assert lock.is_file()


def test_a_killed_owner_on_the_same_host(lock, owner, monkeypatch):
    monkeypatch.setattr(locking, "_say", lambda line: pytest.fail(line))
    owner.kill()
    owner.wait()
    assert lock.is_file()
    own(lock)


@pytest.mark.parametrize("has_locks", [True, False])
@pytest.mark.parametrize("counts", [True, False])
def test_an_owner_on_another_host(lock, monkeypatch, counts, has_locks):
    """Its kernel's lock may not reach this host; its count does."""
    said = []
    monkeypatch.setattr(locking, "_say", said.append)
    if not has_locks:
        monkeypatch.setattr(fcntl, "flock", no_locks)
    lock.write_text("process 7 on node12\nanother-boot 100\n")
    ended = threading.Event()

    def count():
        with lock.open("r+") as file:  # as an owner writes, the file is never empty
            for beat in range(101, 200):
                if ended.wait(0.05):
                    return
                file.seek(0)
                file.write(f"process 7 on node12\nanother-boot {beat}\n")
                file.flush()

    thread = threading.Thread(target=count)
    if counts:
        thread.start()
    try:
        if counts:
            with pytest.raises(InputError, match="in use by process 7 on node12"):
                own(lock)
            assert lock.is_file()
        else:
            own(lock)
            assert said[-1].startswith("process 7 on node12 does not run any more")
    finally:
        ended.set()
        if counts:
            thread.join()
    assert "Watching for 0.5 s whether process 7 on node12" in said[0]


def no_locks(file, how):
    raise OSError(38, "Function not implemented")


def test_two_on_a_file_system_without_locks(lock, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", no_locks)
    with (
        locking.owned(lock, what="workdir"),
        pytest.raises(InputError, match="in use by process"),
    ):
        own(lock)
    own(lock)


def test_the_file_stays_readable_while_it_is_signed(lock):
    with locking.owned(lock, what="workdir"):
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            assert len(lock.read_text().splitlines()) == 2


def test_only_one_of_many_that_start_together(lock):
    """Also while the owner before removes its file."""
    owners, most, refused = [], [], []

    def start():
        for _ in range(40):
            try:
                with locking.owned(lock, what="workdir"):
                    owners.append(1)
                    most.append(len(owners))
                    time.sleep(0.001)
                    owners.pop()
            except InputError:
                refused.append(1)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and refused


# ------------------------------------------------------------------------ the street


def _street(root, queue):
    rendered = []
    writer._write_frames = lambda *args: rendered.append(args)
    street.generate(root, drives=1, frames=2, workers=1)
    queue.put(len(rendered))


def test_one_of_three_renders_the_street(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    args = (tmp_path / "street", queue)
    processes = [context.Process(target=_street, args=args) for _ in range(3)]
    for process in processes:
        process.start()
    assert sorted(queue.get(timeout=60) for _ in processes) == [0, 0, 1]
    for process in processes:
        process.join()
    assert not list(tmp_path.glob(".street.*/"))
