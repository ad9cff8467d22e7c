"""The mesh of devices, and how batches and state lie on it.

Axes: `data` splits the batch; `fsdp`, 1 unless asked for, splits it too and is where
parameters can be sharded. Losses, batch statistics and loss weights are computed on
global arrays, so they do not depend on the number of devices.
"""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from amlr_jax.errors import InputError

AXES = ("data", "fsdp")


def make_mesh(*, fsdp: int = 1) -> Mesh:
    """All devices of all processes as (data, fsdp)."""
    devices = np.array(jax.devices())
    if fsdp < 1 or devices.size % fsdp:
        raise InputError(
            f"parallel.fsdp must divide the {devices.size} devices, got {fsdp}"
        )
    # Mesh and not jax.make_mesh: its axes are Auto, which flax.linen needs.
    return Mesh(devices.reshape(-1, fsdp), AXES)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def over_batch(mesh: Mesh) -> NamedSharding:
    """The leading axis is split over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def share_of_batch(mesh: Mesh, batch_size: int) -> int:
    """This process's part of a global batch; InputError if it does not divide."""
    if batch_size % mesh.size:
        raise InputError(
            f"batch_size must be a multiple of the {mesh.size} devices, "
            f"got {batch_size}"
        )
    return batch_size // jax.process_count()


def put_local(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """A global batch from each process's own part of it."""
    sharding = over_batch(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }


def put_global(array: np.ndarray, mesh: Mesh) -> jax.Array:
    """A global array of which each process holds the whole."""
    sharding = over_batch(mesh)
    return jax.make_array_from_callback(array.shape, sharding, lambda i: array[i])
