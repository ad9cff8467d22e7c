"""ResNet-18 encoder in the layout of torchvision, as monodepth2 uses it.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016. Every convolution
and the pooling are padded symmetrically, as in torch: XLA's "SAME" pads an even length
by (0, 1) at stride 2, so weights that were trained in torch would be off by a pixel.

Parameters are named `conv1`, `bn1` and `layer{1..4}_block{0,1}/...`, in float32;
`dtype` is that of the convolutions and activations.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from amlr_jax.models import layers

CHANNELS = (64, 64, 128, 256, 512)  # of the five maps, at 1/2 ... 1/32
# monodepth2's one pair of constants for all channels, not ImageNet's per channel.
IMAGE_MEAN = 0.45
IMAGE_STD = 0.225


class ResNet18(nn.Module):
    """Images to five maps of features at 1/2, 1/4, 1/8, 1/16 and 1/32 of their size.

    The images are scaled by (x - 0.45) / 0.225, as in monodepth2. The first map is
    relu(bn1(conv1)), before the max pool; the others are the outputs of the four
    stages. There is no classifier. An odd length is rounded up.

    Images may be stacked along the channels, two for a pose network: 11,176,512
    parameters for one, 11,185,920 for two.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image_BHWC: jax.Array, *, train: bool) -> list[jax.Array]:
        """Encodes images.

        Args:
          image_BHWC: float in [0, 1], (B, H, W, C).
          train: normalise with the statistics of the batch and update the running
            ones (collection "batch_stats").

        Returns:
          Five maps, fine to coarse: (B, H/2, W/2, 64), ... 64, 128, 256,
          (B, H/32, W/32, 512), of `dtype`.
        """
        x = (image_BHWC - IMAGE_MEAN) / IMAGE_STD
        options: dict = {"dtype": self.dtype, "train": train}
        x = _conv_bn(x, CHANNELS[0], 7, 2, names=("conv1", "bn1"), **options)
        features = [nn.relu(x)]
        x = nn.max_pool(features[0], (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for stage, channels in enumerate(CHANNELS[1:], start=1):
            for block in range(2):
                stride = 2 if stage > 1 and block == 0 else 1
                name = f"layer{stage}_block{block}"
                x = BasicBlock(channels, stride, self.dtype, name=name)(x, train=train)
            features.append(x)
        return features


class BasicBlock(nn.Module):
    """relu(x + bn2(conv2(relu(bn1(conv1(x)))))).

    With a stride, the shortcut is a strided 1 x 1 convolution and a batch norm.
    """

    channels: int
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, *, train: bool) -> jax.Array:
        options: dict = {"dtype": self.dtype, "train": train}
        names = ("conv1", "bn1"), ("conv2", "bn2"), ("downsample_conv", "downsample_bn")
        x = _conv_bn(x_BHWC, self.channels, 3, self.stride, names=names[0], **options)
        x = _conv_bn(nn.relu(x), self.channels, 3, 1, names=names[1], **options)
        skip = x_BHWC
        if self.stride > 1:
            skip = _conv_bn(
                skip, self.channels, 1, self.stride, names=names[2], **options
            )
        return nn.relu(x + skip)


def _conv_bn(
    x: jax.Array,
    channels: int,
    size: int,
    strides: int,
    *,
    names: tuple[str, str],
    dtype: Any,
    train: bool,
) -> jax.Array:
    """A convolution without bias and a batch norm, of these names."""
    options: dict = {"size": size, "strides": strides, "padding": size // 2}
    options |= {"use_bias": False, "kernel_init": layers.conv_init}
    x = layers.conv(x, channels, **options, dtype=dtype, name=names[0])
    return layers.batch_norm(train=train, dtype=dtype, name=names[1])(x)
