"""Preparing copies every byte, finds every damaged file, and happens once."""

import threading

import cv2
import numpy as np
import pytest

from amlr_jax.data import kitti, loader, nyu
from amlr_jax.data.augment import Augmentation
from amlr_jax.data.prepared import prepare
from amlr_jax.runtime.errors import InputError
from tests import tiny_kitti


def prepared(root, cache):
    layout = kitti.read_layout(root, split="folder")
    return prepare(layout, cache=cache)


def test_examples_equal_the_files(kitti_root, tmp_path):
    data = prepared(kitti_root, tmp_path / "cache")
    example = data.test[1]
    image = cv2.imread(str(tiny_kitti.image_path(kitti_root, "0002", 5)))
    code = cv2.imread(str(tiny_kitti.depth_path(kitti_root, "0002", 5)), -1)
    np.testing.assert_array_equal(example["image"], image[..., ::-1])
    np.testing.assert_array_equal(example["depth"][..., 0], code)
    assert example["key"] == b"2011_09_26_drive_0002_sync/0000000005"
    np.testing.assert_array_equal(example["intrinsics"], [100, 110, 96, 32])


def test_median_and_share_of_the_training_depth(kitti_root, tmp_path):
    data = prepared(kitti_root, tmp_path / "cache")
    codes = np.concatenate([e["depth"].ravel() for e in data.train])
    assert data.valid_share == pytest.approx(np.mean(codes > 0))
    assert data.median_depth == pytest.approx(
        np.percentile(codes[codes > 0], 50, method="inverted_cdf") / 256
    )


def test_prepared_once_and_again_when_a_file_changes(kitti_root, tmp_path, counter):
    prepared(kitti_root, tmp_path / "cache")
    prepared(kitti_root, tmp_path / "cache")
    assert counter.steps == 12
    tiny_kitti.write_frame(kitti_root, "0001", 0, size=(64, 200))
    data = prepared(kitti_root, tmp_path / "cache")
    assert counter.steps == 24
    assert data.train[0]["image"].shape == (64, 200, 3)


def damage(path, fault):
    data = path.read_bytes()
    if fault == "truncated":
        path.write_bytes(data[: len(data) // 2])
    if fault == "flipped":
        middle = len(data) // 2
        path.write_bytes(
            data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]
        )
    if fault == "empty":
        path.write_bytes(b"")
    if fault == "text":
        path.write_text("not an image")


@pytest.mark.parametrize("fault", ["truncated", "flipped", "empty", "text"])
@pytest.mark.parametrize("place", [tiny_kitti.image_path, tiny_kitti.depth_path])
def test_damaged_file_is_named_and_nothing_is_left(kitti_root, tmp_path, place, fault):
    path = place(kitti_root, "0002", 2)
    damage(path, fault)
    with pytest.raises(InputError, match=f"{path.name}' is damaged"):
        prepared(kitti_root, tmp_path / "cache")
    left = [p for p in (tmp_path / "cache").rglob("*") if "kitti-folder" in str(p)]
    assert not [p for p in left if p.is_file() and p.suffix != ".lock"]


def pool_threads():
    """Without the progress line's own thread, which may end a moment later."""
    return {t for t in threading.enumerate() if t.name.startswith("ThreadPool")}


def test_a_failed_preparation_ends_its_threads(kitti_root, tmp_path):
    """Before its error is handled, not when its frames are collected as garbage."""
    damage(tiny_kitti.image_path(kitti_root, "0002", 2), "text")
    before = pool_threads()
    with pytest.raises(InputError) as caught:
        prepared(kitti_root, tmp_path / "cache")
    assert caught.tb  # holds the frames
    assert pool_threads() <= before


def test_image_and_depth_of_different_size(kitti_root, tmp_path):
    path = tiny_kitti.depth_path(kitti_root, "0001", 1)
    cv2.imwrite(str(path), np.ones((64, 100), np.uint16))
    with pytest.raises(InputError, match="is 64x192, .* is 64x100"):
        prepared(kitti_root, tmp_path / "cache")


def test_sizes_of_the_test_frames_are_kept(kitti_root, tmp_path):
    tiny_kitti.write_frame(kitti_root, "0002", 5, size=(60, 180))
    drive = tiny_kitti.drive
    want = {
        (64, 192): f"{drive('0001')}/0000000005",
        (60, 180): f"{drive('0002')}/0000000005",
    }
    for _ in range(2):  # prepared, and read again
        assert prepared(kitti_root, tmp_path / "cache").test_sizes == want


def test_crops_are_checked_on_every_size_before_training(kitti_root, tmp_path):
    tiny_kitti.write_frame(kitti_root, "0001", 3, size=(60, 180))
    data = prepared(kitti_root, tmp_path / "cache")
    key = f"{tiny_kitti.drive('0001')}/0000000003"
    assert list(data.train_sizes.items()) == [
        ((64, 192), f"{tiny_kitti.drive('0001')}/0000000000"),
        ((60, 180), key),
    ]
    options = {"batch_size": 2, "seed": 0}
    for crop, kb_crop, words in (
        ((62, 64), False, rf"must fit in the image, and that of frame {key} is \(60"),
        ((32, 64), True, "frame .*0000000000: .*data.kb_crop=False"),
    ):
        with pytest.raises(InputError, match=words):
            loader.training_batches(
                data, Augmentation(crop), kb_crop=kb_crop, **options
            )
    loader.training_batches(data, Augmentation((60, 64)), kb_crop=False, **options)


def test_eight_bit_ground_truth(kitti_root, tmp_path):
    path = tiny_kitti.depth_path(kitti_root, "0001", 1)
    cv2.imwrite(str(path), np.ones((64, 192), np.uint8))
    with pytest.raises(InputError, match="16-bit grey PNG as ground truth, got L"):
        prepared(kitti_root, tmp_path / "cache")


def test_grey_image(kitti_root, tmp_path):
    path = tiny_kitti.image_path(kitti_root, "0001", 1)
    cv2.imwrite(str(path), np.ones((64, 192), np.uint8))
    with pytest.raises(InputError, match="8-bit RGB image, got L"):
        prepared(kitti_root, tmp_path / "cache")


def test_no_valid_pixel(kitti_root, tmp_path):
    for number in tiny_kitti.DRIVES:
        for frame in range(6):
            path = tiny_kitti.depth_path(kitti_root, number, frame)
            cv2.imwrite(str(path), np.zeros((64, 192), np.uint16))
    with pytest.raises(InputError, match="no valid ground-truth pixel"):
        prepared(kitti_root, tmp_path / "cache")


def test_cache_that_cannot_be_written(kitti_root, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--config.data.cache=DIR"):
        prepared(kitti_root, tmp_path / "file" / "cache")


def test_nyu_jpeg(real_data, tmp_path):
    layout = nyu.read_layout(real_data / "nyu", split="folder")
    data = prepare(layout, cache=tmp_path)
    assert data.train[0]["image"].shape == (480, 640, 3)
    assert 1.0 < data.median_depth < 5.0
