"""The mesh, and what a batch may be on it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from amlr_jax.runtime import mesh as parallel
from amlr_jax.runtime.errors import InputError
from tests import devices


def test_mesh_of_this_machine():
    mesh = parallel.make_mesh()
    assert mesh.axis_names == ("data", "fsdp")
    assert mesh.shape["fsdp"] == 1


def test_batch_comes_back():
    mesh = parallel.make_mesh()
    array = np.arange(24).reshape(4, 6)
    np.testing.assert_array_equal(parallel.put_local({"a": array}, mesh)["a"], array)
    np.testing.assert_array_equal(parallel.put_global(array, mesh), array)


@pytest.mark.parametrize("fsdp", [0, 1000])
def test_fsdp_must_divide(fsdp):
    with pytest.raises(InputError, match=f"parallel.fsdp must divide.*got {fsdp}"):
        parallel.make_mesh(fsdp=fsdp)


FOUR = """
import numpy as np
from amlr_jax.runtime import mesh as parallel
mesh = parallel.make_mesh(fsdp=2)
assert dict(mesh.shape) == {"data": 2, "fsdp": 2}
batch = parallel.put_local({"a": np.arange(8)}, mesh)["a"]
shards = [s.data.tolist() for s in batch.addressable_shards]
assert shards == [[0, 1], [2, 3], [4, 5], [6, 7]]
assert parallel.per_process_batch_size(mesh, 8) == 8
try:
    parallel.per_process_batch_size(mesh, 6)
except ValueError as error:
    print(error)
"""


def test_four_devices():
    printed = devices.run(FOUR, devices=4)
    assert "batch_size must be a multiple of the 4 devices, got 6" in printed


@pytest.mark.parametrize("accumulate", [3, 4])
def test_parts_must_divide_the_batch(accumulate):
    mesh = parallel.make_mesh()
    assert parallel.per_process_batch_size(mesh, 8 * accumulate, accumulate=accumulate)
    match = f"optimizer.accumulate = {accumulate}, so of .*, got {accumulate + 1}"
    with pytest.raises(InputError, match=match):
        parallel.per_process_batch_size(mesh, accumulate + 1, accumulate=accumulate)


def test_parts_of_a_batch():
    """Every sample is in one part, and a stretch of the batch is in all alike."""
    batch = {"a": np.arange(24).reshape(12, 2), "b": np.arange(12)}
    parts = [parallel.part_of_batch(batch, k, parts=3) for k in range(3)]
    for k, part in enumerate(parts):
        np.testing.assert_array_equal(part["b"], [k, k + 3, k + 6, k + 9])
        np.testing.assert_array_equal(part["a"], batch["a"][k::3])


@pytest.mark.parametrize(
    ("shape", "split"),
    [
        ((6, 64), (None, "fsdp")),  # the longest axis
        ((64, 6), ("fsdp",)),
        ((66, 8), (None, "fsdp")),  # 66 does not divide
        ((3, 3, 16, 16), (None, None, None, "fsdp")),  # of equals the last
        ((7, 33), ()),  # none divides
        ((31,), ()),  # too small
        ((32,), ("fsdp",)),
        ((), ()),
        ((0, 4), ()),
    ],
)
def test_rule_of_size(shape, split):
    mesh = AbstractMesh((2, 4), parallel.AXES)
    array = jax.ShapeDtypeStruct(shape, jnp.float32)
    found = parallel.state_sharding(mesh, {"x": array, "mu": array}, min_size=32)
    assert found["x"].spec == found["mu"].spec == PartitionSpec(*split)


def test_keys_and_unsplit_meshes_stay_whole():
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 64))
    array = jax.ShapeDtypeStruct((64,), jnp.float32)
    for count, what in ((4, keys), (1, array)):
        mesh = AbstractMesh((2, count), parallel.AXES)
        found = parallel.state_sharding(mesh, what, min_size=1)
        assert found.is_fully_replicated
        assert found.spec == PartitionSpec()


ORDER = """
import jax
from amlr_jax.runtime import mesh as parallel
mesh = parallel.make_mesh(fsdp=2)
print([[d.process_index for d in group] for group in mesh.devices])
"""


def test_a_group_of_fsdp_is_inside_a_process():
    for printed in devices.run_processes(ORDER, count=2, devices=2):
        assert printed.splitlines()[-1] == "[[0, 0], [1, 1]]"


SPLIT = """
import numpy as np
from amlr_jax.runtime import mesh as parallel
from amlr_jax.evaluate.predictor import predictor
from tests.train import sharded, toy
mesh = parallel.make_mesh(fsdp=4)
state, _ = sharded.start(toy.pieces(), mesh, min_size=8)
split = {"params": state.params, "batch_stats": state.batch_stats}
predict, image = predictor(toy.Toy(), mesh), np.zeros((1, 8, 8, 3), np.uint8)
try:
    predict(split, image)
except ValueError as error:
    print("split:", str(error)[:40])
print(predict(parallel.gathered(split, mesh), image).shape)
"""


def test_a_split_state_is_gathered_to_predict():
    printed = devices.run(SPLIT, devices=4)
    assert "split: Sharding passed to jit does not match" in printed
    assert "(1, 8, 8)" in printed


def test_a_state_made_on_the_host_is_that_of_the_device():

    def make():
        key = jax.random.key(3)
        return {"key": key, "x": jax.random.normal(key, (8, 3)), "n": jnp.int32(4)}

    mesh = parallel.make_mesh()
    shapes = jax.eval_shape(make)
    sharding = parallel.state_sharding(mesh, shapes, min_size=1)
    expected = jax.jit(make)()
    made = parallel.made_on_host(make, sharding)
    assert jax.tree.map(lambda x: x.sharding, made) == sharding
    assert jax.random.key_data(made["key"]).tolist() == [0, 3]
    np.testing.assert_array_equal(made["x"], expected["x"])
    assert made["n"].dtype == jnp.int32 and made["n"] == 4
