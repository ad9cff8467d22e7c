"""Mix Transformer (MiT), the encoder of SegFormer and of GLPDepth.

Xie et al., "SegFormer: Simple and Efficient Design for Semantic Segmentation with
Transformers", NeurIPS 2021 (Sec. 3.1); Kim et al., "Global-Local Path Networks
for Monocular Depth Estimation with Vertical CutDepth", 2022 (B4 and its norms). There
is no position embedding: a depthwise convolution with zero padding inside each MLP
gives positions, so images may have any size.

Parameters are named `stage{s}_patch_embed`, `stage{s}_block{b}` and `stage{s}_norm`,
counted from 0. They, logits, softmax and statistics of norms are float32; `dtype` is
that of the matrix products, the results of norms and the residual stream.

Shapes: B images, H x W tokens, C channels, N queries, M keys, D channels a head.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

from amlr_jax.models import layers
from amlr_jax.models.attention import attention
from amlr_jax.models.residual import Block, run_blocks

INNER_NORM_EPS = 1e-5  # of the norms in patch embeddings and spatial reductions
MLP_RATIO = 4  # hidden channels of an MLP per input channel
_B1_WIDTHS = (64, 128, 320, 512)
PRESETS = {
    "b0": {"embed_dims": (32, 64, 160, 256), "depths": (2, 2, 2, 2)},
    "b1": {"embed_dims": _B1_WIDTHS, "depths": (2, 2, 2, 2)},
    "b2": {"embed_dims": _B1_WIDTHS, "depths": (3, 4, 6, 3)},
    "b3": {"embed_dims": _B1_WIDTHS, "depths": (3, 4, 18, 3)},
    "b4": {"embed_dims": _B1_WIDTHS, "depths": (3, 8, 27, 3)},
    "b5": {"embed_dims": _B1_WIDTHS, "depths": (3, 6, 40, 3)},
}


class MixTransformer(nn.Module):
    """MiT encoder. Takes images in float of shape (B, H, W, 3).

    Attributes:
      embed_dims, depths, num_heads, reductions: channels, blocks, heads and ratio of
        the spatial reduction of the keys; one entry per stage.
      drop_path: rate of the last block; the rates rise linearly from 0 over all blocks.
        Needs the random stream "drop_path" in training.
      norm_eps: of the norms in front of the branches and at the end of a stage.
      attention: "xla" or "cudnn", see `attention.attention`.
      dtype: of the matrix products and the residual stream.
      remat: recompute every block in the backward pass instead of keeping it.
    """

    embed_dims: tuple[int, ...]
    depths: tuple[int, ...]
    num_heads: tuple[int, ...] = (1, 2, 5, 8)
    reductions: tuple[int, ...] = (8, 4, 2, 1)
    drop_path: float = 0.1
    norm_eps: float = 1e-6
    attention: str = "xla"
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, image_BHWC: jax.Array, *, train: bool) -> list[jax.Array]:
        """Encodes images.

        Returns:
          The output of every stage s after its norm, of shape (B, H / (4 * 2**s),
          W / (4 * 2**s), embed_dims[s]) with sizes rounded up; float32.
        """
        self._check(image_BHWC)
        rates = iter(layers.drop_path_rates(self.drop_path, self.depths))
        x, features = image_BHWC, []
        for stage, depth in enumerate(self.depths):
            kernel, stride = (7, 4) if stage == 0 else (3, 2)
            x = layers.PatchEmbed(
                self.embed_dims[stage],
                kernel,
                stride,
                padding=kernel // 2,  # sizes round up
                norm_eps=INNER_NORM_EPS,
                dtype=self.dtype,
                name=f"stage{stage}_patch_embed",
            )(x)
            blocks = [self._block(stage, n, next(rates)) for n in range(depth)]
            x = run_blocks(blocks, x, train=train, remat=self.remat)
            name = f"stage{stage}_norm"
            x = layers.layer_norm(self.norm_eps, name, dtype=self.dtype)(x)
            features.append(x.astype(jnp.float32))
        return features

    def _block(self, stage: int, block: int, drop_path: float) -> "MixBlock":
        return MixBlock(
            num_heads=self.num_heads[stage],
            reduction=self.reductions[stage],
            drop_path=drop_path,
            norm_eps=self.norm_eps,
            dtype=self.dtype,
            attention=self.attention,
            name=f"stage{stage}_block{block}",
        )

    def _check(self, image_BHWC: jax.Array) -> None:
        # The least side whose map is, at each stage, no smaller than the reduction.
        smallest = max((r - 1) * 4 * 2**s + 1 for s, r in enumerate(self.reductions))
        if min(image_BHWC.shape[1:3]) < smallest:
            raise ValueError(
                f"`image_BHWC` must be at least {smallest} x {smallest}, so that each "
                f"reduction has a key, got {image_BHWC.shape[1]} x "
                f"{image_BHWC.shape[2]}."
            )


def encoder(name: str, **overrides: Any) -> MixTransformer:
    """The encoder of that name, "b0" to "b5" of SegFormer; GLPDepth's is "b4".

    `overrides` are attributes of `MixTransformer`; one that is None keeps the preset's
    value.
    """
    layers.check_one_of("name", name, PRESETS)
    return layers.from_preset(MixTransformer, PRESETS[name], overrides)


class ReducedAttention(nn.Module):
    """Attention to a coarser map (SegFormer, Sec. 3.1): (B, H, W, C) to the same.

    Each query attends to all keys. Keys and values come from the map at 1/`reduction`:
    a convolution with stride `reduction`, which omits rows and columns that do not fill
    a patch, and a norm.
    """

    num_heads: int
    reduction: int
    dtype: Any
    implementation: str = "xla"

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        channels = x_BHWC.shape[-1]
        q = layers.linear(channels, "q", dtype=self.dtype)(x_BHWC)
        kv = layers.linear(2 * channels, "kv", dtype=self.dtype)(self._reduce(x_BHWC))
        pattern = "b h w (heads d) -> b 1 (h w) heads d"  # one window
        q, k, v = (
            rearrange(x, pattern, heads=self.num_heads)
            for x in (q, *jnp.split(kv, 2, axis=-1))
        )
        scale, way = q.shape[-1] ** -0.5, self.implementation
        y = attention(q, k, v, scale=scale, implementation=way).reshape(x_BHWC.shape)
        return layers.linear(channels, "proj", dtype=self.dtype)(y)

    def _reduce(self, x_BHWC: jax.Array) -> jax.Array:
        if self.reduction == 1:
            return x_BHWC
        options: dict = {"size": self.reduction, "strides": self.reduction}
        options |= {"dtype": self.dtype, "kernel_init": layers.conv_init}
        x = layers.conv(x_BHWC, x_BHWC.shape[-1], **options, name="sr")
        return layers.layer_norm(INNER_NORM_EPS, "sr_norm", dtype=self.dtype)(x)


class DepthwiseConv3x3(nn.Module):
    """3 x 3 depthwise convolution, zero padded: (B, H, W, C) to same.

    Nine shifted products, summed in float32: 40 times as fast on a CPU as a grouped
    convolution, 4 times with its gradient. The parameter `kernel` has the shape
    (3, 3, 1, C) of a grouped convolution.
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

    dtype: Any

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        channels = x_BHWC.shape[-1]
        x = layers.linear(MLP_RATIO * channels, "fc1", dtype=self.dtype)(x_BHWC)
        x = DepthwiseConv3x3(self.dtype, name="dwconv")(x)
        x = nn.gelu(x, approximate=False)
        return layers.linear(channels, "fc2", dtype=self.dtype)(x)


class MixBlock(Block):
    """Pre-norm block: x + attention(norm(x)), then x + mlp(norm(x)); (B, H, W, C)."""

    reduction: int = 1

    def attend(self, x_BHWC: jax.Array) -> jax.Array:
        """The first norm and the attention."""
        x = layers.layer_norm(self.norm_eps, "norm1", dtype=self.dtype)(x_BHWC)
        sizes = self.num_heads, self.reduction
        return ReducedAttention(*sizes, self.dtype, self.attention, name="attn")(x)

    def transform(self, x_BHWC: jax.Array) -> jax.Array:
        """The second norm and the MLP."""
        x = layers.layer_norm(self.norm_eps, "norm2", dtype=self.dtype)(x_BHWC)
        return MixMlp(self.dtype, name="mlp")(x)
