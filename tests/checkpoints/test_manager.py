"""A checkpoint holds every bit of the state, and fits or says that it does not."""

from contextlib import closing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax import rebalance
from amlr_jax.checkpoints import disk
from amlr_jax.checkpoints.manager import Checkpoints
from amlr_jax.runtime import mesh as parallel
from amlr_jax.runtime.errors import InputError
from amlr_jax.train.step import compile_step
from tests.train import toy
from tests.train.test_step import run


@pytest.fixture(scope="module")
def state():
    rule = rebalance.every_k_steps(rebalance.amlr(1e-3), 4)
    return run(count=6, rule=rule)[0]


def assert_same_state(got, want):
    """Bit for bit, the random key and the rebalancer's state included."""
    got, want = (jax.tree.map(bits, state) for state in (got, want))
    jax.tree.map(np.testing.assert_array_equal, got, want)


def bits(leaf):
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def whole():
    return parallel.replicated(parallel.make_mesh())


def restored(folder, like):
    with closing(Checkpoints(folder, keep=2)) as checkpoints:
        return checkpoints.restore_newest(like, whole())


def saved(folder, state, *steps, keep=2):
    with closing(Checkpoints(folder, keep=keep)) as checkpoints:
        for step in steps:
            checkpoints.save(state, step=step)
    return folder


def test_round_trip_bit_for_bit(state, tmp_path):
    saved(tmp_path, state, 6)
    got, record = restored(tmp_path, state)
    assert record["batches"] == 6
    assert_same_state(got, state)
    assert type(got) is type(state)


def test_keeps_the_latest(state, tmp_path):
    saved(tmp_path, state, 1, 2, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00000002", "00000003"]


def test_saving_a_step_twice_is_saving_it_once(state, tmp_path):
    saved(tmp_path, state, 6, 6)
    assert_same_state(restored(tmp_path, state)[0], state)


def test_another_network_does_not_fit(state, tmp_path):
    saved(tmp_path, state, 6)
    larger = jax.tree.map(
        lambda p: jnp.zeros((*p.shape[:-1], p.shape[-1] + 1)), state.params
    )
    name = "params.BatchNorm_0.bias"
    message = f"checkpoint 6 in .* does not fit.*: {name} was float32.8., now float32.9"
    with pytest.raises(InputError, match=message):
        restored(tmp_path, state._replace(params=larger))


def test_another_set_of_losses_does_not_fit(state, tmp_path):
    saved(tmp_path, state, 6)
    other = state._replace(loss_weights=rebalance.equal_weights(["silog", "ssim"]))
    message = "does not fit.*: loss_weights.gradient was float32.*, now absent"
    with pytest.raises(InputError, match=message):
        restored(tmp_path, other)


def test_restored_state_goes_on(state, tmp_path):
    """The next step from a restored state is the next step, donation included."""
    saved(tmp_path, state, 6)
    rule = rebalance.every_k_steps(rebalance.amlr(1e-3), 4)
    made = toy.pieces(rule=rule)
    mesh = parallel.make_mesh()
    step = compile_step(mesh, **made)
    batch = toy.batches(7)[6]
    got = step(restored(tmp_path, state)[0], parallel.put_local(batch, mesh))[1]
    want = run(count=7, rule=rule)[1][6]
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(got), want)


def test_the_newest_and_its_record(state, tmp_path):
    config = {"seed": 3, "crop": (1, 2)}
    with closing(Checkpoints(tmp_path, keep=2, config=config)) as checkpoints:
        assert checkpoints.restore_newest(state, whole()) is None
        checkpoints.save(state, step=4)
        checkpoints.save(state, step=6, metrics={"abs_rel": 0.25})
        got, record = checkpoints.restore_newest(jax.eval_shape(lambda: state), whole())
    assert_same_state(got, state)
    assert (record["step"], record["batches"]) == (6, 6)
    assert record["config"] == {"seed": 3, "crop": [1, 2]}
    assert record["metrics"] == {"abs_rel": 0.25}
    assert record["leaves"]["step"] == [[], "int32"]


def test_the_best_stays(state, tmp_path):
    """Measured before or after it was saved, in this process or the one before."""
    options = {"keep": 1, "best": 1}
    with closing(Checkpoints(tmp_path, **options)) as checkpoints:
        checkpoints.save(state, step=1, metrics={"abs_rel": 0.3})
        checkpoints.save(state, step=2)
        checkpoints.save(state, step=2, metrics={"abs_rel": 0.1})
    with closing(Checkpoints(tmp_path, **options)) as checkpoints:
        checkpoints.save(state, step=3, metrics={"abs_rel": 0.2})
        checkpoints.save(state, step=4)
    assert [path.name for path in disk.all_of(tmp_path)] == ["00000002", "00000004"]
    assert disk.damage(tmp_path / "00000002") == ""


@pytest.fixture(scope="module")
def written(state, tmp_path_factory):
    """A checkpoint of step 6."""
    return saved(tmp_path_factory.mktemp("written"), state, 6)
