"""Decoders to depth: MIM-Depth's and AMLR's without skips, GLPDepth's with skips."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from amlr_jax.models import layers
from amlr_jax.models.bilinear import conv_of_upsampled, upsample_bilinear_2x

REFERENCE_KERNEL_STD = 0.001  # MIM-Depth's initial kernels


class GradualDecoder(nn.Module):
    """Deconvolutions with gradually fewer channels; no skip connections.

    Per stage a 2 x 2 deconvolution, batch norm and activation; then a 3 x 3
    convolution, batch norm and activation, two bilinear doublings, and a head of two
    3 x 3 convolutions with sigmoid * max_depth. This is MIM-Depth's decoder with the
    two changes of AMLR (Yu & Heo, 2023, Sec. III-A): channels that decrease gradually
    (MIM-Depth: 32, 32, 32) and SiLU after each convolution (MIM-Depth: ReLU).

    Attributes:
      channels: of the deconvolutions. The paper gives no numbers; (768, 384, 192)
        mirrors the channels of Swin-v2 large, which start at 192.
      head_channels: of the convolutions after them (MIM-Depth: the encoder's
        `embed_dim`).
      kernel_init: standard deviation of all initial kernels (MIM-Depth: 0.001, which
        starts at max_depth / 2 everywhere), or "he" for He's, sqrt(2 / fan_in), which
        trains in fewer steps from scratch.
    """

    channels: tuple[int, ...] = (768, 384, 192)
    head_channels: int = 192
    max_depth: float = 80.0
    activation: Callable[[jax.Array], jax.Array] = nn.silu
    kernel_init: Any = REFERENCE_KERNEL_STD
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, features: Sequence[jax.Array], *, size: tuple[int, int], train: bool
    ) -> jax.Array:
        """Decodes the last features of an encoder.

        Args:
          features: of the encoder; the last ones, (B, H, W, C), are at
            1/2**(len(channels) + 2) of the image's size, rounded up.
          size: height and width of the image.
          train: normalise with the statistics of the batch and update the running
            ones (collection "batch_stats").

        Returns:
          Depth in metres between 0 and `max_depth`, (B, *size), float32.
        """
        x = features[-1]
        for stage, channels in enumerate(self.channels):
            x = layers.Deconvolution(
                channels,
                kernel_init=self._initializer(),
                dtype=self.dtype,
                name=f"deconv{stage}",
            )(x)
            x = self._normalize(x, f"deconv{stage}_norm", train)
        options: dict = {"dtype": self.dtype, "kernel_init": self._initializer()}
        options |= {"size": 3, "padding": 1}
        x = layers.conv(x, self.head_channels, **options, name="conv")
        x = self._normalize(x, "conv_norm", train)
        head: dict = {"convolve": partial(conv_of_upsampled, size=size)}
        x = layers.conv(x, self.head_channels, **options, **head, name="head_conv")
        options |= {"to_float32": True, "name": "head_depth"}
        x = layers.conv(self.activation(x), 1, **options)
        return self.max_depth * nn.sigmoid(x[..., 0])

    def _normalize(self, x: jax.Array, name: str, train: bool) -> jax.Array:
        norm = layers.batch_norm(train=train, dtype=self.dtype, name=name)
        return self.activation(norm(x))

    def _initializer(self) -> layers.Initializer:
        if self.kernel_init == "he":
            return nn.initializers.he_normal()
        return nn.initializers.normal(self.kernel_init)


class SelectiveFusion(nn.Module):
    """local * a0 + wide * a1, with maps a = sigmoid(convolutions([local, wide])).

    `local` is the skip of the encoder and `wide` comes from the coarser levels, both
    (B, H, W, C); `a` has one value per pixel for each.
    """

    dtype: Any

    @nn.compact
    def __call__(
        self, local_BHWC: jax.Array, wide_BHWC: jax.Array, *, train: bool
    ) -> jax.Array:
        channels = local_BHWC.shape[-1]
        options = {"size": 3, "padding": 1, "dtype": self.dtype}
        x = jnp.concatenate([local_BHWC, wide_BHWC], -1)
        for number, features in ((1, channels), (2, channels // 2)):
            x = layers.conv(x, features, **options, name=f"conv{number}")
            norm = layers.batch_norm(
                train=train, dtype=self.dtype, name=f"norm{number}"
            )
            x = nn.relu(norm(x))
        share = nn.sigmoid(layers.conv(x, 2, **options, name="conv3"))
        return local_BHWC * share[..., :1] + wide_BHWC * share[..., 1:]


class SelectiveFusionDecoder(nn.Module):
    """GLPDepth's narrow decoder with selective fusion of three skips.

    Kim et al., "Global-Local Path Networks for Monocular Depth Estimation with Vertical
    CutDepth", 2022. From the coarsest features up, at 1/16, 1/8 and 1/4 of the image's
    size: bilinear doubling and selective fusion with the skip. Then two doublings, and
    a head of two 3 x 3 convolutions with sigmoid * max_depth.

    Attributes:
      channels: of the whole decoder. The finest skip is used directly, so the encoder's
        first features must have as many; 1 x 1 convolutions reduce the others.
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
        narrow = {"size": 1, "dtype": self.dtype}
        skips = [
            layers.conv(features[2], self.channels, **narrow, name="skip_conv1"),
            layers.conv(features[1], self.channels, **narrow, name="skip_conv2"),
            features[0].astype(self.dtype),
        ]
        x = layers.conv(features[3], self.channels, **narrow, name="bottleneck_conv")
        for number, skip in enumerate(skips, 1):
            height, width = skip.shape[1:3]
            x = upsample_bilinear_2x(x)[:, :height, :width]
            fusion = SelectiveFusion(self.dtype, name=f"fusion{number}")
            x = fusion(skip, x, train=train)
        head = {"size": 3, "padding": 1, "dtype": self.dtype}
        upsampled = partial(conv_of_upsampled, size=size)
        x = layers.conv(x, self.channels, **head, convolve=upsampled, name="head_conv")
        x = nn.relu(x)
        logits = layers.conv(x, 1, **head, to_float32=True, name="head_depth")
        return self.max_depth * nn.sigmoid(logits[..., 0])
