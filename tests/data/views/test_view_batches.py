"""Batches of views depend on (seed, position) alone; each view comes once an epoch."""

import hashlib
from contextlib import closing
from functools import partial

import numpy as np
import pytest

from amlr_jax.config import base
from amlr_jax.data.loader import changed
from amlr_jax.data.views import prepare_views
from amlr_jax.data.views.augment import ViewAugmentation, augment_view, flip_view
from amlr_jax.data.views.batches import batches
from amlr_jax.runtime.errors import InputError
from tests.data.views.test_prepare import SIZE, write_views


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    made = write_views(folder / "drive", frames=12)  # ten views: five batches
    return prepare_views(made, cache=folder / "cache", size=SIZE, stereo=True)


def take(data, count, **options):
    options = {"batch_size": 2, "seed": 3} | options
    with closing(batches(base(), data, **options)) as made:
        return [next(made) for _ in range(count)]


def summary(batches):
    """Indices and a digest of everything in each batch."""
    return [
        (
            *b["index"],
            hashlib.sha256(b"".join(b[k].tobytes() for k in sorted(b))).digest(),
        )
        for b in batches
    ]


def test_shapes_and_types(data):
    batch = take(data, 1)[0]
    shapes = {name: (value.shape, value.dtype) for name, value in batch.items()}
    one, many = ((2, *SIZE, 3), np.uint8), ((2, 2, *SIZE, 3), np.uint8)
    assert shapes == {
        "image": one,
        "sources": many,
        "partner": one,
        "network_image": one,
        "network_sources": many,
        "intrinsics": ((2, 4), np.float32),
        "partner_from_target": ((2, 3), np.float32),
        "index": ((2,), np.int32),
    }


def test_what_is_in_a_batch_is_the_view_of_its_index(data):
    for batch in take(data, 10):
        for k, index in enumerate(batch["index"]):
            view = data.train[int(index)]
            if batch["partner_from_target"][k, 0] > 0:
                view = flip_view(view)
            for name in ("image", "sources", "partner", "intrinsics"):
                np.testing.assert_array_equal(batch[name][k], view[name])


def test_resumed_batches_are_the_unbroken_ones(data):
    """Across the end of an epoch of five batches, too."""
    assert summary(take(data, 8, start=4)) == summary(take(data, 12))[4:]


def test_threads_do_not_matter(data):
    assert summary(take(data, 6, threads=1)) == summary(take(data, 6, threads=4))


def test_a_worker_process_does_not_matter(data):
    """After a restart in mid-epoch, and across its end."""
    assert summary(take(data, 4, workers=1, start=3)) == summary(take(data, 7))[3:]


def by_view(batches):
    """Epoch and index -> a digest of the view's part of its batch."""
    seen, epochs = {}, {}
    for batch in batches:
        for k, index in enumerate(batch["index"].tolist()):
            epoch = epochs[index] = epochs.get(index, -1) + 1
            part = {name: value[k : k + 1] for name, value in batch.items()}
            seen[epoch, index] = summary([part])
    return seen


def test_changes_belong_to_seed_epoch_and_view(data):
    """Whichever process has the view, and at whatever place of which batch."""
    alone = by_view(take(data, 20, batch_size=1))
    shared = {}
    for index in range(2):
        shared |= by_view(take(data, 5, batch_size=1, process=(index, 2)))
    assert len(alone) == 20
    assert len(shared) == 10
    assert shared == {key: alone[key] for key in shared}
    assert by_view(take(data, 5, batch_size=4)) == alone
    first, second = ({v[0][-1] for k, v in alone.items() if k[0] == e} for e in (0, 1))
    assert len(first - second) >= 5  # a fourth of the views change in neither


def test_the_place_in_the_epoch_does_not_matter_the_seed_does(data):
    def change(seed, place):
        setting = ViewAugmentation(0.5, 1.0)
        made = changed(
            place,
            data.train[4],
            change=partial(augment_view, setting=setting),
            seed=seed,
            count=10,
        )
        return made["network_image"]

    first, second = change(3, 10), change(3, 19)
    np.testing.assert_array_equal(first, second)
    for other in (change(3, 20), change(4, 10)):
        assert not np.array_equal(first, other)


def test_processes_share_each_batch(data):
    """One behind the other, the shares are one process's batch."""
    whole = take(data, 3, batch_size=4)
    parts = [take(data, 3, process=(p, 2)) for p in range(2)]
    for batch, *shares in zip(whole, *parts, strict=True):
        joined = {k: np.concatenate([s[k] for s in shares]) for k in batch}
        assert summary([joined]) == summary([batch])


def test_each_view_once_an_epoch_in_new_order_and_seeds_differ(data):
    batches = take(data, 10)
    indices = np.concatenate([b["index"] for b in batches]).reshape(2, 10).tolist()
    assert sorted(indices[0]) == sorted(indices[1]) == list(range(10))
    assert indices[0] != indices[1]
    assert summary(take(data, 5, seed=4)) != summary(batches[:5])


def test_views_of_two_sizes_need_resizing(tmp_path):
    one = write_views(tmp_path / "a", frames=3)
    two = write_views(tmp_path / "b", frames=3, size=(72, 192))
    both = one._replace(train=one.train + two.train)
    options = {"cache": tmp_path / "cache"}
    with pytest.raises(InputError, match="of 64x192, 72x192; set .*data.size="):
        take(prepare_views(both, size=None, **options), 1)
    batch = take(prepare_views(both, size=SIZE, **options), 1)[0]
    assert batch["image"].shape == (2, *SIZE, 3)
