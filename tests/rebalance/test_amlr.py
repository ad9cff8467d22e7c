"""The paper's rule and the stable one, against NumPy and by hand."""

import doctest
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from amlr_jax import rebalance

SHARES = {"si": 0.99, "gradient": 0.01}
NAMES = ("gradient", "si")
R = np.array([0.01, 0.99])


def noisy_losses(steps, *, noise=0.2, seed=0):
    noise = np.random.default_rng(seed).normal(0.0, noise, (steps, 2))
    return np.array([0.1, 0.02]) * np.exp(noise)


def as_dict(row):
    return dict(zip(NAMES, map(jnp.float32, row), strict=True))


def trajectory(rule, losses):
    """The weights after each call, [steps, 2], from one jitted scan."""
    weights = rebalance.equal_weights(NAMES)

    def step(carry, row):
        weights, state = carry
        now = dict(zip(NAMES, row, strict=True))
        weights, state = rule.update(weights, state, losses=now)
        return (weights, state), jnp.stack([weights[name] for name in NAMES])

    carry = (weights, rule.init(weights))
    rows = jnp.asarray(losses, jnp.float32)
    return np.asarray(jax.jit(lambda: jax.lax.scan(step, carry, rows)[1])())


# ---------------------------------------------------------------- NumPy, float64


def numpy_amlr(losses, lam, b1=0.9, b2=0.999, eps=1e-8):
    """Eq. 8-12 line by line."""
    w = np.full(2, 0.5)
    out = [w]
    w = R * np.sum(w * losses[1]) / losses[1]
    share = losses[1] / np.sum(w * losses[1])
    m = v = np.zeros(2)
    out.append(w)
    for loss in losses[2:]:
        before = w
        w = w - lam * m / (np.sqrt(v) + eps)
        share_before, share = share, loss / np.sum(w * loss)
        g = (share - share_before) / share * before
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        out.append(w)
    return np.array(out)


def numpy_log_amlr(losses, lam, b1=0.9, b2=0.999, eps=1e-8):
    w = np.full(2, 0.5)
    out = [w]
    log_w = np.log(R * np.sum(w * losses[1]) / losses[1])
    log_share = np.log(R)
    m = v = np.zeros(2)
    out.append(np.exp(log_w))
    for k, loss in enumerate(losses[2:]):
        if k:
            m_hat, v_hat = m / (1 - b1**k), v / (1 - b2**k)
            log_w = log_w - lam * m_hat / (np.sqrt(v_hat) + eps)
        weighted = np.exp(log_w) * loss
        before, log_share = log_share, np.log(weighted / weighted.sum())
        g = log_share - before
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        out.append(np.exp(log_w))
    return np.array(out)


@pytest.mark.parametrize("lam", [1e-4, 1e-3])
def test_amlr_against_numpy_for_50_steps(lam):
    losses = noisy_losses(50)
    actual = trajectory(rebalance.amlr(lam, shares=SHARES), losses)
    np.testing.assert_allclose(actual, numpy_amlr(losses, lam), rtol=1e-5)


def test_amlr_against_numpy_with_other_constants():
    losses = noisy_losses(50, seed=3)
    options = {"b1": 0.5, "b2": 0.9, "eps": 1e-3}
    actual = trajectory(rebalance.amlr(1e-3, shares=SHARES, **options), losses)
    np.testing.assert_allclose(actual, numpy_amlr(losses, 1e-3, **options), rtol=1e-5)


@pytest.mark.parametrize("lam", [1e-2, 1e-1])
def test_log_amlr_against_numpy_for_50_steps(lam):
    losses = noisy_losses(50)
    actual = trajectory(rebalance.log_amlr(lam, shares=SHARES), losses)
    np.testing.assert_allclose(actual, numpy_log_amlr(losses, lam), rtol=1e-5)


# ---------------------------------------------------------------- conventions by hand


def run(rule, weights, rows):
    state = rule.init(weights)
    for row in rows:
        weights, state = rule.update(weights, state, losses=row)
        yield weights, state


def test_amlr_step_by_step():
    rule = rebalance.amlr(0.1, b1=0.5, b2=0.75, shares={"a": 0.75, "b": 0.25})
    rows = [{"a": 9.0, "b": 9.0}, {"a": 4.0, "b": 2.0}, {"a": 2.0, "b": 2.0}]
    rows += [{"a": 2.0, "b": 2.0}]
    calls = run(rule, {"a": 7.0, "b": 3.0}, rows)

    weights, state = next(calls)  # t = 0, Eq. 8, whatever came in
    assert weights == {"a": 0.5, "b": 0.5}
    assert state.count == 1

    weights, state = next(calls)  # t = 1, Eq. 9: L_tot = 0.5 * 4 + 0.5 * 2 = 3
    assert weights == {"a": 0.75 * 3 / 4, "b": 0.25 * 3 / 2}
    # P under the new weights: the total is still 3.
    np.testing.assert_allclose([state.share["a"], state.share["b"]], [4 / 3, 2 / 3])
    assert state.m == {"a": 0.0, "b": 0.0}
    assert state.v == {"a": 0.0, "b": 0.0}

    before = weights
    weights, state = next(calls)  # t = 2: m = v = 0, so the weights stay
    assert weights == before
    total = 0.5625 * 2 + 0.375 * 2
    p = 2 / total
    g = np.array([(p - 4 / 3) / p * 0.5625, (p - 2 / 3) / p * 0.375])
    np.testing.assert_allclose([state.share["a"], state.share["b"]], [p, p], 1e-6)
    np.testing.assert_allclose([state.m["a"], state.m["b"]], 0.5 * g, rtol=1e-6)
    np.testing.assert_allclose([state.v["a"], state.v["b"]], 0.25 * g**2, rtol=1e-6)

    weights, state = next(calls)  # t = 3: m / sqrt(v) = sign(g) * 0.5 / 0.5
    np.testing.assert_allclose(weights["a"], 0.5625 + 0.1, rtol=1e-6)  # share fell
    np.testing.assert_allclose(weights["b"], 0.375 - 0.1, rtol=1e-6)  # share rose
    assert state.count == 4


@pytest.mark.parametrize("rule", [rebalance.amlr, rebalance.log_amlr])
def test_shares_default_to_equal(rule):
    rows = [{"a": 1.0, "b": 3.0}] * 2
    *_, (weights, _) = run(rule(1e-3), {"a": 0.5, "b": 0.5}, rows)
    np.testing.assert_allclose(weights["a"] * 1.0, weights["b"] * 3.0, rtol=1e-6)
    np.testing.assert_allclose(weights["a"] * 1.0, 0.5 * 2.0, rtol=1e-6)


def test_first_total_is_taken_under_the_incoming_weights():
    rule = rebalance.amlr(1e-3)
    weights = {"a": 0.5, "b": 0.5}
    _, state = rule.update(weights, rule.init(weights), losses={"a": 1.0, "b": 1.0})
    clipped = {"a": 0.5, "b": 0.1}
    weights, _ = rule.update(clipped, state, losses={"a": 4.0, "b": 10.0})
    np.testing.assert_allclose(weights["a"], 0.5 * (2.0 + 1.0) / 4.0, rtol=1e-6)


def test_log_amlr_step_by_step():
    rule = rebalance.log_amlr(0.1, shares={"a": 0.75, "b": 0.25})
    rows = [{"a": 9.0, "b": 9.0}, {"a": 4.0, "b": 2.0}, {"a": 2.0, "b": 2.0}]
    rows += [{"a": 2.0, "b": 2.0}]
    calls = run(rule, {"a": 0.5, "b": 0.5}, rows)
    next(calls)
    weights, state = next(calls)
    assert weights == {"a": 0.5625, "b": 0.375}
    np.testing.assert_allclose([state.share["a"], state.share["b"]], [0.75, 0.25])
    weights, state = next(calls)
    assert weights == {"a": 0.5625, "b": 0.375}
    np.testing.assert_allclose([state.share["a"], state.share["b"]], [0.6, 0.4], 1e-6)
    np.testing.assert_allclose(state.m["a"], 0.1 * np.log(0.6 / 0.75), rtol=1e-5)
    weights, _ = next(calls)  # bias-corrected: the first step is lambda * sign
    np.testing.assert_allclose(weights["a"], 0.5625 * np.exp(0.1), rtol=1e-5)
    np.testing.assert_allclose(weights["b"], 0.375 * np.exp(-0.1), rtol=1e-5)


def test_schedule_is_called_with_the_updates_so_far():
    losses = noisy_losses(6)
    stepped = optax.piecewise_constant_schedule(0.0, {3: 1.0})  # 0 for ever
    late = trajectory(rebalance.amlr(stepped, shares=SHARES), losses)
    np.testing.assert_array_equal(late[1:], np.broadcast_to(late[1], (5, 2)))

    def schedule(count):
        return jnp.where(count >= 5, 1e-3, 0.0)

    weights = trajectory(rebalance.amlr(schedule, shares=SHARES), losses)
    np.testing.assert_array_equal(weights[1:5], late[1:5])
    assert not np.array_equal(weights[5], late[5])


# ---------------------------------------------------------------- stability (short)


def test_log_amlr_stays_and_amlr_creeps():
    """4,000 steps of 20 % noise; the docstring of `log_amlr` has the long run."""
    losses = noisy_losses(4_000)
    start = numpy_amlr(losses[:2], 0.0)[1]
    for lam, band in ((1e-2, 1.05), (1e-1, 1.30)):
        ratio = trajectory(rebalance.log_amlr(lam, shares=SHARES), losses)[1:] / start
        assert 1 / band < ratio.min() and ratio.max() < band
    creep = trajectory(rebalance.amlr(1e-2, shares=SHARES), losses)[-1] / start
    assert (creep > 3).all()


def test_log_amlr_answers_a_trend():
    losses = noisy_losses(4_000, noise=0.02)
    losses[:, 0] *= 10.0 ** -np.linspace(0.0, 1.0, 4_000)
    weights = trajectory(rebalance.log_amlr(1e-1, shares=SHARES), losses)
    assert weights[-1, 0] / weights[1, 0] > 2.0  # the gradient loss fell: boosted
    assert weights[-1, 1] / weights[1, 1] < 1.0


def test_log_amlr_weights_stay_positive_under_wild_losses():
    losses = noisy_losses(2_000, noise=3.0)
    weights = trajectory(rebalance.log_amlr(0.5, shares=SHARES), losses)
    assert np.isfinite(weights).all() and (weights > 0).all()


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("rule", [rebalance.amlr, rebalance.log_amlr])
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"learning_rate": -1.0}, "learning_rate.*-1.0"),
        ({"learning_rate": float("nan")}, "learning_rate.*nan"),
        ({"b1": 1.0}, r"b1.*\[0, 1\)"),
        ({"b2": -0.1}, r"b2.*\[0, 1\)"),
        ({"eps": 0.0}, "eps.*positive"),
        ({"shares": {"a": 0.5, "b": 0.6}}, "sum to 1.*1.1"),
        ({"shares": {"a": 1.5, "b": -0.5}}, "shares.*'b'.*positive"),
        ({"shares": {}}, "shares.*at least one"),
    ],
)
def test_construction_errors(rule, options, text):
    with pytest.raises(ValueError, match=text):
        rule(**({"learning_rate": 1e-3} | options))


@pytest.mark.parametrize("rule", [rebalance.amlr, rebalance.log_amlr])
def test_shares_must_name_the_losses(rule):
    rule = rule(1e-3, shares=SHARES)
    with pytest.raises(ValueError, match=r"shares.*missing \['ssim'\].*\['gradient'\]"):
        rule.init({"si": 0.5, "ssim": 0.5})


def test_arguments_may_be_arrays_inside_a_trace():
    """As `optax.inject_hyperparams` passes them, traced or constant."""
    half, wrong = jnp.float32(0.5), jnp.float32(1.5)

    @jax.jit
    def first(learning_rate):
        rule = rebalance.amlr(learning_rate, b1=half)
        weights = {"a": 0.5, "b": 0.5}
        losses = {"a": 1.0, "b": 2.0}
        return rule.update(weights, rule.init(weights), losses=losses)[0]["a"]

    assert first(1e-3) == 0.5
    with pytest.raises(ValueError, match="b1.*1.5"):
        jax.jit(lambda: rebalance.amlr(1e-3, b1=wrong) and 0.0)()


def test_doctests():
    # By name: the attribute `rebalance.amlr` is the function.
    module = importlib.import_module("amlr_jax.rebalance.amlr")
    assert doctest.testmod(module).failed == 0
