"""Homoscedastic uncertainty and FAMO against NumPy, and what they settle at."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from amlr_jax import rebalance
from amlr_jax.rebalance import learned
from tests.rebalance.test_history import NAMES, noisy_losses, trajectory

# ---------------------------------------------------------------- NumPy, float64


def numpy_uncertainty(losses, rate, b1=0.9, b2=0.999, eps=1e-8):
    """Kendall et al. 2018, Eq. 7 times 2 with s = log sigma^2; Kingma & Ba's Adam."""
    s, m, v = np.full(3, np.log(3.0)), np.zeros(3), np.zeros(3)
    out = []
    for t, loss in enumerate(losses, start=1):
        sigma2 = np.exp(s)
        out.append(1 / sigma2)
        g = 2 * (0.5 - loss / (2 * sigma2))  # d/ds of 2 (L / (2 sigma^2) + s / 2)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        s = s - rate(t - 1) * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return np.array(out)


def numpy_famo(losses, beta, gamma):
    """Liu et al. 2023, Algorithm 1, with an explicit Jacobian of the softmax."""
    xi = np.zeros(3)
    out = []
    for t, loss in enumerate(losses):
        z = np.exp(xi) / np.exp(xi).sum()
        if t:
            jacobian = np.diag(z) - np.outer(z, z)
            delta = jacobian.T @ (np.log(losses[t - 1]) - np.log(loss))
            xi = xi - beta * (delta + gamma * xi)
            z = np.exp(xi) / np.exp(xi).sum()
        c = 1 / np.sum(z / loss)
        out.append(c * z / loss)
    return np.array(out)


@pytest.mark.parametrize("rate", [1e-3, 0.1])
def test_uncertainty_against_numpy_for_50_steps(rate):
    losses = noisy_losses()
    actual = trajectory(rebalance.uncertainty(rate), losses)
    expected = numpy_uncertainty(losses, lambda t: rate)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_uncertainty_with_a_schedule_and_other_constants():
    losses, options = noisy_losses(seed=2), {"b1": 0.5, "b2": 0.9, "eps": 1e-3}
    schedule = optax.linear_schedule(0.05, 0.0, 40)
    actual = trajectory(rebalance.uncertainty(schedule, **options), losses)
    # The step from s^t is taken at call t + 1, whose rate it has.
    expected = numpy_uncertainty(losses, lambda t: float(schedule(t + 1)), **options)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize(("beta", "gamma"), [(0.025, 1e-3), (1.0, 0.1)])
def test_famo_against_numpy_for_50_steps(beta, gamma):
    losses = noisy_losses(seed=3)
    actual = trajectory(rebalance.famo(beta, gamma=gamma), losses)
    np.testing.assert_allclose(actual, numpy_famo(losses, beta, gamma), rtol=1e-5)
    np.testing.assert_allclose(actual.sum(-1), 1.0, rtol=1e-6)


# ---------------------------------------------------------------- what they mean


def test_uncertainty_descends_its_objective():
    """The state's first gradient is that of sum exp(-s) L + s, by autodiff."""
    losses, weights = jnp.array([2.0, 0.1, 5.0]), jnp.array([0.5, 0.25, 0.125])
    expected = jax.grad(lambda s: jnp.sum(jnp.exp(-s) * losses + s))(-jnp.log(weights))
    rule = rebalance.uncertainty(1e-2, b1=0.0)
    weights = dict(zip(NAMES, weights, strict=True))
    row = dict(zip(NAMES, losses, strict=True))
    out, state = rule.update(weights, rule.init(weights), losses=row)
    np.testing.assert_allclose([state.m[n] for n in NAMES], expected, rtol=1e-6)
    assert out == weights  # the step is taken after these losses were used


def test_uncertainty_settles_at_the_inverse_of_the_losses():
    losses = np.tile([1.0, 0.1, 5.0], (2000, 1))
    weights = trajectory(rebalance.uncertainty(0.05), losses)
    np.testing.assert_allclose(weights[-1], [1.0, 10.0, 0.2], rtol=1e-3)


def test_uncertainty_survives_one_huge_loss():
    losses = np.tile([1.0, 0.1, 5.0], (50, 1))
    losses[20] *= 1e6
    weights = trajectory(rebalance.uncertainty(0.01), losses)
    ratio = weights[1:] / weights[:-1]
    assert (np.abs(np.log(ratio)) < 0.4).all()  # Adam bounds the step


def test_famo_takes_weight_from_the_loss_that_falls_faster():
    losses = np.ones((200, 3))
    losses[:, 0] = np.geomspace(1.0, 0.01, 200)
    z = trajectory(rebalance.famo(1.0, gamma=0.0), losses) * losses
    z /= z.sum(-1, keepdims=True)
    assert z[-1, 0] < 0.2 < z[0, 0]
    np.testing.assert_allclose(z[-1, 1], z[-1, 2], rtol=1e-5)


def test_famo_rate_may_be_injected_and_changed():
    rule = optax.inject_hyperparams(rebalance.famo)(learning_rate=0.5)
    weights = rebalance.equal_weights(NAMES)
    state, moved = rule.init(weights), []
    for rate, row in zip((0.5, 0.0, 0.5), noisy_losses(3), strict=True):
        state.hyperparams["learning_rate"] = jnp.float32(rate)
        losses = dict(zip(NAMES, row, strict=True))
        weights, state = rule.update(weights, state, losses=losses)
        moved.append(any(x != 0 for x in state.inner_state.logits.values()))
    assert moved == [False, False, True]  # no history, rate 0, rate 0.5


def test_famo_without_a_trend_does_not_walk_away():
    """Noise of different batches enters with opposite signs and cancels."""
    losses = noisy_losses(5000, seed=4)
    z = trajectory(rebalance.famo(0.025, gamma=0.0), losses) * losses
    z /= z.sum(-1, keepdims=True)
    assert np.abs(z - 1 / 3).max() < 0.02


def test_errors():
    with pytest.raises(ValueError, match="learning_rate.*-1"):
        rebalance.uncertainty(-1.0)
    with pytest.raises(ValueError, match=r"b2.*\[0, 1\)"):
        rebalance.uncertainty(1e-3, b2=1.0)
    with pytest.raises(ValueError, match="learning_rate.*inf"):
        rebalance.famo(float("inf"))
    with pytest.raises(ValueError, match="gamma.*at least 0"):
        rebalance.famo(0.025, gamma=-1e-3)


def test_doctests():
    assert doctest.testmod(learned).failed == 0
