"""Colours that order distances, and a scale that can be read."""

import matplotlib
import numpy as np
import pytest

from amlr_jax.data import colors


def test_the_palette_by_inverse_depth():
    depth = np.array([[2.0, 4.0, 80.0], [1.0, 100.0, 3.0]])
    part = np.clip((1 / depth - 1 / 80) / (1 / 2 - 1 / 80), 0, 1)
    expected = 255 * matplotlib.colormaps["magma"](np.rint(255 * part).astype(int))
    found = colors.colorize(depth, near=2.0, far=80.0)
    np.testing.assert_array_equal(found, np.rint(expected[..., :3]))


def test_nearer_is_brighter():
    depth = np.linspace(2, 80, 100).reshape(10, 10)
    near = colors.nearest(depth, far=80.0)
    brightness = colors.colorize(depth, near=near, far=80.0).astype(int).sum(-1).ravel()
    assert (np.diff(brightness) <= 0).all() and brightness[0] > 600 > brightness[-1]


def test_what_was_not_measured_is_grey():
    depth = np.array([[0.0, np.nan, 5.0]])
    shown = colors.colorize(depth, near=1.0, far=10.0)
    np.testing.assert_array_equal(shown[0, :2], 128)
    assert (shown[0, 2] != 128).any()


@pytest.mark.parametrize("value", [5.0, 80.0, 200.0, 0.0, np.nan])
def test_a_flat_map_has_a_scale(value):
    depth = np.full((4, 6), value)
    near = colors.nearest(depth, far=80.0)
    assert 0 < near < 80
    picture = colors.colorize(depth, near=near, far=80.0)
    assert colors.with_scale(picture, near=near, far=80.0).dtype == np.uint8


@pytest.mark.parametrize("size", [(375, 1242), (40, 60), (1, 1), (300, 30)])
def test_the_scale_is_below_and_the_picture_whole(size):
    picture = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    shown = colors.with_scale(picture, near=2.0, far=80.0)
    height, width = size
    left = (max(width, colors.LEAST_WIDTH) - width) // 2
    np.testing.assert_array_equal(shown[:height, left : left + width], picture)
    strip = shown[height:].astype(int)
    assert len(strip) >= 2 * 11
    # Letters are grey on grey; on a picture of any size there are some.
    letters = (strip.min(-1) > 200) & (strip.max(-1) - strip.min(-1) < 8)
    assert letters.sum() > 40


def test_ticks_stand_where_their_colour_is():
    ticks = colors._ticks(2.0, 80.0)
    assert [metres for metres, _ in ticks[:2]] == [2.0, 80.0]
    assert {5.0, 10.0, 20.0} <= {metres for metres, _ in ticks}
    for metres, place in ticks:
        expected = (1 / 2 - 1 / metres) / (1 / 2 - 1 / 80)
        assert place == pytest.approx(expected, abs=1e-9)


def test_labels_do_not_touch(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        colors.ImageDraw.ImageDraw,
        "text",
        lambda self, at, text, *, fill, font: drawn.append(
            (at[0], at[0] + self.textlength(text, font=font), text)
        ),
    )
    picture = np.zeros((375, 1242, 3), np.uint8)
    colors.with_scale(picture, near=2.345, far=80.0, unit="")
    drawn.sort()
    assert [text for *_, text in drawn][0] == "2.35" and len(drawn) >= 6
    for (_, end, _), (start, *_) in zip(drawn, drawn[1:], strict=False):
        assert start > end
