"""What the self-supervised decoders share: disparity maps at several scales to depth.

"Disparity" is what Godard et al., "Digging Into Self-Supervised Monocular Depth
Estimation", ICCV 2019 (monodepth2) call it: the sigmoid s in (0, 1) of a network, which
stands for inverse depth between two bounds. It is no shift of pixels.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from amlr_jax.models import layers


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
    depth: jax.Array, *, min_depth: float = 0.1, max_depth: float = 100.0
) -> jax.Array:
    """The inverse of `depth_from_disparity`, (1/depth - 1/max) / (1/min - 1/max).

    >>> disparity_from_depth(0.1), disparity_from_depth(100.0)
    (1.0, 0.0)
    """
    low, high = 1 / max_depth, 1 / min_depth
    return (1 / depth - low) / (high - low)


def resize_disparity(disparity_BHW: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Bilinear, with half-pixel centres and no antialiasing, as torch and OpenCV do."""
    shape = (disparity_BHW.shape[0], *size)
    if disparity_BHW.shape == shape:
        return disparity_BHW
    return jax.image.resize(disparity_BHW, shape, "linear", antialias=False)


class DisparityDecoder(nn.Module):
    """Base of decoders whose method `disparities` gives maps at several scales.

    `disparities(features)` is the subclass's: sigmoid disparities in (0, 1), fine to
    coarse, each (B, h, w), float32.

    Attributes:
      min_depth, max_depth: of `depth_from_disparity`.
    """

    min_depth: float = 0.1
    max_depth: float = 100.0
    dtype: Any = jnp.float32

    def __call__(
        self, features: Sequence[jax.Array], *, size: tuple[int, int], train: bool
    ) -> jax.Array:
        """Decodes to depth at the size of the image.

        Args:
          features: of the encoder, fine to coarse, at 1/2 ... 1/32 of an image whose
            height and width are multiples of 32.
          size: height and width of the result. The finest disparity is resized
            bilinearly before it is inverted, as monodepth2's evaluation does.
          train: nothing here depends on it.

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


def conv3x3(x_BHWC: jax.Array, channels: int, *, dtype: Any, name: str) -> jax.Array:
    """A 3 x 3 convolution padded by reflection; call it in a compact method."""
    x = layers.reflect_pad(x_BHWC)
    inputs = x.shape[-1]
    return layers.conv(channels, inputs=inputs, size=3, dtype=dtype, name=name)(x)


def check_scales(scales: Sequence[int], allowed: Sequence[int]) -> None:
    """Raises ValueError unless `scales` are increasing and all `allowed`."""
    ordered = tuple(scales) == tuple(sorted(set(scales)))
    if not (scales and ordered and set(scales) <= set(allowed)):
        raise ValueError(
            f"`scales` must be increasing numbers out of {tuple(allowed)}, got "
            f"{tuple(scales)}."
        )


def check_features(features: Sequence[jax.Array]) -> None:
    """Raises ValueError unless there are five maps, each twice as large as the next."""
    sizes = [x.shape[1:3] for x in features]
    if len(sizes) != 5:
        raise ValueError(f"`features` must be five maps, got {len(sizes)}.")
    height, width = sizes[-1]
    if sizes != [(height << n, width << n) for n in (4, 3, 2, 1, 0)]:
        maps = ", ".join(f"{h} x {w}" for h, w in sizes)
        raise ValueError(
            "`features` must double in size from map to map: height and width of the "
            f"image must be multiples of 32. Got maps of {maps}, of an image of about "
            f"{2 * sizes[0][0]} x {2 * sizes[0][1]}; resize the image to "
            f"{32 * height} x {32 * width}."
        )
