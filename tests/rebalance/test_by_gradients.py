"""Rules by gradients against NumPy and SciPy, and the gradients that they read."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import minimize, nnls

from amlr_jax import rebalance

NAMES = ("a", "b", "c")


@cache
def _jitted(rule):
    """One compiled update per rule for the whole file."""
    return jax.jit(lambda w, s, **extra: rule.update(w, s, **extra))


def path(rule, losses, *, norms=None, grams=None):
    """The weights of three losses after each call, [steps, 3]."""
    weights = {name: jnp.float32(1.0) for name in NAMES}
    state, found = rule.init(weights), []
    extra = {"gradient_norms": norms, "gradient_gram": grams}
    for t, row in enumerate(losses):
        now = {name: values[t] for name, values in extra.items() if values is not None}
        if norms is not None:
            now["gradient_norms"] = dict(zip(NAMES, norms[t], strict=True))
        losses_now = dict(zip(NAMES, row, strict=True))
        weights, state = _jitted(rule)(weights, state, losses=losses_now, **now)
        found.append([float(weights[name]) for name in NAMES])
    return np.array(found)


def history(steps=6, seed=0):
    rng = np.random.default_rng(seed)
    losses, norms = np.exp(rng.normal(0.0, 0.5, (2, steps, 3)))
    return losses.astype(np.float32), (norms * [1.0, 10.0, 0.1]).astype(np.float32)


def matrices(steps=6, size=7, seed=0):
    rows = np.random.default_rng(seed).normal(size=(steps, 3, size))
    rows *= np.array([1.0, 3.0, 0.5])[:, None]
    return np.einsum("tip,tjp->tij", rows, rows).astype(np.float32)


# ---------------------------------------------------------------- against NumPy


def test_gradient_balance_and_ntk():
    losses, norms = history()
    for rule, sizes in (
        (rebalance.gradient_balance(0.7, guard=1e-3), norms.astype(float)),
        (rebalance.ntk(0.7, guard=1e-3), norms.astype(float) ** 2),
    ):
        w, expected = np.ones(3), []
        for row in sizes:
            w = 0.7 * w + 0.3 * row.mean() / (row + 1e-3 * row.mean())
            expected.append(w)
        found = path(rule, losses, norms=norms)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_grad_norm():
    losses, norms = (x.astype(float) for x in history())
    z = m = v = np.zeros(3)
    expected = []
    for k, (loss, norm) in enumerate(zip(losses, norms, strict=True), 1):
        w = 3 * np.exp(z) / np.exp(z).sum()
        ratio = loss / losses[0]
        target = (w * norm).mean() * (ratio / ratio.mean()) ** 1.5
        by_w = np.sign(w * norm - target) * norm
        jacobian = np.diag(w) - np.outer(w, w) / 3
        g = jacobian @ by_w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        z = z - 0.1 * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.999**k)) + 1e-8)
        expected.append(3 * np.exp(z) / np.exp(z).sum())
    found = path(rebalance.grad_norm(0.1), losses, norms=norms)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def by_losses():
    losses, _ = history()
    mean = np.exp(np.log(losses.astype(float)).mean(1, keepdims=True))
    return losses, mean / 3 / losses


def test_geometric_gives_the_gradient_of_the_geometric_mean():
    losses, expected = by_losses()
    found = path(rebalance.geometric(), losses)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    total = (found * losses).sum(1)
    np.testing.assert_allclose(
        total, losses.astype(float).prod(1) ** (1 / 3), rtol=1e-5
    )


def test_imtl_l_is_its_equation_with_adam():
    losses = history()[0].astype(float)
    s = m = v = np.zeros(3)
    expected = []
    for k, loss in enumerate(losses):
        if k:
            corrected = m / (1 - 0.9**k), v / (1 - 0.999**k)
            s = s - 0.1 * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
        expected.append(np.exp(s))
        g = np.exp(s) * loss - 1
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    found = path(rebalance.imtl_l(0.1), losses)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("rho", [0.0, 1.0, 0.5])
def test_relobralo(rho):
    losses = history()[0].astype(float)
    rule = rebalance.relobralo(0.5, alpha=0.9, rho=rho, seed=3)

    def balanced(now, past):
        e = np.exp(now / past / 0.5)
        return 3 * e / e.sum()

    w, expected = np.ones(3), []
    for t, now in enumerate(losses):
        key = jax.random.fold_in(jax.random.key(3), t)
        kept = float(jax.random.bernoulli(key, rho))
        first = balanced(now, losses[0])
        if t < 2:
            w = first
        else:
            w = 0.9 * (kept * w + (1 - kept) * first)
            w = w + 0.1 * balanced(now, losses[t - 1])
        expected.append(w)
    np.testing.assert_allclose(path(rule, losses), expected, rtol=1e-5)


def test_random_weights_have_the_distribution_and_repeat_nothing():
    rule = rebalance.random_weights(seed=1)
    found = path(rule, np.ones((40, 3)))
    np.testing.assert_allclose(found.sum(1), 1.0, rtol=1e-6)
    assert (found > 0).all() and len(np.unique(found)) == found.size
    assert abs(found.mean(0) - 1 / 3).max() < 0.1
    assert not np.allclose(found, path(rebalance.random_weights(), np.ones((40, 3))))


# ---------------------------------------------------------------- against SciPy


def on_simplex(value, n):
    return minimize(
        value,
        np.full(n, 1 / n),
        bounds=[(0, 1)] * n,
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-14},
    ).x


def scipy_mgda(gram):
    return on_simplex(lambda w: w @ gram @ w / np.trace(gram), len(gram))


def scipy_cagrad(gram, c=0.4):
    gram = gram / np.trace(gram)
    radius = c * np.sqrt(gram.mean())
    n, along = len(gram), gram.mean(0)
    v = on_simplex(lambda v: v @ along + radius * np.sqrt(v @ gram @ v), n)
    return 1 / n + radius / np.sqrt(v @ gram @ v) * v


def scipy_upgrad(gram):
    eye = np.eye(len(gram))
    root = np.linalg.cholesky(gram / np.trace(gram) + 1e-4 * eye).T
    each = [unit + nnls(root, -root @ unit)[0] for unit in eye]
    return np.mean(each, axis=0)


AGAINST_SCIPY = [
    (rebalance.mgda(), scipy_mgda),
    (rebalance.cagrad(0.4), scipy_cagrad),
    (rebalance.upgrad(), scipy_upgrad),
]
GRAM_RULES = [rule for rule, _ in AGAINST_SCIPY]
against_scipy = pytest.mark.parametrize(("rule", "reference"), AGAINST_SCIPY)


@against_scipy
def test_gram_rules_against_scipy(rule, reference):
    grams = matrices()
    found = path(rule, np.ones((len(grams), 3)), grams=grams)
    expected = [reference(gram.astype(float)) for gram in grams]
    np.testing.assert_allclose(found, expected, atol=3e-5)


def test_pcgrad_projects_as_the_algorithm_does():
    """On the gradients themselves, in the orders that the key draws."""
    gram = np.array([[1.0, -0.8, 0.1], [-0.8, 4.0, -1.0], [0.1, -1.0, 1.0]])
    rows = np.linalg.cholesky(gram)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(0), 0), 3)
    summed = np.zeros(3)
    for i, key in enumerate(keys):
        h = rows[i].copy()
        for j in np.asarray(jax.random.permutation(key, 3)):
            if j != i and h @ rows[j] < 0:
                h -= h @ rows[j] / (rows[j] @ rows[j]) * rows[j]
        summed += h
    (found,) = path(rebalance.pcgrad(), np.ones((1, 3)), grams=gram[None])
    np.testing.assert_allclose(found @ rows, summed, rtol=1e-5)


@pytest.mark.parametrize("rule", GRAM_RULES)
def test_gram_rules_do_not_depend_on_a_common_scale(rule):
    (gram,) = matrices(steps=1)
    grams = np.array([gram, gram * np.float32(1e-12), gram * np.float32(1e12)])
    weights, *scaled = path(rule, np.ones((3, 3)), grams=grams)
    np.testing.assert_allclose(scaled, 2 * [weights], rtol=1e-3, atol=1e-5)


def degenerate(count):
    """Gradients of `count` losses by kind."""
    rows = np.random.default_rng(0).normal(size=(count, 3 * count))
    signs = np.where(np.arange(count) % 2, -1.0, 1.0)
    return {
        "opposed": np.outer(signs, rows[0]),
        "equal": np.outer(np.ones(count), rows[0]),
        "mixed": rows * np.logspace(-9, 9, count)[:, None],
        "zero": 0 * rows,
        "infinite": rows * np.inf,
    }


@pytest.mark.parametrize("rule", GRAM_RULES)
@pytest.mark.parametrize("count", [1, 50])
def test_degenerate_gradients(rule, count):
    weights = rebalance.equal_weights([str(i) for i in range(count)])
    update = jax.jit(rule.update)
    for kind, rows in degenerate(count).items():
        with np.errstate(all="ignore"):
            gram = jnp.asarray(rows @ rows.T, jnp.float32)
        state = rule.init(weights)
        new, state = update(weights, state, losses=weights, gradient_gram=gram)
        found = np.array(jax.tree.leaves(new))
        assert np.isfinite(found).all() and (found >= 0).all()
        if kind in ("zero", "infinite"):
            assert (found == np.float32(1 / count)).all() and state.skipped == 1


@against_scipy
def test_a_loss_without_gradient_is_left_out_of_the_others(rule, reference):
    grams = matrices(steps=1)
    grams[:, 2] = grams[:, :, 2] = 0.0
    (found,) = path(rule, np.ones((1, 3)), grams=grams)
    expected = reference(grams[0, :2, :2].astype(float))
    np.testing.assert_allclose(found, [*expected, 1.0], atol=3e-5)


# ---------------------------------------------------------------- per_loss_gradients


def losses_of(params):
    x = jnp.linspace(0.0, 1.0, 5)
    y = jnp.tanh(x * params["first"]) @ params["last"]["kernel"]
    return {"fit": jnp.mean((y - 1.0) ** 2), "size": (jnp.sum(y**2), jnp.abs(y).max())}


PARAMS = {"first": jnp.arange(1.0, 6.0), "last": {"kernel": jnp.ones((5, 2)) / 3}}


@pytest.fixture(scope="module")
def jacobian():
    """The gradients of the losses, one after the other."""
    found = jax.jit(jax.jacrev(losses_of))(PARAMS)
    return jax.tree.leaves(found, is_leaf=lambda x: "first" in x)


@pytest.mark.parametrize("subset", [None, "last"])
def test_per_loss_gradients_are_those_of_each_loss(subset, jacobian):
    choose = subset and (lambda path: subset in path)
    found = jax.jit(
        lambda p: (lambda g: (g, g.norms, g.gram))(
            rebalance.per_loss_gradients(losses_of, p, subset=choose)
        )
    )(PARAMS)
    gradient, norms, gram = found
    parts = [[g["last"]["kernel"]] + ([] if subset else [g["first"]]) for g in jacobian]
    rows = np.array([np.concatenate([np.ravel(x) for x in row]) for row in parts])
    np.testing.assert_allclose(gram, rows @ rows.T, rtol=1e-5)
    expected = np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(jax.tree.leaves(norms), expected, rtol=1e-5)
    assert jax.tree.structure(norms) == jax.tree.structure(losses_of(PARAMS))
    assert (gradient.gradients["first"] is None) == bool(subset)


def test_the_weighted_gradient_and_aux(jacobian):
    weights = {"fit": 0.5, "size": (2.0, 0.1)}

    def with_aux(params):
        losses = losses_of(params)
        return losses, {"losses": losses}

    @jax.jit
    def both(params):
        found = rebalance.per_loss_gradients(with_aux, params, has_aux=True)
        return found, found.weighted(weights)

    found, weighted = both(PARAMS)
    flat = jax.tree.leaves(weights)
    expected = jax.tree.map(lambda *g: np.tensordot(flat, g, 1), *jacobian)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7),
        weighted,
        expected,
    )
    assert found.aux["losses"]["fit"] == found.losses["fit"]
    with pytest.raises(ValueError, match="subset"):
        rebalance.per_loss_gradients(losses_of, PARAMS, subset=lambda path: False)


def test_a_window_computes_gradients_only_where_it_closes():
    calls = []
    rule = rebalance.every_k_steps(
        optax.chain(rebalance.gradient_balance(0.0), rebalance.clip_loss_weights(0, 9)),
        3,
    )

    def norms():
        jax.debug.callback(lambda: calls.append(1))
        return {"a": jnp.float32(3.0), "b": jnp.float32(1.0)}

    @jax.jit
    def run():
        weights = rebalance.equal_weights(["a", "b"])

        def step(carry, _):
            return rule.update(*carry, losses=weights, gradient_norms=norms), None

        return jax.lax.scan(step, (weights, rule.init(weights)), length=7)[0]

    weights, _ = jax.block_until_ready(run())
    jax.effects_barrier()
    assert len(calls) == 2
    np.testing.assert_allclose(weights["a"], 2 / 3, rtol=1e-4)


def test_missing_or_wrong_gradients_are_named():
    weights = {"a": 1.0, "b": 1.0}
    rule = rebalance.gradient_balance()
    state = rule.init(weights)
    with pytest.raises(TypeError, match="gradient_norms.*per_loss_gradients"):
        rule.update(weights, state, losses=weights)
    with pytest.raises(ValueError, match=r"gradient_norms.*missing \['b'\]"):
        rule.update(weights, state, losses=weights, gradient_norms={"a": 1.0})
    with pytest.raises(ValueError, match=r"gradient_gram.*n = 2 losses.*\(3, 3\)"):
        rebalance.mgda().update(
            weights, state, losses=weights, gradient_gram=jnp.eye(3)
        )
    for make in (
        lambda: rebalance.gradient_balance(1.0),
        lambda: rebalance.ntk(guard=-1.0),
        lambda: rebalance.cagrad(-0.1),
        lambda: rebalance.upgrad(regularization=0.0),
        lambda: rebalance.grad_norm(-1.0),
        lambda: rebalance.relobralo(0.0),
        lambda: rebalance.relobralo(rho=1.5),
    ):
        with pytest.raises(ValueError, match="must be"):
            make()
