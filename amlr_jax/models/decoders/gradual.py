"""The decoders of MIM-Depth and AMLR: deconvolutions on the last features alone."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from amlr_jax.models import checks, layers

REFERENCE_KERNEL_STD = 0.001  # MIM-Depth's initial kernels


class GradualDecoder(nn.Module):
    """Deconvolutions that narrow step by step; no skip connections.

    Per stage a 2 x 2 deconvolution, batch norm and activation; then a 3 x 3
    convolution, batch norm and activation, two bilinear doublings, and a head of two
    3 x 3 convolutions with sigmoid * max_depth. This is MIM-Depth's decoder with the
    two changes of AMLR (Yu & Heo, 2023, Sec. III-A): channels that decrease gradually
    (MIM-Depth: 32, 32, 32) and SiLU after each convolution (MIM-Depth: ReLU).

    Attributes:
      channels: of the deconvolutions. The paper gives no numbers; (768, 384, 192)
        mirrors the halving of Swin-v2 large, whose 192 first channels it ends on.
      head_channels: of the convolutions behind them (MIM-Depth: the encoder's
        `embed_dim`).
      kernel_init: standard deviation of all initial kernels (MIM-Depth: 0.001, which
        starts at max_depth / 2 everywhere), or "he" for He's, sqrt(2 / fan_in), which
        takes fewer steps from scratch.
    """

    channels: tuple[int, ...] = (768, 384, 192)
    head_channels: int = 192
    max_depth: float = 80.0
    activation: Callable[[jax.Array], jax.Array] = nn.silu
    kernel_init: float | str = REFERENCE_KERNEL_STD
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
        factor = 2 ** (len(self.channels) + 2)
        x = features[-1]
        checks.feature_size(features, -1, size, factor)
        for stage, channels in enumerate(self.channels):
            x = layers.Deconvolution2x2(
                channels, self._initializer(), dtype=self.dtype, name=f"deconv{stage}"
            )(x)
            x = self._normalize(x, f"deconv{stage}_norm", train)
        x = self._conv(self.head_channels, "conv")(x)
        x = self._normalize(x, "conv_norm", train)
        x = layers.upsample_bilinear_2x(layers.upsample_bilinear_2x(x))
        x = x[:, : size[0], : size[1]]
        x = self.activation(self._conv(self.head_channels, "head_conv")(x))
        logits = self._conv(1, "head_depth", jnp.float32)(x)[..., 0]
        return self.max_depth * nn.sigmoid(logits)

    def _conv(self, channels: int, name: str, dtype: Any = None) -> nn.Conv:
        return nn.Conv(
            channels,
            (3, 3),
            dtype=dtype or self.dtype,
            kernel_init=self._initializer(),
            name=name,
        )

    def _normalize(self, x: jax.Array, name: str, train: bool) -> jax.Array:
        norm = layers.batch_norm(train=train, dtype=self.dtype, name=name)
        return self.activation(norm(x))

    def _initializer(self) -> layers.Initializer:
        if self.kernel_init == "he":
            return nn.initializers.he_normal()
        if isinstance(self.kernel_init, str):
            raise ValueError(
                '`kernel_init` must be a standard deviation or "he", got '
                f"{self.kernel_init!r}."
            )
        return nn.initializers.normal(self.kernel_init)
