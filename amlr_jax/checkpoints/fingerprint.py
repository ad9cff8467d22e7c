"""One number of 32 bits for all bits of an array, the same on a device and in NumPy.

    f = sum over i of mix(w_i xor i c)  modulo 2^32,  c = 2^32 / golden ratio

w_i are the bits of element i as uint32 (an element of 8 bytes is two); `mix` is two
thirds of MurmurHash3's 32-bit finalizer (A. Appleby, public domain), a bijection, so
that any change of one element changes f, and others do but for one in 2^32.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

GOLDEN = 0x9E3779B1
MURMUR = 0x85EBCA6B
WORD = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint32}
CHUNK = 1 << 18  # words at a time in NumPy: they stay in a core's cache


def named(tree: Any) -> dict[str, Any]:
    """The leaves by the names under which orbax stores them: "params.Conv_0.bias"."""
    found = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in found
    }


def shape_and_dtype(leaf: Any) -> tuple[list[int], str]:
    """As JSON keeps them."""
    return list(leaf.shape), str(leaf.dtype)


def of_tree(tree: Any) -> dict[str, int]:
    """Fingerprints of all leaves, computed where they are; waits for them.

    Arrays may be sharded over several processes, all of which then must call this.
    """
    leaves = named(tree)
    values = jax.device_get([_of_leaf(leaf) for leaf in leaves.values()])
    return {name: int(value) for name, value in zip(leaves, values, strict=True)}


def _of_leaf(x: Any) -> jax.Array | int:
    """On its device, or in NumPy where this needs no copy and no compilation."""
    if not isinstance(x, jax.Array):
        return of_array(np.asarray(x))
    if x.is_fully_addressable and all(d.platform == "cpu" for d in x.devices()):
        return of_array(np.asarray(data(x)))
    return on_device(x)


@jax.jit
def on_device(x: jax.Array) -> jax.Array:
    """The fingerprint, uint32 [], one compilation for each shape."""
    x = data(x)
    if x.dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    words = jax.lax.bitcast_convert_type(x, WORD[x.dtype.itemsize]).astype(jnp.uint32)
    index = jnp.zeros(words.shape, jnp.uint32)
    for axis, size in enumerate(words.shape):  # no reshape: it would move shards
        iota = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        index = index * jnp.uint32(size) + iota
    return _mix(words ^ (index * jnp.uint32(GOLDEN))).sum(dtype=jnp.uint32)


def data(x: Any) -> Any:
    """The array itself, or the words of typed PRNG keys."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.key_data(x)
    return x


def _mix(h):
    h = h ^ (h >> 16)
    h = h * h.dtype.type(MURMUR)
    return h ^ (h >> 13)


def of_array(x: np.ndarray) -> int:
    """The same of a NumPy array, PRNG keys being their words."""
    words = np.ascontiguousarray(x).reshape(-1).view(WORD[x.dtype.itemsize])
    total = 0
    for start in range(0, words.size, CHUNK):
        some = words[start : start + CHUNK].astype(np.uint32)
        index = np.arange(start, start + some.size, dtype=np.uint64).astype(np.uint32)
        total += int(_mix(some ^ (index * np.uint32(GOLDEN))).sum(dtype=np.uint64))
    return total % (1 << 32)
