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

from amlr_jax.models.layers import check_one_of, linear_init

MASKED_LOGIT = -100.0
MAX_LOGIT_SCALE = float(np.log(100.0))  # logit scales are parametrised as logarithms
INITIAL_LOGIT_SCALE = float(np.log(10.0))
BIAS_RANGE = 16.0  # the position bias is 16 * sigmoid(mlp)
BIAS_HIDDEN = 512
NORMALIZE_EPS = 1e-12
COORDINATE_SCALE = 8.0  # coordinates span [-8, 8] before the logarithm (Sec. 3.3)
IMPLEMENTATIONS = ("xla", "cudnn")


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array,
    *,
    allowed: jax.Array | None = None,
    implementation: str = "xla",
) -> jax.Array:
    """softmax(q k^T + bias) v, with logits and softmax in float32.

    Args:
      q, k, v: (B, N, heads, T, D); q is already scaled.
      bias: (heads, T, T), float32.
      allowed: (N, T, T), boolean; `MASKED_LOGIT` is added to the logits of other pairs.
      implementation: "xla", or "cudnn" for the fused kernel of NVIDIA GPUs, which
        stores no (T, T) array per window. It requires bfloat16 and even T and rounds
        the bias to bfloat16.

    Returns:
      (B, N, heads, T, D), in v's dtype.

    Raises:
      ValueError: "cudnn" cannot take these arrays, or there is no GPU.
    """
    check_one_of("implementation", implementation, IMPLEMENTATIONS)
    if implementation == "cudnn":
        _check_cudnn(q)
        arguments = dot_product_arguments(q, k, v, bias, allowed)
        y = jax.nn.dot_product_attention(**arguments, implementation="cudnn")
        batch, count = q.shape[:2]
        return rearrange(y, "(b n) t h d -> b n h t d", b=batch, n=count)
    logits = jnp.matmul(q, k.swapaxes(-1, -2), preferred_element_type=jnp.float32)
    logits = logits + bias[None, None]
    if allowed is not None:
        logits = logits + jnp.where(allowed[None, :, None], 0.0, MASKED_LOGIT)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.matmul(weights, v)


def dot_product_arguments(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array,
    allowed: jax.Array | None = None,
) -> dict[str, Any]:
    """The arguments of `attention` as `jax.nn.dot_product_attention` takes them.

    Windows are merged into the batch axis. The bias is shared by all windows or, with
    `allowed`, separate for each: a boolean mask would exclude pairs, to which -100
    leaves a weight. It has the dtype of q, because a float32 bias gives NaN gradients
    on a GPU (jax-ml/jax#32242). Its mean, which does not change the softmax, is
    subtracted to reduce the rounding error.
    """
    batch = q.shape[0]
    bias = (bias - jax.lax.stop_gradient(bias.mean((1, 2), keepdims=True)))[None]
    if allowed is not None:
        mask = jnp.where(allowed[:, None], 0.0, MASKED_LOGIT)
        bias = jnp.tile(bias + mask, (batch, 1, 1, 1))
    query, key, value = (rearrange(x, "b n h t d -> (b n) t h d") for x in (q, k, v))
    bias = bias.astype(q.dtype)
    return {"query": query, "key": key, "value": value, "bias": bias, "scale": 1.0}


def _check_cudnn(q: jax.Array) -> None:
    """Raises ValueError for arrays that the fused kernel does not take."""
    where = '`implementation` "cudnn"'
    if q.dtype != jnp.bfloat16:
        raise ValueError(f"{where} needs bfloat16, got {q.dtype}; set the dtype.")
    if q.shape[-2] % 2:
        raise ValueError(
            f"{where} needs windows of an even number of tokens, got {q.shape[-2]}; "
            "choose even windows."
        )
    if jax.default_backend() != "gpu":
        raise ValueError(
            f'{where} needs an NVIDIA GPU, got {jax.default_backend()!r}; use "xla".'
        )


def _unit(x: jax.Array) -> jax.Array:
    """x / max(|x|, 1e-12) over the last axis, in float32; finite gradient at zero."""
    x = x.astype(jnp.float32)
    squared = jnp.sum(x * x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squared, NORMALIZE_EPS**2))


def relative_coordinates(window: int, pretrained_window: int) -> np.ndarray:
    """Log-spaced offsets (rows, columns), the input of the position-bias MLP (Eq. 4).

    An offset is divided by the largest one of the pretrained window, so a wider window
    extrapolates only slightly: to at most 1.34 for 22 after 12. With
    `pretrained_window` 0 it is divided by the largest one of the window itself.

    Returns:
      float32, shape (2 * window - 1, 2 * window - 1, 2).
    """
    if pretrained_window < 2 and pretrained_window != 0:
        raise ValueError(
            "`pretrained_window` must be at least 2, or 0 for the window itself, got "
            f"{pretrained_window}."
        )
    offset = np.arange(1 - window, window, dtype=np.float64)
    offset *= COORDINATE_SCALE / (max(pretrained_window or window, 2) - 1)
    spaced = np.sign(offset) * np.log2(np.abs(offset) + 1) / np.log2(COORDINATE_SCALE)
    return np.stack(np.meshgrid(spaced, spaced, indexing="ij"), -1).astype(np.float32)


def _toeplitz(table: jax.Array) -> jax.Array:
    """(..., 2w - 1) to (..., w, w): entry [i, j] is table[i - j + w - 1].

    Rows of length 2w, reshaped to length 2w - 1, each start one later than the row
    above. The gradient of a gather would be a scatter, which is nondeterministic on
    GPUs.
    """
    *batch, length = table.shape
    window = (length + 1) // 2
    row = jnp.pad(table[..., ::-1], [(0, 0)] * len(batch) + [(0, 1)])
    rows = jnp.broadcast_to(row[..., None, :], (*batch, window, length + 1))
    rows = rows.reshape(*batch, -1)[..., : window * length]
    return rows.reshape(*batch, window, length)[..., window - 1 :]


def pairwise(table: jax.Array) -> jax.Array:
    """Expands one value per offset to one per pair of tokens.

    Args:
      table: (2w - 1, 2w - 1, heads); entry [a, b] is for the offset, query minus key,
        of (a - w + 1) rows and (b - w + 1) columns.

    Returns:
      (heads, T, T): [head, query, key].
    """
    columns = _toeplitz(table.transpose(2, 0, 1))  # (heads, 2w - 1, w, w)
    both = _toeplitz(columns.transpose(0, 2, 3, 1))  # (heads, w, w, w, w)
    return rearrange(both, "n qw kw qh kh -> n (qh qw) (kh kw)")


class PositionBias(nn.Module):
    """Continuous relative position bias (Sec. 3.3): (heads, T, T), float32."""

    num_heads: int
    window: int
    pretrained_window: int

    @nn.compact
    def __call__(self) -> jax.Array:
        table = relative_coordinates(self.window, self.pretrained_window)
        x = nn.Dense(BIAS_HIDDEN, kernel_init=linear_init, name="fc1")(table)
        x = nn.Dense(
            self.num_heads, use_bias=False, kernel_init=linear_init, name="fc2"
        )(nn.relu(x))
        return pairwise(BIAS_RANGE * nn.sigmoid(x))


class WindowAttention(nn.Module):
    """Cosine attention within windows (Eq. 2): (B, N, T, C) to the same shape."""

    num_heads: int
    window: int
    pretrained_window: int
    dtype: Any = jnp.float32
    implementation: str = "xla"

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
            q.astype(self.dtype),
            _unit(k).astype(self.dtype),
            v,
            bias,
            allowed=allowed,
            implementation=self._implementation(q.shape[-2]),
        )
        y = rearrange(y, "b n heads t d -> b n t (heads d)")
        return nn.Dense(
            channels, dtype=self.dtype, kernel_init=linear_init, name="proj"
        )(y)

    def _implementation(self, tokens: int) -> str:
        """XLA for windows of odd area, which the fused kernel does not take.

        In the reference, the last two blocks have such windows, of 11 x 11.
        """
        odd = self.implementation == "cudnn" and tokens % 2
        return "xla" if odd else self.implementation

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
