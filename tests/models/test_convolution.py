"""The convolution and its kernel gradient, against PyTorch and XLA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.models import convolution
from amlr_jax.models.convolution import convolve
from amlr_jax.train.flops import model_flops

# Height, width, channels, features, taps, stride, zeros before and after.
CASES = [
    (5, 7, 32, 32, 3, 1, (1, 1)),
    (5, 7, 32, 32, 3, 1, (0, 0)),  # padded before, by reflection
    (5, 7, 32, 33, 3, 1, (1, 0)),
    (4, 1, 64, 16, 1, 1, (0, 0)),
    (6, 9, 16, 64, 5, 1, (2, 2)),
    (9, 8, 3, 4, 7, 2, (3, 3)),  # of ResNet's stem
    (8, 9, 4, 5, 3, 2, (1, 1)),
    (8, 9, 4, 5, 1, 2, (0, 0)),
    (8, 9, 4, 5, 3, 3, (0, 1)),
    (3, 3, 4, 5, 3, 1, (1, 1)),  # few channels
]


def _arrays(case):
    height, width, channels, features, taps, stride, zeros = case
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, height, width, channels))
    kernel = rng.standard_normal((taps, taps, channels, features))
    kernel /= np.sqrt(taps**2 * channels)
    return np.float32(x), np.float32(kernel), (stride, stride), (zeros, zeros)


def _weight(shape):
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def _by_torch(x, kernel, strides, padding):
    torch = pytest.importorskip("torch")
    xt = torch.from_numpy(np.float64(x)).requires_grad_()
    kt = torch.from_numpy(np.float64(kernel)).requires_grad_()
    padded = torch.nn.functional.pad(xt.permute(0, 3, 1, 2), [*padding[1], *padding[0]])
    y = torch.nn.functional.conv2d(padded, kt.permute(3, 2, 0, 1), stride=strides)
    y = y.permute(0, 2, 3, 1)
    (y * torch.from_numpy(_weight(y.shape))).sum().backward()
    return [a.detach().numpy() for a in (y, xt.grad, kt.grad)]


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_equal_torch(case):
    x, kernel, *options = _arrays(case)

    def both(x, kernel):
        y, pull_back = jax.vjp(lambda x, k: convolve(x, k, *options), x, kernel)
        return y, *pull_back(jnp.asarray(_weight(y.shape)))

    expected = _by_torch(x, kernel, *options)
    for run in (both, jax.jit(both)):
        for ours, theirs in zip(run(x, kernel), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=4e-5)


@pytest.mark.parametrize("of", [(0, 1), 0, 1])
@pytest.mark.parametrize("case", CASES)
def test_the_products_and_xla_need_the_same_model_flops(case, of):
    """Also where one of the gradients is not asked for, like that of an image."""
    x, kernel, *options = _arrays(case)

    def flops(function):
        def total(x, kernel):
            return jnp.sin(function(x, kernel, *options)).sum()

        return model_flops(jax.make_jaxpr(jax.grad(total, of))(x, kernel))

    by_xla = flops(convolution._by_xla)
    assert flops(convolve) == pytest.approx(by_xla, rel=1e-5)


def test_gradients_below_float32_are_summed_in_float32():
    rng = np.random.default_rng(0)
    shape = (1, 64, 64, 32)
    low = [jnp.asarray(rng.random(s), jnp.bfloat16) for s in (shape, (1, 1, 32, 32))]

    def total(kernel, x):
        return convolve(x, kernel, (1, 1), ((0, 0), (0, 0))).astype(jnp.float32).sum()

    gradient = jax.grad(total)(low[1], low[0])
    exact = np.asarray(low[0], np.float64).sum((0, 1, 2))[:, None]
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        np.asarray(gradient[0, 0], np.float64) / exact, 1, atol=4e-3
    )


def test_gradients_of_a_batch_of_cotangents():
    """Rebalancing by gradients maps the backward pass."""
    x, kernel, *options = _arrays(CASES[0])
    y, pull_back = jax.vjp(lambda x, k: convolve(x, k, *options), x, kernel)
    weights = _weight((3, *y.shape))
    mapped = jax.vmap(pull_back)(weights)
    for each, weight in enumerate(weights):
        for found, one in zip(mapped, pull_back(weight), strict=True):
            np.testing.assert_allclose(found[each], one, atol=1e-4)
