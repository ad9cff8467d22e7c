"""The modules of a Mix Transformer; `mix_transformer` puts them together.

Shapes: B images, H x W tokens, C channels, N queries, M keys, D channels a head.
Parameters are float32; `dtype` is that of the matrix products, while norms, logits,
softmax and the residual stream stay in float32.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

from amlr_jax.models.layers import conv_init, drop_path, layer_norm, linear_init

INNER_NORM_EPS = 1e-5  # of the norms in patch embeddings and spatial reductions


class PatchEmbed(nn.Module):
    """Overlapping patches to tokens, (B, H, W, C) to (B, H/s, W/s, F), float32.

    A convolution with stride s, padded so that sizes round up, and a norm.
    """

    features: int
    kernel: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        x = nn.Conv(
            self.features,
            (self.kernel, self.kernel),
            strides=(self.stride, self.stride),
            padding=self.kernel // 2,
            dtype=self.dtype,
            kernel_init=conv_init,
            name="proj",
        )(x_BHWC)
        return layer_norm(INNER_NORM_EPS, "norm")(x)


class ReducedAttention(nn.Module):
    """Attention to a coarser map (SegFormer, Sec. 3.1): (B, H, W, C) to the same.

    Each query sees all keys. Keys and values come from the map at 1/`reduction`, made
    by a convolution with stride `reduction`, which leaves out the rows and columns that
    do not fill a patch, and a norm.
    """

    num_heads: int
    reduction: int
    dtype: Any

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        _, height, width, channels = x_BHWC.shape
        q = self._linear(channels, "q")(x_BHWC)
        kv = self._linear(2 * channels, "kv")(self._reduce(x_BHWC))
        heads = self.num_heads
        q = rearrange(q, "b h w (heads d) -> b heads (h w) d", heads=heads)
        k, v = rearrange(
            kv, "b h w (two heads d) -> two b heads (h w) d", two=2, heads=heads
        )
        y = rearrange(
            scaled_attention(q, k, v),
            "b heads (h w) d -> b h w (heads d)",
            h=height,
            w=width,
        )
        return self._linear(channels, "proj")(y)

    def _linear(self, features: int, name: str) -> nn.Dense:
        return nn.Dense(features, dtype=self.dtype, kernel_init=linear_init, name=name)

    def _reduce(self, x_BHWC: jax.Array) -> jax.Array:
        if self.reduction == 1:
            return x_BHWC
        x = nn.Conv(
            x_BHWC.shape[-1],
            (self.reduction, self.reduction),
            strides=(self.reduction, self.reduction),
            padding="VALID",
            dtype=self.dtype,
            kernel_init=conv_init,
            name="sr",
        )(x_BHWC)
        return layer_norm(INNER_NORM_EPS, "sr_norm")(x)


def scaled_attention(
    q_BhND: jax.Array, k_BhMD: jax.Array, v_BhMD: jax.Array
) -> jax.Array:
    """softmax(q k^T / sqrt(D)) v, with logits and softmax in float32; v's dtype."""
    logits = jnp.matmul(
        q_BhND, k_BhMD.swapaxes(-1, -2), preferred_element_type=jnp.float32
    )
    weights = nn.softmax(logits * q_BhND.shape[-1] ** -0.5, axis=-1)
    return jnp.matmul(weights.astype(v_BhMD.dtype), v_BhMD)


class DepthwiseConv3x3(nn.Module):
    """3 x 3 convolution of each channel by itself, zero padded: (B, H, W, C) to same.

    Nine shifted products, summed in float32: 40 times as fast on a CPU as a grouped
    convolution, 4 times with its gradient. The parameter `kernel` has the shape of a
    grouped convolution's, (3, 3, 1, C).
    """

    dtype: Any

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        _, height, width, channels = x_BHWC.shape
        init = nn.initializers.normal((2 / 9) ** 0.5)  # fan out is 9 for each group
        kernel = self.param("kernel", init, (3, 3, 1, channels), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,))
        padded = jnp.pad(x_BHWC, ((0, 0), (1, 1), (1, 1), (0, 0)))
        y = bias[None, None, None]
        for row in range(3):
            for col in range(3):
                shifted = padded[:, row : row + height, col : col + width]
                y = y + shifted * kernel[row, col, 0]
        return y.astype(self.dtype)


class MixMlp(nn.Module):
    """Linear, depthwise convolution, exact GELU, linear (SegFormer, Eq. 3)."""

    ratio: float
    dtype: Any

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        channels = x_BHWC.shape[-1]
        options = {"dtype": self.dtype, "kernel_init": linear_init}
        x = nn.Dense(int(self.ratio * channels), **options, name="fc1")(x_BHWC)
        x = DepthwiseConv3x3(self.dtype, name="dwconv")(x)
        x = nn.gelu(x, approximate=False)
        return nn.Dense(channels, **options, name="fc2")(x)


class MixBlock(nn.Module):
    """Pre-norm block: x + attention(norm(x)), then x + mlp(norm(x)); (B, H, W, C)."""

    num_heads: int
    reduction: int
    drop_path: float
    mlp_ratio: float
    norm_eps: float
    dtype: Any

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> jax.Array:
        def kept(y: jax.Array) -> jax.Array:
            return drop_path(y, self.drop_path, train=train)

        attn = ReducedAttention(self.num_heads, self.reduction, self.dtype, name="attn")
        mlp = MixMlp(self.mlp_ratio, self.dtype, name="mlp")
        x_BHWC = x_BHWC + kept(attn(layer_norm(self.norm_eps, "norm1")(x_BHWC)))
        return x_BHWC + kept(mlp(layer_norm(self.norm_eps, "norm2")(x_BHWC)))
