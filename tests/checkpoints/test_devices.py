"""A checkpoint restores onto another number of devices and another mesh."""

from contextlib import closing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from amlr_jax.checkpoints import disk
from amlr_jax.checkpoints.manager import Checkpoints
from amlr_jax.runtime import mesh as parallel
from tests import devices


def values() -> dict:
    rng = np.random.default_rng(0)
    large = rng.standard_normal((8, 12)).astype(np.float32)
    arrays = {"large": large, "small": large[0, :3], "step": np.int32(7)}
    key = jax.random.split(jax.random.key(5))[0]
    return arrays | {"half": jnp.asarray(large, jnp.bfloat16), "key": key}


def words(x):
    """The bytes of an array, or of the words of a PRNG key."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    return np.asarray(x).tobytes()


def layout(mesh: Mesh) -> dict:
    """Some leaves are sharded over the axis `fsdp`, along either axis of their own."""
    whole = NamedSharding(mesh, PartitionSpec())
    columns = NamedSharding(mesh, PartitionSpec(None, "fsdp"))
    rows = NamedSharding(mesh, PartitionSpec("fsdp"))
    where = dict.fromkeys(("small", "step", "key"), whole)
    return {"large": columns, "half": rows} | where


def go_on(folder: Path, shape: tuple[int, int]) -> None:
    """Restores onto a mesh of so many devices, looks at every bit, and saves anew."""
    count = shape[0] * shape[1]
    mesh = Mesh(np.array(jax.devices()[:count]).reshape(shape), parallel.AXES)
    where, want = layout(mesh), values()
    with closing(Checkpoints(folder, keep=1)) as checkpoints:
        found = disk.all_of(folder)
        last = int(found[-1].name) if found else 0
        if last:
            like = jax.eval_shape(values)
            state, record = checkpoints.restore_newest(like, where)
            assert record["step"] == last
        else:
            state = jax.device_put(want, where)
        for name, leaf in state.items():
            assert leaf.sharding.is_equivalent_to(where[name], leaf.ndim), name
            assert words(leaf) == words(want[name]), name
        assert jax.random.bits(state["key"]) == jax.random.bits(want["key"])
        checkpoints.save(state, step=last + 1)
        checkpoints.wait()
        one = parallel.replicated(mesh)
        again, _ = checkpoints.restore_newest(state, one)
        assert all(leaf.is_fully_replicated for leaf in again.values())


PROGRAM = """
from pathlib import Path
from tests.checkpoints.test_devices import go_on
for shape in ((2, 2), (1, 2), (1, 4), (2, 1)):
    go_on(Path("FOLDER"), shape)
"""


def test_bit_for_bit_onto_other_devices(tmp_path):
    """Saved on 1 device, then on 4, 2, 4 and 2 of another process, and on 1 again."""
    go_on(tmp_path, (1, 1))
    devices.run(PROGRAM.replace("FOLDER", str(tmp_path)), devices=4)
    go_on(tmp_path, (1, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["00000006"]
