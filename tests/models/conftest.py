"""Cheap compilation and cheap parameters; compiling is what these tests cost."""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

_FAST_COMPILE = {"xla_backend_optimization_level": 0}


@pytest.fixture(scope="session")
def jit():
    """`jax.jit` without LLVM's optimisations: half the time, the same semantics."""
    return functools.partial(jax.jit, compiler_options=_FAST_COMPILE)


@pytest.fixture(scope="session")
def random_variables():
    """Variables of a network with random values, none of them at a neutral value."""

    def fill(path, leaf):
        rng = np.random.default_rng(zlib.crc32(jax.tree_util.keystr(path).encode()))
        noise = rng.standard_normal(leaf.shape)
        name = path[-1].key
        if name == "kernel":
            noise /= np.sqrt(np.prod(leaf.shape[:-1]))
        elif name in ("scale", "var", "logit_scale"):
            noise = 1 + 0.2 * noise.clip(-2, 2)
        else:
            noise *= 0.2
        return jnp.asarray(noise, leaf.dtype)

    def make(net):
        image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
        init = functools.partial(net.init, train=False)
        shapes = jax.eval_shape(init, jax.random.key(0), image)
        return jax.tree_util.tree_map_with_path(fill, shapes)

    return make
