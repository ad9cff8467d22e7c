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

    Attributes:
      images: how many images of 3 channels are stacked (2 for a pose network).
        11,176,512 parameters for one, 11,185,920 for two.
    """

    images: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image_BHWC: jax.Array, *, train: bool) -> list[jax.Array]:
        """Encodes images.

        Args:
          image_BHWC: float in [0, 1], (B, H, W, 3 * images).
          train: normalise with the statistics of the batch and update the running
            ones (collection "batch_stats").

        Returns:
          Five maps, fine to coarse: (B, H/2, W/2, 64), ... 64, 128, 256,
          (B, H/32, W/32, 512), of `dtype`.
        """
        if image_BHWC.shape[-1] != 3 * self.images:
            raise ValueError(
                f"`image_BHWC` must have {3 * self.images} channels (`images` = "
                f"{self.images}), got {image_BHWC.shape[-1]}."
            )
        x = (image_BHWC - IMAGE_MEAN) / IMAGE_STD
        x = _conv(CHANNELS[0], 7, stride=2, dtype=self.dtype, name="conv1")(x)
        x = layers.batch_norm(train=train, dtype=self.dtype, name="bn1")(x)
        features = [nn.relu(x)]
        x = nn.max_pool(features[0], (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for stage, channels in enumerate(CHANNELS[1:], start=1):
            for block in range(2):
                stride = 2 if stage > 1 and block == 0 else 1
                x = BasicBlock(
                    channels, stride, self.dtype, name=f"layer{stage}_block{block}"
                )(x, train=train)
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
        def conv_bn(x, size, stride, conv, norm):
            x = _conv(self.channels, size, stride=stride, dtype=self.dtype, name=conv)(
                x
            )
            return layers.batch_norm(train=train, dtype=self.dtype, name=norm)(x)

        x = nn.relu(conv_bn(x_BHWC, 3, self.stride, "conv1", "bn1"))
        x = conv_bn(x, 3, 1, "conv2", "bn2")
        skip = x_BHWC
        if self.stride > 1:
            skip = conv_bn(skip, 1, self.stride, "downsample_conv", "downsample_bn")
        return nn.relu(x + skip)


def _conv(channels: int, size: int, *, stride: int, dtype: Any, name: str) -> nn.Conv:
    return nn.Conv(
        channels,
        (size, size),
        strides=stride,
        padding=size // 2,
        use_bias=False,
        dtype=dtype,
        kernel_init=layers.conv_init,
        name=name,
    )
