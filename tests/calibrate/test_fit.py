"""The fit against SciPy, on points with gross errors, and on too few points."""

import numpy as np
import pytest
from scipy import optimize

from amlr_jax.calibrate import fit as fits
from amlr_jax.calibrate.fit import fit
from amlr_jax.runtime.errors import InputError


def points(count: int, *, factor: float, shift: float = 0.0, seed: int = 0):
    """Depths, metres with 3 % of noise, and the number of each point's image."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.2, 3.0, count)
    metres = (factor * depth + shift) * np.exp(0.03 * rng.standard_normal(count))
    return depth, metres, np.arange(count) % 7


def test_the_factor_is_the_median_of_log_ratios():
    depth, metres, image = points(41, factor=30.0)
    found = fit(depth, metres, image, with_shift=False)
    logs = sorted(np.log(m) - np.log(d) for d, m in zip(depth, metres, strict=True))
    assert found.calibration.factor == pytest.approx(np.exp(logs[20]), rel=1e-12)
    assert found.calibration.shift == 0
    expected = found.calibration.factor * depth / metres - 1
    np.testing.assert_allclose(found.errors, expected, rtol=1e-12)
    assert found.low.factor < found.calibration.factor < found.high.factor
    scaled = fit(2 * depth, metres, image, with_shift=False)
    assert scaled.calibration.factor == pytest.approx(found.calibration.factor / 2)


@pytest.mark.parametrize("with_shift", [False, True])
def test_wrong_points_do_not_move_it(with_shift):
    depth, metres, image = points(60, factor=30.0, shift=2.0 * with_shift)
    clean = fit(depth, metres, image, with_shift=with_shift).calibration
    metres[::6] *= 20
    spoilt = fit(depth, metres, image, with_shift=with_shift).calibration
    assert spoilt.factor == pytest.approx(clean.factor, rel=0.03)
    assert spoilt.shift == pytest.approx(clean.shift, abs=0.3)


def test_factor_and_shift_are_those_of_scipy():
    depth, metres, image = points(80, factor=12.0, shift=1.5)
    found = fit(depth, metres, image, with_shift=True).calibration

    def loss(x):
        return np.mean(np.abs(x[0] * depth + x[1] - metres) / metres)

    best = optimize.minimize(loss, [10, 1], method="Nelder-Mead", tol=1e-9)
    assert loss(found) == pytest.approx(best.fun, rel=1e-3)
    np.testing.assert_allclose(found, best.x, rtol=0.02)


def test_the_interval_covers_the_factor():
    """About 95 % of 60 sets of 25 points; at least 85 %."""
    covered = 0
    for seed in range(60):
        depth, metres, _ = points(25, factor=8.0, seed=seed)
        found = fit(depth, metres, np.zeros(25), with_shift=False)
        covered += found.low.factor <= 8.0 <= found.high.factor
    assert covered >= 51


def test_points_of_one_image_err_together():
    """The interval over images is wider than that of as many independent points."""
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(8), 50)
    depth = rng.uniform(1, 2, 400)
    metres = 10 * depth * np.exp(0.2 * rng.standard_normal(8))[image]
    together = fit(depth, metres, image, with_shift=False)
    alone = fit(depth, metres, np.zeros(400), with_shift=False)
    widths = [np.log(f.high.factor / f.low.factor) for f in (together, alone)]
    assert widths[0] > 3 * widths[1]


def test_images_with_other_numbers_of_points():
    depth, metres, _ = points(20, factor=5.0)
    image = np.repeat(np.arange(6), [1, 7, 2, 5, 4, 1])
    order = np.random.default_rng(1).permutation(20)
    whole = fits._resampled(depth, metres, image)
    mixed = fits._resampled(depth[order], metres[order], image[order])
    for one, other in zip(whole, mixed, strict=True):
        np.testing.assert_allclose(np.sort(one, axis=1), np.sort(other, axis=1))
    assert np.isfinite(whole[0]).sum(axis=1).mean() == pytest.approx(20, rel=0.1)


def test_few_points():
    one = fit(np.array([2.0]), np.array([7.0]), np.zeros(1), with_shift=False)
    assert one.calibration.factor == pytest.approx(3.5) and one.low is None
    with pytest.raises(InputError, match="--shift needs 3 known distances or more"):
        fit(np.ones(2), np.ones(2), np.zeros(2), with_shift=True)
    with pytest.raises(InputError, match="calibration needs 1 known distances or more"):
        fit(np.ones(0), np.ones(0), np.zeros(0), with_shift=False)
    for depth in (np.ones(4), np.array([4.0, 3, 2, 1])):
        with pytest.raises(InputError, match="give points at different depths"):
            fit(depth, np.array([1.0, 2, 3, 4]), np.zeros(4), with_shift=True)
