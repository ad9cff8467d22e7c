"""Mix Transformer (MiT), the encoder of SegFormer and of GLPDepth.

Xie et al., "SegFormer: Simple and Efficient Design for Semantic Segmentation with
Transformers", NeurIPS 2021 (Sec. 3.1); Kim et al., "Global-Local Path Networks
for Monocular Depth Estimation with Vertical CutDepth", 2022 (B4 and its norms). There
is no position embedding: a depthwise convolution with zero padding inside each MLP
tells positions apart, so any size will do.

Parameters are named `stage{s}_patch_embed`, `stage{s}_block{b}` and `stage{s}_norm`,
counted from 0. They are float32; `dtype` is that of the matrix products, while norms,
logits, softmax and the residual stream stay in float32.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from amlr_jax.models import checks
from amlr_jax.models.layers import drop_path_rates, layer_norm
from amlr_jax.models.mix_transformer_blocks import MixBlock, PatchEmbed

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
        Needs the random stream "drop_path" in training. A sample loses a whole
        residual branch.
      norm_eps: of the norms in front of the branches and at the end of a stage.
      dtype: of the matrix products.
      remat: recompute every block in the backward pass instead of keeping it.
    """

    embed_dims: tuple[int, ...]
    depths: tuple[int, ...]
    num_heads: tuple[int, ...] = (1, 2, 5, 8)
    reductions: tuple[int, ...] = (8, 4, 2, 1)
    drop_path: float = 0.1
    mlp_ratio: float = 4.0
    norm_eps: float = 1e-6
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
        rates = iter(drop_path_rates(self.drop_path, self.depths))
        x, features = image_BHWC, []
        for stage, depth in enumerate(self.depths):
            kernel, stride = (7, 4) if stage == 0 else (3, 2)
            x = PatchEmbed(
                self.embed_dims[stage],
                kernel,
                stride,
                self.dtype,
                name=f"stage{stage}_patch_embed",
            )(x)
            for block in range(depth):
                x = self._block(stage, block, next(rates))(x, train)
            x = layer_norm(self.norm_eps, f"stage{stage}_norm")(x)
            features.append(x)
        return features

    def _block(self, stage: int, block: int, drop_path: float) -> nn.Module:
        kind = nn.remat(MixBlock, static_argnums=(2,)) if self.remat else MixBlock
        return kind(
            num_heads=self.num_heads[stage],
            reduction=self.reductions[stage],
            drop_path=drop_path,
            mlp_ratio=self.mlp_ratio,
            norm_eps=self.norm_eps,
            dtype=self.dtype,
            name=f"stage{stage}_block{block}",
        )

    def _check(self, image_BHWC: jax.Array) -> None:
        checks.image_shape(image_BHWC)
        checks.one_per_stage(self, "embed_dims", "num_heads", "reductions")
        checks.heads_divide(self.embed_dims, self.num_heads)
        smallest = self._smallest_size()
        if min(image_BHWC.shape[1:3]) < smallest:
            raise ValueError(
                f"`image_BHWC` must be at least {smallest} x {smallest}, so that each "
                f"reduction has a key, got {image_BHWC.shape[1]} x "
                f"{image_BHWC.shape[2]}."
            )

    def _smallest_size(self) -> int:
        """Least side whose map is, at each stage, no smaller than the reduction."""
        strides = [4 * 2**stage for stage in range(len(self.depths))]
        return max(
            (reduction - 1) * stride + 1
            for reduction, stride in zip(self.reductions, strides, strict=True)
        )


def encoder(name: str, **overrides: Any) -> MixTransformer:
    """The encoder of that name, "b0" to "b5" of SegFormer; GLPDepth's is "b4".

    `overrides` are attributes of `MixTransformer`; one that is None keeps the preset's
    value.
    """
    checks.one_of("name", name, PRESETS)
    given = {key: value for key, value in overrides.items() if value is not None}
    return MixTransformer(**{**PRESETS[name], **given})
