"""Image to depth: an encoder, a decoder and the size of the encoder's input."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from amlr_jax.models.decoders.disparity import DisparityDecoder, resize_disparity
from amlr_jax.models.layers import check_image

LEAST = 1e-3  # metres of calibrated depth, which a negative shift could make negative


class DepthNetwork(nn.Module):
    """Image to depth, at the image's size.

    Attributes:
      encoder: images (B, H, W, 3) to a list of features, fine to coarse.
      decoder: these features to depth at the encoder's input size.
      input_scale: factor by which the encoder's input is resized, antialiased; depth is
        resized back bilinearly. Below 1 it trades detail for speed, while losses and
        metrics use the full size, where sparse ground truth is exact.
      input_size: fixed height and width of the encoder's input, for all images.
      shorter_side: of the encoder's input, whose shape stays that of the image; in
        place of `input_scale`.
      multiple_of: the encoder's input size is rounded to multiples of this.
      resize: "linear", "cubic" or "lanczos3", of the image.
      decoder_resizes: the decoder itself resizes to the image's size, because it
        interpolates disparity instead of depth (monodepth2).
      metric: depth from disparity is in metres, because the network was trained on
        depth, or on the images of two cameras whose distance is known.
      calibration: factor and shift in metres that are applied to the depth, at least
        `LEAST` (`calibration`); None: the depth as the network was trained.
    """

    encoder: nn.Module
    decoder: nn.Module
    input_scale: float = 1.0
    input_size: tuple[int, int] | None = None
    shorter_side: int | None = None
    multiple_of: int = 1
    resize: str = "linear"
    decoder_resizes: bool = False
    metric: bool = False
    calibration: tuple[float, float] | None = None

    def __call__(self, image_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """Predicts depth.

        Args:
          image_BHWC: float in [0, 1], any height and width.
          train: batch statistics and drop path as in training; then the collection
            "batch_stats" must be mutable and, with drop path, the random stream
            "drop_path" given.

        Returns:
          Depth in metres in (0, max_depth), (B, H, W), float32; up to one unknown
          scale unless `has_scale`.
        """
        features = self._features(image_BHWC, train=train)
        shape = image_BHWC.shape[:3]
        size = shape[1:] if self.decoder_resizes else self.seen_size(*shape[1:])
        depth_BHW = self.decoder(features, size=size, train=train)
        if size != shape[1:]:
            depth_BHW = jax.image.resize(depth_BHW, shape, "linear", antialias=True)
        return self._calibrated(depth_BHW)

    def disparities(self, image_BHWC: jax.Array, *, train: bool) -> list[jax.Array]:
        """Sigmoid disparities of every head, fine to coarse, each at the head's size.

        Needs a `decoders.disparity.DisparityDecoder`; arguments as for `__call__`.
        (B, h, w) each, float32 in (0, 1).
        """
        return self.decoder.disparities(self._features(image_BHWC, train=train))

    def side_depths(self, image_BHWC: jax.Array, *, train: bool) -> list[jax.Array]:
        """The depth of each of `disparities`, (B, H, W), as computed in `__call__`.

        A disparity is resized bilinearly to the image's size in one step and then
        converted to depth. The first depth is that of `__call__`.
        """
        size = image_BHWC.shape[1:3]
        maps = self.disparities(image_BHWC, train=train)
        found = (self.decoder.depth(resize_disparity(one, size)) for one in maps)
        return [self._calibrated(depth) for depth in found]

    def _features(self, image_BHWC: jax.Array, *, train: bool) -> list[jax.Array]:
        """The encoder's features of the resized image."""
        if not jnp.issubdtype(image_BHWC.dtype, jnp.floating):
            raise ValueError(
                f"`image_BHWC` must be float in [0, 1], got {image_BHWC.dtype}."
            )
        check_image(image_BHWC)
        batch, *full, channels = image_BHWC.shape
        size = self.seen_size(*full)
        if size != tuple(full):
            shape = (batch, *size, channels)
            image_BHWC = jax.image.resize(
                image_BHWC, shape, self.resize, antialias=True
            )
        return self.encoder(image_BHWC, train=train)

    @nn.nowrap
    def _calibrated(self, depth: jax.Array) -> jax.Array:
        if self.calibration is None:
            return depth
        factor, shift = self.calibration
        return jnp.maximum(factor * depth + shift, LEAST)

    @nn.nowrap
    def seen_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the encoder's input for an image of this size."""
        scale, unit = self.input_scale, self.multiple_of
        if self.shorter_side:
            scale = self.shorter_side / min(height, width)
        size = self.input_size or (scale * height, scale * width)
        rows, columns = (max(unit, unit * round(length / unit)) for length in size)
        return rows, columns


def as_float(image: jax.Array) -> jax.Array:
    """uint8 to float32 in [0, 1], not standardised, as in the reference systems."""
    return image.astype(jnp.float32) / 255.0


def has_scale(network: nn.Module) -> bool:
    """Whether depth is in metres.

    Depth from disparity is known up to a factor, unless that is calibrated or was
    learned (`DepthNetwork.metric`).
    """
    is_disparity = isinstance(getattr(network, "decoder", None), DisparityDecoder)
    known = is_calibrated(network) or getattr(network, "metric", False)
    return known or not is_disparity


def is_calibrated(network: nn.Module) -> bool:
    """Whether known distances scale the depth."""
    return getattr(network, "calibration", None) is not None
