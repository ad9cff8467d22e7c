"""monodepth2's jitter against torchvision's formulas in float64."""

import numpy as np
import pytest
from PIL import Image

from amlr_jax.data.views import jitter
from tests.data.test_augment import colour_wheel, hsv_of, rgb_of


@pytest.fixture(scope="module", params=["wheel", "kitti"])
def image(request):
    if request.param == "wheel":
        return colour_wheel()
    folder = request.getfixturevalue("real_data") / "kitti"
    path = sorted(folder.rglob("image_02/data/*.png"))[0]
    return np.asarray(Image.open(path))[100:196, 200:328].copy()


def only(**change):
    """A draw of one change."""
    return jitter.NOTHING._replace(**change, order=tuple(change))


def grey(image):
    """ITU-R 601 luma."""
    return image.astype(np.float64) @ [0.299, 0.587, 0.114]


def blend(image, other, factor):
    """other + factor (image - other), in [0, 255]."""
    return np.clip(other + factor * (image.astype(np.float64) - other), 0, 255)


@pytest.mark.parametrize("factor", [0.8, 0.93, 1.2])
def test_brightness(image, factor):
    got = jitter.apply(image, only(brightness=factor))
    assert np.abs(got - blend(image, 0.0, factor)).max() <= 1


@pytest.mark.parametrize("factor", [0.8, 0.93, 1.2])
def test_contrast_about_the_mean_grey(image, factor):
    got = jitter.apply(image, only(contrast=factor))
    assert np.abs(got - blend(image, grey(image).mean(), factor)).max() <= 1.2


@pytest.mark.parametrize("factor", [0.8, 0.93, 1.2])
def test_saturation_about_each_pixels_grey(image, factor):
    got = jitter.apply(image, only(saturation=factor))
    want = blend(image, grey(image)[..., None], factor)
    assert np.abs(got - want).max() <= 1.2


@pytest.mark.parametrize("turns", [-0.1, 0.0371, 0.1])
def test_hue(image, turns):
    """Pillow floors hue and saturation to 255ths; the codes turn in a wheel of 256."""
    hue, saturation, value = hsv_of(image)
    codes = np.floor(hue / 360 * 255), np.floor(saturation * 255)
    moved = (codes[0] + np.trunc(turns * 255)) % 256
    want = rgb_of(moved / 255 * 360, codes[1] / 255, value)
    got = jitter.apply(image, only(hue=turns))
    difference = np.abs(got - want)
    assert np.quantile(difference, 0.99) <= 1.0
    assert difference.max() <= 7.0  # a code of hue more is up to 6 levels


def test_order_is_followed(image):
    both = jitter.ColorJitter(1.2, 0.8, 1.0, 0.0, ("brightness", "contrast"))
    got = jitter.apply(image, both)
    bright = jitter.apply(image, only(brightness=1.2))
    np.testing.assert_array_equal(got, jitter.apply(bright, only(contrast=0.8)))
    other = jitter.apply(image, both._replace(order=both.order[::-1]))
    assert np.any(other != got)


def test_nothing_is_the_image(image):
    np.testing.assert_array_equal(jitter.apply(image, jitter.NOTHING), image)


def test_draws():
    rng = np.random.default_rng(0)
    draws = [jitter.draw(rng) for _ in range(400)]
    some = [d for d in draws if d.order]
    assert 160 < len(some) < 240
    assert all(sorted(d.order) == sorted(jitter.CHANGES) for d in some)
    assert len({d.order for d in some}) == 24
    for name, low, high in (("contrast", 0.8, 1.2), ("hue", -0.1, 0.1)):
        values = [getattr(d, name) for d in some]
        assert low <= min(values) < low + 0.02
        assert high - 0.02 < max(values) <= high


def test_one_draw_changes_all_frames_alike(image):
    """A later frame's draw is not consumed: the same draw, the same change."""
    drawn = jitter.draw(np.random.default_rng(1), probability=1.0)
    np.testing.assert_array_equal(
        jitter.apply(image, drawn), jitter.apply(image.copy(), drawn)
    )
