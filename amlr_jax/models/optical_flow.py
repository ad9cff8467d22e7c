"""GVO's optical flow network: two images to the flow between them, in both directions.

Cao et al., "Learning Generalized Visual Odometry Using Position-Aware Optical Flow and
Geometric Bundle Adjustment" (Pattern Recognition 2023, arXiv 2111.11141), on the
pyramid of Sun et al., "PWC-Net" (CVPR 2018).
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from amlr_jax.geometry import correlation, flow_warp
from amlr_jax.models import layers
from amlr_jax.models.bilinear import resize_aligned
from amlr_jax.models.depth import compute_dtype

RADIUS = 4  # pixels of a level
SLOPE = 0.1  # of the leaky ReLU below 0
FINEST = 2  # the level of the finest flow, at 1/4
HE, ZERO = nn.initializers.he_normal(), nn.initializers.zeros_init()


class FlowNetwork(nn.Module):
    """Flow from coarse to fine, each level correcting that of the level above.

    For level i = 6 ... 2, at 1/2**i of the image, with features f_i of both images:

        up      = the flow of level i + 1, resized and scaled to this level
        c       = leaky(correlation(f_i, f_i' warped by up)), 81 channels
        x       = [c, f_i, up, conv1x1(resized x of level i + 1)], level 6: c alone
        x       = [leaky(conv3x3(x)), x]                         five times
        s       = conv3x3(x), 81 channels
        flow_i  = up + 1/81 sum_d s_d d                          d in [-4, 4]^2

    The last line makes the flow "position-aware": each channel stands for one
    displacement d of the window, and no softmax is applied. The finest flow gets the
    output of seven dilated convolutions of x in addition. Features are three 3 x 3
    convolutions a level with leaky ReLU. 9,029,192 parameters.

    Initial values are ours: He's, without biases, and zero for what becomes flow. With
    GVO's, torch's defaults, features of two places differ by a tenth of what they have
    in common. `unit_features`, ours too, takes costs of features less their mean, of
    length 1, with a learned gain for each level; else costs are greatest where features
    are long, and a network must learn first that they match elsewhere.
    """

    channels: ClassVar = (16, 32, 64, 96, 128, 196)  # of levels 1 to 6
    widths: ClassVar = (96, 96, 64, 64, 32)  # of the convolutions of a decoder
    refiner: ClassVar = ((128, 1), (128, 2), (128, 4), (96, 8), (64, 16), (32, 1))
    unit_features: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, first_BHWC: jax.Array, second_BHWC: jax.Array
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        """Predicts the flow of two images in both directions.

        Args:
          first_BHWC, second_BHWC: float in [0, 1], of one size.

        Returns:
          The flows first to second and second to first, each a list fine to coarse of
          (B, ceil(H / 2**i), ceil(W / 2**i), 2) for i in 2 ... 5, in pixels of that
          level, float32; `enlarged` resizes one to the image.
        """
        for image in (first_BHWC, second_BHWC):
            layers.check_image(image)
        if first_BHWC.shape != second_BHWC.shape:
            raise ValueError(
                "the images must have one shape, got "
                f"{first_BHWC.shape} and {second_BHWC.shape}."
            )
        batch = len(first_BHWC)
        features = self._pyramid(jnp.concatenate([first_BHWC, second_BHWC]))
        flow: Any = None
        x: Any = None
        flows = []
        for level in range(len(features), FINEST - 1, -1):
            one = features[level - 1]
            flow, x = self._level(level, one, jnp.roll(one, batch, axis=0), flow, x)
            flows.append(flow)
        flows[-1] = flow + self._refine(x)
        found = flows[:0:-1]  # without the coarsest
        return [f[:batch] for f in found], [f[batch:] for f in found]

    def _conv(self, x: jax.Array, channels: int, name: str, **options) -> jax.Array:
        options = {"size": 3, "kernel_init": HE, "dtype": self.dtype} | options
        padding = options.get("dilation", 1) * (options["size"] // 2)
        return layers.conv(x, channels, padding=padding, name=name, **options)

    def _leaky(self, x: jax.Array, channels: int, name: str, **options) -> jax.Array:
        return nn.leaky_relu(self._conv(x, channels, name, **options), SLOPE)

    def _pyramid(self, x: jax.Array) -> list[jax.Array]:
        """Features at 1/2 ... 1/64, of an image whose sides are rounded up."""
        found = []
        for level, channels in enumerate(self.channels, start=1):
            for place in range(3):
                name, strides = f"pyramid{level}_conv{place}", 1 if place else 2
                x = self._leaky(x, channels, name, strides=strides)
            found.append(x)
        return found

    def _level(self, level: int, first, second, flow, x) -> tuple[jax.Array, jax.Array]:
        """The flow of a level (float32) and its features, given those above."""
        if flow is not None:
            size = first.shape[1:3]
            flow = rescaled(flow, size)
            x = self._conv(resize_aligned(x, size), 2, f"level{level}_reduce", size=1)
        costs = nn.leaky_relu(self._costs(level, first, second, flow), SLOPE)
        parts = [costs] if flow is None else [costs, first, flow, x]
        x = jnp.concatenate([part.astype(self.dtype) for part in parts], axis=-1)
        for place, width in enumerate(self.widths):
            new = self._leaky(x, width, f"level{level}_conv{place}")
            x = jnp.concatenate([new, x], axis=-1)
        scores = self._conv(
            x, (2 * RADIUS + 1) ** 2, f"level{level}_scores", kernel_init=ZERO
        )
        moved = position_weighted(scores.astype(jnp.float32))
        return moved if flow is None else flow + moved, x

    def _costs(self, level: int, first, second, flow) -> jax.Array:
        if self.unit_features:
            gain = self.param(f"level{level}_gain", nn.initializers.ones_init(), ())
            first, second = gain * unit_features(first), unit_features(second)
        if flow is not None:
            second = flow_warp(second, flow).image
        return correlation(first, second, radius=RADIUS)

    def _refine(self, x: jax.Array) -> jax.Array:
        for place, (channels, dilation) in enumerate(self.refiner):
            x = self._leaky(x, channels, f"refine_conv{place}", dilation=dilation)
        x = self._conv(x, 2, f"refine_conv{len(self.refiner)}", kernel_init=ZERO)
        return x.astype(jnp.float32)


def unit_features(x_BHWC: jax.Array) -> jax.Array:
    """Features less their mean over the image, of length 1 at each pixel, or 0."""
    x = x_BHWC.astype(jnp.float32)
    x -= x.mean((1, 2), keepdims=True)
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + 1e-6)


def position_weighted(scores: jax.Array) -> jax.Array:
    """Scores of the (2 r + 1)^2 displacements of a window to a flow [..., 2].

    1/n sum_d s_d d       rows of the window first, n displacements
    """
    side = round(scores.shape[-1] ** 0.5)
    offsets = np.arange(side, dtype=np.float32) - side // 2
    dv, du = np.meshgrid(offsets, offsets, indexing="ij")
    table = np.stack([du.ravel(), dv.ravel()], axis=-1) / side**2
    return jnp.matmul(scores, table, precision=jax.lax.Precision.HIGHEST)


def rescaled(flow_BHW2: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """A flow resized to another height and width, in the pixels of that size.

    Both components grow by the mean of the two factors, as in GVO.
    """
    factors = [new / old for new, old in zip(size, flow_BHW2.shape[1:3], strict=True)]
    return resize_aligned(flow_BHW2, size) * (sum(factors) / 2)


def enlarged(flow_BHW2: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """A predicted flow at 2**`FINEST` times its size: the image's, of the finest one.

    Both components grow by exactly that factor, as in GVO.
    """
    return resize_aligned(flow_BHW2, size) * float(2**FINEST)


def network_of(params: Mapping[str, Any], dtype: str | None) -> FlowNetwork:
    """The network that has the parameters "flow" among `params`."""
    unit = has_unit_features(params["flow"])
    return FlowNetwork(unit_features=unit, dtype=compute_dtype(dtype))


def has_unit_features(params: Mapping[str, Any]) -> bool:
    """Whether these are the parameters of a network with `unit_features`."""
    return "level6_gain" in params


def variable_shapes(network: FlowNetwork) -> dict:
    """The variables of a flow network as `jax.ShapeDtypeStruct`."""
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return jax.eval_shape(network.init, jax.random.key(0), image, image)
