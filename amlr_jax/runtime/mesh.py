"""The mesh of devices, and how batches and state lie on it.

Axes: `data` splits the batch; `fsdp`, 1 unless asked for, splits it too, and over it
large parameters and their moments are sharded. Losses, batch statistics and loss
weights are computed on global arrays, so they do not depend on the number of devices.

A global batch has the same samples at the same places whatever the number of devices
and processes: process p of n holds the p-th of n stretches of it.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from amlr_jax.runtime.errors import InputError

AXES = ("data", "fsdp")


def make_mesh(*, fsdp: int = 1) -> Mesh:
    """All devices of all processes as (data, fsdp).

    Devices come in the order of processes, and a group of `fsdp` is consecutive: it is
    inside one process where `fsdp` divides the process's devices, else inside
    neighbouring ones, which launchers put on one host. So what moves most, parameters,
    moves over the shortest links.
    """
    devices = sorted(jax.devices(), key=lambda d: (d.process_index, d.id))
    if fsdp < 1 or len(devices) % fsdp:
        raise InputError(
            f"parallel.fsdp must divide the {len(devices)} devices, got {fsdp}"
        )
    # Mesh and not jax.make_mesh: its axes are Auto, which flax.linen needs.
    return Mesh(np.array(devices).reshape(-1, fsdp), AXES)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def over_batch(mesh: Mesh) -> NamedSharding:
    """The leading axis is split over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def state_sharding(mesh: Mesh, shapes: Any, *, min_size: int) -> Any:
    """How a state of such shapes lies on the mesh, as a tree of NamedSharding.

    An array of at least `min_size` numbers is split over the `fsdp` axis along the
    longest of its axes that `fsdp` divides (of equals the last); all others are whole
    on every device. A parameter's moments have its shape, so they lie as it does.

    Args:
      shapes: arrays or `jax.ShapeDtypeStruct`, as of `jax.eval_shape`.
    """
    return jax.tree.map(lambda x: _sharding(mesh, x, min_size), shapes)


def _sharding(mesh: Mesh, array: Any, min_size: int) -> NamedSharding:
    count = mesh.shape["fsdp"]
    fits = [axis for axis, size in enumerate(array.shape) if size and not size % count]
    is_key = jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
    if count == 1 or is_key or math.prod(array.shape) < min_size or not fits:
        return replicated(mesh)
    longest = max(fits, key=lambda axis: (array.shape[axis], axis))
    return NamedSharding(mesh, PartitionSpec(*[None] * longest, "fsdp"))


def whole_inside(tree: Any, shardings: Any) -> Any:
    """Inside a jitted step: split arrays made whole, and their gradients split again.

    Left to itself XLA chooses for each operation whether a split parameter moves or the
    activations do, and moves activations. So a device holds the parameters whole while
    a step runs, but never their moments, nor their gradients once these are summed.
    """
    return jax.tree.map(_whole_inside, tree, shardings)


def _whole_inside(array: jax.Array, sharding: NamedSharding) -> jax.Array:
    if sharding.is_fully_replicated:
        return array

    @jax.custom_vjp
    def gather(x):
        return jax.lax.with_sharding_constraint(x, replicated(sharding.mesh))

    def backward(_, gradient):
        return (jax.lax.with_sharding_constraint(gradient, sharding),)

    gather.defvjp(lambda x: (gather(x), None), backward)
    return gather(array)


def gathered(tree: Any, mesh: Mesh) -> Any:
    """The same arrays whole on every device, as evaluation and export want them."""
    return jax.jit(_same, out_shardings=replicated(mesh))(tree)


def _same(tree: Any) -> Any:
    return tree


def share_of_batch(mesh: Mesh, batch_size: int, *, accumulate: int = 1) -> int:
    """This process's part of a global batch; InputError if it does not divide."""
    parts = mesh.size * accumulate
    if batch_size % parts:
        what = f"the {mesh.size} devices"
        if accumulate > 1:
            what += f" times optimizer.accumulate = {accumulate}, so of {parts}"
        raise InputError(f"batch_size must be a multiple of {what}, got {batch_size}")
    return batch_size // jax.process_count()


def part_of_batch(batch: dict[str, jax.Array], part, *, parts: int) -> dict:
    """The samples at places part, part + parts, part + 2 parts, ... of each array.

    So every device has the same number of them, no sample leaves its device, and which
    samples make a part does not depend on the number of devices.
    """

    def take(x: jax.Array) -> jax.Array:
        rows = x.reshape(-1, parts, *x.shape[1:])
        return jax.lax.dynamic_index_in_dim(rows, part, axis=1, keepdims=False)

    return {name: take(array) for name, array in batch.items()}


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
