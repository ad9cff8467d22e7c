"""What breaks while data are prepared or read is named, and the next call mends it."""

import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import closing, contextmanager

import numpy as np
import pytest

from amlr_jax.data import kitti, loader
from amlr_jax.data.augment import Augmentation
from amlr_jax.data.prepared import prepare, shards
from amlr_jax.data.storage import Storage
from amlr_jax.runtime.errors import InputError
from tests import tiny_kitti
from tests.conftest import REPOSITORY
from tests.data.test_prepared import damage


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny_kitti.write(tmp_path_factory.mktemp("faults") / "kitti")


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory):
    """A cache that the tests copy."""
    cache = tmp_path_factory.mktemp("whole")
    prepare(layout_of(root), cache=cache)
    return cache


@pytest.fixture
def cache(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "cache")


def layout_of(root):
    return kitti.read_layout(root, split="folder")


def prepared(root, cache, **storage):
    how = Storage(**storage)
    return prepare(layout_of(root), cache=cache, how=how)


def batches(data, **options):
    options = {"batch_size": 2, "seed": 0, "kb_crop": False} | options
    return closing(loader.training_batches(data, Augmentation((32, 64)), **options))


def shard_of(data):
    return next(data.folder.glob("*train*"))


def spoil(path, fault):
    if fault == "deleted":
        path.unlink()
    elif fault == "zeroed":  # a hole where the records are
        with path.open("r+b") as file:
            file.seek(2000)
            file.write(bytes(100_000))
    else:
        damage(path, fault)


@pytest.mark.parametrize("fault", ["truncated", "empty", "zeroed", "deleted"])
def test_spoilt_shard_is_named_and_prepared_anew(root, cache, fault):
    path = shard_of(prepared(root, cache))
    spoil(path, fault)
    with pytest.raises(InputError, match="is damaged .*delete that folder") as caught:
        data = prepared(root, cache)
        [data.train[k] for k in range(len(data.train))]
    assert path.name in str(caught.value) or fault in ("truncated", "empty")
    assert str(path.parent) in str(caught.value)
    shutil.rmtree(path.parent)
    assert len(list(prepared(root, cache).train)) == 10


def test_shard_truncated_while_it_is_read(root, cache):
    data = prepared(root, cache)
    with batches(data) as reading, pytest.raises(InputError, match="record .*delete"):
        next(reading)
        os.truncate(shard_of(data), 3000)
        for _ in range(20):
            next(reading)


def test_spoilt_description_of_a_prepared_set(root, cache):
    data = prepared(root, cache)
    (data.folder / "dataset_info.json").write_text("{")
    with pytest.raises(InputError, match="is damaged .*delete that folder"):
        prepared(root, cache)


def test_lost_facts_of_a_prepared_set(root, cache):
    data = prepared(root, cache)
    (data.folder / "metadata.json").unlink()
    with pytest.raises(InputError, match="metadata.json is not whole.*delete that"):
        prepared(root, cache)


def test_killed_worker_ends_the_run_with_its_cause(root, cache):
    data = prepared(root, cache)
    with batches(data, workers=1) as reading:
        next(reading)
        (worker,) = multiprocessing.active_children()
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(InputError, match="exit code -9.*lower data.workers"):
            for _ in range(20):  # what it had made is still there
                next(reading)


@contextmanager
def largest_file(size):
    """Writing beyond `size` bytes fails, as on a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("decoded", [False, True])
def test_full_disk_leaves_nothing_and_the_next_call_works(root, tmp_path, decoded):
    with (
        largest_file(100_000),
        pytest.raises(InputError, match=r"cannot prepare .*train.*data.cache=DIR"),
    ):
        prepared(root, tmp_path, decoded=decoded)
    assert not list(tmp_path.rglob("*array_record*"))
    assert len(list(prepared(root, tmp_path, decoded=decoded).train)) == 10


KILLED = """
import os, signal, sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from amlr_jax.data import kitti
from amlr_jax.data.prepared import prepare, shards

seen = []
def advance():
    seen.append(0)
    if len(seen) == 11:  # the training frames are written
        os.kill(os.getpid(), signal.SIGKILL)

layout = kitti.read_layout(Path(sys.argv[1]), split="folder")
shards.bar = lambda *_: nullcontext(SimpleNamespace(advance=advance))
prepare(layout, cache=Path(sys.argv[2]))
"""


def test_killed_while_preparing(root, tmp_path):
    command = [sys.executable, "-c", KILLED, root, tmp_path]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, env=environment, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(tmp_path.rglob("incomplete.*"))
    data = prepared(root, tmp_path)
    assert not list(tmp_path.rglob("incomplete.*"))
    assert [e["index"] for e in data.train] == list(range(10))


def test_of_two_callers_one_prepares(root, tmp_path, counter):
    found = []

    def call():
        found.append(prepare(layout_of(root), cache=tmp_path))

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.steps == 12
    assert [len(data.train) for data in found] == [10, 10]


def test_damaged_training_frames_can_be_left_out(tmp_path):
    root = tiny_kitti.write(tmp_path / "kitti")
    damage(tiny_kitti.image_path(root, "0001", 2), "truncated")
    damage(tiny_kitti.depth_path(root, "0002", 0), "text")
    data = prepared(root, tmp_path / "cache", skip_bad=True)
    drive = tiny_kitti.drive
    lost = (f"{drive('0001')}/0000000002", f"{drive('0002')}/0000000000")
    assert data.skipped == lost
    assert [int(e["index"]) for e in data.train] == [0, 1, 3, 4, 6, 7, 8, 9]
    assert prepared(root, tmp_path / "cache", skip_bad=True).skipped == lost
    with pytest.raises(InputError, match="0000000002.png' is damaged"):
        prepared(root, tmp_path / "cache")


def test_damaged_test_frame_is_never_left_out(tmp_path):
    root = tiny_kitti.write(tmp_path / "kitti")
    damage(tiny_kitti.image_path(root, "0001", 5), "truncated")
    with pytest.raises(InputError, match="0000000005.png' is damaged"):
        prepared(root, tmp_path / "cache", skip_bad=True)


def test_no_training_frame_left(tmp_path):
    root = tiny_kitti.write(tmp_path / "kitti", frames=2)
    for number in tiny_kitti.DRIVES:
        damage(tiny_kitti.image_path(root, number, 0), "text")
    with pytest.raises(InputError, match="no valid ground-truth pixel"):
        prepared(root, tmp_path / "cache", skip_bad=True)


def test_several_shards_keep_the_order(root, whole, tmp_path, monkeypatch):
    """As of a set of gigabytes, which needs no TensorFlow and little memory."""
    want = list(prepared(root, whole).train)
    monkeypatch.setattr(shards, "SHARD_BYTES", 100_000)
    data = prepared(root, tmp_path)
    assert len(list(data.folder.glob("*train*"))) > 2
    assert [example["index"] for example in want] == list(range(10))
    for got, example in zip(data.train, want, strict=True):
        assert got["index"] == example["index"]
        np.testing.assert_array_equal(got["image"], example["image"])
