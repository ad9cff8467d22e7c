"""Decoders to disparities at several scales, for self-supervision.

"Disparity" has the meaning of Godard et al., "Digging Into Self-Supervised Monocular
Depth Estimation", ICCV 2019 (monodepth2): the sigmoid output s in (0, 1) of a network,
which encodes inverse depth between two bounds, not a shift in pixels.
"""

import functools
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from amlr_jax.models import layers

UPSAMPLINGS = ("nearest", "subpixel_head", "subpixel_levels")
Array = TypeVar("Array", jax.Array, np.ndarray)


def depth_from_disparity(
    disparity: jax.Array, *, min_depth: float = 0.1, max_depth: float = 100.0
) -> jax.Array:
    """Depth of a sigmoid disparity s, 1 / (1/max + (1/min - 1/max) s).

    Trained on one camera's video, depth is in metres up to one unknown scale.

    >>> depth_from_disparity(1.0), depth_from_disparity(0.0)
    (0.1, 100.0)
    """
    low, high = 1 / max_depth, 1 / min_depth
    return 1 / (low + (high - low) * disparity)


def disparity_from_depth(
    depth: Array, *, min_depth: float = 0.1, max_depth: float = 100.0
) -> Array:
    """The inverse of `depth_from_disparity`, (1/depth - 1/max) / (1/min - 1/max).

    >>> disparity_from_depth(0.1), disparity_from_depth(100.0)
    (1.0, 0.0)
    """
    low, high = 1 / max_depth, 1 / min_depth
    return (1 / depth - low) / (high - low)


def resize_disparity(disparity_BHW: jax.Array, size: Sequence[int]) -> jax.Array:
    """Bilinear, with half-pixel centres and no antialiasing, as torch and OpenCV do."""
    shape = (disparity_BHW.shape[0], *size)
    if disparity_BHW.shape == shape:
        return disparity_BHW
    return jax.image.resize(disparity_BHW, shape, "linear", antialias=False)


class DisparityDecoder(nn.Module):
    """Base of decoders with a method `disparities`, which gives maps at several scales.

    A subclass defines `disparities(features)`: sigmoid disparities in (0, 1), fine to
    coarse, each (B, h, w), float32; and `scales`, its levels with a disparity. Level i
    is at 1/2**i of the image, and the first one gives depth.

    Attributes:
      min_depth, max_depth: of `depth_from_disparity`.
    """

    min_depth: float = 0.1
    max_depth: float = 100.0
    dtype: Any = jnp.float32
    scales: ClassVar[tuple[int, ...]] = ()

    def __call__(
        self, features: Sequence[jax.Array], *, size: tuple[int, int], train: bool
    ) -> jax.Array:
        """Decodes to depth at the size of the image.

        Args:
          features: of the encoder, fine to coarse, at 1/2 ... 1/32 of an image whose
            height and width are multiples of 32.
          size: height and width of the result. The finest disparity is resized
            bilinearly before it is inverted, as monodepth2's evaluation does.
          train: ignored.

        Returns:
          Depth, (B, *size), float32, between `min_depth` and `max_depth`.
        """
        del train
        return self.depth(resize_disparity(self.disparities(features)[0], size))

    def depth(self, disparity: jax.Array) -> jax.Array:
        """`depth_from_disparity` with the bounds of this decoder."""
        return depth_from_disparity(
            disparity, min_depth=self.min_depth, max_depth=self.max_depth
        )


def conv3x3(x_BHWC: jax.Array, channels: int, **options: Any) -> jax.Array:
    """`layers.conv`, 3 x 3 and padded by reflection."""
    return layers.conv(layers.reflect_pad(x_BHWC), channels, size=3, **options)


class SkipDecoder(DisparityDecoder):
    """monodepth2's decoder: features at 1/2 ... 1/32 to disparities at 1 ... 1/8.

    Godard et al., "Digging Into Self-Supervised Monocular Depth Estimation", ICCV 2019,
    whose supplement has the table of layers. For level i = 4 ... 0:

        x = double(elu(conv(x)))                 level{i}_conv0, nearest doubling
        x = elu(conv([x, features[i - 1]]))      level{i}_conv1, no skip at level 0
        disparity_i = sigmoid(conv(x))           head{i}, where i is one of `scales`

    All convolutions are 3 x 3, padded by reflection, with a bias and torch's default
    initial values. 3,152,724 parameters after a ResNet-18.
    """

    channels: ClassVar = (16, 32, 64, 128, 256)  # of levels 0 to 4, at 1/2**level
    scales: ClassVar = (0, 1, 2, 3)

    @nn.compact
    def disparities(self, features: Sequence[jax.Array]) -> list[jax.Array]:
        """Disparities, (B, H / 2**i, W / 2**i) for i in `scales`, float32 in (0, 1).

        Args:
          features: as for `__call__`.
        """
        conv = functools.partial(conv3x3, dtype=self.dtype)
        x = features[-1]
        maps = []
        for level in reversed(range(5)):
            x = nn.elu(conv(x, self.channels[level], name=f"level{level}_conv0"))
            x = layers.upsample_nearest_2x(x)
            if level > 0:
                x = jnp.concatenate([x, features[level - 1]], axis=-1)
            x = nn.elu(conv(x, self.channels[level], name=f"level{level}_conv1"))
            if level in self.scales:
                logits = conv(x, 1, to_float32=True, name=f"head{level}")
                maps.append(nn.sigmoid(logits[..., 0]))
        return maps[::-1]


class FiveLevelDecoder(DisparityDecoder):
    """The decoder of "Better SSIM": five levels, and sub-pixel convolution.

    For level i = 5 ... 1:

        x = elu(conv3x3(features[i - 1]))        level{i}_lateral
        x = elu(conv3x3([x, up(level i + 1)]))   level{i}_fusion, level 5: of x alone
        disparity_i = sigmoid(conv1x1(x))        head{i}, where i is one of `scales`

    Cao, Luo & Li ("Toward Better SSIM Loss for Unsupervised Monocular Depth
    Estimation", arXiv 2506.04758, Sec. 3.3) describe skip connections, "five-scale side
    outputs", at each scale "2 convolutional layers with the kernel size of 3 and 1
    convolutional layer with the kernel size of 1", and sub-pixel convolution, which
    rearranges a map of H/r x W/r x r^2 into H x W, instead of nearest interpolation.

    With `planes` n > 0 the head is GVO's: conv1x1 gives n logits z, and the inverse
    depth is an expectation over n planes between the bounds,

        1 / depth = sum_k softmax(z)_k low (high / low)**(k / n),    low = 1 / max_depth

    which `disparities` gives as the s of `depth_from_disparity`.

    The paper has no code; the rest is an interpretation. Layout, widths, reflection
    padding and ELU are those of GVO, an earlier network of the same author, whose
    decoder has these three convolutions per level. The heads are at 1/2 ... 1/16, the
    rows of Table 4. Initial values are torch's defaults.

    Attributes:
      upsampling: where sub-pixel convolution is used; the paper does not specify it.
        "nearest": nowhere, the paper's baseline. Levels are doubled by nearest
          interpolation, and disparities have the size of their level.
        "subpixel_head": head i gives 4**i channels, shuffled to full size in one step.
          This is the literal reading, and agrees with Table 4, where the rows with
          sub-pixel convolution need no bilinear step and 1/16 is almost as good as 1/2.
        "subpixel_levels": a 1 x 1 convolution to 4C and a shuffle double the levels
          (level{i}_expand); disparities have the size of their level.
      planes: of the head; 0: a sigmoid. With "subpixel_head" each sub-pixel has its own
        n logits: to shuffle logits or expectations is the same.
    """

    channels: ClassVar = (64, 96, 128, 128, 256)  # of levels 1 to 5, at 1/2**level
    scales: ClassVar = (1, 2, 3, 4)
    upsampling: str = "nearest"
    planes: int = 0

    @nn.compact
    def disparities(self, features: Sequence[jax.Array]) -> list[jax.Array]:
        """Disparities for i in `scales`, float32 in (0, 1).

        Args:
          features: as for `__call__`.

        Returns:
          (B, H, W) each with "subpixel_head", else (B, H / 2**i, W / 2**i).
        """
        layers.check_one_of("upsampling", self.upsampling, UPSAMPLINGS)
        conv = functools.partial(conv3x3, dtype=self.dtype)
        x = None
        maps = []
        for level, channels in reversed(list(enumerate(self.channels, start=1))):
            lateral = conv(features[level - 1], channels, name=f"level{level}_lateral")
            parts = [nn.elu(lateral)]
            if x is not None:
                parts.append(self._double(x, level + 1))
            x = jnp.concatenate(parts, axis=-1)
            x = nn.elu(conv(x, channels, name=f"level{level}_fusion"))
            if level in self.scales:
                maps.append(self._head(x, level))
        return maps[::-1]

    def _double(self, x: jax.Array, level: int) -> jax.Array:
        if self.upsampling != "subpixel_levels":
            return layers.upsample_nearest_2x(x)
        name, channels = f"level{level}_expand", x.shape[-1]
        x = layers.conv(x, 4 * channels, size=1, dtype=self.dtype, name=name)
        return layers.pixel_shuffle(x, 2)

    def _head(self, x: jax.Array, level: int) -> jax.Array:
        factor = 2**level if self.upsampling == "subpixel_head" else 1
        name = f"head{level}"
        options = {"size": 1, "dtype": self.dtype, "to_float32": True}
        logits = layers.conv(x, factor**2 * max(1, self.planes), **options, name=name)
        logits = layers.pixel_shuffle(logits, factor)
        if not self.planes:
            return nn.sigmoid(logits[..., 0])
        low, high = 1 / self.max_depth, 1 / self.min_depth
        inverse = low * (high / low) ** (np.arange(self.planes) / self.planes)
        values = (inverse - low) / (high - low)
        return jnp.sum(nn.softmax(logits) * values.astype(np.float32), axis=-1)
