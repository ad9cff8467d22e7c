"""The mesh, and what a batch may be on it."""

import numpy as np
import pytest

from amlr_jax import parallel
from amlr_jax.errors import InputError
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
from amlr_jax import parallel
mesh = parallel.make_mesh(fsdp=2)
assert dict(mesh.shape) == {"data": 2, "fsdp": 2}
batch = parallel.put_local({"a": np.arange(8)}, mesh)["a"]
shards = [s.data.tolist() for s in batch.addressable_shards]
assert shards == [[0, 1], [2, 3], [4, 5], [6, 7]]
assert parallel.share_of_batch(mesh, 8) == 8
try:
    parallel.share_of_batch(mesh, 6)
except ValueError as error:
    print(error)
"""


def test_four_devices():
    printed = devices.run(FOUR, devices=4)
    assert "batch_size must be a multiple of the 4 devices, got 6" in printed
