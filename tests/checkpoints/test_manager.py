"""A checkpoint holds every bit of the state, and fits or says that it does not."""

from contextlib import closing

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from amlr_jax import rebalance
from amlr_jax.checkpoints import files as steps
from amlr_jax.checkpoints import verification
from amlr_jax.checkpoints.manager import Checkpoints
from amlr_jax.runtime import mesh as parallel
from amlr_jax.runtime.errors import InputError
from amlr_jax.train.step import compile_step
from tests.train import toy
from tests.train.test_loop import assert_same_state
from tests.train.test_step import run


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
    name = "params.BatchNorm_0.bias"
    message = f"checkpoint 6 in .* does not fit.*: {name} is float32.8., here float32.9"
    with pytest.raises(InputError, match=message):
        restored(tmp_path, state._replace(params=larger), 6)


def test_another_set_of_losses_does_not_fit(state, tmp_path):
    saved(tmp_path, state, 6)
    other = state._replace(loss_weights=rebalance.equal_weights(["silog", "ssim"]))
    message = "does not fit.*: it has loss_weights.gradient, which this config has not"
    with pytest.raises(InputError, match=message):
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


def test_the_newest_and_its_record(state, tmp_path):
    config = {"seed": 3, "crop": (1, 2)}
    with closing(Checkpoints(tmp_path, keep=2, config=config)) as checkpoints:
        assert checkpoints.restore_newest(state, whole()) is None
        checkpoints.save(state, step=4)
        checkpoints.save(state, step=6, batches=9, metrics={"abs_rel": 0.25})
        got, record = checkpoints.restore_newest(jax.eval_shape(lambda: state), whole())
    assert_same_state(got, state)
    assert (record["step"], record["batches"]) == (6, 9)
    assert record["config"] == steps.config_of(tmp_path) == {"seed": 3, "crop": [1, 2]}
    assert record["metrics"] == {"abs_rel": 0.25}
    assert all(len(leaf) == 3 for leaf in record["leaves"].values())


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
    assert [steps.step_of(path) for path in steps.steps(tmp_path)] == [2, 4]
    assert verification.damage(tmp_path / "00000002") == ""


def test_one_of_an_earlier_version(state, tmp_path):
    """It has no fingerprints and no checksums."""
    step = tmp_path / "00000006"
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        items = {"state": ocp.args.StandardSave(state)}
        items["data"] = ocp.args.JsonSave({"batches": 6})
        checkpointer.save(step, args=ocp.args.Composite(**items))
    assert steps.config_of(tmp_path) is None
    with closing(Checkpoints(tmp_path, keep=1)) as checkpoints:
        got, record = checkpoints.restore_newest(state, whole())
        assert_same_state(got, state)
        assert record == {"batches": 6}
        other = state._replace(loss_weights={})
        with pytest.raises(InputError, match="checkpoint 6 in .* does not fit"):
            checkpoints.restore_newest(other, whole())
        checkpoints.save(state, step=7)
    assert [steps.step_of(path) for path in steps.steps(tmp_path)] == [7]
