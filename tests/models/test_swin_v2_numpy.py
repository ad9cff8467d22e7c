"""The Swin-v2 encoder against a restatement in float64 NumPy, with plain loops.

The restatement is written from the equations, independently of `amlr_jax.models`: it
visits windows and tokens one by one and computes the position bias pair by pair.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.models import swin_v2, swin_v2_blocks

EPS = 1e-6


def linear(x, params):
    return x @ params["kernel"] + params.get("bias", 0.0)


def layer_norm(x, params, eps):
    centred = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    return centred / deviation * params["scale"] + params["bias"]


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def unit(x):
    return x / max(np.sqrt((x**2).sum()), 1e-12)


def position_bias(rows, columns, params, pretrained_window):
    """One vector over heads for an offset (query minus key) in tokens."""
    coordinates = np.array([rows, columns]) / (pretrained_window - 1) * 8
    spaced = np.sign(coordinates) * np.log2(np.abs(coordinates) + 1) / np.log2(8)
    hidden = np.maximum(linear(spaced, params["fc1"]), 0)
    return 16 / (1 + np.exp(-linear(hidden, params["fc2"])))


def region(row, column, height, width, window, shift):
    """Which part of the rolled grid a token of it lies in."""

    def band(position, size):
        return 0 if position < size - window else 1 if position < size - shift else 2

    return band(row, height), band(column, width)


def window_attention(tokens, places, params, *, num_heads, pretrained_window):
    """One window. `tokens` (T, C); `places` lists (row, column, region) per token."""
    count, channels = tokens.shape
    size = channels // num_heads
    qkv = tokens @ params["qkv"]["kernel"]
    q = qkv[:, :channels] + params["q_bias"]
    k = qkv[:, channels : 2 * channels]
    v = qkv[:, 2 * channels :] + params["v_bias"]
    out = np.zeros((count, channels))
    for head in range(num_heads):
        part = slice(head * size, (head + 1) * size)
        scale = np.exp(min(params["logit_scale"][head, 0, 0], np.log(100)))
        for i, (row, column, label) in enumerate(places):
            logits = np.empty(count)
            for j, (row_j, column_j, label_j) in enumerate(places):
                bias = position_bias(
                    row - row_j, column - column_j, params["rpe_mlp"], pretrained_window
                )
                logits[j] = scale * unit(q[i, part]) @ unit(k[j, part]) + bias[head]
                logits[j] += 0 if label == label_j else -100
            weights = np.exp(logits - logits.max())
            out[i, part] = weights / weights.sum() @ v[:, part]
    return linear(out, params["proj"])


def attend(x, params, *, window, shift, **options):
    """One image (H, W, C): pad, shift, windows, undo."""
    height, width, channels = x.shape
    tall, wide = (math.ceil(n / window) * window for n in (height, width))
    padded = np.zeros((tall, wide, channels))
    padded[:height, :width] = x
    out = np.zeros_like(padded)
    for top in range(0, tall, window):
        for left in range(0, wide, window):
            spots = [(top + r, left + c) for r in range(window) for c in range(window)]
            sources = [((r + shift) % tall, (c + shift) % wide) for r, c in spots]
            places = [
                (r, c, region(r, c, tall, wide, window, shift) if shift else 0)
                for r, c in spots
            ]
            tokens = np.stack([padded[s] for s in sources])
            result = window_attention(tokens, places, params, **options)
            for source, value in zip(sources, result, strict=True):
                out[source] = value
    return out[:height, :width]


def block(x, params, *, norm_eps, **options):
    """One post-norm block on one image (H, W, C)."""
    x = x + layer_norm(attend(x, params["attn"], **options), params["norm1"], norm_eps)
    hidden = gelu(linear(x, params["mlp"]["fc1"]))
    return x + layer_norm(
        linear(hidden, params["mlp"]["fc2"]), params["norm2"], norm_eps
    )


def merge(x, params, eps):
    """Patch merging of one image (H, W, C), odd sizes padded."""
    height, width, channels = x.shape
    rows, columns = math.ceil(height / 2), math.ceil(width / 2)
    padded = np.zeros((2 * rows, 2 * columns, channels))
    padded[:height, :width] = x
    corners = [padded[a::2, b::2] for a, b in ((0, 0), (1, 0), (0, 1), (1, 1))]
    return layer_norm(
        linear(np.concatenate(corners, -1), params["reduction"]), params["norm"], eps
    )


def embed(image, params, eps, patch):
    """Patch embedding of one image (H, W, 3)."""
    height, width, _ = image.shape
    rows, columns = math.ceil(height / patch), math.ceil(width / patch)
    padded = np.zeros((rows * patch, columns * patch, 3))
    padded[:height, :width] = image
    kernel = params["proj"]["kernel"]
    x = np.empty((rows, columns, kernel.shape[-1]))
    for i in range(rows):
        for j in range(columns):
            tile = padded[i * patch : (i + 1) * patch, j * patch : (j + 1) * patch]
            x[i, j] = (tile[..., None] * kernel).sum((0, 1, 2))
    return layer_norm(x + params["proj"]["bias"], params["norm"], eps)


def _scatter_parameters(params, seed=0):
    """Random values everywhere, so that no bias or scale stays at a neutral value."""
    rng = np.random.default_rng(seed)

    def shake(p):
        return p + 0.3 * rng.standard_normal(p.shape).astype(np.float32)

    return jax.tree.map(shake, params)


def _float64(params):
    return jax.tree.map(lambda p: np.asarray(p, np.float64), params)


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 8), (5, 7), (3, 3)])
def test_block_equals_numpy(height, width, shift, jit):
    options = {"window": 4, "shift": shift, "num_heads": 2, "pretrained_window": 3}
    net = swin_v2_blocks.SwinBlock(
        **options,
        drop_path=0.0,
        norm_eps=EPS,
        residual_init=1.0,
        dtype=jnp.float32,
    )
    x = np.random.default_rng(1).standard_normal((2, height, width, 8))
    x_float32 = jnp.asarray(x, jnp.float32)
    params = net.init(jax.random.key(0), x_float32)["params"]
    params = _scatter_parameters(params)
    y = jit(net.apply)({"params": params}, x_float32)
    for image, result in zip(x, y, strict=True):
        expected = block(image, _float64(params), norm_eps=EPS, **options)
        np.testing.assert_allclose(result, expected, atol=1e-4)


def test_whole_encoder_equals_numpy_on_an_odd_size(jit, random_variables):
    net = swin_v2.SwinV2(
        embed_dim=8,
        depths=(2, 2),
        num_heads=(2, 4),
        window_size=(3, 2),
        pretrained_window_size=(2, 2),
        use_shift=(True, True),
    )
    image = np.random.default_rng(0).random((1, 17, 30, 3))
    image_float32 = jnp.asarray(image, jnp.float32)
    params = random_variables(net)["params"]
    apply = jit(functools.partial(net.apply, train=False))
    *stages, last = apply({"params": params}, image_float32)
    exact = _float64(params)
    x = embed(image[0], exact["patch_embed"], EPS, 4)
    for stage, (window, heads) in enumerate([(3, 2), (2, 4)]):
        if stage:
            x = merge(x, exact["stage0_merge"], EPS)
        for index in range(2):
            x = block(
                x,
                exact[f"stage{stage}_block{index}"],
                window=window,
                shift=index * (window // 2),
                num_heads=heads,
                pretrained_window=2,
                norm_eps=EPS,
            )
        np.testing.assert_allclose(stages[stage][0], x, atol=2e-4)
    expected = layer_norm(x, exact["norm"], EPS)
    np.testing.assert_allclose(last[0], expected, atol=2e-4)
