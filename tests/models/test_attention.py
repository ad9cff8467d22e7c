"""Window attention: its implementations, precision, errors and position bias."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.models import attention
from amlr_jax.models.precision import ATTENTIONS
from amlr_jax.models.swin_v2_blocks import SwinBlock, shift_regions

BATCH, HEADS, CHANNELS = 2, 3, 8


def _arrays(*, dtype=jnp.float32, window=4, keys=None):
    """q, k, v of two images of 2 x 3 windows, a bias and the regions of a shift."""
    rng = np.random.default_rng(0)
    tokens = window**2
    shape = (BATCH, 6, keys or tokens, HEADS, CHANNELS)
    k, v = (jnp.asarray(rng.standard_normal(shape), dtype) for _ in range(2))
    q = jnp.asarray(rng.standard_normal((BATCH, 6, tokens, HEADS, CHANNELS)), dtype)
    bias = 16 * rng.random((HEADS, tokens, keys or tokens))
    labels = shift_regions(2 * window, 3 * window, window=window, shift=window // 2)
    return q, k, v, jnp.asarray(bias, jnp.float32), labels


def _reference(q, k, v, bias, regions, scale=1.0):
    """The equation, with one (T, S) matrix for each window and head."""
    logits = scale * jnp.einsum("bnthd,bnshd->bnhts", q, k)
    if bias is not None:
        logits += bias
    if regions is not None:
        logits -= 100.0 * (regions[:, None, :, None] != regions[:, None, None, :])
    weights = jnp.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return jnp.einsum("bnhts,bnshd->bnthd", weights, v)


@pytest.fixture
def fused(monkeypatch):
    """ "cudnn" without a GPU: XLA computes what the kernel would, in any dtype."""
    kernel = jax.nn.dot_product_attention

    def by_xla(*, implementation, **arguments):
        assert implementation == "cudnn"
        return kernel(**arguments, implementation="xla")

    monkeypatch.setattr(jax.nn, "dot_product_attention", by_xla)
    monkeypatch.setattr(attention, "_check_cudnn", lambda *arrays: None)


CASES = {
    "plain": {},
    "shifted": {"shifted": True},
    "odd windows": {"window": 3},
    "odd windows, shifted": {"window": 3, "shifted": True},
    "no bias": {"biased": False},
    "no bias, shifted": {"biased": False, "shifted": True},
    "fewer keys, scaled": {"biased": False, "keys": 5, "scale": 0.3},
    "scaled, shifted": {"shifted": True, "scale": 0.25},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("implementation", ATTENTIONS)
def test_every_implementation_equals_the_reference(fused, implementation, case):
    """Values, and the gradients to q, k, v and the bias."""
    options = {"scale": 1.0, **case}
    sizes = {key: case[key] for key in ("window", "keys") if key in case}
    *arrays, regions = _arrays(**sizes)
    regions = regions if case.get("shifted") else None
    arrays = arrays if case.get("biased", True) else [*arrays[:3], None]

    def both(function):
        def loss(*arrays):
            y = function(*arrays)
            return jnp.sin(3 * y).sum(), y

        order = tuple(range(len([x for x in arrays if x is not None])))
        return jax.jit(jax.grad(loss, argnums=order, has_aux=True))(*arrays)

    gradients, y = both(
        lambda *arrays: attention.attention(
            *arrays,
            regions=regions,
            scale=options["scale"],
            implementation=implementation,
        )
    )
    expected, exact = both(lambda *a: _reference(*a, regions, options["scale"]))
    np.testing.assert_allclose(y, exact, atol=2e-5)
    for name, a, b in zip("qkvb", gradients, expected, strict=False):
        np.testing.assert_allclose(a, b, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("size", [(8, 12), (7, 10)], ids=["tiles", "padded"])
def test_a_block_is_the_same_with_both(fused, monkeypatch, size, shift):
    """Values and every gradient, that of the logit scale and the bias's MLP too."""
    monkeypatch.setattr(attention, "fitting", lambda way, *sizes: way)
    options = {"window": 4, "pretrained_window": 4, "shift": shift, "drop_path": 0.0}
    options |= {"norm_eps": 1e-6, "residual_init": 1.0, "dtype": jnp.float32}
    options["num_heads"] = HEADS
    blocks = [SwinBlock(**options, attention=way) for way in ATTENTIONS]
    x = jnp.asarray(np.random.default_rng(1).standard_normal((1, *size, 24)), "f")
    params = blocks[0].init(jax.random.key(0), x)

    def gradients(block):
        def loss(params):
            return jnp.sin(block.apply(params, x)).sum()

        return jax.jit(jax.value_and_grad(loss))(params)

    (one, of_one), (other, of_other) = map(gradients, blocks)
    np.testing.assert_allclose(one, other, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(of_one), jax.tree.leaves(of_other), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * (1 + np.abs(a).max()))


def test_arguments_have_the_layout_that_cudnn_takes():
    *arrays, regions = _arrays(dtype=jnp.bfloat16)
    plain = attention.dot_product_arguments(*arrays)
    shifted = attention.dot_product_arguments(*arrays, regions)
    for name in ("query", "key", "value"):
        assert plain[name].shape == (BATCH * 6, 16, HEADS, CHANNELS)
        assert shifted[name].shape == (BATCH * 6, 16, HEADS, CHANNELS + 8)
        assert plain[name].dtype == shifted[name].dtype == jnp.bfloat16
    for arguments in (plain, shifted):  # one bias for all windows
        assert arguments["bias"].shape == (1, HEADS, 16, 16)
        assert arguments["bias"].dtype == jnp.bfloat16
        assert arguments["scale"] == 1.0


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_pairs_of_a_region_gain_exactly_100(dtype):
    *arrays, regions = _arrays(dtype=dtype)
    found = attention.dot_product_arguments(*arrays, regions)
    marks = [np.asarray(found[x], np.float32)[..., CHANNELS:] for x in ("query", "key")]
    gained = np.einsum("nthd,nshd->nhts", *marks).reshape(BATCH, 6, HEADS, 16, 16)
    same = regions[:, :, None] == regions[:, None, :]
    np.testing.assert_array_equal(gained, 100 * same[None, :, None] + 0 * gained)
    assert not found["value"][..., CHANNELS:].any()


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("implementation", ATTENTIONS)
def test_bfloat16_costs_little(fused, implementation, shifted):
    *arrays, regions = _arrays(dtype=jnp.bfloat16)
    regions = regions if shifted else None
    exact = _reference(*(x.astype(jnp.float32) for x in arrays), regions)
    y = attention.attention(*arrays, regions=regions, implementation=implementation)
    error = np.abs(np.asarray(y, np.float32) - exact).mean()
    assert error / np.abs(exact).mean() < 0.01


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
    q = jnp.ones((1, 1, 4, 2, 8), jnp.bfloat16)
    bias = jnp.linspace(0.0, 1e-3, 32).reshape(2, 4, 4)  # lost next to 8 in bfloat16
    program = jax.make_jaxpr(attention.attention)(q, q, q, bias)
    exponentials = [e for e in program.eqns if e.primitive.name == "exp"]
    assert exponentials
    assert all(e.outvars[0].aval.dtype == jnp.float32 for e in exponentials)
    products = [e for e in program.eqns if e.primitive.name == "dot_general"]
    types = [e.outvars[0].aval.dtype for e in products]
    assert types == [jnp.float32, jnp.bfloat16]


@pytest.mark.parametrize(
    ("tokens", "channels", "expected"),
    [
        (484, 32, "cudnn"),
        (64, 16, "cudnn"),
        (121, 32, "xla"),  # odd windows
        (64, 12, "xla"),  # not a multiple of 8
        (64, 128, "xla"),  # no room for the regions
    ],
)
def test_windows_that_the_kernel_does_not_take_go_to_xla(tokens, channels, expected):
    assert attention.fitting("cudnn", tokens, channels) == expected
    assert attention.fitting("xla", tokens, channels) == "xla"


def test_odd_windows_go_to_xla():
    """Of 11 x 11 tokens, as the last stage of the references has."""
    x = jnp.ones((1, 2, 9, 6))
    layers = [
        attention.WindowAttention(2, 3, 3, implementation=name) for name in ATTENTIONS
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
