"""Positions and blocks of a vision transformer, used by `vision_transformer`.

Shapes: B images, T tokens (class, registers, patches), N = 1 window of them, C
channels, D channels a head. Positions depend on sizes alone and are NumPy arrays,
computed once while tracing.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from amlr_jax.models.attention import attention, queries_keys_values
from amlr_jax.models.layers import layer_norm, linear
from amlr_jax.models.residual import Block

MLP_RATIO = 4  # hidden channels of an MLP per input channel
ROTARY_BASE = 100.0
CUBIC = -0.75  # parameter of PyTorch's bicubic kernel


def interpolated(
    positions_NC: jax.Array, grid: tuple[int, int], *, antialias: bool
) -> jax.Array:
    """Learned positions of a square, bicubic to a grid of patches; (1, H * W, C).

    Half-pixel centres, as PyTorch's "bicubic": the kernel's parameter is -0.75 and
    coordinates are clamped; with `antialias` it is -0.5, wider for fewer patches.
    """
    side, channels = round(len(positions_NC) ** 0.5), positions_NC.shape[-1]
    if grid == (side, side):
        return positions_NC[None]
    square = positions_NC.reshape(side, side, channels)
    if antialias:
        made = jax.image.resize(square, (*grid, channels), "cubic", antialias=True)
    else:
        rows, columns = (_cubic(side, count) for count in grid)
        made = jnp.einsum("ah,bw,hwc->abc", rows, columns, square, precision="highest")
    return made.reshape(1, -1, channels)


def _cubic(given: int, wanted: int) -> np.ndarray:
    """(wanted, given): weights of bicubic interpolation along one axis."""
    at = (np.arange(wanted) + 0.5) * given / wanted - 0.5
    first = np.floor(at).astype(int)
    weights = np.zeros((wanted, given), np.float32)
    for tap in range(-1, 3):
        x = np.abs(at - first - tap)
        near = (CUBIC + 2) * x**3 - (CUBIC + 3) * x**2 + 1
        far = CUBIC * (x**3 - 5 * x**2 + 8 * x - 4)
        place = np.clip(first + tap, 0, given - 1)
        np.add.at(weights, (np.arange(wanted), place), np.where(x <= 1, near, far))
    return weights


def rotary_angles(prefix: int, grid: Sequence[int], channels: int) -> np.ndarray:
    """Angles of DINOv3's rotary positions: (T, channels), float32.

    2 pi y / 100^(4i / channels) for i < channels / 4, then the same of x, and both once
    more; (y, x) in [-1, 1] are the centres of the patches. The `prefix` tokens in front
    of the patches have 0, so they are not rotated.
    """
    speeds = ROTARY_BASE ** -np.arange(0, 1, 4 / channels, dtype=np.float32)
    centres = [2 * (np.arange(n) + 0.5) / n - 1 for n in grid]
    places = np.stack(np.meshgrid(*centres, indexing="ij"), -1).reshape(-1, 2)
    angles = (2 * np.pi * places[..., None] * speeds).reshape(len(places), -1)
    return np.pad(np.tile(angles, 2), [(prefix, 0), (0, 0)]).astype(np.float32)


def rotate(x: jax.Array, angles_TD: np.ndarray) -> jax.Array:
    """Rotates channels d and d + D/2 of (..., T, heads, D) by the angle of d."""
    angles = angles_TD[:, None]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([-second, first], -1)
    y = jnp.concatenate([first, second], -1) * np.cos(angles) + turned * np.sin(angles)
    return y.astype(x.dtype)


class TokenAttention(nn.Module):
    """Attention of all tokens, (B, 1, T, C) to the same shape.

    Attributes:
      rotary: tokens in front of the patches, rows and columns of patches; (): none.
    """

    num_heads: int
    key_bias: bool
    rotary: tuple[int, ...]
    dtype: Any
    implementation: str = "xla"

    @nn.compact
    def __call__(self, x_BNTC: jax.Array) -> jax.Array:
        q, k, v = queries_keys_values(
            self, x_BNTC, self.num_heads, key_bias=self.key_bias, dtype=self.dtype
        )
        if self.rotary:
            prefix, *grid = self.rotary
            angles = rotary_angles(prefix, grid, q.shape[-1])
            q, k = rotate(q, angles), rotate(k, angles)
        scale, way = q.shape[-1] ** -0.5, self.implementation
        y = attention(q, k, v, scale=scale, implementation=way)
        return linear(x_BNTC.shape[-1], "proj", dtype=self.dtype)(
            y.reshape(x_BNTC.shape)
        )


class TokenMlp(nn.Module):
    """Linear, exact GELU, linear; or SwiGLU, linear(silu(a) * b) of two thirds."""

    gated: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        hidden = MLP_RATIO * channels
        if not self.gated:
            x = linear(hidden, "fc1", dtype=self.dtype)(x)
            x = nn.gelu(x, approximate=False)
            return linear(channels, "fc2", dtype=self.dtype)(x)
        hidden = -(-(2 * hidden // 3) // 8) * 8  # rounded up to a multiple of 8
        gate, x = jnp.split(linear(2 * hidden, "w12", dtype=self.dtype)(x), 2, -1)
        return linear(channels, "w3", dtype=self.dtype)(nn.silu(gate) * x)


class VisionBlock(Block):
    """x + scale1 * attention(norm(x)), then x + scale2 * mlp(norm(x)); (B, 1, T, C).

    The scales are vectors that start at one (LayerScale; Touvron et al., "Going deeper
    with Image Transformers", ICCV 2021).
    """

    key_bias: bool = True
    gated: bool = False
    rotary: tuple[int, ...] = ()

    def attend(self, x_BNTC: jax.Array) -> jax.Array:
        """The first norm, the attention and its scale."""
        x = layer_norm(self.norm_eps, "norm1", dtype=self.dtype)(x_BNTC)
        sizes = self.num_heads, self.key_bias, self.rotary
        x = TokenAttention(*sizes, self.dtype, self.attention, name="attn")(x)
        return x * self._scale("ls1", x)

    def transform(self, x_BNTC: jax.Array) -> jax.Array:
        """The second norm, the MLP and its scale."""
        x = layer_norm(self.norm_eps, "norm2", dtype=self.dtype)(x_BNTC)
        x = TokenMlp(self.gated, self.dtype, name="mlp")(x)
        return x * self._scale("ls2", x)

    def _scale(self, name: str, x: jax.Array) -> jax.Array:
        ones = nn.initializers.ones_init()
        return self.param(name, ones, (x.shape[-1],), jnp.float32).astype(self.dtype)
