"""DWA and SoftAdapt against NumPy and by hand."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax import rebalance
from amlr_jax.rebalance import history

NAMES = ("a", "b", "c")


def noisy_losses(steps=50, seed=0):
    noise = np.random.default_rng(seed).normal(0.0, 0.3, (steps, 3))
    return np.array([1.0, 0.1, 5.0]) * np.exp(noise)


def trajectory(rule, losses):
    """The weights after each call, [steps, 3], from one jitted scan."""

    def step(carry, row):
        weights, state = rule.update(*carry, losses=dict(zip(NAMES, row, strict=True)))
        return (weights, state), jnp.stack([weights[name] for name in NAMES])

    weights = rebalance.equal_weights(NAMES)
    carry, rows = (weights, rule.init(weights)), jnp.asarray(losses, jnp.float32)
    return np.asarray(jax.jit(lambda: jax.lax.scan(step, carry, rows)[1])())


# ---------------------------------------------------------------- NumPy, float64


def numpy_dwa(losses, temperature):
    """Liu et al. 2019, Eq. 7: lambda_k(t) from w_k(t - 1) = L_k(t - 1) / L_k(t - 2).

    The paper's t counts from 1; lambda(1) = lambda(2) = 1. Call number i of the rule
    has seen the losses of t = 1 .. i + 1, and so returns lambda(i + 2).
    """
    out = []
    for t in range(2, len(losses) + 2):
        w = np.ones(3)
        if t > 2:
            w = losses[t - 2] / losses[t - 3]  # L(t - 1) / L(t - 2), from 1
        e = np.exp(w / temperature)
        out.append(3 * e / e.sum())
    return np.array(out)


def numpy_softadapt(losses, beta, normalized, loss_weighted):
    """Heydari et al. 2019, sections 3.1.1 to 3.1.3."""
    out = []
    for i, now in enumerate(losses):
        before = losses[max(i - 1, 0)]
        s = now - before
        if normalized and i:
            s = s / np.abs(s).sum()
        f = (now + before) / 2 if loss_weighted else np.ones(3)
        out.append(f * np.exp(beta * s) / np.sum(f * np.exp(beta * s)))
    return np.array(out)


@pytest.mark.parametrize("temperature", [2.0, 0.5])
def test_dwa_against_numpy_for_50_calls(temperature):
    losses = noisy_losses()
    actual = trajectory(rebalance.dwa(temperature), losses)
    np.testing.assert_allclose(actual, numpy_dwa(losses, temperature), rtol=1e-5)
    np.testing.assert_allclose(actual.sum(-1), 3.0, rtol=1e-6)


@pytest.mark.parametrize("beta", [0.1, -2.0])
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("loss_weighted", [False, True])
def test_softadapt_against_numpy_for_50_calls(beta, normalized, loss_weighted):
    losses = noisy_losses(seed=1)
    options = {"normalized": normalized, "loss_weighted": loss_weighted}
    actual = trajectory(rebalance.softadapt(beta, **options), losses)
    expected = numpy_softadapt(losses, beta, **options)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    np.testing.assert_allclose(actual.sum(-1), 1.0, rtol=1e-6)


# ---------------------------------------------------------------- by hand


def test_dwa_over_windows_is_the_papers_epoch_mean():
    """The first steps of epoch 2 use the means of epochs 1 and 0."""
    rule = rebalance.every_k_steps(rebalance.dwa(2.0), 2)
    losses = [[1.0, 2.0, 1.0], [3.0, 2.0, 1.0], [2.0, 1.0, 1.0], [2.0, 0.0, 3.0]]
    weights = trajectory(rule, [*losses, [9.0, 9.0, 9.0]])
    np.testing.assert_allclose(weights[1:3], 1.0, rtol=1e-6)
    e = np.exp(np.array([2 / 2, 0.5 / 2, 2 / 1]) / 2.0)
    np.testing.assert_allclose(weights[3], 3 * e / e.sum(), rtol=1e-6)
    np.testing.assert_array_equal(weights[4], weights[3])


def test_softadapt_of_equal_calls_is_uniform():
    for normalized in (False, True):
        rule = rebalance.softadapt(0.1, normalized=normalized)
        weights = trajectory(rule, [[1.0, 2.0, 3.0]] * 3)
        np.testing.assert_allclose(weights, 1 / 3, rtol=1e-6)


def test_softadapt_reads_negative_losses_unless_it_multiplies_by_them():
    losses = [[-1.0, 2.0, 0.0], [-2.0, 2.0, 0.0]]
    plain = trajectory(rebalance.softadapt(1.0), losses)
    e = np.exp([-1.0, 0.0, 0.0])
    np.testing.assert_allclose(plain[1], e / e.sum(), rtol=1e-6)
    weighted = trajectory(rebalance.softadapt(1.0, loss_weighted=True), losses)
    expected = [[1 / 3, 1.0, 1 / 3]] * 2  # those that came in, and the other alone
    np.testing.assert_allclose(weighted, expected, rtol=1e-6)


def test_errors():
    with pytest.raises(ValueError, match="temperature.*positive.*0"):
        rebalance.dwa(0.0)
    with pytest.raises(ValueError, match="beta.*nan"):
        rebalance.softadapt(float("nan"))


def test_doctests():
    assert doctest.testmod(history).failed == 0
