"""A device and NumPy agree on every dtype, and any change is seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.checkpoints import fingerprint

DTYPES = ["float32", "bfloat16", "float16", "int32", "uint32", "int8", "uint8", "bool"]


def of_device(x) -> int:
    x = x if isinstance(x, jax.Array) else jnp.asarray(x)
    value = int(fingerprint.on_device(x))
    assert fingerprint.of_tree({"x": x}) == {"x": value}
    return value


def written_out(words) -> int:
    """The equation in Python's integers."""
    total = 0
    for i, word in enumerate(words):
        h = word ^ (i * 0x9E3779B1 % 2**32)
        h = (h ^ (h >> 16)) * 0x85EBCA6B % 2**32
        total += h ^ (h >> 13)
    return total % 2**32


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (7, 5), (2, 3, 4)])
def test_device_equals_numpy_equals_the_equation(dtype, shape):
    values = np.random.default_rng(0).standard_normal(shape) * 50
    x = np.asarray(values).astype(jnp.dtype(dtype))
    size = {1: np.uint8, 2: np.uint16, 4: np.uint32}[x.dtype.itemsize]
    want = written_out(x.reshape(-1).view(size).tolist())
    assert of_device(jnp.asarray(x)) == want
    assert fingerprint.of_array(x) == want


def test_more_words_than_a_chunk():
    x = np.random.default_rng(0).standard_normal((3, fingerprint.CHUNK // 2 + 5))
    x = x.astype(np.float32)
    assert of_device(x) == fingerprint.of_array(x)
    assert fingerprint.of_array(x[:, ::-1]) == fingerprint.of_array(x[:, ::-1].copy())


def test_numpy_stays_as_it_is():
    """JAX would make 32 bits of them; orbax keeps all."""
    x = np.arange(5) + 2**40
    marks = fingerprint.of_tree({"x": x, "y": x.astype(np.int32), "z": x[3]})
    assert marks["x"] == fingerprint.of_array(x) != marks["y"]
    assert marks["z"] == written_out([3, 256])


def test_keys_are_their_words():
    key = jax.random.key(3)
    words = np.asarray(jax.random.key_data(key))
    assert of_device(key) == fingerprint.of_array(words)


def test_every_bit_and_place_counts():
    x = np.arange(64, dtype=np.float32)
    flipped = []
    for bit in range(64 * 32):
        other = x.copy()
        other.view(np.uint32)[bit // 32] ^= np.uint32(1 << bit % 32)
        flipped.append(fingerprint.of_array(other))
    swapped = [np.roll(x, by) for by in range(1, 64)] + [x[::-1], -x]
    values = [*flipped, *map(fingerprint.of_array, swapped)]
    assert fingerprint.of_array(x) not in values
    assert len(set(values)) == len(values)


def test_two_signs_do_not_cancel():
    """As they do in a sum, or in a sum with odd weights."""
    x = np.ones(100, np.float32)
    other = x.copy()
    other[[3, 50]] *= -1
    assert fingerprint.of_array(x) != fingerprint.of_array(other)


def test_names_are_paths():
    tree = {"a": [np.ones(1), None, {"b": np.ones(2)}], "c": ()}
    assert list(fingerprint.named(tree)) == ["a.0", "a.2.b"]
