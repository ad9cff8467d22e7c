"""Augmentation by the published formulas, on real pixels where there are some."""

import cv2
import numpy as np
import pytest

from amlr_jax.data import augment as a
from amlr_jax.errors import InputError


@pytest.fixture(scope="module")
def image():
    """Every kind of colour: a smooth wheel with noise, uint8 [96, 128, 3]."""
    rng = np.random.default_rng(0)
    wheel = np.stack(np.meshgrid(np.arange(128) * 2, np.arange(96) * 2.6), -1)
    smooth = np.concatenate([wheel, wheel.sum(-1, keepdims=True) % 256], -1)
    return np.clip(smooth + rng.normal(0, 10, smooth.shape), 0, 255).astype(np.uint8)


class Fixed:
    """A generator whose draws are given."""

    def __init__(self, *draws):
        self._draws = list(draws)

    def _next(self, *args, **options):
        return self._draws.pop(0)

    random = uniform = integers = _next


def test_brightness_contrast_formula(image):
    got = a.brightness_contrast(image, Fixed(-0.15, 0.1))
    want = np.clip(image.astype(np.float64) * 0.85 + 0.1 * 255, 0, 255)
    np.testing.assert_array_equal(got, np.floor(want + 1e-9).astype(np.uint8))


def test_gamma_formula(image):
    got = a.gamma(image, Fixed(83))
    want = (image.astype(np.float64) / 255) ** 0.83 * 255
    assert np.abs(got - want).max() <= 1.0
    np.testing.assert_array_equal(got[image == 0], 0)
    np.testing.assert_array_equal(got[image == 255], 255)


def test_hue_saturation_formula(image):
    """Plane by plane in OpenCV's HSV; the hue wraps at 180."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.float64)
    hsv[..., 0] = np.floor(np.mod(hsv[..., 0] + 19.0, 180))
    hsv[..., 1] = np.floor(np.clip(hsv[..., 1] - 25.5, 0, 255))
    hsv[..., 2] = np.floor(np.clip(hsv[..., 2] + 12.0, 0, 255))
    want = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    got = a.hue_saturation(image, Fixed(19.0, -25.5, 12.0))
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("draw", [0.0, 0.37, 0.999999])
def test_random_crop_window(draw):
    rows, columns = a.random_crop((352, 1216), (352, 704), Fixed(draw, draw))
    assert (rows.start, rows.stop) == (0, 352)
    assert columns.start == int((1216 - 704) * draw)
    assert columns.stop - columns.start == 704


def test_crop_must_fit():
    with pytest.raises(InputError, match=r"data.crop=\(400, 704\) must fit"):
        a.random_crop((352, 1216), (400, 704), np.random.default_rng(0))


def example(image, depth):
    return {"image": image, "depth": depth, "index": np.int32(3)}


def test_image_and_depth_move_together(image):
    """A depth that is the image's red plane stays so through flip and crop."""
    setting = a.Augmentation((40, 50), 0.5, 0.0, 0.0, 0.0)
    depth = image[..., 0].astype(np.float32)
    seen = set()
    for seed in range(20):
        out = a.augment(example(image, depth), setting, np.random.default_rng(seed))
        assert out["image"].shape == (40, 50, 3)
        np.testing.assert_array_equal(out["image"][..., 0], out["depth"])
        seen.add(out["depth"].tobytes())
    assert len(seen) == 20


def test_colour_changes_leave_depth_alone(image):
    setting = a.Augmentation(image.shape[:2], 0.0, 1.0, 1.0, 1.0)
    depth = image[..., 0].astype(np.float32)
    out = a.augment(example(image, depth), setting, np.random.default_rng(1))
    np.testing.assert_array_equal(out["depth"], depth)
    assert np.abs(out["image"].astype(int) - image).mean() > 1


def test_probabilities(image):
    setting = a.Augmentation(image.shape[:2], 0.25, 0.0, 0.0, 0.0)
    depth = np.zeros(image.shape[:2], np.float32)
    draws = (
        a.augment(example(image, depth), setting, np.random.default_rng(seed))
        for seed in range(400)
    )
    flipped = sum(np.array_equal(d["image"], image[:, ::-1]) for d in draws)
    assert 70 <= flipped <= 130


def test_metric_example_crops_and_scales():
    code = np.zeros((375, 1242, 1), np.uint16)
    code[23, 13] = 256  # the first pixel of the KITTI benchmark crop
    raw = {"image": np.zeros((375, 1242, 3), np.uint8), "depth": code}
    raw |= {"key": b"drive/0000000000", "index": 7}
    out = a.metric_example(raw, depth_scale=256.0, kb_crop=True)
    assert out["depth"].shape == (352, 1216)
    assert out["depth"][0, 0] == 1.0
    assert out["depth"].sum() == 1.0


def test_metric_example_too_small():
    raw = {"image": np.zeros((100, 200, 3), np.uint8), "key": b"d/1", "index": 0}
    raw["depth"] = np.zeros((100, 200, 1), np.uint16)
    with pytest.raises(InputError, match=r"frame d/1: .*\(100, 200\).*kb_crop=False"):
        a.metric_example(raw, depth_scale=256.0, kb_crop=True)
