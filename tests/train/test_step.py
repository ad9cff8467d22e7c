"""The step is pure, compiles once, and is the same on any number of devices."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from amlr_jax import rebalance
from amlr_jax.runtime import mesh as parallel
from amlr_jax.train.step import compile_step, train_step
from tests import devices
from tests.train import toy


def run(count=6, **options):
    made = toy.pieces(**options)
    mesh = parallel.make_mesh()
    step = compile_step(mesh, **made)
    state = jax.device_put(toy.initial(made), parallel.replicated(mesh))
    rows = []
    for batch in toy.batches(count):
        state, metrics = step(state, parallel.put_local(batch, mesh))
        rows.append(jax.device_get(metrics))
    return state, rows, step


@pytest.mark.slow
def test_compiles_once():
    """Over many steps, through the rule's first calls and its windows."""
    rule = rebalance.every_k_steps(rebalance.amlr(1e-3), 2)
    _, _, step = run(count=9, rule=rule)
    assert step._cache_size() == 1


def test_jit_equals_no_jit():
    made = toy.pieces()
    state = toy.initial(made)
    with jax.disable_jit():
        for batch in toy.batches(3):
            state, metrics = train_step(state, jax.tree.map(jnp.asarray, batch), **made)
    _, rows, _ = run(count=3)
    for name in toy.NAMES:
        np.testing.assert_allclose(
            metrics["losses"][name], rows[2]["losses"][name], rtol=1e-4
        )


def test_metrics_of_a_step():
    """The total is the weighted sum under the weights of this very step."""
    _, rows, _ = run()
    for row in rows:
        total = sum(row["losses"][n] * row["weights"][n] for n in toy.NAMES)
        assert row["total"] == pytest.approx(total, rel=1e-6)
        assert np.isfinite(row["grad_norm"]) and row["grad_norm"] > 0
        assert row["learning_rate"] == pytest.approx(1e-2)
    assert rows[0]["weights"] == {"silog": 0.5, "gradient": 0.5}


def test_weights_follow_the_losses_of_the_same_step():
    """Step 1 shares the total out by Eq. 9, from the losses of step 1."""
    shares = {"silog": 0.99, "gradient": 0.01}
    _, rows, _ = run(count=2, rule=rebalance.amlr(1e-3, shares=shares))
    losses = rows[1]["losses"]
    total = 0.5 * sum(losses.values())
    for name in toy.NAMES:
        want = total / losses[name] * shares[name]
        assert rows[1]["weights"][name] == pytest.approx(want, rel=1e-5)


def test_no_gradient_through_the_weights():
    """The update is that of a fixed weighted sum with the same numbers."""
    made = toy.pieces(rule=rebalance.fixed({"silog": 0.7, "gradient": 0.3}))
    made["optimizer"] = optax.sgd(1.0)
    state, batch = toy.initial(made), jax.tree.map(jnp.asarray, toy.batches(1)[0])
    after, _ = train_step(state, batch, **made)

    def total(params):
        key = jax.random.fold_in(state.key, 0)
        losses, _ = made["objective"](params, state.batch_stats, batch, key)
        return 0.7 * losses["silog"] + 0.3 * losses["gradient"]

    want = jax.tree.map(lambda p, g: p - g, state.params, jax.grad(total)(state.params))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.params, want
    )


def test_state_advances():
    state, _, _ = run(count=3)
    assert int(state.step) == 3
    means = jax.tree.leaves(state.batch_stats)
    assert any(float(jnp.abs(m).max()) > 0 for m in means)


def totals() -> list[dict]:
    """Losses and total of eight steps, on all devices of the process."""
    _, rows, _ = run(count=8)
    return [jax.tree.map(float, r["losses"] | {"total": r["total"]}) for r in rows]


DEVICES = """
import json
from tests.train.test_step import totals
print(json.dumps(totals()))
"""


def test_four_devices_give_the_losses_of_one():
    """Sparse masks of different size: a mean of the devices' means would differ."""
    of_four = json.loads(devices.run(DEVICES, devices=4))
    for one, four in zip(totals(), of_four, strict=True):
        assert four == pytest.approx(one, rel=1e-5)
