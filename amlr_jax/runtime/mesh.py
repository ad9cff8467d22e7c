"""The mesh of devices, and the sharding of batches and state over it.

Both axes, `data` and `fsdp` (size 1 by default), split the batch. Large parameters and
their moments are also sharded over `fsdp`. Losses, batch statistics and loss weights
are computed on global arrays, so they do not depend on the number of devices.

A global batch has the same samples in the same order for any number of devices and
processes: rank p of n holds the p-th of n consecutive parts.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from amlr_jax.runtime.errors import InputError

AXES = ("data", "fsdp")


def make_mesh(*, fsdp: int = 1) -> Mesh:
    """All devices of all processes as (data, fsdp).

    Devices are sorted by process, and a group of `fsdp` devices is consecutive, so
    parameters are gathered within a process, or within neighbouring ones on one host.
    """
    devices = sorted(jax.devices(), key=lambda d: (d.process_index, d.id))
    if fsdp < 1 or len(devices) % fsdp:
        raise InputError(
            f"parallel.fsdp must divide the {len(devices)} devices, got {fsdp}"
        )
    # Mesh and not jax.make_mesh: its axes are Auto, which flax.linen needs.
    return Mesh(np.array(devices).reshape(-1, fsdp), AXES)


def replicated(mesh: Mesh) -> NamedSharding:
    """Each device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def over_batch(mesh: Mesh) -> NamedSharding:
    """The leading axis is split over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def state_sharding(mesh: Mesh, shapes: Any, *, min_size: int) -> Any:
    """The sharding of each array of a state, as a tree of NamedSharding.

    An array of at least `min_size` numbers is split over the `fsdp` axis along its
    longest axis that `fsdp` divides (the last of equals); others are replicated.
    The moments of a parameter have its shape and so its sharding.

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


def made_on_host(make: Callable[[], Any], sharding: Any) -> Any:
    """The arrays of `make`, computed on the CPU of the host and put where they belong.

    Random initial values are many small operations: on a GPU they compile for a minute
    and on the host for seconds, and for one device whatever the sharding. Each process
    makes all and keeps its part.
    """
    try:
        host = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS names GPUs alone
        host = None
    with jax.default_device(host):
        made = jax.jit(make)()
    return jax.tree.map(_placed, made, sharding)


def _placed(array: jax.Array, sharding: NamedSharding) -> jax.Array:
    """An array of this process over the mesh; each process has the whole array."""
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        data = jax.random.key_data(array)
        whole = NamedSharding(sharding.mesh, PartitionSpec())
        impl = jax.random.key_impl(array)
        return jax.random.wrap_key_data(_placed(data, whole), impl=impl)
    host = np.asarray(array)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def gather_in_step(tree: Any, shardings: Any) -> Any:
    """Inside a jitted step: gathers sharded arrays, and shards their gradients.

    Without it XLA moves the activations instead of the parameters. A device holds whole
    parameters while a step runs, but neither whole moments nor whole summed gradients.
    """
    return jax.tree.map(_gather_in_step, tree, shardings)


def _gather_in_step(array: jax.Array, sharding: NamedSharding) -> jax.Array:
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
    """The same arrays, replicated on each device."""
    return jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(tree)


def per_process_batch_size(mesh: Mesh, batch_size: int, *, accumulate: int = 1) -> int:
    """The number of samples of one process; InputError if it is not whole."""
    parts = mesh.size * accumulate
    if batch_size % parts:
        what = f"the {mesh.size} devices"
        if accumulate > 1:
            what += f" times optimizer.accumulate = {accumulate}, so of {parts}"
        raise InputError(f"batch_size must be a multiple of {what}, got {batch_size}")
    return batch_size // jax.process_count()


def part_of_batch(batch: dict[str, jax.Array], part, *, parts: int) -> dict:
    """The samples part, part + parts, part + 2 parts, ... of each array.

    Each device then has the same number of them, no sample leaves its device, and the
    samples of a part do not depend on the number of devices.
    """

    def take(x: jax.Array) -> jax.Array:
        rows = x.reshape(-1, parts, *x.shape[1:])
        return jax.lax.dynamic_index_in_dim(rows, part, axis=1, keepdims=False)

    return {name: take(array) for name, array in batch.items()}


def put_local(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """A global batch from the part of each process."""
    sharding = over_batch(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }


def put_global(array: np.ndarray, mesh: Mesh) -> jax.Array:
    """A global array, split over the batch, from the same array in each process."""
    sharding = over_batch(mesh)
    return jax.make_array_from_callback(array.shape, sharding, lambda i: array[i])
