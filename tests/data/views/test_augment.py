"""A flip mirrors the world; the networks see one jitter, the loss clean images."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from amlr_jax import geometry
from amlr_jax.data.views import augment
from amlr_jax.data.views.augment import (
    ViewAugmentation,
    apply_jitter,
    augment_view,
    draw_jitter,
    flip_view,
)
from tests.data.test_augment import colour_wheel, hsv_of, rgb_of

HEIGHT, WIDTH = 24, 80
IMAGES = ("image", "sources", "partner")
ALWAYS, NEVER = 1.0, 0.0


@pytest.fixture
def view():
    rng = np.random.default_rng(0)
    one = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    return {
        "image": one,
        "sources": np.stack([one, np.roll(one, 3, axis=1)]),
        "partner": np.roll(one, -5, axis=1),
        "partner_from_target": np.array([-0.54, 0.01, 0.02], np.float32),
        "intrinsics": np.array([46.4, 46.1, 37.2, 11.1], np.float32),
        "key": "drive/1",
        "index": 3,
    }


def changed(view, seed=0, **chances):
    setting, rng = ViewAugmentation(**chances), np.random.default_rng(seed)
    return augment_view(view, rng, setting=setting)


def test_without_changes_it_is_the_view(view):
    got = changed(view, flip=NEVER, jitter=NEVER)
    for name in view.keys() - {"key"}:
        np.testing.assert_array_equal(got[name], view[name])
    for name in ("image", "sources"):
        np.testing.assert_array_equal(got[f"network_{name}"], view[name])


def test_the_loss_sees_clean_images_and_the_networks_one_jitter(view):
    got = changed(view, flip=NEVER, jitter=ALWAYS)
    for name in IMAGES:
        np.testing.assert_array_equal(got[name], view[name])
    assert np.abs(got["network_image"].astype(int) - view["image"]).mean() > 2
    # The first source is the target's image, so one draw gives one result.
    np.testing.assert_array_equal(got["network_sources"][0], got["network_image"])
    rng = np.random.default_rng(0)
    rng.random()  # the flip's
    drawn = draw_jitter(rng, probability=1.0)
    want = [apply_jitter(source, drawn) for source in view["sources"]]
    np.testing.assert_array_equal(got["network_sources"], want)


def test_the_networks_see_what_is_flipped(view):
    got = changed(view, flip=ALWAYS, jitter=NEVER)
    for name in IMAGES:
        np.testing.assert_array_equal(got[name], view[name][..., ::-1, :])
    for name in ("image", "sources"):
        np.testing.assert_array_equal(got[f"network_{name}"], got[name])
    np.testing.assert_allclose(got["partner_from_target"], [0.54, 0.01, 0.02])
    assert got["intrinsics"].dtype == np.float32


def test_points_of_a_flipped_view_are_mirrored(view):
    flipped = flip_view(view)
    rng = np.random.default_rng(1)
    depth = rng.uniform(3, 40, (HEIGHT, WIDTH)).astype(np.float32)
    points = geometry.backproject(depth, view["intrinsics"])
    mirrored = geometry.backproject(depth[:, ::-1], flipped["intrinsics"])
    want = np.asarray(points)[:, ::-1] * [-1, 1, 1]
    np.testing.assert_allclose(mirrored, want, rtol=1e-4, atol=1e-4)
    # In the partner, too: it shows the mirrored points at the mirrored pixels.
    pixels, _ = geometry.project(
        points + view["partner_from_target"], view["intrinsics"]
    )
    turned, _ = geometry.project(
        mirrored + flipped["partner_from_target"], flipped["intrinsics"]
    )
    u, v = np.moveaxis(np.asarray(pixels)[:, ::-1], -1, 0)
    np.testing.assert_allclose(turned, np.stack([WIDTH - 1 - u, v], -1), atol=1e-3)


def test_flipped_twice_is_the_view(view):
    twice = flip_view(flip_view(view))
    for name in view:
        np.testing.assert_array_equal(twice[name], view[name])


def test_without_stereo(view):
    mono = {k: v for k, v in view.items() if not k.startswith("partner")}
    flipped = flip_view(mono)
    assert flipped.keys() == mono.keys()


def test_the_flip_commutes_with_the_resize(view):
    """But for rounding: monodepth2 flips first."""
    size = WIDTH // 2 + 3, HEIGHT // 2
    first = Image.fromarray(view["image"]).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    theirs = np.asarray(first.resize(size, Image.Resampling.LANCZOS))
    resized = Image.fromarray(view["image"]).resize(size, Image.Resampling.LANCZOS)
    difference = np.abs(np.asarray(resized)[:, ::-1].astype(int) - theirs)
    assert difference.max() <= 1


def test_half_of_the_views_change(view):
    mono = {k: v[..., :8, :] if k in IMAGES else v for k, v in view.items()}
    many = [changed(mono, seed=seed) for seed in range(300)]
    flips = [np.any(m["image"] != mono["image"]) for m in many]
    jitters = [np.any(m["network_image"] != m["image"]) for m in many]
    assert 120 < sum(flips) < 180
    assert 120 < sum(jitters) < 180
    both = sum(np.logical_and(flips, jitters))
    assert 50 < both < 100


# ---------------------------------------- the jitter, by torchvision's formulas


@pytest.fixture(scope="module", params=["wheel", "kitti"])
def image(request):
    if request.param == "wheel":
        return colour_wheel()
    folder = request.getfixturevalue("real_data") / "kitti"
    path = sorted(folder.rglob("image_02/data/*.png"))[0]
    return np.asarray(Image.open(path))[100:196, 200:328].copy()


def only(**change):
    """A draw of one change."""
    return change


def grey(image):
    """ITU-R 601 luma."""
    return image.astype(np.float64) @ [0.299, 0.587, 0.114]


def blend(image, other, factor):
    """other + factor (image - other), in [0, 255]."""
    return np.clip(other + factor * (image.astype(np.float64) - other), 0, 255)


@pytest.mark.parametrize("factor", [0.8, 0.93, 1.2])
def test_brightness(image, factor):
    got = apply_jitter(image, only(brightness=factor))
    assert np.abs(got - blend(image, 0.0, factor)).max() <= 1


@pytest.mark.parametrize("factor", [0.8, 0.93, 1.2])
def test_contrast_about_the_mean_grey(image, factor):
    got = apply_jitter(image, only(contrast=factor))
    assert np.abs(got - blend(image, grey(image).mean(), factor)).max() <= 1.2


@pytest.mark.parametrize("factor", [0.8, 0.93, 1.2])
def test_saturation_about_each_pixels_grey(image, factor):
    got = apply_jitter(image, only(saturation=factor))
    want = blend(image, grey(image)[..., None], factor)
    assert np.abs(got - want).max() <= 1.2


@pytest.mark.parametrize("turns", [-0.1, 0.0371, 0.1])
def test_hue(image, turns):
    hue, saturation, value = hsv_of(image)
    want = rgb_of((hue + 360 * turns) % 360, saturation, value)
    got = apply_jitter(image, only(hue=turns))
    assert np.abs(got - want).max() <= 0.501  # rounded


ENHANCE = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


@pytest.mark.parametrize("name", ENHANCE)
def test_all_but_hue_are_those_of_pillow(image, name):
    """With which torchvision changes Pillow's images."""
    for factor in np.linspace(0.8, 1.2, 9):
        theirs = ENHANCE[name](Image.fromarray(image)).enhance(factor)
        got = apply_jitter(image, only(**{name: factor}))
        assert np.abs(got.astype(int) - np.asarray(theirs)).max() <= 1


def test_order_is_followed(image):
    both = {"brightness": 1.2, "contrast": 0.8}
    got = apply_jitter(image, both)
    bright = apply_jitter(image, only(brightness=1.2))
    np.testing.assert_array_equal(got, apply_jitter(bright, only(contrast=0.8)))
    other = apply_jitter(image, dict(reversed(both.items())))
    assert np.any(other != got)


def test_nothing_is_the_image(image):
    np.testing.assert_array_equal(apply_jitter(image, {}), image)


def test_draws():
    rng = np.random.default_rng(0)
    draws = [draw_jitter(rng) for _ in range(400)]
    some = [d for d in draws if d]
    assert 160 < len(some) < 240
    assert all(sorted(d) == sorted(augment.CHANGES) for d in some)
    assert len({tuple(d) for d in some}) == 24
    for name, low, high in (("contrast", 0.8, 1.2), ("hue", -0.1, 0.1)):
        values = [d[name] for d in some]
        assert low <= min(values) < low + 0.02
        assert high - 0.02 < max(values) <= high


def test_one_draw_changes_all_frames_alike(image):
    """A later frame's draw is not consumed: the same draw, the same change."""
    drawn = draw_jitter(np.random.default_rng(1), probability=1.0)
    np.testing.assert_array_equal(
        apply_jitter(image, drawn), apply_jitter(image.copy(), drawn)
    )
