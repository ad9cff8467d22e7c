"""Augmentation by the published formulas, on real images where there are some."""

import cv2
import numpy as np
import pytest
from PIL import Image

from amlr_jax import geometry
from amlr_jax.data import augment as a
from amlr_jax.runtime.errors import InputError


@pytest.fixture(scope="module", params=["wheel", "kitti", "nyu"])
def image(request):
    """Every kind of colour, and real ones, uint8 [96, 128, 3]."""
    if request.param == "wheel":
        return colour_wheel()
    folder = request.getfixturevalue("real_data") / request.param
    path = sorted([*folder.rglob("image_02/data/*.png"), *folder.rglob("rgb_*")])[0]
    return np.asarray(Image.open(path))[100:196, 200:328].copy()


def colour_wheel():
    """A smooth wheel with noise."""
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
    assert np.abs(got - want).max() <= 1.0
    np.testing.assert_array_equal(got, np.floor(want + 1e-9).astype(np.uint8))


@pytest.mark.parametrize("power", [80, 83, 100, 120])
def test_gamma_formula(image, power):
    got = a.gamma(image, Fixed(power))
    want = (image.astype(np.float64) / 255) ** (power / 100) * 255
    assert (want - got).min() >= -1e-9
    assert (want - got).max() <= 1.0 + 1e-9  # it truncates
    np.testing.assert_array_equal(got[image == 0], 0)
    np.testing.assert_array_equal(got[image == 255], 255)


def hsv_of(image):
    """Hue in degrees, saturation and value in [0, 1], by the hexcone's definition."""
    r, g, b = np.moveaxis(image.astype(np.float64) / 255, -1, 0)
    value, chroma = image.max(-1) / 255, np.ptp(image, -1) / 255
    safe = np.where(chroma > 0, chroma, 1)
    sector = [(g - b) / safe % 6, (b - r) / safe + 2, (r - g) / safe + 4]
    hue = 60 * np.choose(image.argmax(-1), sector)
    saturation = chroma / np.where(value > 0, value, 1)
    return hue, saturation, value


def rgb_of(hue, saturation, value):
    """Back, floats in [0, 255]."""
    planes = []
    for offset in (5, 3, 1):
        k = (offset + hue / 60) % 6
        ramp = np.clip(np.minimum(k, 4 - k), 0, 1)
        planes.append(value * (1 - saturation * ramp))
    return 255 * np.stack(planes, -1)


def test_hue_saturation_formula(image):
    """The hexcone in float64, quantised where OpenCV does: hue to 180 codes of 2
    degrees, saturation and value to 255. Codes may round the other way at ties."""
    hue, saturation, value = hsv_of(image)
    codes = np.stack([np.rint(hue / 2) % 180, 255 * saturation, 255 * value], -1)
    codes = np.rint(codes)
    codes[..., 0] = np.floor(np.mod(codes[..., 0] + 19.4, 180))
    codes[..., 1] = np.floor(np.clip(codes[..., 1] - 25.5, 0, 255))
    codes[..., 2] = np.floor(np.clip(codes[..., 2] + 12.2, 0, 255))
    want = rgb_of(2 * codes[..., 0], codes[..., 1] / 255, codes[..., 2] / 255)
    got = a.hue_saturation(image, Fixed(19.4, -25.5, 12.2))
    difference = np.abs(got - want)
    assert np.quantile(difference, 0.99) <= 1.1
    assert difference.max() <= 9.0  # a code more of hue and one of saturation


def test_hue_saturation_is_albumentations(image):
    """Plane by plane in OpenCV's own HSV: to the last bit."""
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
    camera = np.array([70.0, 80.0, 50.0, 40.0], np.float32)
    return {"image": image, "depth": depth, "intrinsics": camera, "index": np.int32(3)}


def view(image, depth, setting, seed):
    rng = np.random.default_rng(seed)
    return a.augment(example(image, depth), setting, rng, depth_scale=1.0)


def test_image_and_depth_move_together(image):
    """A depth that is the image's red plane stays so through flip and crop."""
    setting = a.Augmentation((40, 50), 0.5, 0.0, 0.0, 0.0, 0.0)
    depth = image[..., 0].astype(np.float32)
    seen = set()
    for seed in range(20):
        out = view(image, depth, setting, seed)
        assert out["image"].shape == (40, 50, 3)
        np.testing.assert_array_equal(out["image"][..., 0], out["depth"])
        seen.add(out["depth"].tobytes())
    assert len(seen) == 20


def test_intrinsics_see_the_same_ray_at_every_pixel():
    """A depth that stores the x of each pixel's ray, (u - cx) / fx, is it afterwards.

    A flip mirrors the world: x changes its sign.
    """
    u = np.arange(128, dtype=np.float32)
    x = np.broadcast_to((u - 50) / 70, (96, 128))
    image = np.zeros((96, 128, 3), np.uint8)
    setting = a.Augmentation((40, 50), 0.5, 0.0, 0.0, 0.0, 0.0)
    signs = set()
    for seed in range(10):
        out = view(image, x, setting, seed)
        points = geometry.backproject(np.ones((40, 50)), out["intrinsics"])
        sign = 1.0 if out["depth"][0, 0] < out["depth"][0, 1] else -1.0
        np.testing.assert_allclose(points[..., 0], sign * out["depth"], atol=1e-5)
        signs.add(sign)
        assert out["intrinsics"].dtype == np.float32
    assert signs == {1.0, -1.0}


def test_colour_changes_leave_depth_alone(image):
    setting = a.Augmentation(image.shape[:2], 0.0, 1.0, 1.0, 1.0, 0.0)
    depth = image[..., 0].astype(np.float32)
    out = view(image, depth, setting, 1)
    np.testing.assert_array_equal(out["depth"], depth)
    assert np.abs(out["image"].astype(int) - image).mean() > 1


def test_the_source_is_not_written_to(image):
    """The prepared pixels may be read-only, and are shared by the epochs."""
    setting = a.Augmentation((40, 50), 1.0, 1.0, 1.0, 1.0, 1.0)
    before, depth = image.copy(), np.full(image.shape[:2], 7, np.float32)
    for seed in range(5):  # a strip may miss the crop
        view(image, depth, setting, seed)
    np.testing.assert_array_equal(image, before)


def test_probabilities():
    shape = (4, 6)
    image = np.arange(72, dtype=np.uint8).reshape(*shape, 3)
    setting = a.Augmentation(shape, 0.25, 0.0, 0.0, 0.0, 0.0)
    depth = np.zeros(shape, np.float32)
    draws = (view(image, depth, setting, seed) for seed in range(400))
    flipped = sum(np.array_equal(d["image"], image[:, ::-1]) for d in draws)
    assert 70 <= flipped <= 130


def raw_example(shape):
    raw = {"image": np.zeros((*shape, 3), np.uint8), "key": b"drive/7", "index": 7}
    raw["depth"] = np.zeros((*shape, 1), np.uint16)
    return raw | {"intrinsics": np.array([700, 700, 600, 170], np.float32)}


def test_metric_example_crops_and_scales():
    raw = raw_example((375, 1242))
    raw["depth"][23, 13] = 256  # the first pixel of the KITTI benchmark crop
    out = a.metric_example(raw, depth_scale=256.0, kb_crop=True)
    assert out["depth"].shape == (352, 1216)
    assert out["depth"][0, 0] == 1.0
    assert out["depth"].sum() == 1.0
    np.testing.assert_array_equal(out["intrinsics"], [700, 700, 587, 147])


def test_metric_example_too_small():
    with pytest.raises(InputError, match=r"drive/7: .*\(100, 200\).*kb_crop=False"):
        a.metric_example(raw_example((100, 200)), depth_scale=256.0, kb_crop=True)


# ---------------------------------------------------------------- CutDepth


@pytest.fixture
def pair():
    """An image without the values of any depth, and depth with holes."""
    rng = np.random.default_rng(0)
    image = np.full((6, 40, 3), 77, np.uint8)
    depth = np.where(rng.random((6, 40)) < 0.7, rng.uniform(1, 90, (6, 40)), 0)
    return image, (np.rint(depth * 256) / 256).astype(np.float32)


def cut_depth(image, depth, rng):
    """A copy with the strip."""
    image = image.copy()
    a.paste_depth(image, depth, a.draw_strip(image.shape[1], rng), max_depth=80.0)
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
def test_drawn_strip(draws, columns):
    assert a.draw_strip(40, Fixed(*draws)) == columns


def test_pasted_strip(pair):
    image, depth = pair
    got = cut_depth(image, depth, Fixed(0.25, 0.5))
    np.testing.assert_array_equal(got[:, :10], 77)
    np.testing.assert_array_equal(got[:, 21:], 77)  # l = 10, w = int(30 * 0.375)
    for row in range(6):
        for column in range(10, 21):
            metres = depth[row, column]
            want = 255 * min(metres / 80, 1) if metres else 0
            assert np.ptp(got[row, column]) == 0
            assert abs(int(got[row, column, 0]) - want) < 1


def test_strip_on_real_depth(real_data):
    """Of the 5 % of pixels that the lidar measured the strip shows some, else zero."""
    path = sorted(real_data.glob("kitti/data_depth_annotated/**/*.png"))[0]
    depth = np.asarray(Image.open(path)).astype(np.float32) / 256
    image = np.full((*depth.shape, 3), 255, np.uint8)
    got = cut_depth(image, depth, Fixed(0.3, 0.5))
    strip = got[:, 372:698]
    assert 0.01 < np.mean(strip > 0) < 0.1
    assert np.all((strip[..., 0] > 0) <= (depth[:, 372:698] > 0))


def test_pasted_after_flip_and_crop_is_pasted_before(pair):
    """The references paste first; the strip may miss the crop, or end in it."""
    image, depth = pair
    image = image + np.arange(40, dtype=np.uint8)[:, None]
    plain = a.Augmentation((4, 12), 0.5, 0.0, 0.0, 0.0, 0.0)
    missed = 0
    for seed in range(60):
        draws = np.random.default_rng(seed).random(6)  # cut, a, b, flip, top, left
        first = cut_depth(image, depth, Fixed(*draws[1:3]))
        raw = {"image": first, "depth": depth, "intrinsics": np.ones(4)}
        want = a.augment(raw, plain, Fixed(1.0, *draws[3:], 1, 1, 1), depth_scale=1.0)
        raw = {"image": image, "depth": depth, "intrinsics": np.ones(4)}
        setting = plain._replace(cut_depth=1.0)
        got = a.augment(raw, setting, Fixed(*draws, 1, 1, 1), depth_scale=1.0)
        np.testing.assert_array_equal(got["image"], want["image"])
        missed += np.all(np.ptp(got["image"], axis=(0, 2)) == 0)
    assert 0 < missed < 60
