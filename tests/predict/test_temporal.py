"""Smoothing over time against a plain loop, and flicker where nothing moves."""

import math

import numpy as np
import pytest

from amlr_jax.predict.temporal import Flicker, Smoothing

TIMES = (0.0, 0.1, 0.25, 0.3, 0.5)


def film(seed: int = 0, *, noise: float) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    scene = rng.uniform(2, 20, (9, 11))
    return [scene * np.exp(noise * rng.standard_normal(scene.shape)) for _ in TIMES]


def test_the_equation_pixel_by_pixel():
    frames = film(noise=0.05)
    frames[2][4:6] *= 0.5  # moves
    smooth = Smoothing(0.2)
    found = [smooth(depth, time) for depth, time in zip(frames, TIMES, strict=True)]
    mean = [math.log(value) for value in frames[0].ravel()]
    for number in range(1, len(TIMES)):
        weight = 1 - math.exp(-(TIMES[number] - TIMES[number - 1]) / 0.2)
        change = [
            math.log(v) - m for v, m in zip(frames[number].ravel(), mean, strict=True)
        ]
        common = sorted(change)[len(change) // 2]
        rest = [c - common for c in change]
        mean = [
            m + weight * common + (weight * r if abs(r) < 0.1 else r)
            for m, r in zip(mean, rest, strict=True)
        ]
        np.testing.assert_allclose(found[number].ravel(), np.exp(mean), rtol=1e-9)


def test_a_still_film_stays_and_a_cut_starts_anew():
    smooth = Smoothing(1.0)
    still, other = film(noise=0)[0], film(1, noise=0)[0]
    for time in TIMES:
        np.testing.assert_allclose(smooth(still, time), still, rtol=1e-12)
    np.testing.assert_allclose(smooth(other, 1.0), other, rtol=1e-12)


def test_what_moves_follows_at_once():
    before = np.full((10, 10), 10.0)
    after = before.copy()
    after[:2] = 4.0
    smooth = Smoothing(5.0)
    smooth(before, 0.0)
    np.testing.assert_allclose(smooth(after, 0.04), after, rtol=1e-12)


def test_smoothing_lowers_the_flicker():
    image = np.zeros((9, 11, 3), np.uint8)
    raw, shown, smooth = Flicker(), Flicker(), Smoothing(1.0)
    for depth, time in zip(film(noise=0.02), TIMES, strict=True):
        raw.add(image, depth)
        shown.add(image, smooth(depth, time))
    # |difference of two normal numbers| has the mean 2 / sqrt(pi) of one's deviation.
    assert raw.mean == pytest.approx(0.02 * 2 / math.sqrt(math.pi), rel=0.1)
    assert shown.mean < raw.mean / 3


def test_only_still_pixels_count():
    image = np.zeros((10, 10, 3), np.uint8)
    moved = image.copy()
    moved[:5, :, 1] = 5
    moved[5:, :, 2] = 4
    depth = np.full((10, 10), 2.0)
    changed = depth.copy()
    changed[:5], changed[5:] = 9.0, 2.02
    flicker = Flicker()
    assert flicker.mean is None
    flicker.add(image, depth)
    flicker.add(moved, changed)
    assert flicker.mean == pytest.approx(math.log(1.01))
    flicker.add(np.full_like(image, 99), depth)  # nothing is still
    assert flicker.mean == pytest.approx(math.log(1.01))
