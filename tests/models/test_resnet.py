"""The ResNet-18 encoder against PyTorch: features, gradients, statistics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.models import resnet

torch = pytest.importorskip("torch")
from amlr_jax.models.from_torch.tables import TABLES  # noqa: E402
from tests.models import torch_monodepth2 as reference  # noqa: E402

SIZE = (64, 96)
SMALL = (32, 64)  # float64 is slow
CONVERT = {"table": TABLES["monodepth2"], "prefix": "encoder:", "strip": "encoder/"}


@pytest.fixture(scope="module")
def encoder():
    return reference.randomize(reference.Encoder())


@pytest.fixture(scope="module")
def variables(encoder):
    return reference.variables(encoder, **CONVERT)


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.random((2, *SIZE, 3), np.float32))


@pytest.fixture(scope="module")
def train(jit, variables):
    """Gradient of a weighted sum of all features, these and new statistics; float64."""

    def loss(params, batch_stats, image):
        features, updated = resnet.ResNet18(dtype=image.dtype).apply(
            {"params": params, "batch_stats": batch_stats},
            image,
            train=True,
            mutable=["batch_stats"],
        )
        total = sum((x * _weights(x.shape)).mean() for x in features)
        return total, (features, updated["batch_stats"])

    compiled = jit(jax.grad(loss, has_aux=True))

    def run(image):
        with jax.enable_x64(True):
            arrays = (variables["params"], variables["batch_stats"], image)
            return compiled(*reference.float64(arrays))

    return run


def _weights(shape):
    return np.random.default_rng(shape[1]).standard_normal(shape).astype(np.float32)


def _encode(net, *, train=False):
    return functools.partial(net.apply, train=train)


@pytest.mark.parametrize("size", [SIZE, (45, 70)])
def test_features_are_those_of_torch(jit, encoder, variables, image, size):
    image = image[:, : size[0], : size[1]]
    ours = jit(_encode(resnet.ResNet18()))(variables, image)
    with torch.no_grad():
        theirs = encoder(reference.from_nhwc(image))
    assert len(ours) == len(theirs) == 5
    for x, y in zip(ours, theirs, strict=True):
        assert 0.1 < y.std() < 10  # a comparison that says something
        np.testing.assert_allclose(x, reference.to_nhwc(y), atol=1e-4)


def test_gradients_and_batch_statistics_are_those_of_torch(variables, image, train):
    image = image[:, : SMALL[0], : SMALL[1]]
    grads, (features, stats) = train(image)
    theirs = reference.randomize(reference.Encoder()).double().train()
    maps = theirs(reference.from_nhwc(reference.float64(image)))
    weights = [reference.from_nhwc(_weights(x.shape)) for x in features]
    sum((x * w).mean() for x, w in zip(maps, weights, strict=True)).backward()
    for x, y in zip(features, maps, strict=True):
        np.testing.assert_allclose(x, reference.to_nhwc(y), atol=1e-5)
    jax.tree.map(_assert_close, grads, reference.gradients(theirs, **CONVERT))
    after = reference.variables(theirs, **CONVERT)["batch_stats"]
    _check_statistics(stats, before=variables["batch_stats"], torch_after=after)


def _assert_close(grad, expected):
    np.testing.assert_allclose(grad, expected, atol=1e-5 * np.abs(expected).max())


def _check_statistics(stats, *, before, torch_after):
    means = [jax.tree.map(np.asarray, _leaves(t, "mean")) for t in (stats, torch_after)]
    for ours, theirs in zip(*means, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    # The variance of n values is divided by n here, by n - 1 in torch.
    batch, height, width = 2, *SMALL
    for path, scale in ((("bn1",), 2), (("layer4_block1", "bn2"), 32)):
        n = batch * (height // scale) * (width // scale)
        ours, old, theirs = (
            functools.reduce(dict.__getitem__, path, tree)["var"]
            for tree in (stats, before, torch_after)
        )
        unbiased = (theirs - 0.9 * old) / 0.1
        expected = 0.9 * old + 0.1 * unbiased * (n - 1) / n
        np.testing.assert_allclose(ours, expected, rtol=1e-4)


def _leaves(tree, name):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [leaf for path, leaf in leaves if path[-1].key == name]


def test_gradient_is_finite_for_a_black_image(train):
    result = train(jnp.zeros((2, *SMALL, 3)))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(result))


@pytest.mark.parametrize(("images", "count"), [(1, 11_176_512), (2, 11_185_920)])
def test_number_of_parameters(images, count):
    shape = jax.ShapeDtypeStruct((1, *SIZE, 3 * images), jnp.float32)
    init = functools.partial(resnet.ResNet18().init, train=False)
    params = jax.eval_shape(init, jax.random.key(0), shape)["params"]
    assert sum(np.prod(x.shape) for x in jax.tree.leaves(params)) == count


def test_initial_kernels_are_he_normal_by_outputs(jit):
    image = jnp.zeros((1, 32, 32, 3))
    init = functools.partial(resnet.BasicBlock(64, 2).init, train=False)
    kernel = jit(init)(jax.random.key(0), image)["params"]["conv1"]["kernel"]
    np.testing.assert_allclose(np.std(kernel), np.sqrt(2 / (9 * 64)), rtol=0.05)


def test_bfloat16_is_close_and_no_jit_is_equal(jit, variables, image):
    image = image[:1, : SMALL[0], : SMALL[1]]
    expected = jit(_encode(resnet.ResNet18()))(variables, image)
    eager = _encode(resnet.ResNet18())(variables, image)
    half = jit(_encode(resnet.ResNet18(dtype=jnp.bfloat16)))(variables, image)
    for x, y, z in zip(expected, eager, half, strict=True):
        np.testing.assert_allclose(y, x, atol=1e-5)
        assert z.dtype == jnp.bfloat16
        error = jnp.abs(z.astype(jnp.float32) - x).mean() / jnp.abs(x).mean()
        assert 0 < error < 0.02
