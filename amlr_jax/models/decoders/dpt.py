"""The DPT head, from four maps of a vision transformer to metric or relative depth.

Ranftl, Bochkovskiy & Koltun, "Vision Transformers for Dense Prediction", ICCV 2021, in
the form of Yang et al., "Depth Anything V2", NeurIPS 2024: without class tokens and
batch norms.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from amlr_jax.models import layers
from amlr_jax.models.bilinear import resize_aligned
from amlr_jax.models.decoders.disparity import DisparityDecoder

HEAD_CHANNELS = 32  # of the last but one convolution
# `widths` and `channels` of Depth Anything V2, by the size of the encoder.
PRESETS = {
    "small": ((48, 96, 192, 384), 64),
    "base": ((96, 192, 384, 768), 128),
    "large": ((256, 512, 1024, 1024), 256),
    "giant": ((1536, 1536, 1536, 1536), 384),
}


class ResidualUnit(nn.Module):
    """x + conv(relu(conv(relu(x)))), 3 x 3; (B, H, W, C) to the same."""

    dtype: Any

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        y = x_BHWC
        for number in (1, 2):
            y = layers.conv(
                nn.relu(y),
                x_BHWC.shape[-1],
                size=3,
                padding=1,
                dtype=self.dtype,
                name=f"conv{number}",
            )
        return x_BHWC + y


class DPT(nn.Module):
    """Four maps of one size to one value per pixel.

    The maps are brought to 4, 2, 1 and 1/2 times their size and to `channels`
    ("reassemble"). From the coarsest on, each is added to what comes from below by a
    residual unit ("fusion"), resized to the next one, at last to 8 times the size of
    the maps; then come the image's size and three convolutions.

    Parameters: `project{i}`, `resize{i}`, `level{i}` and `fusion{i}` for maps i = 0 to
    3, and `head_conv1`, `head_conv2`, `head_depth`.

    Attributes:
      widths: channels of the maps before they are brought to `channels`.
      patch_size: pixels of the image for one of the maps.
      max_depth: of the result.
    """

    widths: tuple[int, ...] = PRESETS["small"][0]
    channels: int = PRESETS["small"][1]
    patch_size: int = 14
    max_depth: float = 80.0
    dtype: Any = jnp.float32

    @nn.compact
    def logits(self, features: Sequence[jax.Array]) -> jax.Array:
        """(B, H * patch_size, W * patch_size), float32; features (B, H, W, C) each."""
        height, width = features[0].shape[1:3]
        maps = [self._level(n, x.astype(self.dtype)) for n, x in enumerate(features)]
        sizes = [x.shape[1:3] for x in maps]
        x = jnp.zeros((), self.dtype)
        for n in (3, 2, 1, 0):
            size = sizes[n - 1] if n else [2 * length for length in sizes[0]]
            x = self._fused(n, x, maps[n], size)
        wide = {"size": 3, "padding": 1, "dtype": self.dtype}
        x = layers.conv(x, self.channels // 2, **wide, name="head_conv1")
        x = resize_aligned(x, [n * self.patch_size for n in (height, width)])
        x = nn.relu(layers.conv(x, HEAD_CHANNELS, **wide, name="head_conv2"))
        last = {"size": 1, "dtype": self.dtype, "to_float32": True}
        return layers.conv(x, 1, **last, name="head_depth")[..., 0]

    def _level(self, number: int, x: jax.Array) -> jax.Array:
        """The reassembled map, of `channels` channels."""
        width = self.widths[number]
        options = {"dtype": self.dtype, "name": f"resize{number}"}
        x = layers.conv(x, width, size=1, dtype=self.dtype, name=f"project{number}")
        if number < 2:
            x = layers.Deconvolution(width, 4 // 2**number, use_bias=True, **options)(x)
        elif number == 3:
            x = layers.conv(x, width, size=3, padding=1, strides=2, **options)
        wide = {"size": 3, "padding": 1, "use_bias": False, "dtype": self.dtype}
        return layers.conv(x, self.channels, **wide, name=f"level{number}")

    def _fused(
        self, number: int, below: jax.Array, x: jax.Array, size: Sequence[int]
    ) -> jax.Array:
        """The map with what comes from below, resized.

        The 1 x 1 convolution is in front of the resizing, with which it commutes.
        """
        name = f"fusion{number}"
        if number < 3:
            x = below + ResidualUnit(self.dtype, name=f"{name}_unit1")(x)
        x = ResidualUnit(self.dtype, name=f"{name}_unit2")(x)
        narrow = {"size": 1, "dtype": self.dtype, "name": f"{name}_project"}
        return resize_aligned(layers.conv(x, self.channels, **narrow), size)


class MetricDPT(DPT):
    """DPT to metres, sigmoid(logit) * max_depth, as Depth Anything V2's metric nets."""

    def __call__(
        self, features: Sequence[jax.Array], *, size: tuple[int, int], train: bool
    ) -> jax.Array:
        """Depth in metres between 0 and `max_depth`, (B, *size), float32.

        Args:
          features: four maps, (B, H, W, C), at 1/`patch_size` of the image's size.
          size, train: ignored.
        """
        del size, train
        return self.max_depth * nn.sigmoid(self.logits(features))


class RelativeDPT(DPT, DisparityDecoder):
    """DPT to relative depth, 1 / relu(logit), as Depth Anything V2.

    The network was trained on inverse depth up to a factor and a shift. Its output is
    zero for the sky, so the shift is taken to be zero: depth is true up to one factor.
    It is kept between `min_depth` and `max_depth`, in this unknown unit.
    """

    min_depth: float = 1e-3
    max_depth: float = 100.0
    scales: ClassVar[tuple[int, ...]] = (0,)

    def disparities(self, features: Sequence[jax.Array]) -> list[jax.Array]:
        """The one map of inverse depth, [(B, H * patch_size, W * patch_size)]."""
        return [nn.relu(self.logits(features))]

    def depth(self, disparity: jax.Array) -> jax.Array:
        """1 / disparity, between `min_depth` and `max_depth`."""
        return 1 / jnp.clip(disparity, 1 / self.max_depth, 1 / self.min_depth)
