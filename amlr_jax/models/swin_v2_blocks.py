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
from amlr_jax.models.layers import layer_norm, linear_init
from amlr_jax.models.repeated import Block, Drop, drop_path

MLP_RATIO = 4  # hidden channels of an MLP per input channel
PATCH_SIZE = 4  # pixels


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
    _, height, width, _ = x_BHWC.shape
    if height % window or width % window:
        raise ValueError(
            "`x_BHWC` must tile into windows: height and width must be multiples of "
            f"{window}, got {height} x {width}."
        )
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
        options = {"dtype": self.dtype, "kernel_init": linear_init}
        x = nn.Dense(MLP_RATIO * channels, **options, name="fc1")(x)
        return nn.Dense(channels, **options, name="fc2")(_gelu(x))


class SwinBlock(Block):
    """Post-norm block: x + norm(attention(x)), then x + norm(mlp(x)); (B, H, W, C)."""

    num_heads: int = 1
    window: int = 8
    pretrained_window: int = 0
    shift: int = 0
    norm_eps: float = 1e-6
    residual_init: float = 1.0
    dtype: Any = jnp.float32
    attention: str = "xla"

    @nn.compact
    def __call__(
        self, x_BHWC: jax.Array, train: bool, drop: Drop | None = None
    ) -> jax.Array:
        drop = self.drop(train) if drop is None else drop

        def residual(y: jax.Array, branch: int) -> jax.Array:
            options = {"scale": self.residual_init, "dtype": self.dtype}
            y = layer_norm(self.norm_eps, f"norm{branch + 1}", **options)(y)
            return drop_path(y, drop, branch)

        x_BHWC = x_BHWC.astype(self.dtype)
        x_BHWC = x_BHWC + residual(self._attend(x_BHWC), 0)
        mlp = Mlp(dtype=self.dtype, name="mlp")
        return x_BHWC + residual(mlp(x_BHWC), 1)

    def _attend(self, x_BHWC: jax.Array) -> jax.Array:
        """Pad, shift, attend within windows, undo."""
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
        return x[:, :height, :width]


class PatchEmbed(nn.Module):
    """Patches of 4 x 4 to tokens: (B, H, W, 3) to (B, H/4, W/4, C), of `dtype`."""

    embed_dim: int
    norm_eps: float
    dtype: Any

    @nn.compact
    def __call__(self, image_BHWC: jax.Array) -> jax.Array:
        patch = (PATCH_SIZE, PATCH_SIZE)
        x = nn.Conv(
            self.embed_dim,
            patch,
            strides=patch,
            padding="VALID",
            dtype=self.dtype,
            kernel_init=linear_init,
            name="proj",
        )(pad_to_multiple(image_BHWC, PATCH_SIZE))
        return layer_norm(self.norm_eps, "norm", dtype=self.dtype)(x)


class PatchMerging(nn.Module):
    """2 x 2 tokens to one: (B, H, W, C) to (B, H/2, W/2, 2C), rounded up; of `dtype`.

    The four are concatenated in the order (row, column) = 00, 10, 01, 11; the norm
    follows the reduction (version 2).
    """

    norm_eps: float
    dtype: Any

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        channels = x_BHWC.shape[-1]
        x = pad_to_multiple(x_BHWC.astype(self.dtype), 2)
        x = rearrange(x, "b (h p) (w q) c -> b h w (q p c)", p=2, q=2)
        x = nn.Dense(
            2 * channels,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=linear_init,
            name="reduction",
        )(x)
        return layer_norm(self.norm_eps, "norm", dtype=self.dtype)(x)
