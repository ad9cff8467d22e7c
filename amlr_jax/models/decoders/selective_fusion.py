"""The decoder of GLPDepth: skips, each mixed in by an attention map of its own.

Kim et al., "Global-Local Path Networks for Monocular Depth Estimation with Vertical
CutDepth", 2022.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from amlr_jax.models import checks, layers


def _conv3x3(x_BHWC: jax.Array, channels: int, *, dtype: Any, name: str) -> jax.Array:
    inputs = x_BHWC.shape[-1]
    return layers.conv(
        channels, inputs=inputs, size=3, padding=1, dtype=dtype, name=name
    )(x_BHWC)


class SelectiveFusion(nn.Module):
    """local * a0 + wide * a1, with maps a = sigmoid(convolutions(both)).

    `local` is the skip of the encoder and `wide` comes from the coarser levels, both
    (B, H, W, C); `a` has one value per pixel for each.
    """

    dtype: Any

    @nn.compact
    def __call__(
        self, local_BHWC: jax.Array, wide_BHWC: jax.Array, *, train: bool
    ) -> jax.Array:
        channels = local_BHWC.shape[-1]
        x = jnp.concatenate([local_BHWC, wide_BHWC], -1)
        for number, features in ((1, channels), (2, channels // 2)):
            x = _conv3x3(x, features, dtype=self.dtype, name=f"conv{number}")
            norm = layers.batch_norm(
                train=train, dtype=self.dtype, name=f"norm{number}"
            )
            x = nn.relu(norm(x))
        share = nn.sigmoid(_conv3x3(x, 2, dtype=self.dtype, name="conv3"))
        return local_BHWC * share[..., :1] + wide_BHWC * share[..., 1:]


class SelectiveFusionDecoder(nn.Module):
    """Narrow decoder with selective fusion of three skips.

    From the coarsest features up, at 1/16, 1/8 and 1/4 of the image's size: bilinear
    doubling and selective fusion with the skip. Then two doublings, and a head of two
    3 x 3 convolutions with sigmoid * max_depth.

    Attributes:
      channels: of the whole decoder. The finest skip enters as it is, so the encoder's
        first features must have as many; 1 x 1 convolutions narrow the others.
    """

    channels: int = 64
    max_depth: float = 80.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, features: Sequence[jax.Array], *, size: tuple[int, int], train: bool
    ) -> jax.Array:
        """Decodes the features of an encoder with four stages.

        Args:
          features: fine to coarse, (B, H, W, C_s) at 1/4, 1/8, 1/16 and 1/32 of the
            image's size, rounded up.
          size: height and width of the image.
          train: normalise with the statistics of the batch and update the running
            ones (collection "batch_stats").

        Returns:
          Depth in metres between 0 and `max_depth`, (B, *size), float32.
        """
        self._check(features, size)
        skips = [
            self._narrow(features[2], "skip_conv1"),
            self._narrow(features[1], "skip_conv2"),
            features[0].astype(self.dtype),
        ]
        x = self._narrow(features[3], "bottleneck_conv")
        for number, skip in enumerate(skips, 1):
            height, width = skip.shape[1:3]
            x = layers.upsample_bilinear_2x(x)[:, :height, :width]
            fusion = SelectiveFusion(self.dtype, name=f"fusion{number}")
            x = fusion(skip, x, train=train)
        x = layers.upsample_bilinear_2x(layers.upsample_bilinear_2x(x))
        x = x[:, : size[0], : size[1]]
        x = _conv3x3(x, self.channels, dtype=self.dtype, name="head_conv")
        logits = _conv3x3(nn.relu(x), 1, dtype=jnp.float32, name="head_depth")
        return self.max_depth * nn.sigmoid(logits[..., 0])

    def _narrow(self, x_BHWC: jax.Array, name: str) -> jax.Array:
        inputs = x_BHWC.shape[-1]
        return layers.conv(
            self.channels, inputs=inputs, size=1, dtype=self.dtype, name=name
        )(x_BHWC)

    def _check(self, features: Sequence[jax.Array], size: tuple[int, int]) -> None:
        if len(features) != 4:
            raise ValueError(f"`features` must be four maps, got {len(features)}.")
        for stage in range(4):
            checks.feature_size(features, stage, size, 4 * 2**stage)
        if features[0].shape[-1] != self.channels:
            raise ValueError(
                f"`features[0]` must have the decoder's {self.channels} channels, got "
                f"{features[0].shape[-1]}."
            )
