"""Batches depend on (seed, position) alone, and each frame comes once an epoch."""

import hashlib
import threading
import time
from contextlib import closing

import numpy as np
import pytest

from amlr_jax.data import kitti, loader
from amlr_jax.data.augment import Augmentation, augment, cropped_example
from amlr_jax.data.prepared import prepare
from amlr_jax.runtime.errors import InputError
from tests import tiny_kitti

SETTING = Augmentation((32, 64))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loader")
    root = tiny_kitti.write(folder / "kitti")
    layout = kitti.read_layout(root, split="folder")
    return prepare(layout, cache=folder / "cache")


def take(data, count, **options):
    options = {"batch_size": 2, "seed": 3, "kb_crop": False} | options
    with closing(loader.training_batches(data, SETTING, **options)) as batches:
        return [next(batches) for _ in range(count)]


def assert_same(got, want):
    for a, b in zip(got, want, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_shapes_and_types(data):
    batch = take(data, 1)[0]
    assert (batch["image"].shape, batch["image"].dtype) == ((2, 32, 64, 3), np.uint8)
    assert (batch["depth"].shape, batch["depth"].dtype) == ((2, 32, 64), np.float32)
    assert batch["index"].dtype == np.int32
    camera = batch["intrinsics"]
    assert (camera.shape, camera.dtype) == ((2, 4), np.float32)


def summary(batches):
    """Ids and a digest of everything in each batch."""
    return [
        (
            *b["index"],
            hashlib.sha256(b"".join(b[k].tobytes() for k in sorted(b))).digest(),
        )
        for b in batches
    ]


def test_resumed_batches_are_the_unbroken_ones(data):
    """Across the end of an epoch of five batches, too."""
    assert_same(take(data, 8, start=4), take(data, 12)[4:])


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_threads_do_not_matter(data, batch_size):
    want = take(data, 6, threads=1, batch_size=batch_size)
    for threads in (2, 5, "auto"):
        assert_same(take(data, 6, threads=threads, batch_size=batch_size), want)


class Numbers:
    """Examples of one number, made by `make(index)`."""

    def __init__(self, make=lambda index: np.int32(index)):
        self.make = make

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return {"index": np.int32(index), "value": self.make(index)}


def numbers(source, **options):
    options = {"batch_size": 8, "seed": 0, "threads": 4} | options
    part = loader.Part(source, lambda example, rng: example)
    return closing(loader.endless([part], **options))


def first_of(count):
    with numbers(Numbers(), batch_size=1) as batches:
        return [next(batches) for _ in range(count)]


def test_all_threads_work_on_one_batch():
    together = threading.Barrier(4)

    def wait_for_three_others(index):
        return np.int32(together.wait(timeout=30) >= 0)

    with numbers(Numbers(wait_for_three_others), batch_size=8) as batches:
        assert [next(batches)["value"].sum() for _ in range(5)] == [8] * 5
        together.abort()  # those that wait in the examples ahead


@pytest.mark.parametrize(
    ("batch_size", "threads", "ahead"), [(8, 4, 16), (1, 4, 8), (8, 40, 80)]
)
def test_examples_in_preparation(batch_size, threads, ahead):
    """Two for each thread, and two batches at least."""
    made = []
    source = Numbers(lambda index: made.append(0) or np.int32(index))
    with numbers(source, batch_size=batch_size, threads=threads) as batches:
        for taken in (1, 2):
            next(batches)
            wait_until(lambda: len(made) == taken * batch_size + ahead)  # noqa: B023
            assert len(made) == taken * batch_size + ahead


def wait_until(holds):
    for _ in range(300):
        if holds():
            break
        time.sleep(0.1)


@pytest.mark.parametrize("size", [(3, 1), (1, 2), (3,), ()])
def test_examples_of_another_shape_are_no_batch(size):
    """Not even those that an assignment would repeat."""

    def make(index):
        return np.zeros(size if index % 2 else (3, 2), np.float32)

    with pytest.raises(ValueError), numbers(Numbers(make)) as batches:
        next(batches)


def test_an_error_of_an_example_reaches_the_caller_in_its_batch():
    def make(index):
        if index == 7:
            raise InputError("record 7 is damaged")
        return np.int32(index)

    seen = []
    with (
        pytest.raises(InputError, match="record 7"),
        numbers(Numbers(make), batch_size=1) as batches,
    ):
        seen.extend(batch["index"].item() for batch in batches)
    assert 7 not in seen
    assert seen == [batch["index"].item() for batch in first_of(len(seen))]


def test_closing_ends_the_threads():
    def running():
        return [t for t in threading.enumerate() if t.name.startswith("grain")]

    with numbers(Numbers()) as batches:
        next(batches)
        assert len(running()) == 4
    wait_until(lambda: not running())
    assert not running()


@pytest.mark.parametrize("workers", [1, 4])
def test_worker_processes_do_not_matter(data, workers):
    """After a restart in mid-epoch, across its end and that of the next."""
    want = summary(take(data, 13))
    assert summary(take(data, 10, workers=workers, start=3)) == want[3:]


def by_frame(batches):
    """Epoch and frame -> the pixels, the depth and the camera it came with."""
    seen, epochs = {}, {}
    for batch in batches:
        for k, index in enumerate(batch["index"].tolist()):
            epoch = epochs[index] = epochs.get(index, -1) + 1
            seen[epoch, index] = summary(
                [{name: value[k : k + 1] for name, value in batch.items()}]
            )
    return seen


def test_changes_belong_to_seed_epoch_and_frame(data):
    """Whichever process has the frame, and at whatever place of which batch."""
    alone = by_frame(take(data, 20, batch_size=1))
    shared = {}
    for index in range(2):  # the first epoch: a frame has not one process for good
        shared |= by_frame(take(data, 5, batch_size=1, process=(index, 2)))
    assert len(alone) == 20
    assert len(shared) == 10
    assert shared == {key: alone[key] for key in shared}
    assert by_frame(take(data, 5, batch_size=4)) == alone
    assert not {v[0][-1] for k, v in alone.items() if k[0]} & {
        v[0][-1] for k, v in alone.items() if not k[0]
    }


def test_the_place_in_the_epoch_does_not_matter(data):
    def changed(example, rng):
        cropped = cropped_example(example, kb_crop=False)
        return augment(cropped, SETTING, rng, depth_scale=256.0)

    options = {"change": changed, "seed": 3, "count": 10}
    example = data.train[4]
    first, last, later = (
        loader.changed(position, example, **options) for position in (10, 19, 20)
    )
    assert_same([first], [last])
    assert not np.array_equal(first["image"], later["image"])


def test_each_frame_once_an_epoch_in_new_order(data):
    batches = take(data, 10)
    epochs = [
        np.concatenate([b["index"] for b in batches[k : k + 5]]).tolist()
        for k in (0, 5)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
    assert epochs[0] != epochs[1]


def test_batches_of_one_and_of_more_than_an_epoch(data):
    assert take(data, 1, batch_size=1)[0]["depth"].shape == (1, 32, 64)
    assert take(data, 2, batch_size=12)[1]["depth"].shape == (12, 32, 64)


def test_seeds_differ(data):
    a, b = take(data, 5, seed=1), take(data, 5, seed=2)
    assert any(
        not np.array_equal(x["index"], y["index"]) for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize(("count", "options"), [(2, {}), (4, {}), (2, {"workers": 1})])
def test_processes_share_each_batch(data, count, options):
    """One behind the other, the shares are one process's batch; after a restart too."""
    options |= {"batch_size": 4 // count, "start": 3}
    whole = take(data, 8, batch_size=4)[3:]
    parts = [take(data, 5, process=(p, count), **options) for p in range(count)]
    joined = [
        {name: np.concatenate([s[name] for s in shares]) for name in shares[0]}
        for shares in zip(*parts, strict=True)
    ]
    assert_same(joined, whole)


def test_index_names_the_frame(data):
    """Unaugmented, the image of a batch is that of `data.train` at its index."""
    plain = Augmentation((32, 64), flip=0.0, brightness_contrast=0.0, gamma=0.0)
    plain = plain._replace(hue_saturation=0.0, cut_depth=0.0)
    options = {"batch_size": 4, "seed": 3, "kb_crop": False}
    with closing(loader.training_batches(data, plain, **options)) as batches:
        batch = next(batches)
    for index, image in zip(batch["index"], batch["image"], strict=True):
        example = data.train[int(index)]
        assert example["index"] == index
        windows = np.lib.stride_tricks.sliding_window_view(
            example["image"], image.shape
        )
        assert (windows == image).all((-1, -2, -3)).any()


def test_evaluation_batches_are_every_test_frame_in_order(data):
    batches = list(loader.evaluation_batches(data, batch_size=4, kb_crop=False))
    assert [len(b["depth"]) for b in batches] == [2]
    np.testing.assert_array_equal(batches[0]["index"], [0, 1])
    assert [key[-10:] for key in batches[0]["key"]] == ["0000000005"] * 2
    want = data.test[1]["depth"][..., 0] / np.float32(256)
    np.testing.assert_array_equal(batches[0]["depth"][1], want)
