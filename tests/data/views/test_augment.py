"""A flip is a mirror of the world; the networks see one jitter, the loss none."""

import numpy as np
import pytest
from PIL import Image

from amlr_jax import geometry
from amlr_jax.data.views import augment, jitter
from amlr_jax.data.views.augment import ViewAugmentation, augment_view, flip_view
from amlr_jax.runtime.errors import InputError

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
    return augment_view(view, ViewAugmentation(**chances), np.random.default_rng(seed))


def test_without_changes_it_is_the_view(view):
    got = changed(view, flip=NEVER, jitter=NEVER)
    for name in view:
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
    drawn = jitter.draw(rng, probability=1.0)
    want = [jitter.apply(source, drawn) for source in view["sources"]]
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


@pytest.mark.parametrize("name", ViewAugmentation._fields)
@pytest.mark.parametrize("chance", [-0.1, 1.1, float("nan")])
def test_what_is_no_probability(name, chance):
    with pytest.raises(InputError, match=f"data.{name} must be a probability"):
        augment.check(ViewAugmentation(**{name: chance}))
