"""A batch in parts: means over the parts, under the loss weights of this very step."""

import json
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from amlr_jax import rebalance
from amlr_jax.train.objectives import supervised as objectives
from amlr_jax.train.step import initial_state, train_step
from tests import devices
from tests.train import toy

LOSSES = ("l1", "log_l1")  # plain means over the pixels, so means of means are equal
RULE = partial(rebalance.log_amlr, 1e-1, shares={"l1": 0.9, "log_l1": 0.1})


class Plain(nn.Module):
    """The toy without what depends on the other samples: batch norm and dropout."""

    @nn.compact
    def __call__(self, image, *, train: bool):
        del train
        x = nn.silu(nn.Conv(4, (3, 3))(image))
        return 80.0 * nn.sigmoid(nn.Conv(1, (3, 3))(x))[..., 0]


def plain_run(*, parts: int, masked: bool = False, rule=None):
    made = toy.pieces(
        rule=rule or RULE(),
        objective=objectives.supervised(Plain(), {name: {} for name in LOSSES}),
        optimizer=optax.sgd(1e-3),
        accumulate=parts,
    )
    variables = Plain().init(jax.random.key(0), jnp.zeros((1, 16, 24, 3)), train=False)
    now = initial_state(
        variables,
        optimizer=made["optimizer"],
        rebalancer=made["rebalancer"],
        loss_weights=rebalance.equal_weights(LOSSES),
        key=jax.random.key(1),
    )
    step, rows = jax.jit(partial(train_step, **made)), []
    for batch in toy.batches(4, size=8):
        if not masked:
            batch["depth"] = np.maximum(batch["depth"], 1.0)
        now, metrics = step(now, batch)
        rows.append(metrics)
    return jax.device_get((now, rows))


def assert_close(got, want, atol):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=atol), got, want)


def test_a_rule_by_gradients_reads_those_of_the_whole_batch():
    """In one pass and in parts: norms equalised at every second step."""
    rule = rebalance.every_k_steps(rebalance.gradient_balance(0.0, guard=0.0), 2)
    (one, rows), (some, _) = (plain_run(parts=parts, rule=rule) for parts in (1, 2))
    assert_close(some.params, one.params, 1e-6)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-4),
        some.loss_weights,
        one.loss_weights,
    )
    path = [row["weights"]["l1"] for row in rows]
    assert path[0] == 0.5 and path[1] == path[2] and path[1] not in (0.5, path[3])


def test_a_rule_by_gradients_takes_the_step_of_its_weights():
    made = toy.pieces(rule=rebalance.gradient_balance(0.0), optimizer=optax.sgd(1e-3))
    state, (batch,) = toy.initial(made), toy.batches(1)
    step = jax.jit(partial(train_step, **made))
    new, metrics = step(state, batch)
    weights = {name: float(weight) for name, weight in metrics["weights"].items()}
    made |= {"rebalancer": rebalance.fixed(weights)}
    start = state._replace(rebalance_state=optax.EmptyState())
    fixed, _ = jax.jit(partial(train_step, **made))(start, batch)
    assert_close(new.params, fixed.params, 1e-6)
    key = jax.random.fold_in(state.key, 0)
    found = rebalance.per_loss_gradients(
        lambda p: made["objective"](p, state.batch_stats, batch, key, weights)[0],
        state.params,
    )
    norms = {name: weights[name] * float(found.norms[name]) for name in weights}
    np.testing.assert_allclose(norms["silog"], norms["gradient"], rtol=1e-3)


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_are_the_whole_where_means_are_equal(parts):
    (one, rows), (some, part_rows) = plain_run(parts=1), plain_run(parts=parts)
    assert_close(some.params, one.params, 1e-6)
    assert_close(some.loss_weights, one.loss_weights, 1e-6)
    for got, want in zip(part_rows, rows, strict=True):
        for name in ("losses", "weights", "total", "grad_norm"):
            assert_close(got[name], want[name], 1e-5)


def test_parts_of_differing_masks_count_the_same():
    """The documented difference: the mean of the parts' means over valid pixels."""
    (_, rows), (_, part_rows) = (plain_run(parts=n, masked=True) for n in (1, 4))
    assert abs(rows[0]["losses"]["l1"] - part_rows[0]["losses"]["l1"]) > 1e-2


def test_parts_by_hand():
    """Keys, statistics from part to part, and weights from this step's means."""
    made = toy.pieces(optimizer=optax.sgd(1e-2), accumulate=2)
    shares = {"silog": 0.9, "gradient": 0.1}
    made["rebalancer"] = rule = rebalance.log_amlr(1e-1, shares=shares)
    before, batches = toy.initial(made), toy.batches(2, size=8)
    before, _ = train_step(before, batches[0], **made)  # the first leaves 1/n
    after, metrics = train_step(before, batches[1], **made)

    key = jax.random.fold_in(before.key, 1)

    def means(params):
        stats, found = before.batch_stats, []
        for part in range(2):
            of_part = {name: x[part::2] for name, x in batches[1].items()}
            part_key = jax.random.fold_in(key, part)
            losses, stats = made["objective"](params, stats, of_part, part_key)
            found.append(losses)
        return jax.tree.map(lambda a, b: (a + b) / 2, *found), stats

    losses, stats = means(before.params)
    weights, _ = rule.update(before.loss_weights, before.rebalance_state, losses=losses)
    assert abs(weights["silog"] - before.loss_weights["silog"]) > 0.1

    def total(params):
        return rebalance.weighted_total(means(params)[0], weights)

    gradient = jax.grad(total)(before.params)
    params = jax.tree.map(lambda p, g: p - 1e-2 * g, before.params, gradient)
    assert_close(metrics["losses"], losses, 1e-5)
    assert_close(after.batch_stats, stats, 1e-5)
    assert_close(after.loss_weights, weights, 1e-5)
    assert_close(after.params, params, 1e-6)


def test_one_part_has_no_second_pass():
    made = toy.pieces()
    jaxpr = jax.make_jaxpr(partial(train_step, **made))
    batch = toy.batches(1)[0]
    assert "scan" not in str(jaxpr(toy.initial(made), batch))
    two = jax.make_jaxpr(partial(train_step, **made, accumulate=2))
    assert "scan" in str(two(toy.initial(made), batch))


DEVICES = """
import json, jax
from jax.sharding import Mesh
from amlr_jax.runtime import mesh as parallel
from tests.train import sharded, toy

made = toy.pieces(accumulate=2)
four = parallel.make_mesh()
one = Mesh(four.devices[:1], four.axis_names)
differences = [sharded.difference(*pair) for pair in zip(
    sharded.parameters(made, one, steps=10), sharded.parameters(made, four, steps=10))]
print(json.dumps([max(differences), sharded.moved(made, four)]))
"""


@pytest.mark.slow
def test_four_devices_take_the_parts_of_one():
    """And no image moves between them: the ids of the samples are all that does."""
    difference, moved = json.loads(devices.run(DEVICES, devices=4))
    assert difference < 1e-5
    assert moved == [["all-gather", "s32", [8]]]
