"""monodepth2's decoder: nearest doublings with skip connections."""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from amlr_jax.models import layers
from amlr_jax.models.decoders import disparity

_CHANNELS = (16, 32, 64, 128, 256)  # of levels 0 to 4, at 1/2**level of the image


class SkipDecoder(disparity.DisparityDecoder):
    """Features at 1/2 ... 1/32 to disparities at 1, 1/2, 1/4 and 1/8.

    Godard et al., "Digging Into Self-Supervised Monocular Depth Estimation", ICCV 2019,
    whose supplement has the table of layers. For level i = 4 ... 0:

        x = double(elu(conv(x)))                 level{i}_conv0, nearest doubling
        x = elu(conv([x, features[i - 1]]))      level{i}_conv1, no skip at level 0
        disparity_i = sigmoid(conv(x))           head{i}, where i is one of `scales`

    All convolutions are 3 x 3, padded by reflection, with a bias and torch's default
    initial values. 3,152,724 parameters behind a ResNet-18 with four scales.

    Attributes:
      scales: levels with a head; the first is the one that gives depth.
    """

    scales: tuple[int, ...] = (0, 1, 2, 3)

    @nn.compact
    def disparities(self, features: Sequence[jax.Array]) -> list[jax.Array]:
        """Disparities, (B, H / 2**i, W / 2**i) for i in `scales`, float32 in (0, 1).

        Args:
          features: as for `__call__`.
        """
        disparity.check_scales(self.scales, range(4))
        disparity.check_features(features)
        conv = functools.partial(disparity.conv3x3, dtype=self.dtype)
        x = features[-1]
        maps = []
        for level in reversed(range(5)):
            x = nn.elu(conv(x, _CHANNELS[level], name=f"level{level}_conv0"))
            x = layers.upsample_nearest_2x(x)
            if level > 0:
                x = jnp.concatenate([x, features[level - 1]], axis=-1)
            x = nn.elu(conv(x, _CHANNELS[level], name=f"level{level}_conv1"))
            if level in self.scales:
                logits = disparity.conv3x3(x, 1, dtype=jnp.float32, name=f"head{level}")
                maps.append(nn.sigmoid(logits[..., 0]))
        return maps[::-1]
