"""Rows of equal blocks as a loop: the same numbers and names as one by one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.models import mix_transformer, repeated, swin_v2


def _swin(**options):
    small = {"embed_dim": 8, "depths": (5,), "num_heads": (2,), "window_size": (4,)}
    small |= {"pretrained_window_size": (2,), "residual_init": 1.0}
    return swin_v2.SwinV2(**{**small, "use_shift": (False,), **options})


def _mit(**options):
    small = {"embed_dims": (8,), "depths": (4,), "num_heads": (2,), "reductions": (2,)}
    return mix_transformer.MixTransformer(**{**small, "drop_path": 0.0, **options})


NETWORKS = {
    "equal blocks": _swin(),
    "pairs, and a rest": _swin(use_shift=(True,)),
    "drop path": _swin(drop_path=0.5),
    "pairs, drop path, remat": _swin(use_shift=(True,), drop_path=0.5, remat=True),
    "bfloat16": _swin(dtype=jnp.bfloat16, drop_path=0.5),
    "MiT": _mit(),
    "MiT, drop path, remat": _mit(drop_path=0.5, remat=True),
}
IMAGE = jnp.asarray(np.random.default_rng(0).random((3, 24, 28, 3), np.float32))


def _least(monkeypatch, repeats):
    monkeypatch.setitem(repeated.LEAST, jax.default_backend(), repeats)


@pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS)
def test_a_loop_gives_the_values_and_gradients_of_single_blocks(
    net, monkeypatch, random_variables, jit
):
    params = random_variables(net)["params"]

    def computed(repeats):
        def loss(params):
            rngs = {"drop_path": jax.random.key(7)}
            last = net.apply({"params": params}, IMAGE, train=True, rngs=rngs)[-1]
            return jnp.sin(last).sum(), last

        _least(monkeypatch, repeats)
        program = str(jax.make_jaxpr(loss)(params))
        return program, jit(jax.grad(loss, has_aux=True))(params)

    program, (expected, exact) = computed(99)
    looped, (gradients, last) = computed(2)
    assert ("scan[" in program, "scan[" in looped) == (False, True)
    assert ("remat" in program, "remat" in looped) == (net.remat, net.remat)
    low = net.dtype == jnp.bfloat16
    np.testing.assert_allclose(last, exact, atol=0.1 if low else 1e-5)
    assert jax.tree.structure(gradients) == jax.tree.structure(expected)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    for a, b in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected), strict=True):
        bound = (0.1 if low else 1e-4) * (np.abs(b).max() + 0.1 * largest)
        np.testing.assert_allclose(a, b, rtol=0, atol=bound)


def test_parameters_keep_the_names_of_single_blocks(monkeypatch):
    shapes = []
    for repeats in (99, 2):
        _least(monkeypatch, repeats)
        init = functools.partial(_swin().init, train=False)
        shapes.append(jax.eval_shape(init, jax.random.key(0), IMAGE))
    assert jax.tree.all(jax.tree.map(lambda a, b: a.shape == b.shape, *shapes))
    assert {f"stage0_block{n}" for n in range(5)} < shapes[0]["params"].keys()


def test_long_rows_are_compiled_once(monkeypatch, random_variables):
    """The program of 12 blocks is as long as that of 6."""
    _least(monkeypatch, 4)

    def length(depth):
        net = _swin(depths=(depth,))
        apply = functools.partial(net.apply, train=False)
        text = jax.jit(apply).lower(random_variables(net), IMAGE).as_text()
        return len([line for line in text.splitlines() if "stack" not in line])

    six, twelve = length(6), length(12)
    _least(monkeypatch, 99)
    assert twelve - six < 0.4 * (length(12) - length(6))


def test_drop_path_takes_whole_samples_and_keeps_the_mean():
    x = jnp.ones((400, 2, 3, 4))
    drop = repeated.Drop(jnp.float32(0.75), jax.random.split(jax.random.key(0)))
    np.testing.assert_array_equal(repeated.drop_path(x, None, 0), x)
    y, other = (np.asarray(repeated.drop_path(x, drop, n)) for n in (0, 1))
    y = y.reshape(400, -1)
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.75], rtol=1e-6)
    assert abs(y.mean() - 1) < 0.1
    assert (y[:, 0] != other[:, 0, 0, 0]).any()


@pytest.mark.parametrize("keep", [0.0, 1.0])
def test_drop_path_at_its_bounds_has_finite_gradients(keep):
    drop = repeated.Drop(jnp.float32(keep), jax.random.split(jax.random.key(0)))
    x = jnp.full((3, 1, 1, 2), 5.0)
    y, gradient = jax.value_and_grad(lambda x: repeated.drop_path(x, drop, 0).sum())(x)
    assert y == keep * 30
    np.testing.assert_array_equal(gradient, np.full(x.shape, keep))
