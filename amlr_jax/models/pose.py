"""monodepth2's pose network: two frames to the motion of the camera between them."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from amlr_jax.models import layers, resnet

OUTPUT_SCALE = 0.01  # initial poses near the identity
_CHANNELS = 256
_POSES = 2  # monodepth2 predicts two and trains the first


class PoseDecoder(nn.Module):
    """The coarsest features to six numbers: the mean of a map of poses.

    1 x 1 (`conv0`), 3 x 3 (`conv1`, `conv2`), each with ReLU, and 1 x 1 (`conv3`) to
    two poses; zero padding. 1,314,572 parameters after a ResNet-18.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(B, H, W, C) to axis-angle and translation, (B, 3) each, float32."""
        x = x_BHWC
        for index, size in enumerate((1, 3, 3)):
            options = {"size": size, "padding": size // 2, "dtype": self.dtype}
            x = nn.relu(layers.conv(x, _CHANNELS, **options, name=f"conv{index}"))
        x = layers.conv(x, 6 * _POSES, size=1, dtype=jnp.float32, name="conv3")
        pose = OUTPUT_SCALE * x.mean((1, 2))
        return pose[:, 0:3], pose[:, 3:6]


class PoseNetwork(nn.Module):
    """Two frames of a video to the pose second_from_first.

    Godard et al., "Digging Into Self-Supervised Monocular Depth Estimation", ICCV 2019:
    a ResNet-18 on both frames (`encoder`) and a `PoseDecoder` (`decoder`).
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, first_image: jax.Array, second_image: jax.Array, *, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Predicts the motion between two frames.

        The frames are in the order of time, also where the second is the target, so
        that the network learns one direction of motion. The pose maps points from the
        first camera to the second; `geometry.pose_from_axis_angle` gives the matrix,
        with `invert=True` for first_from_second (where the source is the first).

        Args:
          first_image, second_image: float in [0, 1], (B, H, W, 3), in order of time.
          train: normalise with the statistics of the batch and update the running
            ones (collection "batch_stats").

        Returns:
          Axis-angle in radians and translation in the unit of the depth, (B, 3) each,
          float32.
        """
        images = jnp.concatenate([first_image, second_image], axis=-1)
        encoder = resnet.ResNet18(dtype=self.dtype, name="encoder")
        features = encoder(images, train=train)
        return PoseDecoder(dtype=self.dtype, name="decoder")(features[-1])


def variable_shapes(network: PoseNetwork) -> dict:
    """The variables of a pose network as `jax.ShapeDtypeStruct`."""
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    init = functools.partial(network.init, jax.random.key(0), train=False)
    return jax.eval_shape(init, image, image)
