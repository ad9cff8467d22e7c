"""The decoder of the SSIM paper and sub-pixel convolution against PyTorch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.models import layers
from amlr_jax.models.decoders.disparity import FiveLevelDecoder

torch = pytest.importorskip("torch")
from tests.models import torch_monodepth2 as reference  # noqa: E402

SIZE = (64, 96)
SCALES = (1, 2, 3, 4)


def _features(value=None):
    rng = np.random.default_rng(0)
    shapes = [
        (2, SIZE[0] >> level, SIZE[1] >> level, channels)
        for level, channels in enumerate(reference.FEATURES, start=1)
    ]
    arrays = [rng.standard_normal(s) if value is None else np.zeros(s) for s in shapes]
    return [jnp.asarray(x, jnp.float32) for x in arrays]


def _decoder(upsampling):
    return reference.randomize(reference.FiveLevelDecoder(upsampling, SCALES))


def _variables(upsampling):
    return reference.variables(_decoder(upsampling), reference.FIVE_LEVEL)


def _disparities(variables, features, **options):
    net = FiveLevelDecoder(**options)
    return net.apply(variables, features, method="disparities")


def _weights(shape, level):
    return np.random.default_rng(level).standard_normal(shape).astype(np.float32)


def _gradient(jit, **options):
    def loss(params, features):
        maps = _disparities({"params": params}, features, **options)
        terms = [(x * _weights(x.shape, n)).mean() for n, x in enumerate(maps)]
        return sum(terms), maps

    return jit(jax.grad(loss, has_aux=True))


@pytest.mark.parametrize("upsampling", ["nearest", "subpixel_head", "subpixel_levels"])
def test_disparities_and_gradients_are_those_of_torch(jit, upsampling):
    run = _gradient(jit, upsampling=upsampling)
    params = _variables(upsampling)["params"]
    grads, ours = run(params, _features())
    decoder = _decoder(upsampling)
    theirs = decoder([reference.from_nhwc(x) for x in _features()])
    terms = [
        (y * torch.tensor(_weights(y.shape, n))).mean() for n, y in enumerate(theirs)
    ]
    sum(terms).backward()
    assert len(ours) == len(theirs) == len(SCALES)
    for level, x, y in zip(SCALES, ours, theirs, strict=True):
        shift = 0 if upsampling == "subpixel_head" else level
        assert x.shape == (2, SIZE[0] >> shift, SIZE[1] >> shift)
        assert y.std() > 0.05
        np.testing.assert_allclose(x, y.detach(), atol=1e-5)
    expected = reference.gradients(decoder, reference.FIVE_LEVEL)
    jax.tree.map(_assert_close, grads, expected)
    black = run(params, _features(0))
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(black))


def _assert_close(grad, expected):
    np.testing.assert_allclose(grad, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("upsampling", ["nearest", "subpixel_head"])
def test_depth_has_the_size_that_is_asked_for(jit, upsampling):
    net = FiveLevelDecoder(upsampling=upsampling)
    variables = _variables(upsampling)

    def run(features):
        depth = net.apply(variables, features, size=SIZE, train=True)
        return depth, net.apply(variables, features, method="disparities")[0]

    depth, finest = jit(run)(_features())
    resized = torch.nn.functional.interpolate(
        torch.tensor(np.array(finest))[:, None], SIZE, mode="bilinear"
    )[:, 0]
    assert depth.shape == (2, *SIZE)
    np.testing.assert_allclose(1 / depth, 0.01 + 9.99 * resized, rtol=1e-4)


@pytest.mark.parametrize("upsampling", ["nearest", "subpixel_head", "subpixel_levels"])
def test_parameters_are_two_3x3_and_one_1x1_a_level(upsampling):
    net = FiveLevelDecoder(upsampling=upsampling)
    init = functools.partial(net.init, size=SIZE, train=False)
    params = jax.eval_shape(init, jax.random.key(0), _features())["params"]
    expected = _variables(upsampling)["params"]
    shapes = functools.partial(jax.tree.map, jnp.shape)
    assert shapes(params) == shapes(expected)
    kernels = [params[name]["kernel"].shape[:2] for name in params]
    assert kernels.count((3, 3)) == 10
    extra = 4 if upsampling == "subpixel_levels" else 0
    assert kernels.count((1, 1)) == len(SCALES) + extra


def test_bfloat16_is_close_and_no_jit_is_equal(jit):
    options = {"upsampling": "subpixel_head"}
    variables, features = _variables(**options), _features()
    exact = jit(functools.partial(_disparities, **options))(variables, features)
    half = jit(functools.partial(_disparities, dtype=jnp.bfloat16, **options))
    eager = _disparities(variables, features, **options)
    for x, y, z in zip(exact, half(variables, features), eager, strict=True):
        np.testing.assert_allclose(z, x, atol=1e-5)
        assert y.dtype == jnp.float32
        assert 0 < float(jnp.abs(x - y).mean()) < 0.01


@pytest.mark.parametrize(("factor", "channels"), [(1, 3), (2, 3), (4, 1), (8, 2)])
def test_pixel_shuffle_is_torchs(factor, channels):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 5, channels * factor**2)).astype(np.float32)
    expected = torch.nn.PixelShuffle(factor)(reference.from_nhwc(x))
    ours = layers.pixel_shuffle(jnp.asarray(x), factor)
    np.testing.assert_array_equal(ours, reference.to_nhwc(expected))


def test_what_does_not_fit_is_refused():
    variables, features = _variables("nearest"), _features()
    with pytest.raises(ValueError, match="subpixel_levels, got 'bilinear'"):
        _disparities(variables, features, upsampling="bilinear")


@pytest.mark.parametrize("upsampling", ["nearest", "subpixel_head"])
def test_planes_are_an_expectation_of_inverse_depth(upsampling):
    planes, factor = 5, 4 if upsampling == "subpixel_head" else 1
    options = {"upsampling": upsampling, "planes": planes}
    features = _features()
    init = functools.partial(FiveLevelDecoder(**options).init, method="disparities")
    shapes = jax.eval_shape(init, jax.random.key(0), features)
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    # All but the biases of one head are 0: its logits are known.
    bias = np.random.default_rng(1).normal(0, 3, planes * factor).astype(np.float32)
    variables["params"]["head1"]["bias"] = bias
    run = jax.jit(functools.partial(_disparities, **options))
    found = run(variables, features)[0]
    share = np.exp(bias[::factor]) / np.exp(bias[::factor]).sum()
    inverse = share @ (0.01 * 1000.0 ** (np.arange(planes) / planes))
    size = SIZE if factor > 1 else (SIZE[0] // 2, SIZE[1] // 2)
    assert found.shape == (2, *size)
    np.testing.assert_allclose(found[0, 0, 0], (inverse - 0.01) / 9.99, rtol=1e-5)
    depth = FiveLevelDecoder(**options).depth(found[0, 0, 0])
    np.testing.assert_allclose(1 / depth, inverse, rtol=1e-5)
