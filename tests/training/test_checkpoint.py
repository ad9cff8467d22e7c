"""A checkpoint holds every bit of the state, and fits or says that it does not."""

from contextlib import closing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax import parallel, rebalance
from amlr_jax.errors import InputError
from amlr_jax.training.checkpoint import Checkpoints
from amlr_jax.training.step import compile_step
from tests.training import toy
from tests.training.test_loop import assert_same_state
from tests.training.test_step import run


@pytest.fixture(scope="module")
def state():
    rule = rebalance.every_k_steps(4, rebalance.amlr(1e-3))
    return run(count=6, rule=rule)[0]


def whole():
    return parallel.replicated(parallel.make_mesh())


def restored(folder, like, step):
    with closing(Checkpoints(folder, keep=2)) as checkpoints:
        return checkpoints.restore(like, whole(), step=step)


def saved(folder, state, *steps, keep=2):
    with closing(Checkpoints(folder, keep=keep)) as checkpoints:
        for step in steps:
            checkpoints.save(state, step=step)


def test_round_trip_bit_for_bit(state, tmp_path):
    saved(tmp_path, state, 6)
    got, batches = restored(tmp_path, state, 6)
    assert batches == 6
    assert_same_state(got, state)
    assert type(got) is type(state)


def test_keeps_the_latest(state, tmp_path):
    saved(tmp_path, state, 1, 2, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00000002", "00000003"]
    with closing(Checkpoints(tmp_path, keep=2)) as checkpoints:
        assert checkpoints.latest() == 3


def test_saving_a_step_twice_is_saving_it_once(state, tmp_path):
    saved(tmp_path, state, 6, 6)
    assert_same_state(restored(tmp_path, state, 6)[0], state)


def test_another_network_does_not_fit(state, tmp_path):
    saved(tmp_path, state, 6)
    larger = jax.tree.map(
        lambda p: jnp.zeros((*p.shape[:-1], p.shape[-1] + 1)), state.params
    )
    with pytest.raises(InputError, match="checkpoint 6 in .* does not fit"):
        restored(tmp_path, state._replace(params=larger), 6)


def test_another_set_of_losses_does_not_fit(state, tmp_path):
    saved(tmp_path, state, 6)
    other = state._replace(loss_weights=rebalance.equal_weights(["silog", "ssim"]))
    with pytest.raises(InputError, match="does not fit"):
        restored(tmp_path, other, 6)


def test_restored_state_goes_on(state, tmp_path):
    """The next step from a restored state is the next step, donation included."""
    saved(tmp_path, state, 6)
    rule = rebalance.every_k_steps(4, rebalance.amlr(1e-3))
    made = toy.pieces(rule=rule)
    mesh = parallel.make_mesh()
    step = compile_step(mesh, **made)
    batch = toy.batches(7)[6]
    got = step(restored(tmp_path, state, 6)[0], parallel.put_local(batch, mesh))[1]
    want = run(count=7, rule=rule)[1][6]
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(got), want)
