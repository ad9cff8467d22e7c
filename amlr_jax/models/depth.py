"""Whole depth networks and their named presets."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from amlr_jax.models import decoders, swin_v2

_PREFIX = "swin_v2_"
NETWORKS = tuple(_PREFIX + name for name in swin_v2.PRESETS)
_DECODER_INIT = {"swin_v2_nano": "he"}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class DepthNetwork(nn.Module):
    """Image to metric depth, at the image's size.

    Attributes:
      encoder: images (B, H, W, 3) to a list of features, fine to coarse.
      decoder: these features to depth at the size that `encoder` saw.
      input_scale: the encoder sees the image resized by this factor, antialiased, and
        the depth is resized back bilinearly. Below 1 it trades detail for speed while
        losses and metrics stay at full size, where sparse ground truth is exact.
    """

    encoder: nn.Module
    decoder: nn.Module
    input_scale: float = 1.0

    def __call__(self, image_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """Predicts depth.

        Args:
          image_BHWC: float in [0, 1], any height and width.
          train: batch statistics and drop path as in training; then the collection
            "batch_stats" must be mutable and, with drop path, the random stream
            "drop_path" given.

        Returns:
          Depth in metres in (0, max_depth), (B, H, W), float32.
        """
        if not jnp.issubdtype(image_BHWC.dtype, jnp.floating):
            raise ValueError(
                f"`image_BHWC` must be float in [0, 1], got {image_BHWC.dtype}."
            )
        batch, height, width, channels = image_BHWC.shape
        size = tuple(max(1, round(self.input_scale * n)) for n in (height, width))
        if size != (height, width):
            shape = (batch, *size, channels)
            image_BHWC = jax.image.resize(image_BHWC, shape, "linear", antialias=True)
        features = self.encoder(image_BHWC, train=train)
        depth_BHW = self.decoder(features, size=size, train=train)
        if size != (height, width):
            shape = (batch, height, width)
            depth_BHW = jax.image.resize(depth_BHW, shape, "linear", antialias=True)
        return depth_BHW


def network(
    name: str,
    *,
    max_depth: float,
    window_size: tuple[int, ...] | None = None,
    pretrained_window_size: tuple[int, ...] | None = None,
    use_shift: tuple[bool, ...] | None = None,
    drop_path: float | None = None,
    residual_init: float | None = None,
    decoder_channels: tuple[int, ...] | None = None,
    decoder_init: float | str | None = None,
    dtype: str = "float32",
    remat: bool = False,
    input_scale: float = 1.0,
) -> DepthNetwork:
    """The network of that name; every argument is a plain Python value.

    Args:
      name: "swin_v2_nano", "..._tiny", "..._small", "..._base" or "..._large".
      max_depth: largest depth in metres, 80 for KITTI and 10 for NYU.
      window_size, pretrained_window_size, use_shift, drop_path, residual_init: see
        `swin_v2.SwinV2`; None keeps the preset's.
      decoder_channels: of the three deconvolutions; None is (4C, 2C, C) for a first
        stage of C channels. MIM-Depth's is (32, 32, 32).
      decoder_init: standard deviation of the decoder's initial kernels, or "he"; None
        is MIM-Depth's 0.001, and "he" for nano, which is meant to train from scratch.
      dtype: "float32" or "bfloat16", of the matrix products; parameters are float32.
      remat: recompute the encoder's blocks in the backward pass, to save memory.
      input_scale: see `DepthNetwork`.
    """
    _check_arguments(name, dtype=dtype, max_depth=max_depth, input_scale=input_scale)
    encoder = swin_v2.encoder(
        name.removeprefix(_PREFIX),
        window_size=_as_tuple(window_size),
        pretrained_window_size=_as_tuple(pretrained_window_size),
        use_shift=_as_tuple(use_shift),
        drop_path=drop_path,
        residual_init=residual_init,
        dtype=DTYPES[dtype],
        remat=remat,
    )
    width = encoder.embed_dim
    if decoder_init is None:
        decoder_init = _DECODER_INIT.get(name, decoders.REFERENCE_KERNEL_STD)
    decoder = decoders.GradualDecoder(
        channels=_as_tuple(decoder_channels) or (4 * width, 2 * width, width),
        head_channels=width,
        max_depth=float(max_depth),
        kernel_init=decoder_init,
        dtype=DTYPES[dtype],
    )
    return DepthNetwork(encoder, decoder, input_scale=float(input_scale))


def _as_tuple(values: Any) -> tuple | None:
    """A tuple, which is hashable, whatever sequence the configuration held."""
    return None if values is None else tuple(values)


def _check_arguments(
    name: str, *, dtype: str, max_depth: float, input_scale: float
) -> None:
    if name not in NETWORKS:
        raise ValueError(f"`name` must be one of {', '.join(NETWORKS)}, got {name!r}.")
    if dtype not in DTYPES:
        raise ValueError(f"`dtype` must be one of {', '.join(DTYPES)}, got {dtype!r}.")
    for label, value in (("max_depth", max_depth), ("input_scale", input_scale)):
        if not value > 0:
            raise ValueError(f"`{label}` must be positive, got {value}.")
