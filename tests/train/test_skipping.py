"""A step with anything not finite changes nothing but its own count."""

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

BAD = ("image", "loss", "gradient", "statistic")
MARKS = BAD[1:]
KEPT = ("params", "batch_stats", "opt_state", "loss_weights", "rebalance_state", "key")
RATE = optax.linear_schedule(1e-2, 0.0, 10)


def pieces(**options) -> dict:
    """The toy with marks in the batch that spoil a loss, gradient or statistic."""
    made = toy.pieces(
        rule=rebalance.every_k_steps(rebalance.log_amlr(1e-1), 2),
        optimizer=optax.adam(RATE),
        schedule=RATE,
    )
    objective = made["objective"]

    def marked(params, batch_stats, batch, key, loss_weights):
        losses, new = objective(params, batch_stats, batch, key, loss_weights)
        nothing = sum(jnp.sum(0 * p) for p in jax.tree.leaves(params))
        # 0, but where the gradient is marked it is 0 times that of the root at 0.
        one = jnp.where(batch["gradient"].any(), 0.0, 1.0)
        root = jnp.sqrt(one + nothing) - one
        endless = jnp.where(batch["loss"].any(), jnp.inf, 0.0)
        spoilt = jnp.where(batch["statistic"].any(), jnp.nan, 0.0)
        new = jax.tree.map(lambda x: x.at[..., 0].add(spoilt), new)
        return losses | {"silog": losses["silog"] + root + endless}, new

    return made | {"objective": marked} | options


def batch_with(what: str = "", *, number: int = 0) -> dict[str, np.ndarray]:
    """A batch in which the third sample, at index 12, is spoilt."""
    batch = toy.batches(number + 1)[number]
    batch["image"] = batch["image"].astype(np.float32)
    batch["index"] = np.arange(10, 14, dtype=np.int32)
    batch |= {name: np.zeros(4, bool) for name in MARKS}
    if what in MARKS:
        batch[what][2] = True
    elif what == "image":
        batch["image"][2, 3, 4, 1] = np.nan
    elif what == "no depth":
        batch["depth"][:] = 0.0
    elif what == "black":
        batch["image"][:] = 0.0
    return batch


def steps(*kinds, **options):
    """Host copies of the state before and after each step, and the metrics."""
    made, mesh = pieces(**options), parallel.make_mesh()
    step = compile_step(mesh, **made)
    state = jax.device_put(toy.initial(made), parallel.replicated(mesh))
    states, rows = [host(state)], []
    for number, kind in enumerate(kinds):
        batch = batch_with(kind, number=number)
        state, metrics = step(state, parallel.put_local(batch, mesh))
        states.append(host(state))
        rows.append(jax.device_get(metrics))
    return states, rows


def host(state):
    return jax.device_get(state._replace(key=jax.random.key_data(state.key)))


def differing(before, after) -> list[str]:
    """The parts of the state of which some bit differs."""
    return [
        name
        for name in KEPT
        if [x.tobytes() for x in jax.tree.leaves(getattr(before, name))]
        != [x.tobytes() for x in jax.tree.leaves(getattr(after, name))]
    ]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_each_cause_skips_the_step_and_leaves_every_bit(accumulate):
    states, rows = steps("", *BAD, "", accumulate=accumulate)
    for kind, before, after in zip(BAD, states[1:], states[2:], strict=False):
        assert not differing(before, after), kind
    assert [int(s.step) for s in states] == list(range(7))
    assert [int(s.skipped.total) for s in states] == [0, 0, 1, 2, 3, 4, 4]
    assert [int(s.skipped.in_a_row) for s in states] == [0, 0, 1, 2, 3, 4, 0]
    assert [int(r["skipped"]) for r in rows] == [0, 1, 2, 3, 4, 4]
    assert [int(r["skipped_in_a_row"]) for r in rows] == [0, 1, 2, 3, 4, 0]
    assert "params" in differing(states[5], states[6])
    assert "opt_state" in differing(states[5], states[6])
    for row in rows:
        assert row["samples"].tolist() == [10, 11, 12, 13]


def test_the_causes_are_what_they_say():
    """A bad gradient and a bad statistic each come with finite losses."""
    _, (gradient, statistic) = steps("gradient", "statistic")
    for row in (gradient, statistic):
        assert np.isfinite([row["total"], *row["losses"].values()]).all()
    assert not np.isfinite(gradient["grad_norm"])
    assert np.isfinite(statistic["grad_norm"])


def test_nothing_measured_and_black_images_are_no_faults():
    states, rows = steps("no depth", "black")
    assert int(states[-1].skipped.total) == 0
    assert rows[0]["total"] == 0.0 and rows[0]["grad_norm"] == 0.0
    assert "batch_stats" in differing(*states[:2])
    assert "params" in differing(*states[1:])


def test_the_learning_rate_counts_steps_taken():
    """It is the rate that the optimizer used, by its own count."""
    states, rows = steps("", "image", "image", "", "")
    for before, row in zip(states, rows, strict=False):
        count = optax.tree.get_all_with_path(before.opt_state, "count")[0][1]
        assert row["learning_rate"] == pytest.approx(float(RATE(count)), rel=1e-6)
    rates = [float(RATE(k)) for k in (0, 1, 1, 1, 2)]
    assert [float(r["learning_rate"]) for r in rows] == pytest.approx(rates, rel=1e-6)


def test_a_skipped_step_is_as_if_its_batch_had_not_been():
    """But for the random numbers, which the batch's place in the run decides."""
    made = pieces()
    made["objective"] = without_dropout(made["objective"])
    state, step = toy.initial(made), jax.jit(lambda s, b: train_step(s, b, **made)[0])
    good = [batch_with(number=k) for k in range(3)]
    short, long = state, state
    for batch in good:
        short = step(short, batch)
    for batch in (good[0], batch_with("image"), good[1], batch_with("loss"), good[2]):
        long = step(long, batch)
    assert not differing(host(short), host(long))


def without_dropout(objective):
    def same_key(params, batch_stats, batch, key, loss_weights):
        del key
        return objective(params, batch_stats, batch, jax.random.key(0), loss_weights)

    return same_key


def test_jit_equals_no_jit():
    made = pieces()
    state, kinds = toy.initial(made), ("", "image", "gradient", "")
    with jax.disable_jit():
        for number, kind in enumerate(kinds):
            batch = jax.tree.map(jnp.asarray, batch_with(kind, number=number))
            before, (state, metrics) = host(state), train_step(state, batch, **made)
            if kind:
                assert not differing(before, host(state))
    states, rows = steps(*kinds)
    assert jax.tree.map(int, states[-1].skipped) == jax.tree.map(int, state.skipped)
    for name, value in rows[-1]["losses"].items():
        assert float(metrics["losses"][name]) == pytest.approx(float(value), rel=1e-4)


DEVICES = """
import json
from tests.train.test_skipping import BAD, differing, steps
states, rows = steps("", *BAD, "")
kept = [differing(*pair) for pair in zip(states[1:5], states[2:6])]
samples = [row["samples"].tolist() for row in rows]
taken = [int(state.skipped.total) for state in states]
print(json.dumps([kept, samples, taken]))
"""


def test_one_bad_sample_on_one_of_four_devices():
    kept, samples, taken = json.loads(devices.run(DEVICES, devices=4))
    assert kept == [[]] * 4
    assert samples == [[10, 11, 12, 13]] * 6
    assert taken == [0, 0, 1, 2, 3, 4, 4]
