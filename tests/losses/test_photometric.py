"""Photometric errors, their minimum over the sources, and smoothness."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from amlr_jax import losses
from amlr_jax.losses import photometric, smoothness

KINDS = ("monodepth2", "ssim_m", "ssim_a")
SHAPE = (2, 8, 10, 3)
rng = np.random.default_rng(0)
X = rng.random(SHAPE).astype(np.float32)
Y = np.clip(X + rng.normal(0.0, 0.2, SHAPE), 0, 1).astype(np.float32)
WHERE = rng.random(SHAPE[:-1]) < 0.6
DISPARITY = rng.uniform(0.1, 1.0, SHAPE[:-1]).astype(np.float32)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("where", [None, WHERE], ids=["all", "masked"])
def test_errors_are_eq_6_10_and_11(where):
    luminance, contrast, structure = (
        np.asarray(part, np.float64)
        for part in losses.ssim_components(X, Y, where=where)
    )
    kept = np.ones(SHAPE[:-1], bool) if where is None else where
    mae = np.abs(X.astype(np.float64) - Y).mean(-1)
    half = (1 + structure) / 2
    expected = {
        "monodepth2": 0.425 * (1 - luminance * contrast * structure).mean(-1)
        + 0.15 * mae,
        "ssim_m": 0.85 * (1 - luminance * contrast * half).mean(-1) + 0.15 * mae,
        "ssim_a": 0.4 * mae
        + (0.5 * (1 - luminance) + 0.5 * (1 - contrast) + 0.7 * (1 - half)).mean(-1),
    }
    for kind in KINDS:
        error = losses.photometric_error(X, Y, kind=kind, where=where)
        assert error.shape == SHAPE[:-1] and error.dtype == jnp.float32
        np.testing.assert_allclose(error[kept], expected[kind][kept], atol=1e-6)


def test_weighted_components_are_ssim_a():
    weights = {"mae": 0.3, "luminance": 0.5, "contrast": 0.4, "structure": 0.6}
    parts = losses.photometric_components(X, Y)
    total = sum(weights[name] * parts[name] for name in parts)
    error = losses.photometric_error(X, Y, kind="ssim_a", **weights)
    np.testing.assert_allclose(error, total, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_options_reach_the_window(kind):
    error = losses.photometric_error(X, Y, kind=kind, padding="valid", window_size=5)
    assert error.shape == (2, 4, 6)
    scaled = losses.photometric_error(255 * X, 255 * Y, kind=kind, data_range=255.0)
    plain = losses.photometric_error(X, Y, kind=kind)
    np.testing.assert_allclose(scaled, plain, atol=1e-5)


def test_gradient_of_mae_at_equal_pixels_is_zero():
    for kind in KINDS:
        gradient = jax.grad(
            lambda x, k=kind: losses.photometric_error(x, Y, kind=k)[0, 0, 0]
        )(Y)
        np.testing.assert_allclose(gradient, 0.0, atol=1e-6)


# ---------------------------------------------------------------- minimum

ERRORS = rng.random((3, 2, 4, 5)).astype(np.float32)
IDENTITY = rng.random((2, 2, 4, 5)).astype(np.float32)
VISIBLE = rng.random(ERRORS.shape) < 0.5


def test_minimum_against_numpy():
    result = losses.minimum_reprojection(ERRORS)
    np.testing.assert_array_equal(result.error, ERRORS.min(0))
    assert np.all(result.mask)
    result = losses.minimum_reprojection(ERRORS, IDENTITY)
    both = np.concatenate([IDENTITY, ERRORS]).min(0)
    np.testing.assert_array_equal(result.error, both)
    np.testing.assert_array_equal(result.mask, ERRORS.min(0) < IDENTITY.min(0))


def test_invisible_sources_never_win():
    spoiled = np.where(VISIBLE, ERRORS, np.nan)
    value, gradient = jax.value_and_grad(
        lambda e: losses.minimum_reprojection(e, where=VISIBLE).error.sum()
    )(spoiled)
    result = losses.minimum_reprojection(spoiled, where=VISIBLE)
    seen = VISIBLE.any(0)
    least = np.where(VISIBLE, ERRORS, np.inf).min(0, where=VISIBLE, initial=np.inf)
    np.testing.assert_array_equal(result.error, np.where(seen, least, 0.0))
    np.testing.assert_array_equal(result.mask, seen)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_ties_go_to_the_identity_and_then_to_the_first():
    equal = np.ones((2, 1, 3), np.float32)
    assert not losses.minimum_reprojection(equal, equal).mask.any()
    gradient = jax.grad(lambda e: losses.minimum_reprojection(e).error.sum())(equal)
    np.testing.assert_array_equal(gradient, [np.ones((1, 3)), np.zeros((1, 3))])


def test_a_key_breaks_ties_by_little():
    equal = np.ones((2, 20, 20), np.float32)
    key = jax.random.key(0)
    result = losses.minimum_reprojection(equal, equal[:1], key=key)
    assert 100 < result.mask.sum() < 300
    np.testing.assert_array_equal(result.error, 1.0)  # the noise chooses, no more
    again = losses.minimum_reprojection(equal, equal[:1], key=key)
    np.testing.assert_array_equal(result.mask, again.mask)


@pytest.mark.parametrize("identity", [False, True])
def test_components_follow_the_weighted_minimum(identity):
    names, weights = ("a", "b"), {"a": 0.3, "b": 2.0}
    draw = np.random.default_rng(5)
    parts = {n: draw.random((3, 4, 5)).astype(np.float32) for n in names}
    still = {n: draw.random((2, 4, 5)).astype(np.float32) for n in names}
    chosen, mask = losses.select_components(parts, weights, still if identity else None)
    stack = {n: np.concatenate([still[n], parts[n]]) for n in names}
    stack = stack if identity else parts
    winner = sum(weights[n] * stack[n] for n in names).argmin(0)
    for name in names:
        expected = np.take_along_axis(stack[name], winner[None], 0)[0]
        np.testing.assert_array_equal(chosen[name], expected)
    np.testing.assert_array_equal(mask, winner >= (2 if identity else 0))
    total = sum(weights[n] * stack[n] for n in names).min(0)
    np.testing.assert_allclose(
        sum(weights[n] * chosen[n] for n in names), total, rtol=1e-6
    )


def test_no_gradient_into_the_weights():
    def loss(weight):
        parts = {"a": jnp.asarray(ERRORS), "b": jnp.asarray(ERRORS[::-1])}
        chosen, _ = losses.select_components(parts, {"a": weight, "b": 1.0})
        return chosen["a"].sum()

    assert jax.grad(loss)(0.5) == 0.0


# ---------------------------------------------------------------- smoothness


def slow_smoothness(disparity, image, where, normalize):
    """Eq. 5 over valid pairs, float64."""
    total = 0.0
    disparity = disparity.astype(np.float64).copy()
    if normalize:
        for d, w in zip(disparity, where, strict=True):
            d /= d[w].mean() + 1e-7
    for axis in (1, 2):
        ahead = [slice(None)] * 3
        ahead[axis], behind = slice(1, None), [slice(None)] * 3
        behind[axis] = slice(None, -1)
        ahead, behind = tuple(ahead), tuple(behind)
        pairs = where[ahead] & where[behind]
        edge = np.abs(image[ahead].astype(np.float64) - image[behind]).mean(-1)
        step = np.abs(disparity[ahead] - disparity[behind]) * np.exp(-edge)
        total += step[pairs].mean()
    return total


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_smoothness_against_numpy(normalize, masked):
    where = WHERE if masked else np.ones_like(WHERE)
    loss = losses.smoothness_loss(DISPARITY, X, where=where, normalize=normalize)
    expected = slow_smoothness(DISPARITY, X, where, normalize)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_smoothness_by_default_ignores_the_scale():
    once = losses.smoothness_loss(DISPARITY, X)
    np.testing.assert_allclose(losses.smoothness_loss(7 * DISPARITY, X), once, 1e-5)
    each = losses.smoothness_loss(DISPARITY, X, per_image=True)
    alone = [losses.smoothness_loss(*p) for p in zip(DISPARITY, X, strict=True)]
    np.testing.assert_allclose(each, alone, rtol=1e-6)


# ---------------------------------------------------------------- properties

IMAGES = arrays(np.float32, (4, 5, 2), elements=st.floats(0.0, 1.0, width=32))


@jax.jit
def all_kinds(x, y):
    return jnp.stack([losses.photometric_error(x, y, kind=kind) for kind in KINDS])


@settings(max_examples=25, deadline=None)
@given(x=IMAGES, y=IMAGES)
def test_errors_are_symmetric_and_0_for_equal_images(x, y):
    errors, swapped, same = (all_kinds(*pair) for pair in ((x, y), (y, x), (x, x)))
    assert np.all(errors >= 0.0)
    np.testing.assert_allclose(errors, swapped, atol=1e-6)
    np.testing.assert_allclose(same, 0.0, atol=1e-6)


# ---------------------------------------------------------------- degenerate inputs

ONE = np.zeros_like(WHERE)
ONE[0, 2, 3] = True
M = WHERE[..., None]
FLAT = np.full(SHAPE, 0.3, np.float32)
DEGENERATE = {
    "empty_mask": (X, Y, np.zeros_like(WHERE)),
    "one_pixel": (X, Y, ONE),
    "flat": (FLAT, FLAT * 2, WHERE),
    "identical": (X, X, WHERE),
    "black": (X * 0, Y * 0, None),
    "zero_prediction": (X * 0, Y, WHERE),
    "huge": (np.full(SHAPE, 1e30, np.float32), Y, WHERE),
    "infinite": (np.where(X > 0.5, np.inf, X), Y, None),
    "nan_under_mask": (np.where(M, X, np.nan), Y, WHERE),
    "nan_target_under_mask": (X, np.where(M, Y, np.nan), WHERE),
}


def everything(x, y, where):
    maps = [losses.photometric_error(x, y, kind=k, where=where) for k in KINDS]
    parts = losses.photometric_components(x, y, where=where)
    stacked = jnp.stack(maps)
    visible = None if where is None else jnp.stack([where] * len(maps))
    least = losses.minimum_reprojection(stacked, stacked[:1], where=visible)
    means = [losses.masked_mean(m, where=where) for m in (*maps, *parts.values())]
    disparity = x[..., 0]
    smooth = [
        losses.smoothness_loss(disparity, y, where=where, normalize=normalize)
        for normalize in (False, True)
    ]
    return jnp.stack([*means, *smooth, losses.masked_mean(least.error)])


@jax.jit
def values_and_slope(x, y, where):
    def total(x):
        values = everything(x, y, where)
        return values.sum(), values

    slope, values = jax.grad(total, has_aux=True)(x)
    return values, slope


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("case", DEGENERATE)
def test_value_and_gradient_are_finite(case, dtype):
    x, y, where = DEGENERATE[case]
    x, y = jnp.asarray(x).astype(dtype), jnp.asarray(y).astype(dtype)
    if where is None and dtype != jnp.float32:  # compiled once for each dtype
        where = np.ones_like(WHERE)
    values, gradient = values_and_slope(x, y, where)
    assert values.dtype == jnp.float32
    assert np.isfinite(values).all(), values
    assert gradient.dtype == dtype
    assert np.isfinite(np.asarray(gradient, np.float32)).all()
    if case == "empty_mask":
        np.testing.assert_array_equal(values[:-1], 0.0)


# ---------------------------------------------------------------- jit, errors


@pytest.mark.parametrize("kind", KINDS)
def test_jit_equals_no_jit(kind):
    def both(x, y):
        error = losses.photometric_error(x, y, kind=kind, where=WHERE)
        least = losses.minimum_reprojection(error[None], error[None] * 2)
        return least.error, losses.smoothness_loss(x[..., 0], y)

    for one, other in zip(jax.jit(both)(X, Y), both(X, Y), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_errors_name_the_rule():
    with pytest.raises(ValueError, match="ssim_a.*census"):
        losses.photometric_error(X, Y, kind="census")
    with pytest.raises(TypeError, match="gamma"):
        losses.photometric_error(X, Y, kind="ssim_a", gamma=2.0)
    with pytest.raises(ValueError, match=r"\(8, 10, 3\).*\(2, 8, 10, 3\)"):
        losses.photometric_error(X, Y[0])
    with pytest.raises(ValueError, match=r"\(4, 5\)"):
        losses.minimum_reprojection(ERRORS[0, 0])
    with pytest.raises(ValueError, match=r"\(3, 2, 4, 5\).*\(2, 4, 5\)"):
        losses.minimum_reprojection(ERRORS, IDENTITY[0])
    with pytest.raises(ValueError, match=r"\['mae'\].*\['l1'\]"):
        losses.select_components({"mae": ERRORS}, {"l1": 1.0})
    with pytest.raises(ValueError, match=r"\(2, 8, 10, 3\).*\(2, 8, 10, 1\)"):
        losses.smoothness_loss(DISPARITY[..., None], X)
    with pytest.raises(TypeError, match="boolean"):
        losses.smoothness_loss(DISPARITY, X, where=WHERE.astype(np.int32))


def test_doctests():
    assert doctest.testmod(photometric).failed == 0
    assert doctest.testmod(smoothness).failed == 0
