"""Selective fusion: values of PyTorch, sizes, batch statistics, initial values."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.models.decoders import depth
from amlr_jax.models.decoders.depth import SelectiveFusionDecoder
from amlr_jax.models.from_torch.tables import TABLES

torch = pytest.importorskip("torch")
from tests.models import torch_mix_transformer as peer  # noqa: E402

WIDTHS = (8, 12, 16, 20)


def _decoder(**overrides):
    return SelectiveFusionDecoder(channels=8, **overrides)


def _features(size, batch=2):
    rng = np.random.default_rng(0)
    shapes = [
        (batch, *(-(-length // (4 * 2**stage)) for length in size), width)
        for stage, width in enumerate(WIDTHS)
    ]
    return [jnp.asarray(rng.standard_normal(s), jnp.float32) for s in shapes]


@pytest.fixture
def reference():
    return peer.randomize(peer.Head(WIDTHS, 80.0))


def _variables(tensors):
    converted = peer.to_variables(tensors, TABLES["glpdepth"])
    return {collection: tree["decoder"] for collection, tree in converted.items()}


def _apply(jit, *, size, train=False, **overrides):
    net = _decoder(**overrides)
    mutable = ["batch_stats"] if train else False
    return jit(functools.partial(net.apply, size=size, train=train, mutable=mutable))


@pytest.mark.parametrize("size", [(64, 96), (61, 70), (33, 65)])
def test_depth_is_that_of_torch(jit, reference, size):
    features = _features(size)
    with torch.no_grad():
        expected = reference([peer.to_torch(f) for f in features], size)
    depth = _apply(jit, size=size)(_variables(reference.state_dict()), features)
    assert depth.shape == (2, *size)
    assert depth.dtype == jnp.float32
    assert np.std(depth) > 1
    np.testing.assert_allclose(depth, expected, atol=1e-4)


def test_training_normalizes_by_the_batch_and_updates_the_running_statistics(
    jit, reference
):
    size = (61, 70)
    features, variables = _features(size), _variables(reference.state_dict())
    with torch.no_grad():
        expected = reference.train()([peer.to_torch(f) for f in features], size)
    depth, updated = _apply(jit, size=size, train=True)(variables, features)
    np.testing.assert_allclose(depth, expected, atol=1e-4)
    stats = _variables(reference.state_dict())["batch_stats"]
    for path, leaf in jax.tree_util.tree_leaves_with_path(updated["batch_stats"]):
        fusion, norm, kind = (key.key for key in path)
        # torch keeps the unbiased variance, n / (n - 1) larger: n is 2 * 4 * 5.
        tolerance = 0.1 / 39 if kind == "var" else 1e-5
        np.testing.assert_allclose(
            leaf, stats[fusion][norm][kind], rtol=1.5 * tolerance, atol=1e-5
        )


def test_jit_changes_nothing(jit, reference):
    rng = np.random.default_rng(0)
    maps = jnp.asarray(rng.standard_normal((2, 1, 4, 5, 8)), jnp.float32)
    variables = _variables(reference.state_dict())
    given = {collection: tree["fusion1"] for collection, tree in variables.items()}
    run = functools.partial(depth.SelectiveFusion(jnp.float32).apply, given)
    plain = run(*maps, train=False)
    compiled = jit(functools.partial(run, train=False))(*maps)
    np.testing.assert_allclose(compiled, plain, atol=1e-6)


def test_bfloat16_is_close(jit, reference):
    size = (64, 96)
    features, variables = _features(size), _variables(reference.state_dict())
    exact = _apply(jit, size=size)(variables, features)
    depth = _apply(jit, size=size, dtype=jnp.bfloat16)(variables, features)
    assert depth.dtype == jnp.float32
    assert 0 < np.abs(depth - exact).max() < 1.5  # metres of 80


def test_features_of_one_value_are_finite_in_value_and_gradient(jit, reference):
    size = (32, 32)
    features = [jnp.zeros_like(f) for f in _features(size)]

    def total(params, features):
        variables = {**_variables(reference.state_dict()), "params": params}
        depth, _ = _decoder().apply(
            variables, features, size=size, train=True, mutable=["batch_stats"]
        )
        return depth.sum()

    params = _variables(reference.state_dict())["params"]
    run = jit(jax.value_and_grad(total, argnums=(0, 1)))
    leaves = jax.tree.leaves(run(params, features))
    assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_initial_values_are_uniform_as_torchs(jit):
    size = (32, 32)
    init = functools.partial(_decoder().init, size=size, train=False)
    params = jit(init)(jax.random.key(0), _features(size))["params"]
    for conv, fan_in in (
        (params["bottleneck_conv"], 20),
        (params["fusion1"]["conv1"], 9 * 16),
        (params["head_conv"], 9 * 8),
    ):
        bound = fan_in**-0.5
        assert 0.95 * bound < np.abs(conv["kernel"]).max() <= bound
        assert 0.5 * bound < np.abs(conv["bias"]).max() <= bound
