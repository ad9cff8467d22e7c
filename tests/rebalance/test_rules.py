"""What every rule promises, in one matrix."""

import inspect
import pickle
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amlr_jax import rebalance

SHARES = {"a": 0.9, "b": 0.1}
RULES = {
    "amlr": rebalance.amlr(1e-3, shares=SHARES),
    "amlr_schedule": rebalance.amlr(optax.linear_schedule(1e-3, 0.0, 20)),
    "log_amlr": rebalance.log_amlr(1e-2, shares=SHARES),
    "lee_kim": rebalance.lee_kim(),
    "fixed": rebalance.fixed({"a": 0.7, "b": 0.3}),
    "dwa": rebalance.dwa(),
    "uncertainty": rebalance.uncertainty(optax.linear_schedule(1e-2, 0.0, 20)),
    "softadapt": rebalance.softadapt(),
    "relobralo": rebalance.relobralo(1.0, rho=0.5),
    "every_3_relobralo": rebalance.every_k_steps(rebalance.relobralo(1.0), 3),
    "gradient_balance": rebalance.gradient_balance(),
    "geometric": rebalance.geometric(),
    "random_weights": rebalance.random_weights(),
    "grad_norm": rebalance.grad_norm(1e-2),
    "ntk": rebalance.ntk(0.5),
    "mgda": rebalance.mgda(),
    "upgrad": rebalance.upgrad(),
    "cagrad": rebalance.cagrad(),
    "pcgrad": rebalance.pcgrad(),
    "every_2_mgda": rebalance.every_k_steps(rebalance.mgda(), 2),
    "softadapt_both": rebalance.softadapt(5.0, normalized=True, loss_weighted=True),
    "famo": rebalance.famo(0.025),
    "every_3": rebalance.every_k_steps(rebalance.amlr(1e-3), 3),
    "chain": optax.chain(
        rebalance.log_amlr(1e-2),
        rebalance.clip_loss_weights(0.01, 10.0),
        rebalance.normalize_loss_weights(),
    ),
    "every_2_chain": rebalance.every_k_steps(
        optax.chain(rebalance.lee_kim(), rebalance.clip_loss_weights(0.1, 1.0)), 2
    ),
    "injected": optax.inject_hyperparams(rebalance.log_amlr)(
        learning_rate=optax.linear_schedule(1e-2, 0.0, 20), shares=SHARES
    ),
    "every_2_injected": rebalance.every_k_steps(
        optax.inject_hyperparams(rebalance.amlr)(learning_rate=1e-3), 2
    ),
    "every_3_dwa": rebalance.every_k_steps(rebalance.dwa(), 3),
    "every_2_learned": rebalance.every_k_steps(
        optax.chain(rebalance.uncertainty(1e-2), rebalance.clip_loss_weights(0, 9)), 2
    ),
    "every_3_famo_injected": rebalance.every_k_steps(
        optax.inject_hyperparams(rebalance.famo)(learning_rate=0.1, gamma=1e-2), 3
    ),
}
# These divide by the losses or take their logarithms.
POSITIVE = (
    "amlr",
    "log_amlr",
    "lee_kim",
    "dwa",
    "uncertainty",
    "relobralo",
    "geometric",
    "grad_norm",
    "softadapt_both",
    "famo",
)
BY_GRADIENTS = ("gradient_balance", "ntk", "mgda", "upgrad", "cagrad", "pcgrad")
STEPS = 12
LOSSES = np.exp(np.random.default_rng(0).normal(0.0, 0.3, (STEPS, 2))) * [0.1, 0.02]

FACTORIES = {
    rebalance.amlr: (1e-3,),
    rebalance.log_amlr: (1e-2,),
    rebalance.lee_kim: (),
    rebalance.dwa: (),
    rebalance.uncertainty: (1e-2,),
    rebalance.softadapt: (),
    rebalance.famo: (0.025,),
    rebalance.relobralo: (),
    rebalance.gradient_balance: (),
    rebalance.grad_norm: (1e-2,),
    rebalance.ntk: (),
    rebalance.cagrad: (),
}

every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def start(rule):
    weights = rebalance.equal_weights(["a", "b"])
    return weights, rule.init(weights)


def arguments(a, b):
    """The extra arguments of an update, of every kind and of none of the rules."""
    values = {"a": a, "b": b}
    rows = jnp.stack([jnp.asarray(x).astype(jnp.float32) for x in (a, b)])
    gram = rows[:, None] * rows * jnp.array([[1.0, -0.5], [-0.5, 1.0]], jnp.float32)
    known = {"losses": values, "gradient_norms": values, "gradient_gram": gram}
    return known | {"value": 3.0, "step": 1}


def gradients_of(row):
    """Of four losses whose gradients have an angle of 60 degrees and these norms."""
    gram = jnp.outer(*2 * [jnp.array(row)]) * (0.5 + 0.5 * jnp.eye(len(row)))
    norms = dict(zip(["d", "a", "c", "b"], row, strict=True))
    return {"gradient_norms": norms, "gradient_gram": gram}


def step(rule, carry, row):
    weights, state = rule.update(*carry, **arguments(*row))
    return (weights, state), weights


def assert_same(left, right, **tolerance):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    tolerance = tolerance or {"rtol": 1e-5, "atol": 1e-7}
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, **tolerance), left, right
    )


exactly = {"rtol": 0.0, "atol": 0.0}


def without_skipped(carry):
    """The carry with every count of skipped steps at 0."""
    if carry[1] == optax.EmptyState():  # of `fixed`, which has nothing to start
        return carry
    return optax.tree.set(carry, skipped=jnp.int32(0))


def assert_counts_one_more(after, before):
    """A skipped step is counted once, by every rule that has a state."""
    if after[1] != optax.EmptyState():
        more = int(rebalance.skipped_updates(after))
        assert more == int(rebalance.skipped_updates(before)) + 1


@cache
def _jitted(rule):
    """One compiled update per rule for the whole file."""
    return jax.jit(lambda carry, row: step(rule, carry, row)[0])


@every_rule
def test_loop_and_jit_and_scan_and_vmap_agree_with_one_compilation(rule):
    """The scan donates its carry, as a train step does, and goes on from its own.

    It runs two trainings at once, and the second is compared.
    """
    rows, traces = jnp.asarray(LOSSES, jnp.float32), []

    @partial(jax.jit, donate_argnums=0)
    def scanned(both, pairs):
        traces.append(1)
        return jax.lax.scan(jax.vmap(partial(step, rule)), both, pairs)[0]

    carry, eager = start(rule), start(rule)
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), carry)
    for index, row in enumerate(rows):
        carry = _jitted(rule)(carry, row)
        if index < 3:  # without jit every call is slow
            eager, _ = step(rule, eager, row)
            assert_same(eager, carry)
    for pairs in jnp.stack([3.0 * rows, rows], 1).reshape(2, -1, 2, 2):
        both = scanned(both, pairs)
    assert_same(jax.tree.map(lambda leaf: leaf[1], both), carry)
    assert len(traces) == 1


@every_rule
def test_the_first_state_can_be_donated(rule):
    leaves = jax.tree.leaves(start(rule))
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


@every_rule
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_step_leaves_weights_and_state(rule, bad):
    update, carry = _jitted(rule), start(rule)
    for row in jnp.asarray(LOSSES[:4], jnp.float32):
        after, before = update(carry, jnp.array([0.1, bad], jnp.float32)), carry
        assert_counts_one_more(after, before)
        after, before = without_skipped(after), without_skipped(before)
        if hasattr(before[1], "inner_state"):  # the injected count is optax's, goes on
            after, before = ((w, state.inner_state) for w, state in (after, before))
        assert_same(after, before, rtol=2e-7, atol=0.0)  # `chain` normalizes again
        carry = update(carry, row)


WITHOUT_SHARE = [(name, bad) for name in POSITIVE for bad in (0.0, 1e-39, -0.1)]
WITHOUT_SHARE += [(name, bad) for name in BY_GRADIENTS for bad in (0.0, 1e-39)]


@pytest.mark.parametrize(("name", "bad"), WITHOUT_SHARE)
def test_a_loss_without_a_share_keeps_its_weight_alone(name, bad):
    update = _jitted(RULES[name])
    carry = start(RULES[name])
    for row in jnp.asarray(LOSSES[:5], jnp.float32):
        after = update(carry, row.at[0].set(bad))
        assert_counts_one_more(after, carry)
        assert optax.tree.get(after, "count") == optax.tree.get(carry, "count") + 1
        (weights, state), (before, state_before) = after, carry
        assert weights["a"] == before["a"]
        for new, old in zip(state, state_before, strict=True):
            if isinstance(new, dict):
                assert new["a"] == old["a"]
        carry = update(carry, row)


@pytest.mark.parametrize("name", [*POSITIVE, *BY_GRADIENTS])
def test_a_loss_at_zero_does_not_stop_the_others(name):
    """The others go on, and it joins them once it is there."""
    update, rows = _jitted(RULES[name]), np.array(LOSSES, np.float32)
    rows[:6, 1] = 0.0
    carry, path = start(RULES[name]), []
    for row in jnp.asarray(rows):
        carry = update(carry, row)
        path.append([float(carry[0]["a"]), float(carry[0]["b"])])
    a, b = np.array(path).T
    assert (b[:6] == 0.5).all() and len(set(b[6:])) > 1
    assert np.isfinite(path).all() and a[0] > 0


@every_rule
@pytest.mark.parametrize("bad", [0.0, 1e-45, 1e-30, 1e30, 3e38, -1.0])
def test_extreme_losses_give_finite_weights_and_state(rule, bad):
    update = _jitted(rule)
    for at in range(4):
        rows = np.array(LOSSES[:7], np.float32)
        rows[at:, 1] = bad
        carry = start(rule)
        for row in jnp.asarray(rows):
            carry = update(carry, row)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(carry))


@every_rule
def test_weights_and_state_are_float32_and_int32_scalars_whatever_comes_in(rule):
    weights, state = start(rule)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    low = {"a": jnp.bfloat16(0.5), "b": jnp.float16(0.25)}
    types = partial(jax.tree.map, lambda leaf: (leaf.shape, jnp.dtype(leaf.dtype)))
    out = jax.eval_shape(lambda w: rule.update(w, state, **arguments(*w.values())), low)
    assert types(out) == types((weights, state))
    allowed = {((), jnp.dtype("float32")), ((), jnp.dtype("int32"))}
    allowed |= {((2,), jnp.dtype("uint32"))}  # a key
    assert {types(leaf) for leaf in jax.tree.leaves(state)} <= allowed


@every_rule
def test_bfloat16_is_read_as_float32_and_key_order_never_matters(rule):
    weights = rebalance.equal_weights(["b", "a"])
    carry, other = start(rule), (weights, rule.init(weights))
    for row in jnp.asarray(LOSSES[:3], jnp.bfloat16):
        carry = _jitted(rule)(carry, row.astype(jnp.float32))
        other = rule.update(
            *other, **arguments(*row) | {"losses": {"b": row[1], "a": row[0]}}
        )
    assert_same(carry, other)


@pytest.mark.parametrize("factory", FACTORIES)
@settings(max_examples=3, deadline=None, database=None)
@given(data=st.data())
def test_no_order_of_any_dict_ever_matters(factory, data):
    """Four names, each dict in an order of its own at each step."""
    names, rule = ["d", "a", "c", "b"], factory(*FACTORIES[factory])

    def shuffled(values):
        return {name: values[name] for name in data.draw(st.permutations(names))}

    weights = rebalance.equal_weights(names)
    carry, other = (weights, rule.init(weights)), (weights, rule.init(weights))
    values = st.lists(st.floats(1e-3, 1e3), min_size=4, max_size=4)
    for row in data.draw(st.lists(values, min_size=3, max_size=3)):
        losses = dict(zip(names, row, strict=True))
        carry = rule.update(*carry, losses=losses, **gradients_of(row))
        weights, state = other
        state = jax.tree.map(
            lambda part: shuffled(part) if isinstance(part, dict) else part,
            state,
            is_leaf=lambda part: isinstance(part, dict),
        )
        other = rule.update(
            shuffled(weights),
            state,
            losses=shuffled(losses),
            gradient_gram=gradients_of(row)["gradient_gram"],
            gradient_norms=shuffled(losses),
        )
        assert_same(other, carry, **exactly)


@every_rule
def test_no_gradient_flows_into_weights_or_state(rule):
    carry = start(rule)
    for row in jnp.asarray(LOSSES[:4], jnp.float32):
        carry = _jitted(rule)(carry, row)

    def total(scale):
        weights, state = carry
        weights = {name: w * scale for name, w in weights.items()}
        weights, state = rule.update(weights, state, **arguments(scale / 5, scale / 10))
        leaves = jax.tree.leaves((weights, state))
        floats = [x for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)]
        return sum(floats)

    assert jax.jit(jax.grad(total))(1.0) == 0.0


@every_rule
def test_losses_are_required_and_keyword_only(rule):
    weights, state = start(rule)
    with pytest.raises(TypeError, match="losses"):
        rule.update(weights, state)
    with pytest.raises(TypeError):
        rule.update(weights, state, None, {"a": 1.0, "b": 2.0})


@every_rule
def test_other_names_are_an_error_that_names_them(rule):
    weights, state = start(rule)
    with pytest.raises(ValueError, match=r"missing \['b'\] and extra \['ssim'\]"):
        rule.update(weights, state, losses={"a": 1.0, "ssim": 2.0})
    with pytest.raises(ValueError, match=r"losses.*scalars.*\(2,\)"):
        rule.update(weights, state, losses=jnp.ones(2))
    with pytest.raises(TypeError, match=r"losses\['b'\] = 'two'"):
        rule.update(weights, state, losses={"a": 1.0, "b": "two"})
    with pytest.raises(ValueError, match=r"losses\['b'\].*\(3,\)"):
        rule.update(weights, state, losses={"a": 1.0, "b": jnp.ones(3)})


@every_rule
def test_restart_continues_bit_for_bit(rule):
    update, rows = _jitted(rule), jnp.asarray(LOSSES[:9], jnp.float32)
    carry, saved = start(rule), []
    for row in rows:
        saved.append(pickle.dumps(jax.tree.map(np.asarray, carry)))
        carry = update(carry, row)
    for at in range(1, 8):
        restored = jax.tree.map(jnp.asarray, pickle.loads(saved[at]))
        for row in rows[at:]:
            restored = update(restored, row)
        assert_same(restored, carry, **exactly)


@every_rule
def test_is_an_optax_transformation(rule):
    assert isinstance(rule, optax.GradientTransformationExtraArgs)


def test_options_are_keyword_only():
    for factory in FACTORIES:
        first, *options = inspect.signature(factory).parameters.values()
        assert first.kind is first.POSITIONAL_OR_KEYWORD
        assert all(option.kind is option.KEYWORD_ONLY for option in options)


@pytest.mark.parametrize(
    "factory",
    [rebalance.amlr, rebalance.log_amlr, rebalance.uncertainty],
)
def test_injected_learning_rate_can_be_changed_on_the_way(factory):
    rule = optax.inject_hyperparams(factory)(learning_rate=1e-2)
    update = _jitted(rule)
    carry = start(rule)
    for row in jnp.asarray(LOSSES[:4], jnp.float32):
        carry = update(carry, row)
    row = jnp.asarray(LOSSES[4], jnp.float32)
    assert update(carry, row)[0]["a"] != carry[0]["a"]
    carry[1].hyperparams["learning_rate"] = jnp.float32(0.0)
    assert update(carry, row)[0]["a"] == carry[0]["a"]


def test_clip_behind_amlr_is_respected_at_the_next_step():
    rule = optax.chain(rebalance.amlr(0.0), rebalance.clip_loss_weights(0.4, 0.6))
    carry = start(rule)
    for _ in range(2):
        carry = rule.update(*carry, losses={"a": 1.0, "b": 4.0})
    weights, state = carry  # Eq. 9 gives 1.25 and 0.3125
    np.testing.assert_allclose([weights["a"], weights["b"]], [0.6, 0.4], rtol=1e-6)
    inner = rebalance.amlr(0.0)
    weights, _ = inner.update(weights, state[0], losses={"a": 1.0, "b": 4.0})
    np.testing.assert_allclose([weights["a"], weights["b"]], [0.6, 0.4], rtol=1e-6)
