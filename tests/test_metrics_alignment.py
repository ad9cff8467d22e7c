"""Alignment against NumPy and SciPy, edges against a loop over pixels."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from scipy.optimize import linprog
from skimage import feature

from amlr_jax import metrics

rng = np.random.default_rng(0)
SHAPE = (2, 12, 15)
TARGET = rng.uniform(1.0, 40.0, SHAPE).astype(np.float32)
NOISE = np.exp(rng.normal(0, 0.1, SHAPE))
DEPTH = ((TARGET * NOISE - 0.7) / 3).astype(np.float32)
DISPARITY = ((NOISE / TARGET - 0.01) * 5).astype(np.float32)
WHERE = rng.random(SHAPE) < 0.5
LIMITS = {"min_depth": 1e-3, "max_depth": 80.0}
FITTED = ("scale", "scale_shift", "disparity_scale_shift")


def input_of(how: str) -> np.ndarray:
    return DISPARITY if how.startswith("disparity") else DEPTH


def least_squares(p, g, how) -> tuple[float, float]:
    p, g = p.astype(np.float64), g.astype(np.float64)
    y = 1 / g if how.startswith("disparity") else g
    columns = [p] if how == "scale" else [p, np.ones_like(p)]
    found = np.linalg.lstsq(np.stack(columns, -1), y, rcond=None)[0]
    return (*found, 0.0)[:2]


@pytest.mark.parametrize("how", FITTED)
def test_fits_equal_numpys(how):
    found = metrics.align(input_of(how), TARGET, how=how, where=WHERE, **LIMITS)
    for k in range(len(TARGET)):
        w, p = WHERE[k], input_of(how)[k]
        scale, shift = least_squares(p[w], TARGET[k][w], how)
        np.testing.assert_allclose(found.scale[k], scale, rtol=1e-4)
        np.testing.assert_allclose(found.shift[k], shift, rtol=1e-3, atol=1e-6)
        moved = scale * p.astype(np.float64) + shift
        if how.startswith("disparity"):
            moved = 1 / np.maximum(moved, 1 / 80)
        moved = np.clip(moved, *LIMITS.values())
        np.testing.assert_allclose(found.prediction[k], moved, rtol=1e-3)


def least_absolute(p, y, weights, *, with_shift: bool) -> float:
    """The least sum w |s p + t - y|, as a linear program in s, t and each |.|."""
    count = len(p)
    columns = np.stack([p, np.full(count, float(with_shift))], -1)
    above = np.block([[columns, -np.eye(count)], [-columns, -np.eye(count)]])
    cost = np.concatenate([[0, 0], weights])
    bounds = [(None, None)] * 2 + [(0, None)] * count
    limit = np.concatenate([y, -y])
    return linprog(cost, above, limit, bounds=bounds).fun


@pytest.mark.parametrize("how", FITTED)
def test_robust_fits_reach_the_least_absolute_error(how):
    p, g = input_of(how).copy(), TARGET
    p[:, :2] = rng.uniform(0.1, 30, p[:, :2].shape)  # a sixth is wrong
    found = metrics.align(p, g, how=how, robust=True, **LIMITS)
    plain = metrics.align(p, g, how=how, **LIMITS)
    for k in range(len(g)):
        y, weights = 1 / g[k], np.ones_like(g[k])
        if not how.startswith("disparity"):
            y, weights = g[k], 1 / g[k]

        def error(fit, k=k, y=y, weights=weights):
            return float(
                (weights * np.abs(fit.scale[k] * p[k] + fit.shift[k] - y)).sum()
            )

        with_shift = how != "scale"
        flat = (x.ravel().astype(float) for x in (p[k], y, weights))
        least = least_absolute(*flat, with_shift=with_shift)
        assert error(found) <= 1.005 * least
        assert error(plain) > 1.02 * least


def test_none_and_median():
    same = metrics.align(TARGET, TARGET, how="none", **LIMITS)
    np.testing.assert_array_equal(same.prediction, TARGET)
    found = metrics.align(DEPTH, TARGET, how="median", where=WHERE, **LIMITS)
    scaled = metrics.median_scaled(DEPTH, TARGET, where=WHERE, **LIMITS)
    np.testing.assert_allclose(found.scale, scaled.ratio, rtol=1e-6)
    np.testing.assert_allclose(found.prediction, scaled.prediction, rtol=1e-6)


@pytest.mark.parametrize("how, robust", [*product(FITTED, (False, True))])
def test_an_exact_line_is_found_and_jit_equals_no_jit(how, robust):
    disparity = how.startswith("disparity")
    y = 1 / TARGET if disparity else TARGET
    p = 2 * y if how == "scale" else 2 * y + 0.5
    options = {"how": how, "robust": robust, **LIMITS}
    found = metrics.align(p, TARGET, **options)
    np.testing.assert_allclose(found.prediction, TARGET, rtol=1e-3)
    jitted = jax.jit(lambda p, g: metrics.align(p, g, **options))(p, TARGET)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        jitted, found,
    )  # fmt: skip


@pytest.mark.parametrize("how, robust", [*product(FITTED, (False, True))])
def test_degenerate_input(how, robust):
    options = {"how": how, "robust": robust, **LIMITS}
    flat = np.full(SHAPE, 2.0, np.float32)
    found = metrics.align(flat, TARGET, **options)
    assert all(np.isfinite(x).all() for x in found)
    if how != "scale":
        np.testing.assert_array_equal(found.scale, 0.0)
    nothing = metrics.align(DEPTH, TARGET, where=np.zeros(SHAPE, bool), **options)
    assert all(np.isnan(x).all() for x in nothing)
    spoiled = np.where(WHERE, input_of(how), np.nan)
    hidden = metrics.align(spoiled, TARGET, where=WHERE, **options)
    want = metrics.align(input_of(how), TARGET, where=WHERE, **options)
    np.testing.assert_allclose(hidden.scale, want.scale, rtol=1e-6)
    assert np.isfinite(hidden.prediction).all()


def test_alignment_by_an_unknown_name():
    with pytest.raises(ValueError, match="`how` must be one of .*'scal'"):
        metrics.align(DEPTH, TARGET, how="scal", **LIMITS)


# ---------------------------------------------------------------- edges


def steps() -> tuple[np.ndarray, np.ndarray]:
    """Blocks of depth; a prediction moved by a pixel, and one with more noise."""
    blocks = rng.uniform(1, 10, (2, 4, 5)).repeat(3, 1).repeat(3, 2)
    blocks = blocks * np.exp(rng.normal(0, 0.03, blocks.shape))
    noisy = blocks[1] * np.exp(rng.normal(0, 0.1, blocks[1].shape))
    predicted = 1.7 * np.stack([np.roll(blocks[0], 1, -1), noisy])
    return predicted.astype(np.float32), blocks.astype(np.float32)


def f1_by_loops(p, g, valid, threshold) -> float:
    height, width = g.shape
    precisions, recalls = [], []
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        both = predicted = true = 0
        for y, x in product(range(height), range(width)):
            v, u = y + dy, x + dx
            inside = 0 <= v < height and 0 <= u < width
            if inside and valid[y, x] and valid[v, u]:
                a, b = p[v, u] / p[y, x] > threshold, g[v, u] / g[y, x] > threshold
                both, predicted, true = both + (a and b), predicted + a, true + b
        precisions.append(both / max(predicted, 1))
        recalls.append(both / max(true, 1))
    p, r = np.mean(precisions), np.mean(recalls)
    return 2 * p * r / (p + r) if p + r else 0.0


@pytest.mark.parametrize("masked", [False, True])
def test_boundary_f1_against_loops(masked):
    p, g = steps()
    where = rng.random(g.shape) < 0.9 if masked else np.ones(g.shape, bool)
    thresholds = np.linspace(1.05, 1.25, 10)
    found = metrics.boundary_f1(p, g, where=where if masked else None)
    jitted = jax.jit(metrics.boundary_f1)(p, g, where=where)
    for k in range(len(g)):
        each = [f1_by_loops(p[k], g[k], where[k], t) for t in thresholds]
        want = np.average(each, weights=thresholds)
        assert found[k] == pytest.approx(want, abs=2e-3)
    np.testing.assert_allclose(jitted, found, atol=2e-3)


def test_boundary_f1_of_equal_and_of_flat_depth():
    p, g = steps()
    np.testing.assert_allclose(metrics.boundary_f1(5 * g, g), 1.0, atol=1e-6)
    np.testing.assert_array_equal(metrics.boundary_f1(np.ones_like(p), g), 0.0)
    empty = np.zeros(g.shape, bool)
    assert np.isfinite(metrics.boundary_f1(p, jnp.full_like(g, 0), where=empty)).all()


def errors_by_scikit_image(prediction, edges):
    """The authors' definition, by scikit-image's Canny and all pairs of pixels."""
    depth = (prediction - prediction.min()) / np.ptp(prediction)
    found = feature.canny(depth, sigma=2**0.5, low_threshold=0.1, high_threshold=0.2)
    c, e = (np.argwhere(x).astype(float) for x in (found, edges))
    apart = np.linalg.norm(c[:, None] - e[None], axis=-1)
    to_edge = apart.min(1)
    return to_edge[to_edge < 10].mean(), apart.min(0).mean()


@pytest.mark.parametrize("seed", range(4))
def test_boundary_errors_against_scikit_image(seed):
    draw = np.random.default_rng(seed)
    depth = ndimage.gaussian_filter(draw.random((48, 64)), 0.5 + seed)
    depth += 0.2 * (np.add.outer(np.arange(48), 0.4 * np.arange(64)) > 40)
    edges = draw.random(depth.shape) < 0.02
    found = metrics.boundary_errors(7 * depth + 2, edges)
    np.testing.assert_allclose(found, errors_by_scikit_image(depth, edges), rtol=1e-9)
    assert found == pytest.approx(metrics.boundary_errors(depth, edges))  # any scale


def test_boundary_errors_of_exact_flat_and_unknown_depth():
    step = np.where(np.arange(20) < 9, 1.0, 2.0) * np.ones((16, 1))
    at = np.zeros(step.shape)
    at[:, 8:10] = 255  # the pixels on both sides
    found = metrics.boundary_errors(step, at)
    assert found.accuracy == 0 and found.completeness < 0.5  # none at the border
    assert metrics.boundary_errors(np.ones_like(step), at) == (10, 10)
    assert metrics.boundary_errors(np.zeros_like(step), at) == (10, 10)
    far = np.zeros((16, 40))
    far[:, -1] = 1
    assert metrics.boundary_errors(np.hstack([step, 2 + 0 * step]), far) == (10, 10)
    assert np.isnan(metrics.boundary_errors(step, np.zeros_like(at))).all()
    unknown = step.copy()
    unknown[:4] = 0  # not a depth of 0, which would be an edge
    assert metrics.boundary_errors(unknown, at).accuracy == 0
    with pytest.raises(ValueError, match=r"one size, got shapes \(16, 20\) and \(20"):
        metrics.boundary_errors(step, at.T)
