"""L1, berHu and log-L1, and every depth loss per image."""

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
from amlr_jax.losses import pointwise

NEW = {
    "l1": losses.l1_loss,
    "berhu": losses.berhu_loss,
    "log_l1": losses.log_l1_loss,
}
ALL = NEW | {
    "eq1": losses.scale_invariant_loss,
    "silog": losses.silog_loss,
    "gradient": losses.gradient_loss,
}
SHAPE = (2, 6, 8)
rng = np.random.default_rng(0)
TARGET = rng.uniform(1.0, 80.0, SHAPE).astype(np.float32)
PREDICTION = (TARGET * np.exp(rng.normal(0.1, 0.3, SHAPE))).astype(np.float32)
WHERE = rng.random(SHAPE) < 0.6


def test_against_numpy():
    error = np.abs(PREDICTION.astype(np.float64) - TARGET)[WHERE]
    c = 0.2 * error.max()
    slow = {
        "l1": error.mean(),
        "berhu": np.where(error <= c, error, (error**2 + c**2) / (2 * c)).mean(),
        "log_l1": np.abs(
            np.log(PREDICTION.astype(np.float64)) - np.log(TARGET.astype(np.float64))
        )[WHERE].mean(),
    }
    for name, loss in NEW.items():
        value = loss(PREDICTION, TARGET, where=WHERE)
        np.testing.assert_allclose(value, slow[name], rtol=1e-6)


def test_berhu_threshold_is_a_constant_to_the_gradient():
    gradient = jax.grad(losses.berhu_loss)(
        jnp.array([[0.0, 1.0, 10.0]]), jnp.zeros(3)[None]
    )
    np.testing.assert_allclose(gradient * 3, [[0.0, 1.0, 5.0]], rtol=1e-6)


@pytest.mark.parametrize("loss", ALL.values(), ids=ALL)
def test_per_image_is_the_loss_of_each_image(loss):
    each = loss(PREDICTION, TARGET, where=WHERE, per_image=True)
    alone = [
        loss(*i[:2], where=i[2]) for i in zip(PREDICTION, TARGET, WHERE, strict=True)
    ]
    assert each.shape == (2,) and each.dtype == jnp.float32
    np.testing.assert_allclose(each, alone, rtol=1e-6)
    nested = loss(PREDICTION[None], TARGET[None], where=WHERE[None], per_image=True)
    np.testing.assert_array_equal(nested, each[None])
    empty = WHERE & np.array([True, False])[:, None, None]
    assert loss(PREDICTION, TARGET, where=empty, per_image=True)[1] == 0.0
    with pytest.raises(ValueError, match=r"H, W"):
        loss(TARGET[0, 0], TARGET[0, 0], per_image=True)


DEPTHS = arrays(np.float32, (4, 5), elements=st.floats(0.5, 80.0, width=32))


@settings(max_examples=25, deadline=None)
@given(prediction=DEPTHS, target=DEPTHS, where=arrays(bool, (4, 5)))
def test_symmetric_and_blind_to_the_mask(prediction, target, where):
    garbage = np.where(where, prediction, np.float32(np.nan))
    for loss in NEW.values():
        value = loss(prediction, target, where=where)
        assert value >= 0.0
        assert loss(garbage, target, where=where) == value
        swapped = loss(target, prediction, where=where)
        np.testing.assert_allclose(swapped, value, rtol=1e-5)
    l1 = losses.l1_loss(prediction, target, where=where)
    assert losses.berhu_loss(prediction, target, where=where) >= l1 * (1 - 1e-6)


ONE = np.zeros(SHAPE, bool)
ONE[0, 2, 3] = True
DEGENERATE = {
    "empty_mask": (PREDICTION, TARGET, np.zeros(SHAPE, bool)),
    "one_pixel": (PREDICTION, TARGET, ONE),
    "flat": (np.full(SHAPE, 3.0), np.full(SHAPE, 4.0), WHERE),
    "identical": (TARGET, TARGET, WHERE),
    "black": (TARGET * 0, TARGET * 0, None),
    "zero_prediction": (TARGET * 0, TARGET, WHERE),
    "negative": (-PREDICTION, TARGET, WHERE),
    "huge": (np.full(SHAPE, 1e30), TARGET, WHERE),
    "infinite": (np.full(SHAPE, np.inf), TARGET, WHERE),
    "nan_under_mask": (np.where(WHERE, PREDICTION, np.nan), TARGET, WHERE),
    "nan_target_under_mask": (PREDICTION, np.where(WHERE, TARGET, np.nan), WHERE),
}


@jax.jit
def values_and_gradients(prediction, target, where):
    def everything(prediction):
        one = [loss(prediction, target, where=where) for loss in NEW.values()]
        each = partial(losses.berhu_loss, where=where, per_image=True)
        silog = partial(losses.silog_loss, where=where, per_image=True)
        images = (each(prediction, target), silog(prediction, target))
        return jnp.concatenate([jnp.stack(one), *images])

    return everything(prediction), jax.jacrev(everything)(prediction)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("case", DEGENERATE)
def test_value_and_gradient_are_finite(case, dtype):
    prediction, target, where = DEGENERATE[case]
    prediction = jnp.asarray(prediction).astype(dtype)
    target = jnp.asarray(target).astype(dtype)
    values, gradients = values_and_gradients(prediction, target, where)
    assert values.dtype == jnp.float32 and gradients.dtype == dtype
    assert np.isfinite(values).all(), values
    assert np.isfinite(np.asarray(gradients, np.float32)).all()
    if case in ("empty_mask", "identical"):
        np.testing.assert_array_equal(values, 0.0)
        np.testing.assert_array_equal(np.asarray(gradients, np.float32), 0.0)


@pytest.mark.parametrize("loss", NEW.values(), ids=NEW)
def test_jit_errors_and_shown_nan(loss):
    eager = loss(PREDICTION, TARGET, where=WHERE)
    np.testing.assert_allclose(
        jax.jit(loss)(PREDICTION, TARGET, where=WHERE), eager, rtol=1e-6
    )
    assert np.isnan(loss(np.where(ONE, np.nan, PREDICTION), TARGET))
    with pytest.raises(ValueError, match=r"\(2, 6, 8, 1\).*\(2, 6, 8\)"):
        loss(PREDICTION, TARGET[..., None])
    with pytest.raises(ValueError, match=r"\(6, 8\).*\(2, 6, 8\)"):
        loss(PREDICTION, TARGET, where=WHERE[0])
    with pytest.raises(TypeError, match="boolean"):
        loss(PREDICTION, TARGET, where=WHERE.astype(np.int32))


def test_doctests():
    assert doctest.testmod(pointwise).failed == 0
