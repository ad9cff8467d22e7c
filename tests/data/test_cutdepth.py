"""Vertical CutDepth in its two forms, against loops over pixels."""

import numpy as np
import pytest
from PIL import Image

from amlr_jax.data import cutdepth
from amlr_jax.data.augment import Augmentation, augment
from amlr_jax.data.cutdepth import CutDepth
from tests.data.test_augment import Fixed


@pytest.fixture
def pair():
    """An image without the values of any depth, and depth with holes."""
    rng = np.random.default_rng(0)
    image = np.full((6, 40, 3), 77, np.uint8)
    depth = np.where(rng.random((6, 40)) < 0.7, rng.uniform(1, 90, (6, 40)), 0)
    return image, (np.rint(depth * 256) / 256).astype(np.float32)


def cut_depth(image, depth, setting, rng):
    """A copy with the strip."""
    image = image.copy()
    strip = cutdepth.draw_strip(image.shape[1], rng)
    cutdepth.paste(image, depth, strip, setting)
    return image


@pytest.mark.parametrize(
    ("draws", "columns"),
    [
        ((0.0, 1.0), (0, 30)),  # three quarters of the width
        ((0.51, 0.5), (20, 27)),  # l = 20.4; (40 - 20.4) 0.375 = 7.35
        ((0.999, 0.3), (39, 40)),  # at least a column
        ((0.5, 0.0), (20, 21)),
    ],
)
def test_strip(draws, columns):
    assert cutdepth.draw_strip(40, Fixed(*draws)) == columns


def test_scaled_strip(pair):
    image, depth = pair
    setting = CutDepth(1.0, "scaled", max_depth=80.0)
    got = cut_depth(image, depth, setting, Fixed(0.25, 0.5))
    np.testing.assert_array_equal(got[:, :10], 77)
    np.testing.assert_array_equal(got[:, 21:], 77)  # l = 10, w = int(30 * 0.375)
    for row in range(6):
        for column in range(10, 21):
            metres = depth[row, column]
            want = 255 * min(metres / 80, 1) if metres else 0
            assert np.ptp(got[row, column]) == 0
            assert abs(int(got[row, column, 0]) - want) < 1


def test_wrapped_strip_is_the_low_byte_of_the_code(pair):
    """KITTI's code of 300 is shown as 44, 256 and 20480 as 0."""
    image, depth = pair
    depth[0, :4] = np.array([300, 256, 20480, 21000], np.float32) / 256
    setting = CutDepth(1.0, "wrapped", code_per_metre=256.0)
    got = cut_depth(image, depth, setting, Fixed(0.0, 1.0))
    assert got[0, :4, 1].tolist() == [44, 0, 0, 8]
    low = np.rint(depth[:, :30] * 256).astype(np.uint16).view(np.uint8)[:, ::2]
    np.testing.assert_array_equal(got[:, :30, 2], low)
    np.testing.assert_array_equal(got[:, 30:], 77)


def test_wrapped_strip_of_every_millimetre_code():
    """metres in float32 still tell every uint16 code of NYUv2."""
    codes = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    depth = codes.astype(np.float32) / np.float32(1000)
    setting = CutDepth(1.0, "wrapped", code_per_metre=1000.0)
    image = np.zeros((256, 256, 3), np.uint8)
    got = cut_depth(image, depth, setting, Fixed(0.0, 1.0))
    np.testing.assert_array_equal(got[:, :192, 0], (codes & 255)[:, :192])


def test_strip_on_real_depth(real_data):
    """Of the 5 % of pixels that the lidar measured the strip shows some, else zero."""
    path = sorted(real_data.glob("kitti/data_depth_annotated/**/*.png"))[0]
    depth = np.asarray(Image.open(path)).astype(np.float32) / 256
    image = np.full((*depth.shape, 3), 255, np.uint8)
    got = cut_depth(image, depth, CutDepth(1.0), Fixed(0.3, 0.5))
    strip = got[:, 372:698]
    assert 0.01 < np.mean(strip > 0) < 0.1
    assert np.all((strip[..., 0] > 0) <= (depth[:, 372:698] > 0))


@pytest.mark.parametrize("form", cutdepth.FORMS)
def test_pasted_after_flip_and_crop_is_pasted_before(pair, form):
    """The references paste first; the strip may miss the crop, or end in it."""
    image, depth = pair
    image = image + np.arange(40, dtype=np.uint8)[:, None]
    cut = CutDepth(1.0, form)
    plain = Augmentation((4, 12), 0.5, 0.0, 0.0, 0.0, CutDepth(0.0))
    missed = 0
    for seed in range(60):
        draws = np.random.default_rng(seed).random(6)  # cut, a, b, flip, top, left
        first = cut_depth(image, depth, cut, Fixed(*draws[1:3]))
        raw = {"image": first, "depth": depth, "intrinsics": np.ones(4)}
        want = augment(raw, plain, Fixed(1.0, *draws[3:], 1, 1, 1), depth_scale=1.0)
        raw = {"image": image, "depth": depth, "intrinsics": np.ones(4)}
        setting = plain._replace(cut_depth=cut)
        got = augment(raw, setting, Fixed(*draws, 1, 1, 1), depth_scale=1.0)
        np.testing.assert_array_equal(got["image"], want["image"])
        missed += np.all(np.ptp(got["image"], axis=(0, 2)) == 0)
    assert 0 < missed < 60
