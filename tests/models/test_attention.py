"""Window attention: its implementations, precision, errors and position bias."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.models import attention
from amlr_jax.models.swin_v2_blocks import shift_regions

BATCH, HEADS, WINDOW, CHANNELS = 2, 3, 4, 8


def _arrays(*, dtype=jnp.float32, window=WINDOW):
    """q, k, v of two images of 2 x 3 windows, a bias and the pairs of a shift."""
    rng = np.random.default_rng(0)
    tokens = window**2
    shape = (BATCH, 6, HEADS, tokens, CHANNELS)
    q, k, v = (jnp.asarray(rng.standard_normal(shape), dtype) for _ in range(3))
    bias = jnp.asarray(16 * rng.random((HEADS, tokens, tokens)), jnp.float32)
    labels = shift_regions(2 * window, 3 * window, window=window, shift=2)
    return q, k, v, bias, labels[:, :, None] == labels[:, None, :]


def _exact(q, k, v, bias, allowed):
    """In float64, window by window."""
    q, k, v, bias = (np.asarray(x, np.float64) for x in (q, k, v, bias))
    out = np.empty_like(v)
    for b, n, h in np.ndindex(*q.shape[:3]):
        logits = q[b, n, h] @ k[b, n, h].T + bias[h]
        if allowed is not None:
            logits[~allowed[n]] -= 100
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        out[b, n, h] = weights / weights.sum(-1, keepdims=True) @ v[b, n, h]
    return out


def _fused(q, k, v, bias, allowed):
    """The arguments of the fused kernel, given to XLA's reference of the same."""
    arguments = attention.dot_product_arguments(q, k, v, bias, allowed)
    y = jax.nn.dot_product_attention(**arguments, implementation="xla")
    batch, count, heads, tokens, channels = q.shape
    return y.reshape(batch, count, tokens, heads, channels).swapaxes(2, 3)


@pytest.mark.parametrize("shifted", [False, True])
def test_attention_equals_numpy(shifted):
    *arrays, allowed = _arrays()
    allowed = allowed if shifted else None
    y = attention.attention(*arrays, allowed=allowed)
    np.testing.assert_allclose(y, _exact(*arrays, allowed), atol=1e-5)


@pytest.mark.parametrize("shifted", [False, True])
def test_arguments_of_the_fused_kernel_give_our_values_and_gradients(shifted):
    *arrays, allowed = _arrays()
    allowed = allowed if shifted else None

    def both(function):
        def loss(*arrays):
            y = function(*arrays)
            return jnp.sin(3 * y).sum(), y

        return jax.grad(loss, argnums=(0, 1, 2, 3), has_aux=True)(*arrays)

    def ours(*arrays):
        return attention.attention(*arrays, allowed=allowed)

    gradients, y = both(ours)
    expected, reference = both(lambda *arrays: _fused(*arrays, allowed))
    np.testing.assert_allclose(y, reference, atol=1e-5)
    for name, a, b in zip("qkvb", gradients, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4, err_msg=name)


def test_arguments_have_the_layout_that_cudnn_takes():
    *arrays, allowed = _arrays(dtype=jnp.bfloat16)
    tokens = WINDOW**2
    plain = attention.dot_product_arguments(*arrays)
    shifted = attention.dot_product_arguments(*arrays, allowed)
    for name in ("query", "key", "value"):
        assert plain[name].shape == (BATCH * 6, tokens, HEADS, CHANNELS)
    assert plain["bias"].shape == (1, HEADS, tokens, tokens)
    assert shifted["bias"].shape == (BATCH * 6, HEADS, tokens, tokens)
    assert all(plain[x].dtype == jnp.bfloat16 for x in ("query", "value", "bias"))
    assert shifted["bias"].dtype == jnp.bfloat16
    assert plain["scale"] == 1.0


def test_rounding_the_bias_costs_little():
    *arrays, allowed = _arrays(dtype=jnp.bfloat16)
    exact = _exact(*arrays, allowed)
    fused = np.asarray(_fused(*arrays, allowed), np.float64)
    assert np.abs(fused - exact).mean() / np.abs(exact).mean() < 0.01


@pytest.mark.parametrize(
    ("dtype", "window", "message"),
    [
        (jnp.float32, 4, '"cudnn" needs bfloat16, got float32'),
        (jnp.bfloat16, 3, "even number of tokens, got 9"),
        (jnp.bfloat16, 4, "needs an NVIDIA GPU, got 'cpu'"),
    ],
)
def test_cudnn_says_what_it_lacks(dtype, window, message):
    if jax.default_backend() != "cpu":
        pytest.skip("what a machine without a GPU says")
    *arrays, _ = _arrays(dtype=dtype, window=window)
    with pytest.raises(ValueError, match=message):
        attention.attention(*arrays, implementation="cudnn")


def test_unknown_implementation_lists_the_known_ones():
    *arrays, _ = _arrays()
    with pytest.raises(ValueError, match="one of xla, cudnn, got 'flash'"):
        attention.attention(*arrays, implementation="flash")


def test_logits_are_float32_under_bfloat16():
    q = jnp.ones((1, 1, 2, 4, 8), jnp.bfloat16)
    bias = jnp.linspace(0.0, 1e-3, 32).reshape(2, 4, 4)  # lost next to 8 in bfloat16
    v = jnp.broadcast_to(jnp.arange(4, dtype=jnp.bfloat16)[:, None], (1, 1, 2, 4, 4))
    program = jax.make_jaxpr(attention.attention)(q, q, v, bias)
    exponentials = [e for e in program.eqns if e.primitive.name == "exp"]
    assert exponentials
    assert all(e.outvars[0].aval.dtype == jnp.float32 for e in exponentials)
    products = [e for e in program.eqns if e.primitive.name == "dot_general"]
    types = [e.outvars[0].aval.dtype for e in products]
    assert types == [jnp.float32, jnp.bfloat16]


def test_odd_windows_go_to_xla():
    """Of 11 x 11 tokens, as the last stage of the references has."""
    x = jnp.ones((1, 2, 9, 6))
    layers = [
        attention.WindowAttention(2, 3, 3, implementation=name)
        for name in ("xla", "cudnn")
    ]
    params = layers[0].init(jax.random.key(0), x)
    results = [layer.apply(params, x) for layer in layers]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    ("window", "pretrained", "largest"),
    [
        (12, 12, 1.05664),
        (22, 12, 1.34146),
        (11, 6, 1.36249),
        (30, 12, 1.48846),
        (15, 6, 1.51615),
    ],
)
def test_relative_coordinates_reach(window, pretrained, largest):
    table = attention.relative_coordinates(window, pretrained)
    assert table.shape == (2 * window - 1, 2 * window - 1, 2)
    assert table.dtype == np.float32
    np.testing.assert_allclose(table.max(), largest, atol=5e-6)
    np.testing.assert_allclose(table.min(), -largest, atol=5e-6)
    np.testing.assert_array_equal(table[window - 1, window - 1], [0, 0])


def test_relative_coordinates_are_rows_first():
    table = attention.relative_coordinates(3, 3)
    np.testing.assert_array_equal(table[0, :, 0], table[0, 0, 0].repeat(5))
    np.testing.assert_array_equal(table[:, 0, 1], table[0, 0, 1].repeat(5))
    # Offset 1 of a window of 3: 1 / 2 * 8 = 4, log2(5) / log2(8).
    np.testing.assert_allclose(table[3, 0, 0], np.log2(5) / 3, rtol=1e-6)


def test_relative_coordinates_need_a_pretrained_window_of_two():
    with pytest.raises(ValueError, match="`pretrained_window` must be at least 2"):
        attention.relative_coordinates(4, 1)


@pytest.mark.parametrize("window", [1, 2, 5])
def test_pairwise_equals_the_index_formula(window):
    length = 2 * window - 1
    table = np.random.default_rng(0).standard_normal((length, length, 3))
    expected = np.empty((3, window**2, window**2))
    for i in range(window**2):
        for j in range(window**2):
            rows = i // window - j // window
            columns = i % window - j % window
            expected[:, i, j] = table[rows + window - 1, columns + window - 1]
    pairs = attention.pairwise(jnp.asarray(table, jnp.float32))
    np.testing.assert_allclose(pairs, expected, rtol=1e-6)
