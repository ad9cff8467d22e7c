"""Parameters and moments split over devices: the same run, in less memory each."""

import json

import pytest

from tests import devices

PROGRAM = """
import json, jax
from jax.sharding import Mesh
from amlr_jax.runtime import mesh as parallel
from tests.train import sharded, toy

made, out = toy.pieces(), {}
meshes = {n: parallel.make_mesh(fsdp=n) for n in (1, 2, 4)}
one = Mesh(meshes[1].devices[:1], parallel.AXES)
alone = sharded.parameters(made, one, steps=50)
for n, mesh in meshes.items():
    state = sharded.trained(made, mesh, steps=50)
    kept = parallel.gathered(sharded.compared(state), mesh)
    leaves = jax.tree.leaves((state.params, state.opt_state))
    out[n] = {
        "difference": max(map(sharded.difference, alone, jax.tree.leaves(kept))),
        "shares": [x.addressable_shards[0].data.size / x.size for x in leaves],
        "sizes": [x.size for x in leaves],
    }
out["moved"] = sharded.moved(made, meshes[4])
out["shapes"] = [list(x.shape) for x in jax.tree.leaves(sharded.compared(state))]
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def found():
    return json.loads(devices.run(PROGRAM, devices=4))


@pytest.mark.slow
@pytest.mark.parametrize("count", ["1", "2", "4"])
def test_fifty_steps_are_those_of_one_device(found, count):
    assert found[count]["difference"] < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("count", ["1", "2", "4"])
def test_each_device_holds_its_share(found, count):
    """Of parameters and both moments, from the size on at which they are split."""
    for share, size in zip(found[count]["shares"], found[count]["sizes"], strict=True):
        assert share == (1 / int(count) if size >= 8 else 1)


def test_parameters_move_and_activations_do_not(found):
    for kind, dtype, shape in found["moved"]:
        assert kind == "all-gather"
        assert shape in found["shapes"] or (dtype, shape) == ("s32", [8])


DENSE = """
import json, jax, jax.numpy as jnp, numpy as np, optax
from amlr_jax import rebalance
from amlr_jax.runtime import mesh as parallel
from amlr_jax.train.step import initial_state
from amlr_jax.train.step import compile_step
from tests.train import sharded

def objective(params, batch_stats, batch, key, loss_weights):
    x = batch["x"]
    for a, b in params["layers"]:
        x = x / jnp.sqrt(1 + jnp.square(x).mean(-1, keepdims=True))
        x = x + jax.nn.silu(x @ a) @ b
    return {"a": jnp.square(x).mean()}, batch_stats

mesh, rule = parallel.make_mesh(fsdp=4), rebalance.fixed({"a": 1.0})
made = {"rebalancer": rule, "optimizer": optax.adam(1e-3)}
layers = [(jnp.ones((64, 256)), jnp.ones((256, 64)))] * 2
names = {"loss_weights": {"a": jnp.ones(())}, "key": jax.random.key(0)}
shapes = jax.eval_shape(
    lambda: initial_state({"params": {"layers": layers}}, **made, **names))
lies = parallel.state_sharding(mesh, shapes, min_size=8)
step = compile_step(mesh, state_sharding=lies, objective=objective,
    schedule=optax.constant_schedule(1e-3), **made)
batch = {"x": jax.ShapeDtypeStruct((8, 6, 64), jnp.float32)}
print(json.dumps(sharded.moves(step.lower(shapes, batch).compile().as_text())))
"""


def test_dense_layers_gather_parameters_alone():
    """Here XLA would rather move activations, were it left to itself."""
    moved = json.loads(devices.run(DENSE, devices=4))
    shapes = {tuple(shape) for _, _, shape in moved}
    assert {kind for kind, _, _ in moved} == {"all-gather"}
    assert shapes == {(64, 256), (256, 64)}
