"""Attention, and Swin V2's: cosine attention with a continuous position bias.

Shapes: B images, N windows, T query and S key tokens a window, C channels, D channels a
head. Parameters, logits, softmax and the bias are float32; `dtype` is that of the
products. Swin V2: Sec. 3.2 and 3.3.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from amlr_jax.models.layers import check_one_of, linear
from amlr_jax.models.precision import ATTENTIONS

MASKED_LOGIT = -100.0
MAX_LOGIT_SCALE = float(np.log(100.0))  # logit scales are parametrised as logarithms
INITIAL_LOGIT_SCALE = float(np.log(10.0))
BIAS_RANGE = 16.0  # the position bias is 16 * sigmoid(mlp)
BIAS_HIDDEN = 512
NORMALIZE_EPS = 1e-12
COORDINATE_SCALE = 8.0  # coordinates span [-8, 8] before the logarithm (Sec. 3.3)
REGION_CHANNELS = 8  # cuDNN takes multiples of 8 channels
MAX_CHANNELS = 128  # of a head in cuDNN before Hopper


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array | None = None,
    *,
    regions: np.ndarray | None = None,
    scale: float = 1.0,
    implementation: str = "xla",
) -> jax.Array:
    """softmax(scale q k^T + bias) v in every window, logits and softmax in float32.

    Args:
      q: (B, N, T, heads, D).
      k, v: (B, N, S, heads, D).
      bias: (heads, T, S), float32, shared by the windows; None: none.
      regions: labels (N, T), for S = T; `MASKED_LOGIT` is added to the logits of pairs
        with different labels.
      implementation: "xla", or "cudnn" for the fused kernel of NVIDIA GPUs, which
        stores no (T, S) array per window. It requires bfloat16 and, with a bias, even T
        and S, and rounds the bias to bfloat16.

    Returns:
      (B, N, T, heads, D), in v's dtype.

    Raises:
      ValueError: "cudnn" cannot take these arrays, or there is no GPU.
    """
    check_one_of("implementation", implementation, ATTENTIONS)
    if implementation == "xla":
        return _by_products(q, k, v, bias, regions, scale)
    _check_cudnn(q, k, bias)
    arguments = dot_product_arguments(q, k, v, bias, regions, scale)
    y = jax.nn.dot_product_attention(**arguments, implementation="cudnn")
    return y[..., : v.shape[-1]].reshape(*q.shape[:-1], v.shape[-1])


def _by_products(q, k, v, bias, regions, scale) -> jax.Array:
    """`attention` by two matrix products, of (B, N, heads) matrices each."""
    q, k, v = (x.swapaxes(2, 3) for x in (q, k, v))
    logits = jnp.matmul(q, k.swapaxes(-1, -2), preferred_element_type=jnp.float32)
    if scale != 1.0:
        logits = logits * scale
    if bias is not None:
        logits = logits + bias[None, None]
    if regions is not None:
        labels = jnp.asarray(regions)
        same = labels[:, :, None] == labels[:, None, :]
        logits = logits + jnp.where(same[None, :, None], 0.0, MASKED_LOGIT)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.matmul(weights, v).swapaxes(2, 3)


def dot_product_arguments(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array | None = None,
    regions: np.ndarray | None = None,
    scale: float = 1.0,
) -> dict[str, Any]:
    """The arguments of `attention` as `jax.nn.dot_product_attention` takes them.

    Windows are merged into the batch axis, without a copy. The bias has the dtype of q,
    because a float32 bias gives NaN gradients on a GPU (jax-ml/jax#32242). Its mean,
    which does not change the softmax, is subtracted to reduce the rounding error.

    Regions are further channels of q, k and v, so that the bias stays shared by all
    windows (a boolean mask would exclude pairs, to which -100 leaves a weight): q and k
    have 10 / sqrt(scale) at the number of the token's region, so pairs of one region
    gain exactly 100, a constant for the softmax. v has zeros.
    """
    if regions is not None:
        # Numbered from 0 in each window; there are at most four.
        numbers = [np.unique(row, return_inverse=True)[1] for row in regions]
        one_hot = np.eye(REGION_CHANNELS, dtype=np.float32)[np.stack(numbers)]
        marks = np.sqrt(-MASKED_LOGIT / scale) * one_hot[:, :, None]
        shape = (*q.shape[:-1], REGION_CHANNELS)
        marks = jnp.broadcast_to(jnp.asarray(marks, q.dtype), shape)
        q, k = (jnp.concatenate([x, marks], -1) for x in (q, k))
        v = jnp.pad(v, [(0, 0)] * 4 + [(0, REGION_CHANNELS)])
    if bias is not None:
        bias = bias - jax.lax.stop_gradient(bias.mean((1, 2), keepdims=True))
        bias = bias[None].astype(q.dtype)
    query, key, value = (x.reshape(-1, *x.shape[2:]) for x in (q, k, v))
    return {"query": query, "key": key, "value": value, "bias": bias, "scale": scale}


def _check_cudnn(q: jax.Array, k: jax.Array, bias: jax.Array | None) -> None:
    """Raises ValueError for arrays that the fused kernel does not take."""
    where = '`implementation` "cudnn"'
    if q.dtype != jnp.bfloat16:
        raise ValueError(f"{where} needs bfloat16, got {q.dtype}; set the dtype.")
    odd = [tokens for tokens in (q.shape[2], k.shape[2]) if tokens % 2]
    if bias is not None and odd:
        raise ValueError(
            f"{where} needs windows of an even number of tokens, got {odd[0]}; "
            "choose even windows."
        )
    if jax.default_backend() != "gpu":
        raise ValueError(
            f'{where} needs an NVIDIA GPU, got {jax.default_backend()!r}; use "xla".'
        )


def fitting(implementation: str, tokens: int, channels: int) -> str:
    """`implementation` where the fused kernel takes such windows, else "xla".

    It takes no windows of an odd number of tokens with a bias, as the reference has in
    its last two blocks, of 11 x 11; and heads of up to 128 channels, in multiples of 8.
    """
    fits = not (tokens % 2 or channels % 8)
    fits &= channels + REGION_CHANNELS <= MAX_CHANNELS
    return "xla" if implementation == "cudnn" and not fits else implementation


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
        x = nn.relu(linear(BIAS_HIDDEN, "fc1")(table))
        x = linear(self.num_heads, "fc2", use_bias=False)(x)
        return pairwise(BIAS_RANGE * nn.sigmoid(x))


def queries_keys_values(
    module: nn.Module,
    x_BNTC: jax.Array,
    num_heads: int,
    *,
    key_bias: bool = False,
    dtype: Any,
) -> list[jax.Array]:
    """(B, N, T, heads, D) each, by one matrix product; call it in a compact method.

    The parameters `qkv`, and without a bias of the keys `q_bias` and `v_bias`, are
    those of `module`.
    """
    channels = x_BNTC.shape[-1]
    qkv = linear(3 * channels, "qkv", dtype=dtype, use_bias=key_bias)
    q, k, v = jnp.split(qkv(x_BNTC), 3, axis=-1)
    if not key_bias:
        zeros = nn.initializers.zeros_init()
        q = q + module.param("q_bias", zeros, (channels,)).astype(dtype)
        v = v + module.param("v_bias", zeros, (channels,)).astype(dtype)
    pattern = "b n t (heads d) -> b n t heads d"
    return [rearrange(x, pattern, heads=num_heads) for x in (q, k, v)]


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
        *_, tokens, channels = x_BNTC.shape
        q, k, v = queries_keys_values(self, x_BNTC, self.num_heads, dtype=self.dtype)
        log_scale = self.param(
            "logit_scale",
            nn.initializers.constant(INITIAL_LOGIT_SCALE),
            (self.num_heads, 1, 1),
        )
        q = _unit(q) * jnp.exp(jnp.minimum(log_scale, MAX_LOGIT_SCALE))[..., 0]
        bias = PositionBias(
            self.num_heads, self.window, self.pretrained_window, name="rpe_mlp"
        )()
        y = attention(
            q.astype(self.dtype),
            _unit(k).astype(self.dtype),
            v,
            bias,
            regions=regions_NT,
            implementation=fitting(self.implementation, tokens, q.shape[-1]),
        )
        return linear(channels, "proj", dtype=self.dtype)(y.reshape(x_BNTC.shape))
