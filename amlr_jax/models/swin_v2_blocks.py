"""The modules of a Swin V2 encoder; `swin_v2` puts them together.

Shapes: B images, H x W tokens, C channels. Parameters are float32; `dtype` is that of
the matrix products, while norms and the residual stream stay in float32.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from amlr_jax.models import windows
from amlr_jax.models.attention import WindowAttention
from amlr_jax.models.layers import drop_path, layer_norm, linear_init


def _gelu(x: jax.Array) -> jax.Array:
    """x (1 + erf(x / sqrt(2))) / 2, in float32: 1 + erf loses digits in bfloat16.

    As PyTorch computes it. `jax.nn.gelu` goes by erfc, which is slower on a CPU.
    """
    y = x.astype(jnp.float32)
    return (0.5 * y * (1.0 + jax.lax.erf(y * np.float32(np.sqrt(0.5))))).astype(x.dtype)


class Mlp(nn.Module):
    """Linear, exact GELU, linear: (..., C) to (..., C)."""

    ratio: float = 4.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        options = {"dtype": self.dtype, "kernel_init": linear_init}
        x = nn.Dense(int(self.ratio * channels), **options, name="fc1")(x)
        x = _gelu(x)
        return nn.Dense(channels, **options, name="fc2")(x)


class SwinBlock(nn.Module):
    """Post-norm block: x + norm(attention(x)), then x + norm(mlp(x)); (B, H, W, C)."""

    num_heads: int
    window: int
    pretrained_window: int
    shift: int
    drop_path: float
    mlp_ratio: float
    norm_eps: float
    residual_init: float
    dtype: Any
    attention: str = "xla"

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> jax.Array:
        def residual(y: jax.Array, name: str) -> jax.Array:
            y = layer_norm(self.norm_eps, name, scale=self.residual_init)(y)
            return drop_path(y, self.drop_path, train=train)

        x_BHWC = x_BHWC + residual(self._attend(x_BHWC), "norm1")
        mlp = Mlp(self.mlp_ratio, dtype=self.dtype, name="mlp")
        return x_BHWC + residual(mlp(x_BHWC), "norm2")

    def _attend(self, x_BHWC: jax.Array) -> jax.Array:
        """Pad, shift, attend within windows, undo."""
        _, height, width, _ = x_BHWC.shape
        x = windows.pad_to_multiple(x_BHWC.astype(self.dtype), self.window)
        padded = x.shape[1:3]
        regions = None
        if self.shift:
            x = jnp.roll(x, (-self.shift, -self.shift), axis=(1, 2))
            regions = windows.shift_regions(
                *padded, window=self.window, shift=self.shift
            )
        x = WindowAttention(
            self.num_heads,
            self.window,
            self.pretrained_window,
            dtype=self.dtype,
            implementation=self.attention,
            name="attn",
        )(windows.partition(x, self.window), regions)
        x = windows.reverse(x, self.window, *padded)
        if self.shift:
            x = jnp.roll(x, (self.shift, self.shift), axis=(1, 2))
        return x[:, :height, :width]


class PatchEmbed(nn.Module):
    """Non-overlapping patches to tokens: (B, H, W, 3) to (B, H/p, W/p, C), float32."""

    embed_dim: int
    patch_size: int
    norm_eps: float
    dtype: Any

    @nn.compact
    def __call__(self, image_BHWC: jax.Array) -> jax.Array:
        patch = (self.patch_size, self.patch_size)
        x = nn.Conv(
            self.embed_dim,
            patch,
            strides=patch,
            padding="VALID",
            dtype=self.dtype,
            kernel_init=linear_init,
            name="proj",
        )(windows.pad_to_multiple(image_BHWC, self.patch_size))
        return layer_norm(self.norm_eps, "norm")(x)


class PatchMerging(nn.Module):
    """2 x 2 tokens to one: (B, H, W, C) to (B, H/2, W/2, 2C), rounded up; float32.

    The four are concatenated in the order (row, column) = 00, 10, 01, 11; the norm
    follows the reduction (version 2).
    """

    norm_eps: float
    dtype: Any

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        channels = x_BHWC.shape[-1]
        x = windows.pad_to_multiple(x_BHWC.astype(self.dtype), 2)
        x = rearrange(x, "b (h p) (w q) c -> b h w (q p c)", p=2, q=2)
        x = nn.Dense(
            2 * channels,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=linear_init,
            name="reduction",
        )(x)
        return layer_norm(self.norm_eps, "norm")(x)
