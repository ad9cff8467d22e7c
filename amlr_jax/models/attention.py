"""Cosine window attention with a continuous position bias (Swin V2, Sec. 3.2, 3.3).

Shapes: B images, N windows, T tokens a window, C channels, D channels a head.
Parameters, logits, softmax and the bias are float32; `dtype` is that of the products.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from amlr_jax.models import windows

MASKED_LOGIT = -100.0
MAX_LOGIT_SCALE = float(np.log(100.0))  # logit scales are learnt as logarithms
INITIAL_LOGIT_SCALE = float(np.log(10.0))
BIAS_RANGE = 16.0  # the position bias is 16 * sigmoid(mlp)
BIAS_HIDDEN = 512
NORMALIZE_EPS = 1e-12

linear_init = nn.initializers.normal(0.02)


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array,
    *,
    allowed: jax.Array | None = None,
) -> jax.Array:
    """softmax(q k^T + bias) v, with logits and softmax in float32.

    Args:
      q, k, v: (B, N, heads, T, D); any scale is already in q.
      bias: (heads, T, T), float32.
      allowed: (N, T, T), boolean; pairs outside it get `MASKED_LOGIT` on top.

    Returns:
      (B, N, heads, T, D), in v's dtype.
    """
    logits = jnp.matmul(q, k.swapaxes(-1, -2), preferred_element_type=jnp.float32)
    logits = logits + bias[None, None]
    if allowed is not None:
        logits = logits + jnp.where(allowed[None, :, None], 0.0, MASKED_LOGIT)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.matmul(weights, v)


def _unit(x: jax.Array) -> jax.Array:
    """x / max(|x|, 1e-12) over the last axis, in float32; finite gradient at zero."""
    x = x.astype(jnp.float32)
    squared = jnp.sum(x * x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squared, NORMALIZE_EPS**2))


class PositionBias(nn.Module):
    """Continuous relative position bias (Sec. 3.3): (heads, T, T), float32."""

    num_heads: int
    window: int
    pretrained_window: int

    @nn.compact
    def __call__(self) -> jax.Array:
        table = windows.relative_coordinates(self.window, self.pretrained_window)
        x = nn.Dense(BIAS_HIDDEN, kernel_init=linear_init, name="fc1")(table)
        x = nn.Dense(
            self.num_heads, use_bias=False, kernel_init=linear_init, name="fc2"
        )(nn.relu(x))
        return windows.pairwise(BIAS_RANGE * nn.sigmoid(x))


class WindowAttention(nn.Module):
    """Cosine attention within windows (Eq. 2): (B, N, T, C) to the same shape."""

    num_heads: int
    window: int
    pretrained_window: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x_BNTC: jax.Array, regions_NT: np.ndarray | None = None
    ) -> jax.Array:
        channels = x_BNTC.shape[-1]
        q, k, v = self._queries_keys_values(x_BNTC)
        log_scale = self.param(
            "logit_scale",
            nn.initializers.constant(INITIAL_LOGIT_SCALE),
            (self.num_heads, 1, 1),
        )
        q = _unit(q) * jnp.exp(jnp.minimum(log_scale, MAX_LOGIT_SCALE))[None, None]
        bias = PositionBias(
            self.num_heads, self.window, self.pretrained_window, name="rpe_mlp"
        )()
        allowed = None
        if regions_NT is not None:
            labels = jnp.asarray(regions_NT)
            allowed = labels[:, :, None] == labels[:, None, :]
        y = attention(
            q.astype(self.dtype), _unit(k).astype(self.dtype), v, bias, allowed=allowed
        )
        y = rearrange(y, "b n heads t d -> b n t (heads d)")
        return nn.Dense(
            channels, dtype=self.dtype, kernel_init=linear_init, name="proj"
        )(y)

    def _queries_keys_values(self, x_BNTC: jax.Array) -> jax.Array:
        """(3, B, N, heads, T, D). Queries and values have a bias, keys have none."""
        channels = x_BNTC.shape[-1]
        zeros = nn.initializers.zeros_init()
        q_bias = self.param("q_bias", zeros, (channels,))
        v_bias = self.param("v_bias", zeros, (channels,))
        qkv = nn.Dense(
            3 * channels,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=linear_init,
            name="qkv",
        )(x_BNTC)
        bias = jnp.concatenate([q_bias, jnp.zeros_like(q_bias), v_bias])
        qkv = qkv + bias.astype(self.dtype)[None, None, None]
        pattern = "b n t (three heads d) -> three b n heads t d"
        return rearrange(qkv, pattern, three=3, heads=self.num_heads)
