"""Decoded frames are the files' pixels; resized ones keep rays and returns."""

import tempfile
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from tensorflow_datasets.core.utils import gcs_utils

from amlr_jax.data import kitti, nyu
from amlr_jax.data.prepared import depth_frames, prepare
from amlr_jax.data.storage import Storage
from amlr_jax.runtime.errors import InputError


def prepared(layout, cache, **how):
    return prepare(layout, cache=cache, how=Storage(**how))


def test_decoded_pixels_are_the_files(kitti_root, tmp_path):
    layout = kitti.read_layout(kitti_root, split="folder")
    files = prepared(layout, tmp_path)
    decoded = prepared(layout, tmp_path, decoded=True)
    assert decoded.folder != files.folder
    for split in ("train", "test"):
        for a, b in zip(getattr(files, split), getattr(decoded, split), strict=True):
            for name in a:
                np.testing.assert_array_equal(a[name], b[name])
                assert np.asarray(a[name]).dtype == np.asarray(b[name]).dtype
    assert decoded.median_depth == files.median_depth


def test_nothing_is_looked_up_or_left_elsewhere(kitti_root, tmp_path, monkeypatch):
    """tensorflow-datasets asks its public bucket, by way of a temporary folder."""

    def look_up(_):
        raise AssertionError("the name of the set left this machine")

    monkeypatch.setattr(gcs_utils, "gcs_dataset_info_files", look_up)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    layout = kitti.read_layout(kitti_root, split="folder")
    prepared(layout, tmp_path / "cache")
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize(
    ("free", "decoded"),
    [(2**40, True), (10 * 2**30, False), (1, False)],
)
def test_decoded_where_the_disk_has_room(
    kitti_root, tmp_path, monkeypatch, free, decoded
):
    usage = SimpleNamespace(free=free)
    monkeypatch.setattr(depth_frames.shutil, "disk_usage", lambda _: usage)
    layout = kitti.read_layout(kitti_root, split="folder")
    cache = tmp_path / "made" / "later"
    data = prepared(layout, cache, decoded="auto")
    assert ("-decoded" in str(data.folder)) == decoded
    usage.free = 2**40 - free  # what exists is used whatever is free now
    assert prepared(layout, cache, decoded="auto").folder == data.folder
    assert "-decoded" in str(prepared(layout, cache, decoded=True).folder)


def test_room_needed_is_that_of_the_pixels(kitti_root, tmp_path, monkeypatch):
    layout = kitti.read_layout(kitti_root, split="folder")
    needed = 12 * 64 * 192 * (3 + 2) + depth_frames.SPARE
    for free, decoded in ((needed, True), (needed - 1, False)):
        usage = SimpleNamespace(free=free)
        monkeypatch.setattr(depth_frames.shutil, "disk_usage", lambda _, u=usage: u)
        data = prepared(layout, tmp_path / str(free), decoded="auto")
        assert ("-decoded" in str(data.folder)) == decoded


def test_a_damaged_image_is_named_by_the_preparation(kitti_root, tmp_path):
    layout = kitti.read_layout(kitti_root, split="folder")
    layout.train[0].image.write_bytes(b"no image")
    with pytest.raises(InputError, match="damaged"):
        prepared(layout, tmp_path, decoded="auto")
    data = prepared(layout, tmp_path, decoded="auto", skip_bad=True)
    assert data.skipped == (layout.train[0].key,)


def test_decoded_jpeg(real_data, tmp_path):
    layout = nyu.read_layout(real_data / "nyu", split="folder")
    files = prepared(layout, tmp_path)
    decoded = prepared(layout, tmp_path, decoded=True)
    for a, b in zip(files.train, decoded.train, strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
        np.testing.assert_array_equal(a["depth"], b["depth"])


@pytest.mark.parametrize("decoded", [False, True])
def test_halved_frames(kitti_root, tmp_path, decoded):
    """Means of 2x2 pixels; depth of one of the four; the camera with them."""
    layout = kitti.read_layout(kitti_root, split="folder")
    full = prepared(layout, tmp_path).train[3]
    data = prepared(layout, tmp_path, resize=(32, 96), decoded=decoded)
    half = data.train[3]
    assert data.name == "kitti@32x96"
    blocks = full["image"].reshape(32, 2, 96, 2, 3).astype(np.float64)
    assert np.abs(half["image"] - blocks.mean((1, 3))).max() <= 0.5
    choices = full["depth"].reshape(32, 2, 96, 2).transpose(0, 2, 1, 3)
    found = np.any(choices.reshape(32, 96, 4) == half["depth"], axis=-1)
    assert half["depth"].dtype == np.uint16
    assert found.all()
    # Full: 100, 110, 96, 32. The pixel edges, -0.5 and 191.5, stay edges.
    np.testing.assert_array_equal(half["intrinsics"], [50, 55, 47.75, 15.75])


def test_enlarged_frames(kitti_root, tmp_path):
    layout = kitti.read_layout(kitti_root, split="folder")
    full = prepared(layout, tmp_path).test[0]
    large = prepared(layout, tmp_path, resize=(100, 300)).test[0]
    assert large["image"].shape == (100, 300, 3)
    want = cv2.resize(full["image"], (300, 100), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(large["image"], want)
    assert set(np.unique(large["depth"])) <= set(np.unique(full["depth"]))


def test_the_storage_of_the_defaults():
    assert Storage().tag == ""
    assert Storage(True, (192, 640), True).tag == "-192x640-decoded-skipped"
