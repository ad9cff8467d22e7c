"""The decoder of "Better SSIM": five levels, and sub-pixel convolution."""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from amlr_jax.models import checks, layers
from amlr_jax.models.decoders import disparity

_CHANNELS = (64, 96, 128, 128, 256)  # of levels 1 to 5, at 1/2**level of the image
UPSAMPLINGS = ("nearest", "subpixel_head", "subpixel_levels")


class FiveLevelDecoder(disparity.DisparityDecoder):
    """Features at 1/2 ... 1/32 to disparities, natively or at full size.

    For level i = 5 ... 1:

        x = elu(conv3x3(features[i - 1]))        level{i}_lateral
        x = elu(conv3x3([x, up(level i + 1)]))   level{i}_fusion, level 5: of x alone
        disparity_i = sigmoid(conv1x1(x))        head{i}, where i is one of `scales`

    What Cao, Luo & Li ("Toward Better SSIM Loss for Unsupervised Monocular Depth
    Estimation", arXiv 2506.04758, Sec. 3.3) say: skip connections, "five-scale side
    outputs", at each scale "2 convolutional layers with the kernel size of 3 and 1
    convolutional layer with the kernel size of 1", and sub-pixel convolution, which
    rearranges a map of H/r x W/r x r^2 into H x W, instead of nearest interpolation.

    What is our reading, for the paper has no code: the layout, widths, reflection
    padding and ELU are those of GVO, an earlier network of the same author, whose
    decoder has these three convolutions a level. Heads at 1/2 ... 1/16, for the rows of
    Table 4; five of them are an option. Torch's default initial values.

    Attributes:
      scales: levels with a head; the first is the one that gives depth. All five:
        (1, 2, 3, 4, 5).
      upsampling: where sub-pixel convolution goes, which the text leaves open.
        "nearest": nowhere, the paper's baseline. Levels are doubled by nearest, and
          disparities stay at their own size.
        "subpixel_head": head i gives 4**i channels, shuffled straight to full size.
          This is the text taken by the letter, and fits Table 4, where the rows with
          sub-pixel convolution need no bilinear step and 1/16 is almost as good as 1/2.
        "subpixel_levels": a 1 x 1 convolution to 4C and a shuffle double the levels
          (level{i}_expand); disparities stay at their own size.
    """

    scales: tuple[int, ...] = (1, 2, 3, 4)
    upsampling: str = "nearest"

    @nn.compact
    def disparities(self, features: Sequence[jax.Array]) -> list[jax.Array]:
        """Disparities for i in `scales`, float32 in (0, 1).

        Args:
          features: as for `__call__`.

        Returns:
          (B, H, W) each with "subpixel_head", else (B, H / 2**i, W / 2**i).
        """
        self._check(features)
        conv = functools.partial(disparity.conv3x3, dtype=self.dtype)
        x = None
        maps = []
        for level, channels in reversed(list(enumerate(_CHANNELS, start=1))):
            lateral = conv(features[level - 1], channels, name=f"level{level}_lateral")
            parts = [nn.elu(lateral)]
            if x is not None:
                parts.append(self._double(x, level + 1))
            x = jnp.concatenate(parts, axis=-1)
            x = nn.elu(conv(x, channels, name=f"level{level}_fusion"))
            if level in self.scales:
                maps.append(nn.sigmoid(self._head(x, level)))
        return maps[::-1]

    def _double(self, x: jax.Array, level: int) -> jax.Array:
        if self.upsampling != "subpixel_levels":
            return layers.upsample_nearest_2x(x)
        name, channels = f"level{level}_expand", x.shape[-1]
        x = _conv1x1(x, 4 * channels, dtype=self.dtype, name=name)
        return layers.pixel_shuffle(x, 2)

    def _head(self, x: jax.Array, level: int) -> jax.Array:
        factor = 2**level if self.upsampling == "subpixel_head" else 1
        name = f"head{level}"
        logits = _conv1x1(x, factor**2, dtype=jnp.float32, name=name)
        return layers.pixel_shuffle(logits, factor)[..., 0]

    def _check(self, features: Sequence[jax.Array]) -> None:
        checks.one_of("upsampling", self.upsampling, UPSAMPLINGS)
        disparity.check_scales(self.scales, range(1, 6))
        disparity.check_features(features)


def _conv1x1(x: jax.Array, channels: int, *, dtype, name: str) -> jax.Array:
    inputs = x.shape[-1]
    return layers.conv(channels, inputs=inputs, size=1, dtype=dtype, name=name)(x)
