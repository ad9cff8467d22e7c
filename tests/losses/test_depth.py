"""Depth losses: goldens, properties, degenerate inputs."""

import doctest
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from amlr_jax import losses
from amlr_jax.losses import depth

POINTWISE = {
    "eq1": losses.scale_invariant_loss,
    "eq1_half": partial(losses.scale_invariant_loss, variance_focus=0.5),
    "silog": losses.silog_loss,
    "silog_one": partial(losses.silog_loss, variance_focus=1.0),
    "silog_bts": partial(losses.silog_loss, variance_focus=0.85),
}
ALL = POINTWISE | {"gradient": losses.gradient_loss}

SHAPE = (2, 6, 8)
rng = np.random.default_rng(0)
TARGET = rng.uniform(1.0, 80.0, SHAPE).astype(np.float32)
PREDICTION = (TARGET * np.exp(rng.normal(0.1, 0.3, SHAPE))).astype(np.float32)
WHERE = rng.random(SHAPE) < 0.6


def log_difference(prediction, target, where):
    d = np.log(target.astype(np.float64)) - np.log(prediction.astype(np.float64))
    return d[where]


# ---------------------------------------------------------------- goldens


@pytest.mark.parametrize("variance_focus", [0.0, 0.5, 0.85, 1.0])
def test_scale_invariant_loss_against_numpy(variance_focus):
    d = log_difference(PREDICTION, TARGET, WHERE)
    expected = np.mean(d**2) - variance_focus * np.mean(d) ** 2  # Eq. 1, line one
    options = {"where": WHERE, "variance_focus": variance_focus}
    squared = losses.scale_invariant_loss(PREDICTION, TARGET, **options)
    root = losses.silog_loss(PREDICTION, TARGET, **options)
    np.testing.assert_allclose(squared, expected, rtol=1e-6)
    np.testing.assert_allclose(root, np.sqrt(expected), rtol=1e-6)


def test_scale_invariant_loss_is_the_pairwise_form_of_eq_1():
    d = log_difference(PREDICTION, TARGET, WHERE)
    pairwise = np.sum((d[:, None] - d[None, :]) ** 2) / (2 * d.size**2)
    loss = losses.scale_invariant_loss(PREDICTION, TARGET, where=WHERE)
    np.testing.assert_allclose(loss, pairwise, rtol=1e-6)


def test_defaults():
    plain = losses.scale_invariant_loss(PREDICTION, TARGET)
    one = losses.scale_invariant_loss(PREDICTION, TARGET, variance_focus=1.0)
    assert plain == one
    half = losses.silog_loss(PREDICTION, TARGET, variance_focus=0.5)
    assert losses.silog_loss(PREDICTION, TARGET) == half


def slow_gradient_loss(prediction, target, where):
    """Eq. 2-3 pixel by pixel, in float64."""
    total = 0.0
    for step_row, step_column in ((0, 1), (1, 0)):
        squares = []
        images, height, width = prediction.shape
        for b in range(images):
            for i in range(height - step_row):
                for j in range(width - step_column):
                    here, there = (b, i, j), (b, i + step_row, j + step_column)
                    if where[here] and where[there]:
                        y = np.log(float(target[there])) - np.log(float(target[here]))
                        p = np.log(float(prediction[there]))
                        p -= np.log(float(prediction[here]))
                        squares.append((y - p) ** 2)
        total += np.mean(squares) if squares else 0.0
    return total


@pytest.mark.parametrize("density", [0.1, 0.6, 1.0])
def test_gradient_loss_against_a_double_loop(density):
    where = np.random.default_rng(1).random(SHAPE) <= density
    loss = losses.gradient_loss(PREDICTION, TARGET, where=where)
    expected = slow_gradient_loss(PREDICTION, TARGET, where)
    np.testing.assert_allclose(loss, expected, rtol=1e-6, atol=1e-9)


def test_gradient_loss_by_hand():
    log_error = np.array([[0.0, 1.0, 3.0], [2.0, 9.0, 3.0]])
    where = np.array([[True, True, True], [True, False, True]])
    loss = losses.gradient_loss(np.exp(log_error), np.ones_like(log_error), where=where)
    # x pairs: 1, 2 (two of four valid); y pairs: 2, 0 (two of three valid).
    np.testing.assert_allclose(loss, (1 + 4) / 2 + (4 + 0) / 2, rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (1, 1), (2, 1, 4)])
def test_gradient_loss_of_a_line_or_a_point(shape):
    value = losses.gradient_loss(jnp.full(shape, 2.0), jnp.ones(shape))
    assert value == 0.0


@pytest.mark.parametrize("loss", ALL.values(), ids=ALL)
def test_gradient_against_central_differences(loss):
    d_log = np.random.default_rng(2).normal(size=SHAPE)

    def along(t):
        return loss(PREDICTION * jnp.exp(t * d_log), TARGET, where=WHERE)

    step = 1e-2
    numeric = (along(step) - along(-step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(along)(0.0), numeric, rtol=2e-2, atol=1e-4)


# ---------------------------------------------------------------- properties

DEPTHS = arrays(np.float32, (4, 5), elements=st.floats(0.5, 80.0, width=32))
MASKS = arrays(bool, (4, 5))
check = settings(max_examples=30, deadline=None)


@check
@given(prediction=DEPTHS, target=DEPTHS, where=MASKS, factor=st.floats(0.1, 10.0))
def test_eq_1_and_gradient_loss_ignore_a_global_factor(
    prediction, target, where, factor
):
    for loss in (losses.scale_invariant_loss, losses.gradient_loss):
        once = loss(prediction, target, where=where)
        scaled = loss(prediction * np.float32(factor), target, where=where)
        np.testing.assert_allclose(scaled, once, rtol=1e-3, atol=1e-5)


@check
@given(prediction=DEPTHS, target=DEPTHS, where=MASKS)
def test_never_negative_and_symmetric(prediction, target, where):
    for loss in ALL.values():
        value = loss(prediction, target, where=where)
        assert value >= 0.0
        swapped = loss(target, prediction, where=where)
        np.testing.assert_allclose(swapped, value, rtol=1e-4, atol=1e-6)


@check
@given(prediction=DEPTHS, target=DEPTHS, where=MASKS)
def test_pixels_under_the_mask_do_not_count(prediction, target, where):
    garbage = np.where(where, prediction, np.float32(1234.5))
    for loss in ALL.values():
        same = loss(garbage, np.where(where, target, 0.0), where=where)
        assert same == loss(prediction, target, where=where)


@pytest.mark.parametrize("loss", POINTWISE.values(), ids=POINTWISE)
def test_masked_map_equals_compacted_pixels(loss):
    masked = loss(PREDICTION, TARGET, where=WHERE)
    np.testing.assert_allclose(masked, loss(PREDICTION[WHERE], TARGET[WHERE]), 1e-6)


def test_silog_sees_a_global_factor():
    assert losses.silog_loss(2 * TARGET, TARGET) > 0.4


# ---------------------------------------------------------------- degenerate inputs

ONE = np.zeros(SHAPE, bool)
ONE[0, 2, 3] = True
CONSTANT = np.full(SHAPE, 7.0, np.float32)
DEGENERATE = {
    "empty_mask": (PREDICTION, TARGET, np.zeros(SHAPE, bool)),
    "one_pixel": (PREDICTION, TARGET, ONE),
    "constant": (CONSTANT, CONSTANT * 2, WHERE),
    "perfect": (TARGET, TARGET, WHERE),
    "perfect_up_to_scale": (TARGET * 3, TARGET, WHERE),
    "zero_prediction": (np.zeros(SHAPE, np.float32), TARGET, WHERE),
    "some_zeros": (np.where(ONE, 0, PREDICTION), TARGET, WHERE | ONE),
    "negative_prediction": (-PREDICTION, TARGET, WHERE),
    "huge_prediction": (np.full(SHAPE, 1e30, np.float32), TARGET, WHERE),
    "infinite_prediction": (np.full(SHAPE, np.inf, np.float32), TARGET, WHERE),
    "tiny_prediction": (np.full(SHAPE, 1e-30, np.float32), TARGET, WHERE),
    "nan_under_mask": (np.where(WHERE, PREDICTION, np.nan), TARGET, WHERE),
    "nan_target_under_mask": (PREDICTION, np.where(WHERE, TARGET, np.nan), WHERE),
    "inf_under_mask": (np.where(WHERE, PREDICTION, np.inf), TARGET, WHERE),
    "holes_inside_mask": (PREDICTION, np.where(WHERE, TARGET, 0.0), None),
    "no_mask": (PREDICTION, TARGET, None),
}


@jax.jit
def values_and_gradients(prediction, target, where):
    def everything(prediction):
        values = [loss(prediction, target, where=where) for loss in ALL.values()]
        return jnp.stack(values)

    return everything(prediction), jax.jacrev(everything)(prediction)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("case", DEGENERATE)
def test_value_and_gradient_are_finite(case, dtype):
    prediction, target, where = DEGENERATE[case]
    prediction = jnp.asarray(prediction).astype(dtype)
    target = jnp.asarray(target).astype(dtype)
    values, gradients = values_and_gradients(prediction, target, where)
    assert values.dtype == jnp.float32
    assert np.isfinite(values).all(), dict(zip(ALL, values, strict=True))
    assert gradients.dtype == dtype
    assert np.isfinite(np.asarray(gradients, np.float32)).all()
    if case == "empty_mask":
        np.testing.assert_array_equal(values, 0.0)
        np.testing.assert_array_equal(np.asarray(gradients, np.float32), 0.0)


def test_gradient_at_a_perfect_prediction_is_zero():
    for loss in ALL.values():
        np.testing.assert_array_equal(jax.grad(loss)(TARGET, TARGET), 0.0)


def test_nan_at_a_valid_pixel_is_not_hidden():
    for loss in ALL.values():
        assert np.isnan(loss(np.where(ONE, np.nan, PREDICTION), TARGET))


def test_bfloat16_is_read_in_float32():
    low = jnp.asarray(PREDICTION, jnp.bfloat16)
    for loss in ALL.values():
        assert loss(low, TARGET) == loss(low.astype(jnp.float32), TARGET)


# ---------------------------------------------------------------- jit, vmap, errors


@pytest.mark.parametrize("loss", ALL.values(), ids=ALL)
def test_jit_equals_no_jit(loss):
    eager = loss(PREDICTION, TARGET, where=WHERE)
    jitted = jax.jit(loss)(PREDICTION, TARGET, where=WHERE)
    np.testing.assert_allclose(jitted, eager, rtol=1e-6)


def test_variance_focus_may_be_traced():
    jitted = jax.jit(losses.silog_loss)(PREDICTION, TARGET, variance_focus=0.85)
    eager = losses.silog_loss(PREDICTION, TARGET, variance_focus=0.85)
    np.testing.assert_allclose(jitted, eager, rtol=1e-6)


@pytest.mark.parametrize("loss", ALL.values(), ids=ALL)
def test_vmap_is_the_loss_of_each_image(loss):
    each = jax.vmap(lambda p, t, w: loss(p, t, where=w))(PREDICTION, TARGET, WHERE)
    alone = [
        loss(*maps[:2], where=maps[2])
        for maps in zip(PREDICTION, TARGET, WHERE, strict=True)
    ]
    np.testing.assert_allclose(each, alone, rtol=1e-6)


@pytest.mark.parametrize("loss", ALL.values(), ids=ALL)
def test_shapes_do_not_broadcast(loss):
    with pytest.raises(ValueError, match=r"\(2, 6, 8, 1\).*\(2, 6, 8\)"):
        loss(PREDICTION, TARGET[..., None])
    with pytest.raises(ValueError, match=r"\(6, 8\).*\(2, 6, 8\)"):
        loss(PREDICTION, TARGET, where=WHERE[0])


@pytest.mark.parametrize("loss", ALL.values(), ids=ALL)
def test_where_must_be_boolean(loss):
    with pytest.raises(TypeError, match="boolean.*int32"):
        loss(PREDICTION, TARGET, where=WHERE.astype(np.int32))


def test_variance_focus_must_be_in_range():
    with pytest.raises(ValueError, match=r"\[0, 1\].*1.5"):
        losses.silog_loss(PREDICTION, TARGET, variance_focus=1.5)


def test_gradient_loss_needs_two_axes():
    with pytest.raises(ValueError, match=r"\(5,\)"):
        losses.gradient_loss(jnp.ones(5), jnp.ones(5))


def test_options_are_keyword_only():
    with pytest.raises(TypeError):
        losses.silog_loss(PREDICTION, TARGET, WHERE)


def test_doctests():
    assert doctest.testmod(depth).failed == 0
