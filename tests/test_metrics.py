"""Depth metrics against NumPy and by hand; crops against the published integers."""

import doctest
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax import metrics

SHAPE = (3, 40, 60)
rng = np.random.default_rng(0)
TARGET = rng.uniform(1.0, 80.0, SHAPE).astype(np.float32)
PREDICTION = (TARGET * np.exp(rng.normal(0.05, 0.25, SHAPE))).astype(np.float32)
WHERE = rng.random(SHAPE) < 0.3


def numpy_metrics(p, g):
    """One image, valid pixels only, float64."""
    p, g = p.astype(np.float64), g.astype(np.float64)
    ratio = np.maximum(g / p, p / g)
    d = np.log(p) - np.log(g)
    return {
        "abs_rel": np.mean(np.abs(p - g) / g),
        "sq_rel": np.mean((p - g) ** 2 / g),
        "rmse": np.sqrt(np.mean((p - g) ** 2)),
        "rmse_log": np.sqrt(np.mean(d**2)),
        "log10": np.mean(np.abs(np.log10(p) - np.log10(g))),
        "silog": np.sqrt(np.mean(d**2) - 0.5 * np.mean(d) ** 2),
        **{f"d{k}": np.mean(ratio < 1.25**k) for k in (1, 2, 3)},
    }


def test_against_numpy_per_image():
    actual = metrics.depth_metrics(PREDICTION, TARGET, where=WHERE)
    images = zip(PREDICTION, TARGET, WHERE, strict=True)
    expected = [numpy_metrics(p[w], g[w]) for p, g, w in images]
    for name in metrics.METRIC_NAMES:
        values = [image[name] for image in expected]
        np.testing.assert_allclose(actual[name], values, rtol=1e-6, err_msg=name)


def test_kitti_and_delta_against_numpy_per_image():
    """The devkit's formulas by hand, float64."""
    found = metrics.kitti_metrics(PREDICTION, TARGET, where=WHERE)
    found |= metrics.delta_metrics(PREDICTION, TARGET, where=WHERE)
    assert tuple(found) == metrics.KITTI_NAMES + metrics.DELTA_NAMES
    for k, w in enumerate(WHERE):
        p, g = (x[k][w].astype(np.float64) for x in (PREDICTION, TARGET))
        d, ratio = np.log(p) - np.log(g), np.maximum(p / g, g / p)
        want = {
            "kitti_silog": 100 * np.sqrt(np.mean(d**2) - np.mean(d) ** 2),
            "kitti_sq_rel": 100 * np.mean((p - g) ** 2 / g**2),
            "kitti_abs_rel": 100 * np.mean(np.abs(p - g) / g),
            "kitti_irmse": np.sqrt(np.mean((1000 / p - 1000 / g) ** 2)),
            "d1.05": np.mean(ratio < 1.05),
            "d1.10": np.mean(ratio < 1.10),
        }
        for name, value in want.items():
            np.testing.assert_allclose(found[name][k], value, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("function", [metrics.kitti_metrics, metrics.delta_metrics])
def test_more_metrics_on_degenerate_input(function):
    """A perfect prediction, one without a valid pixel, and jit."""
    where = WHERE.copy()
    where[0] = False
    found = function(TARGET, TARGET, where=where)
    jitted = jax.jit(function)(TARGET, TARGET, where=where)
    for name, values in found.items():
        assert np.isnan(values[0])
        best = 1.0 if name.startswith("d1") else 0.0
        np.testing.assert_array_equal(values[1:], best)
        np.testing.assert_allclose(jitted[name], values, atol=1e-6)


def test_names_and_order():
    actual = metrics.depth_metrics(PREDICTION, TARGET)
    assert tuple(actual) == metrics.METRIC_NAMES
    assert {v.shape for v in actual.values()} == {(3,)}
    assert {v.dtype for v in actual.values()} == {jnp.dtype("float32")}


def test_a_full_size_image_stays_accurate():
    shape = (352, 1216)
    target = np.random.default_rng(1).uniform(1.0, 80.0, shape).astype(np.float32)
    prediction = target * np.float32(1.1)
    actual = metrics.depth_metrics(prediction, target)
    for name, value in numpy_metrics(prediction, target).items():
        np.testing.assert_allclose(actual[name], value, rtol=1e-5, err_msg=name)


def test_by_hand():
    # Two pixels: p = 2, g = 4 and p = 3, g = 2.
    p, g = jnp.array([[2.0, 3.0]]), jnp.array([[4.0, 2.0]])
    d = np.array([np.log(0.5), np.log(1.5)])
    expected = {
        "abs_rel": (0.5 + 0.5) / 2,
        "sq_rel": (1.0 + 0.5) / 2,
        "rmse": np.sqrt(2.5),
        "rmse_log": np.sqrt(np.mean(d**2)),
        "log10": (np.log10(2.0) + np.log10(1.5)) / 2,
        "silog": np.sqrt(np.mean(d**2) - 0.5 * np.mean(d) ** 2),
        "d1": 0.0,
        "d2": 0.5,  # 1.5 < 1.5625
        "d3": 0.5,  # 2 > 1.953
    }
    for name, value in metrics.depth_metrics(p, g).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(("k", "bound"), [(1, 1.25), (2, 1.5625), (3, 1.953125)])
def test_thresholds_are_strict(k, bound):
    one = jnp.ones((1, 1))
    assert metrics.depth_metrics(one * bound, one)[f"d{k}"] == 0.0
    assert metrics.depth_metrics(one, one * bound)[f"d{k}"] == 0.0
    assert metrics.depth_metrics(one * bound * 0.9999, one)[f"d{k}"] == 1.0


def test_perfect_prediction():
    perfect = metrics.depth_metrics(TARGET, TARGET, where=WHERE)
    for name, value in perfect.items():
        assert (value == (1.0 if name in ("d1", "d2", "d3") else 0.0)).all(), name


def test_jit_equals_no_jit():
    eager = metrics.depth_metrics(PREDICTION, TARGET, where=WHERE)
    jitted = jax.jit(metrics.depth_metrics)(PREDICTION, TARGET, where=WHERE)
    for name in metrics.METRIC_NAMES:
        np.testing.assert_allclose(jitted[name], eager[name], rtol=1e-6)


def test_values_under_the_mask_do_not_count():
    clean = metrics.depth_metrics(PREDICTION, TARGET, where=WHERE)
    for bad in (np.nan, np.inf, 0.0):
        p, g = np.where(WHERE, PREDICTION, bad), np.where(WHERE, TARGET, bad)
        spoiled = metrics.depth_metrics(p, g, where=WHERE)
        for name in metrics.METRIC_NAMES:
            np.testing.assert_array_equal(spoiled[name], clean[name])
        np.testing.assert_array_equal(
            metrics.median_scale(p, g, where=WHERE),
            metrics.median_scale(PREDICTION, TARGET, where=WHERE),
        )


def test_an_image_without_a_valid_pixel_is_nan_and_alone_in_it():
    where = WHERE.copy()
    where[1] = False
    values = metrics.depth_metrics(PREDICTION, TARGET, where=where)
    values["scale"] = metrics.median_scale(PREDICTION, TARGET, where=where)
    for value in values.values():
        np.testing.assert_array_equal(np.isnan(value), [False, True, False])


def test_nothing_is_repaired():
    one = jnp.ones((1, 1))
    assert metrics.depth_metrics(one * 0.0, one)["rmse_log"] == np.inf
    assert np.isnan(metrics.depth_metrics(one * np.nan, one)["abs_rel"])


def test_half_precision_is_read_in_float32():
    low = jnp.asarray(PREDICTION, jnp.bfloat16)
    left = metrics.depth_metrics(low, TARGET)
    right = metrics.depth_metrics(low.astype(jnp.float32), TARGET)
    np.testing.assert_array_equal(left["rmse"], right["rmse"])


def test_errors():
    with pytest.raises(ValueError, match=r"\(3, 40, 60, 1\)"):
        metrics.depth_metrics(PREDICTION, TARGET[..., None])
    with pytest.raises(ValueError, match=r"\(40, 60\)"):
        metrics.depth_metrics(PREDICTION, TARGET, where=WHERE[0])
    with pytest.raises(TypeError, match="boolean.*float32"):
        metrics.median_scale(PREDICTION, TARGET, where=WHERE.astype(np.float32))
    with pytest.raises(ValueError, match="H, W"):
        metrics.depth_metrics(jnp.ones(3), jnp.ones(3))


# ---------------------------------------------------------------- masks, repair, scale


def test_valid_mask_is_strict_on_both_sides():
    depth = np.array([0.0, 1e-3, 0.0011, 79.99, 80.0, 81.0, np.nan, np.inf, -1.0])
    expected = [False, False, True, True] + [False] * 5
    for dtype in (np.float64, np.float32):
        mask = metrics.valid_mask(depth.astype(dtype), max_depth=80.0)
        assert mask.tolist() == expected
    assert metrics.valid_mask(jnp.array([5.0]), min_depth=5.0, max_depth=80.0)[0] == 0


def test_sanitize():
    depth = jnp.array([np.inf, -np.inf, np.nan, 0.0, 50.0, 90.0], jnp.bfloat16)
    plain = metrics.sanitize(depth, max_depth=80.0, min_depth=0.5)
    np.testing.assert_array_equal(plain, [80.0, 80.0, 0.5, 0.0, 50.0, 90.0])
    clamped = metrics.sanitize(depth, max_depth=80.0, min_depth=0.5, clamp=True)
    np.testing.assert_array_equal(clamped, [80.0, 80.0, 0.5, 0.5, 50.0, 80.0])
    assert plain.dtype == clamped.dtype == jnp.float32


@pytest.mark.parametrize("density", [0.3, 0.31, 1.0])
def test_median_scale_against_numpy(density):
    where = np.random.default_rng(5).random(SHAPE) <= density
    expected = [
        np.median(g[w]) / np.median(p[w])
        for p, g, w in zip(PREDICTION, TARGET, where, strict=True)
    ]
    actual = jax.jit(metrics.median_scale)(PREDICTION, TARGET, where=where)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


# ---------------------------------------------------------------- crops

# (height, width): Garg rows and columns, and the kb crop's top and left.
KITTI_SIZES = {
    (375, 1242): ((153, 371), (44, 1197), (23, 13)),
    (376, 1241): ((153, 372), (44, 1196), (24, 12)),
    (370, 1226): ((151, 366), (44, 1181), (18, 5)),
    (374, 1238): ((152, 370), (44, 1193), (22, 11)),
    (370, 1224): ((151, 366), (43, 1180), (18, 4)),
}


@pytest.mark.parametrize(("size", "expected"), KITTI_SIZES.items())
def test_garg_and_kb_crop_of_every_kitti_size(size, expected):
    rows, columns, offsets = expected
    assert metrics.evaluation_crop(*size, crop="garg") == (
        slice(*rows),
        slice(*columns),
    )
    assert metrics.kb_crop_offsets(*size) == offsets


def test_crops_of_the_kb_frame():
    assert metrics.evaluation_crop(352, 1216, crop="garg") == (
        slice(143, 349),
        slice(43, 1172),
    )
    assert metrics.evaluation_crop(352, 1216, crop="eigen") == (
        slice(117, 321),
        slice(43, 1172),
    )
    assert metrics.kb_crop_offsets(352, 1216) == (0, 0)


def test_eigen_crop_of_the_original_frame():
    assert metrics.evaluation_crop(375, 1242, crop="eigen") == (
        slice(124, 342),
        slice(44, 1197),
    )


def test_nyu_crop():
    assert metrics.evaluation_crop(480, 640, crop="nyu") == (
        slice(45, 471),
        slice(41, 601),
    )
    with pytest.raises(ValueError, match=r"\(240, 320\)"):
        metrics.evaluation_crop(240, 320, crop="nyu")


def test_kb_crop_needs_a_large_enough_frame():
    with pytest.raises(ValueError, match=r"\(352, 1216\).*\(352, 1200\)"):
        metrics.kb_crop_offsets(352, 1200)


@pytest.mark.parametrize(
    ("crop", "size", "count"),
    [
        ("garg", (352, 1216), 206 * 1129),
        ("eigen", (352, 1216), 204 * 1129),
        ("nyu", (480, 640), 426 * 560),
        ("none", (5, 7), 35),
    ],
)
def test_evaluation_mask(crop, size, count):
    mask = metrics.evaluation_mask(*size, crop=crop)
    assert mask.shape == size
    assert mask.dtype == jnp.bool_
    assert mask.sum() == count


def test_bts_takes_the_crop_on_the_original_frame():
    mask = np.asarray(metrics.evaluation_mask(375, 1242, crop="garg"))
    top, left = metrics.kb_crop_offsets(375, 1242)
    inside = mask[top : top + 352, left : left + 1216]
    expected = np.zeros((352, 1216), bool)
    expected[130:348, 31:1184] = True
    np.testing.assert_array_equal(inside, expected)


# ---------------------------------------------------------------- published protocols


@pytest.mark.parametrize("cap", [50.0, metrics.KITTI_MAX_DEPTH])
def test_median_scaled_against_numpy(cap):
    target = np.where(WHERE, TARGET, 0).astype(np.float32)
    prediction = PREDICTION * np.array([0.03, 1.0, 7.0], np.float32)[:, None, None]
    where = np.array(metrics.valid_mask(target, max_depth=cap))
    where[:, :10] = False  # a crop
    bounds = {"max_depth": cap, "min_depth": 1e-3}
    scaled = jax.jit(metrics.median_scaled)(prediction, target, where=where, **bounds)
    values = metrics.depth_metrics(scaled.prediction, target, where=where)
    for b in range(3):  # select, scale by the medians of the selected, clamp
        p = prediction[b][where[b]].astype(np.float64)
        g = target[b][where[b]].astype(np.float64)
        ratio = np.median(g) / np.median(p)
        p = np.clip(p * ratio, 1e-3, cap)
        np.testing.assert_allclose(scaled.ratio[b], ratio, rtol=1e-6)
        for name, expected in numpy_metrics(p, g).items():
            np.testing.assert_allclose(values[name][b], expected, rtol=1e-5)


def test_median_scaling_removes_the_scale():
    options = {"max_depth": 80.0, "where": WHERE}
    once = metrics.median_scaled(PREDICTION, TARGET, **options)
    again = metrics.median_scaled(8.0 * PREDICTION, TARGET, **options)
    np.testing.assert_allclose(again.prediction, once.prediction, rtol=1e-6)
    np.testing.assert_allclose(again.ratio, once.ratio / 8.0, rtol=1e-6)


def test_median_scaled_keeps_images_apart_and_clamps():
    where = WHERE.copy()
    where[1] = False
    spoiled = PREDICTION.copy()
    spoiled[0, 0, 0] = np.inf
    scaled = metrics.median_scaled(spoiled, TARGET, max_depth=80.0, where=where)
    np.testing.assert_array_equal(np.isnan(scaled.ratio), [False, True, False])
    assert np.isnan(scaled.prediction[1]).all()
    kept = scaled.prediction[np.array([0, 2])]
    assert (kept >= 1e-3).all() and (kept <= 80.0).all()


def test_ratio_summary_against_numpy():
    ratios = np.random.default_rng(14).uniform(20, 40, 697).astype(np.float32)
    median, spread = metrics.ratio_summary(np.append(ratios, np.float32(np.nan)))
    np.testing.assert_allclose(median, np.median(ratios), rtol=1e-6)
    np.testing.assert_allclose(spread, np.std(ratios / np.median(ratios)), rtol=1e-5)


def test_every_measured_pixel():
    depth = np.array([0.0, 1e-4, 90.0, np.nan])
    mask = metrics.valid_mask(depth, min_depth=0.0, max_depth=np.inf)
    assert mask.tolist() == [False, True, True, False]


def test_unknown_crop():
    with pytest.raises(ValueError, match="'garg', 'eigen', 'nyu', 'none'.*'half'"):
        metrics.evaluation_mask(352, 1216, crop="half")


def test_options_are_keyword_only():
    functions = (metrics.depth_metrics, metrics.valid_mask, metrics.sanitize)
    functions += (metrics.median_scale, metrics.median_scaled)
    for function in (*functions, metrics.evaluation_mask):
        for parameter in inspect.signature(function).parameters.values():
            data = parameter.name in ("prediction", "target", "height", "width")
            assert data != (parameter.kind is parameter.KEYWORD_ONLY), parameter


def test_doctests():
    for module in (metrics.crops, metrics.depth, metrics.scaling):
        result = doctest.testmod(module)
        assert result.attempted > 0
        assert result.failed == 0
