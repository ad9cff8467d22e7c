"""monodepth2's decoder against PyTorch, and what all disparity decoders share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.models.decoders.disparity import SkipDecoder, depth_from_disparity

torch = pytest.importorskip("torch")
from amlr_jax.models.from_torch.tables import TABLES  # noqa: E402
from tests.models import torch_monodepth2 as reference  # noqa: E402

SIZE = (64, 96)
CONVERT = {"table": TABLES["monodepth2"], "prefix": "depth:", "strip": "decoder/"}


def _features(size=SIZE, *, batch=2, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [
        (batch, -(-size[0] // 2**level), -(-size[1] // 2**level), channels)
        for level, channels in enumerate(reference.FEATURES, start=1)
    ]
    return [jnp.asarray(rng.standard_normal(s), jnp.float32) for s in shapes]


@pytest.fixture(scope="module")
def variables():
    return reference.variables(reference.randomize(reference.SkipDecoder()), **CONVERT)


def _disparities(variables, features, **options):
    net = SkipDecoder(**options)
    return net.apply(variables, features, method="disparities")


@pytest.fixture(scope="module")
def run(jit):
    """Disparities, and gradients of a weighted sum of them."""

    def loss(params, features):
        maps = _disparities({"params": params}, features)
        return sum((x * _weights(x.shape)).mean() for x in maps), maps

    return jit(jax.grad(loss, argnums=(0, 1), has_aux=True))


def _weights(shape):
    return np.random.default_rng(shape[1]).standard_normal(shape).astype(np.float32)


def test_disparities_and_gradients_are_those_of_torch(run, variables):
    features = _features()
    (grads, feature_grads), ours = run(variables["params"], features)
    decoder = reference.randomize(reference.SkipDecoder())
    inputs = [reference.from_nhwc(x).requires_grad_() for x in features]
    theirs = decoder(inputs)
    sum((y * torch.tensor(_weights(y.shape))).mean() for y in theirs).backward()
    assert len(ours) == len(theirs) == 4
    for level, (x, y) in enumerate(zip(ours, theirs, strict=True)):
        assert x.shape == (2, SIZE[0] >> level, SIZE[1] >> level)
        assert x.dtype == jnp.float32
        assert y.std() > 0.05
        np.testing.assert_allclose(x, y.detach(), atol=1e-5)
    jax.tree.map(_assert_close, grads, reference.gradients(decoder, **CONVERT))
    for grad, x in zip(feature_grads, inputs, strict=True):
        _assert_close(grad, reference.to_nhwc(x.grad))


def _assert_close(grad, expected):
    np.testing.assert_allclose(grad, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("value", [0.0, 1e4])
def test_gradient_is_finite_for_constant_features(run, variables, value):
    constant = [jnp.full_like(x, value) for x in _features()]
    result = run(variables["params"], constant)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(result))


def test_number_of_parameters(variables):
    init = functools.partial(SkipDecoder().init, size=SIZE, train=False)
    params = jax.eval_shape(init, jax.random.key(0), _features())["params"]
    assert sum(np.prod(x.shape) for x in jax.tree.leaves(params)) == 3_152_724
    shapes = functools.partial(jax.tree.map, jnp.shape)
    assert shapes(params) == shapes(variables["params"])


def test_initial_values_are_torchs(jit):
    init = functools.partial(SkipDecoder().init, size=SIZE, train=False)
    conv = jit(init)(jax.random.key(0), _features())["params"]["level4_conv1"]
    bound = (9 * 512) ** -0.5  # torch's default: uniform in +-1/sqrt(inputs)
    for name in ("kernel", "bias"):
        assert 0.95 * bound < np.abs(conv[name]).max() <= bound, name
        np.testing.assert_allclose(np.std(conv[name]), bound / 3**0.5, rtol=0.1)


@pytest.mark.parametrize("size", [SIZE, (50, 121)])
def test_depth_is_the_inverse_of_the_resized_finest_disparity(jit, variables, size):
    net = SkipDecoder()

    def run(features):
        depth = net.apply(variables, features, size=size, train=True)
        return depth, _disparities(variables, features)[0]

    depth, finest = jit(run)(_features(batch=1))
    resized = torch.nn.functional.interpolate(
        torch.tensor(np.array(finest))[:, None], size, mode="bilinear"
    )[:, 0]
    assert depth.shape == (1, *size)
    assert depth.dtype == jnp.float32
    assert 0.1 <= float(depth.min()) < float(depth.max()) <= 100
    np.testing.assert_allclose(1 / depth, 0.01 + 9.99 * resized, rtol=1e-4)


def test_depth_spans_the_bounds():
    disparity = jnp.array([0.0, 0.5, 1.0])
    depth = depth_from_disparity(disparity)
    np.testing.assert_allclose(depth, [100, 1 / 5.005, 0.1], rtol=1e-5)
    depth = depth_from_disparity(disparity, min_depth=1.0, max_depth=2.0)
    np.testing.assert_allclose(depth, [2, 4 / 3, 1], rtol=1e-5)
    decoder = SkipDecoder(min_depth=1.0, max_depth=2.0)
    np.testing.assert_array_equal(decoder.depth(disparity), depth)


def test_bfloat16_is_close_and_no_jit_is_equal(jit, variables):
    features = _features(batch=1)
    exact = jit(_disparities)(variables, features)
    half = jit(functools.partial(_disparities, dtype=jnp.bfloat16))(variables, features)
    eager = _disparities(variables, features)
    for x, y, z in zip(exact, half, eager, strict=True):
        np.testing.assert_allclose(z, x, atol=1e-5)
        assert y.dtype == jnp.float32
        assert 0 < float(jnp.abs(x - y).mean()) < 0.01
