"""What is damaged is found, told and passed over; a full disk costs no checkpoint."""

import errno
import os
import re
import resource
import shutil
import subprocess
from contextlib import closing, contextmanager
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from amlr_jax.checkpoints import disk, manager
from amlr_jax.checkpoints.manager import Checkpoints
from amlr_jax.runtime.errors import InputError

ONE = jax.sharding.SingleDeviceSharding(jax.devices()[0])


def state_of(step: int, size: int = 2000) -> dict:
    rng = np.random.default_rng(step)
    arrays = {"a": rng.standard_normal((size, 3)).astype(np.float32)}
    arrays |= {"b": [rng.integers(0, 9, 5, np.int32), np.int32(step)]}
    return jax.device_put(arrays) | {"key": jax.random.key(step)}


def assert_is_of(state: dict, step: int, **options) -> None:
    want = state_of(step, **options)
    for got, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(want), strict=True):
        assert got.dtype == wanted.dtype
        assert bool((got == wanted).all())


def opened(folder, **options):
    return closing(Checkpoints(folder, **({"keep": 3} | options)))


def saved(folder, *numbers, **options):
    with opened(folder, **options) as checkpoints:
        for step in numbers:
            checkpoints.save(state_of(step), step=step)
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("two"), 1, 2)


@pytest.fixture
def folder(two, tmp_path):
    """Checkpoints of steps 1 and 2."""
    return shutil.copytree(two, tmp_path / "checkpoints")


@pytest.fixture
def lines(monkeypatch) -> list[str]:
    """What is shown."""
    found: list[str] = []
    monkeypatch.setattr(manager, "show", found.append)
    return found


def files(path):
    return [p for p in sorted(path.rglob("*")) if p.is_file()]


def largest(path):
    return max(files(path / "state"), key=lambda p: p.stat().st_size)


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def lengthen(path):
    path.write_bytes(path.read_bytes() + b"\0")


def remove(path):
    path.unlink()


def is_needed(name):
    """Files of orbax about the save itself are not read."""
    return name.parts[1] in ("state", "data", "checksums.json")


@pytest.mark.parametrize("harm", [truncate, flip, lengthen, remove])
def test_harm_to_any_file_is_found(folder, tmp_path, harm):
    names = [p.relative_to(folder) for p in files(folder / "00000002")]
    needed = [name for name in names if is_needed(name)]
    assert len(needed) > 8
    for name in needed:
        copy = shutil.copytree(folder, tmp_path / "copy")
        harm(copy / name)
        why = disk.damage(copy / "00000002")
        assert why, f"{harm.__name__} of {name}"
        assert disk.damage(copy / "00000001") == ""
        shutil.rmtree(copy)


def test_other_files_are_not_needed(folder):
    """Neither they nor files that somebody adds."""
    path = folder / "00000002"
    names = [p for p in files(path) if not is_needed(p.relative_to(folder))]
    assert names
    for name in names:
        flip(name)
    (path / "state" / "added").write_text("x")
    with opened(folder) as checkpoints:
        assert_is_of(checkpoints.restore_newest(state_of(0), ONE)[0], 2)
    for name in names:
        remove(name)
    with opened(folder) as checkpoints:
        assert_is_of(checkpoints.restore_newest(state_of(0), ONE)[0], 2)


@pytest.mark.parametrize(
    "harm, reason",
    [
        (lambda p: truncate(largest(p)), r"state/ocdbt.* has \d+ bytes of \d+"),
        (lambda p: flip(largest(p)), "state/ocdbt.* has changed"),
        (lambda p: truncate(p / "data" / "metadata"), "data/metadata cannot be read: "),
        (lambda p: remove(p / "data" / "metadata"), "data/metadata is missing"),
        (lambda p: shutil.rmtree(p / "state"), "state/.* is missing"),
        (lambda p: [shutil.rmtree(p), p.mkdir()], "data/metadata is missing"),
    ],
)
def test_the_one_before_is_used(folder, lines, harm, reason):
    harm(folder / "00000002")
    with opened(folder) as checkpoints:
        state, record = checkpoints.restore_newest(state_of(0), ONE)
        assert_is_of(state, 1)
        assert record["batches"] == 1
        assert len(lines) == 1
        told = "quarantined as 'bad.00000002', going on from step 1"
        checkpoints.save(state_of(2), step=2)
    path = folder / "00000002"
    assert re.fullmatch(f"Checkpoint '{path}' is bad: {reason}.*; {told}", lines[0])
    assert disk.damage(path) == ""
    assert sorted(p.name for p in folder.glob("bad*")) == ["bad.00000002"]
    with opened(folder) as checkpoints:
        assert_is_of(checkpoints.restore_newest(state, ONE)[0], 2)


def test_none_is_good(folder, lines):
    flip(largest(folder / "00000001"))
    truncate(largest(folder / "00000002"))
    message = "no checkpoint in .* is good .00000002: .* bytes of .*; 00000001: .*chang"
    for _ in range(2):  # and not as if there were none, the second time
        with opened(folder) as checkpoints, pytest.raises(InputError, match=message):
            checkpoints.restore_newest(state_of(0), ONE)
    assert not lines


def test_one_each_hour_stays(tmp_path, monkeypatch):
    now = iter(range(0, 100_000, 1200))
    clock = SimpleNamespace(time=lambda: next(now))
    monkeypatch.setattr(manager, "time", clock)
    with opened(tmp_path, keep=1, every_hours=1.0) as checkpoints:
        for step in range(1, 9):  # every 20 minutes
            checkpoints.save({"a": np.ones(3)}, step=step)
    assert [int(path.name) for path in disk.all_of(tmp_path)] == [1, 4, 7, 8]


def test_leftovers_of_a_killed_process_go(folder):
    for name in ("00000003.orbax-checkpoint-tmp", "deleted.00000001", "bad.00000000"):
        (folder / name / "state").mkdir(parents=True)
    with opened(folder):
        pass
    names = ["00000001", "00000002", "bad.00000000"]
    assert sorted(p.name for p in folder.iterdir()) == names


def test_bad_ones_alone_are_told(tmp_path, lines):
    (tmp_path / "bad.00000003").mkdir()
    with opened(tmp_path) as checkpoints:
        assert checkpoints.restore_newest(state_of(0), ONE) is None
    assert "holds only bad checkpoints: beginning anew" in lines[0]


# ---------------------------------------------------------------- a disk that fills

SIZE = 400_000  # rows of 12 bytes: 4.6 MiB


@contextmanager
def limited(tmp_path):
    """No file may grow beyond 2 MB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))
    try:
        yield tmp_path, "File too large; step 1 is safe"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def small_disk(tmp_path):
    """A file system of 4 MiB."""
    _mount(tmp_path)
    try:
        yield tmp_path, "No space left on device; step 1 is safe"
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def _mount(path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _may_mount(tmp_path) -> bool:
    if os.geteuid() != 0 or not shutil.which("mount") or not _mount(tmp_path):
        return False
    subprocess.run(["umount", str(tmp_path)], check=True)
    return True


def fill(tmp_path, disk, caplog):
    """A save that fails in the background."""
    folder = tmp_path / "run"
    with disk(tmp_path) as (_, message):
        with opened(folder) as checkpoints:
            checkpoints.save(state_of(1), step=1)
            checkpoints.save(state_of(2, SIZE), step=2)
            with pytest.raises(InputError, match=f"checkpoint 2 cannot .*: {message}"):
                checkpoints.save(state_of(3, SIZE), step=3)
            assert [p.name for p in folder.iterdir()] == ["00000001"]
            checkpoints.save(state_of(4), step=4)  # there is room for a small one
        with opened(folder) as checkpoints:
            assert_is_of(checkpoints.restore_newest(state_of(0), ONE)[0], 4)
    assert not [r for r in caplog.records if r.levelname == "ERROR"]


def test_the_disk_limits_files(tmp_path, caplog):
    fill(tmp_path, limited, caplog)


def test_the_disk_fills_meanwhile(tmp_path, caplog):
    """On a file system of 4 MiB where one can be mounted, else by an error of orbax."""
    if _may_mount(tmp_path):
        return fill(tmp_path, small_disk, caplog)
    with opened(saved(tmp_path, 1)) as checkpoints:
        text = "RESOURCE_EXHAUSTED: Failed to write [os_error_code='28']\nSource: x"
        failing(checkpoints, 2, ValueError(text))
        with pytest.raises(InputError, match="No space left on device; step 1"):
            checkpoints.wait()
    return None


def failing(checkpoints, step, error=None):
    """A save that is found to have failed."""
    real = checkpoints._checkpointer.wait_until_finished

    def wait():
        checkpoints._checkpointer.wait_until_finished = real
        real()
        raise error or OSError(errno.EIO, os.strerror(errno.EIO))

    checkpoints.save(state_of(step), step=step)
    checkpoints._checkpointer.wait_until_finished = wait


def test_an_error_at_the_end(tmp_path, lines):
    checkpoints = Checkpoints(tmp_path, keep=1)
    failing(checkpoints, 2)
    message = "checkpoint 2 cannot .* Input/output error; step 2 is safe"
    with pytest.raises(InputError, match=message):
        checkpoints.close()
    assert not lines


def test_an_error_under_way_is_not_replaced(tmp_path, lines):
    checkpoints = Checkpoints(tmp_path, keep=1)
    with pytest.raises(KeyError), closing(checkpoints):
        failing(checkpoints, 1)
        raise KeyError
    assert "Also, checkpoint 1 cannot be written" in lines[0]
