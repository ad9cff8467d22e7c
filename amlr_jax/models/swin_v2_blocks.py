"""The modules and windows of a Swin V2 encoder, used by `swin_v2`.

Shapes: B images, H x W tokens, C channels, N windows, T = window ** 2 tokens in each.
Parameters and statistics of norms are float32; `dtype` is that of the matrix products,
the results of norms and the residual stream. Labels of regions depend on sizes alone
and are NumPy arrays, computed once while tracing.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from amlr_jax.models.attention import WindowAttention
from amlr_jax.models.layers import layer_norm, linear
from amlr_jax.models.residual import Block

MLP_RATIO = 4  # hidden channels of an MLP per input channel


def pad_to_multiple(x_BHWC: jax.Array, multiple: int) -> jax.Array:
    """Zeros on the right and at the bottom, up to the next multiple of `multiple`."""
    _, height, width, _ = x_BHWC.shape
    bottom, right = -height % multiple, -width % multiple
    if not (bottom or right):
        return x_BHWC
    return jnp.pad(x_BHWC, ((0, 0), (0, bottom), (0, right), (0, 0)))


def partition(x_BHWC: jax.Array, window: int) -> jax.Array:
    """(B, H, W, C) to (B, N, T, C), windows and tokens both in row-major order.

    H and W must be multiples of `window` (see `pad_to_multiple`).
    """
    pattern = "b (h p) (w q) c -> b (h w) (p q) c"
    return rearrange(x_BHWC, pattern, p=window, q=window)


def reverse(x_BNTC: jax.Array, window: int, height: int, width: int) -> jax.Array:
    """(B, N, T, C) back to (B, height, width, C); undoes `partition`."""
    pattern = "b (h w) (p q) c -> b (h p) (w q) c"
    rows, columns = height // window, width // window
    return rearrange(x_BNTC, pattern, h=rows, w=columns, p=window, q=window)


def shift_regions(height: int, width: int, *, window: int, shift: int) -> np.ndarray:
    """Labels of the regions that share a window after a cyclic shift.

    The roll by `-shift` brings tokens from opposite edges into one window; two tokens
    may attend to each other only where their labels agree.

    Returns:
      int32 labels of the rolled grid, shape (N, T).
    """
    labels = []
    for size in (height, width):
        position = np.arange(size)
        labels.append((position >= size - window).astype(np.int32))
        labels[-1] += position >= size - shift
    grid = 3 * labels[0][:, None] + labels[1][None, :]
    pattern = "(h p) (w q) -> (h w) (p q)"
    return rearrange(grid, pattern, p=window, q=window)


def _gelu(x: jax.Array) -> jax.Array:
    """x (1 + erf(x / sqrt(2))) / 2, in float32: 1 + erf loses digits in bfloat16.

    As in PyTorch. `jax.nn.gelu` uses erfc, which is slower on a CPU.
    """
    y = x.astype(jnp.float32)
    return (0.5 * y * (1.0 + jax.lax.erf(y * np.float32(np.sqrt(0.5))))).astype(x.dtype)


class Mlp(nn.Module):
    """Linear, exact GELU, linear: (..., C) to (..., C)."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        x = linear(MLP_RATIO * channels, "fc1", dtype=self.dtype)(x)
        return linear(channels, "fc2", dtype=self.dtype)(_gelu(x))


class SwinBlock(Block):
    """Post-norm block: x + norm(attention(x)), then x + norm(mlp(x)); (B, H, W, C)."""

    window: int = 8
    pretrained_window: int = 0
    shift: int = 0
    residual_init: float = 1.0

    def transform(self, x_BHWC: jax.Array) -> jax.Array:
        """The MLP and its norm."""
        return self._norm(Mlp(dtype=self.dtype, name="mlp")(x_BHWC), "norm2")

    def _norm(self, x: jax.Array, name: str) -> jax.Array:
        scale = self.residual_init
        return layer_norm(self.norm_eps, name, scale=scale, dtype=self.dtype)(x)

    def attend(self, x_BHWC: jax.Array) -> jax.Array:
        """Pads, shifts, attends within windows, undoes that; and the norm."""
        _, height, width, _ = x_BHWC.shape
        x = pad_to_multiple(x_BHWC, self.window)
        padded = x.shape[1:3]
        regions = None
        if self.shift:
            x = jnp.roll(x, (-self.shift, -self.shift), axis=(1, 2))
            regions = shift_regions(*padded, window=self.window, shift=self.shift)
        x = WindowAttention(
            self.num_heads,
            self.window,
            self.pretrained_window,
            dtype=self.dtype,
            implementation=self.attention,
            name="attn",
        )(partition(x, self.window), regions)
        x = reverse(x, self.window, *padded)
        if self.shift:
            x = jnp.roll(x, (self.shift, self.shift), axis=(1, 2))
        return self._norm(x[:, :height, :width], "norm1")


class PatchMerging(nn.Module):
    """2 x 2 tokens to one: (B, H, W, C) to (B, H/2, W/2, 2C), rounded up; of `dtype`.

    The four are concatenated in the order (row, column) = 00, 10, 01, 11; the norm
    follows the reduction (version 2).
    """

    norm_eps: float
    dtype: Any

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        features = 2 * x_BHWC.shape[-1]
        x = pad_to_multiple(x_BHWC.astype(self.dtype), 2)
        x = rearrange(x, "b (h p) (w q) c -> b h w (q p c)", p=2, q=2)
        x = linear(features, "reduction", dtype=self.dtype, use_bias=False)(x)
        return layer_norm(self.norm_eps, "norm", dtype=self.dtype)(x)
