"""Self-supervised optical flow, the first stage of GVO. A reconstruction of ours.

Cao et al., "Learning Generalized Visual Odometry Using Position-Aware Optical Flow and
Geometric Bundle Adjustment" (Pattern Recognition 2023), with masks from both directions
as in Wang et al. (CVPR 2018) and Meister et al. (AAAI 2018).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from amlr_jax import geometry, losses
from amlr_jax.models import depth as depth_networks
from amlr_jax.models.camera_motion import trusted
from amlr_jax.models.depth_network import DepthNetwork, as_float
from amlr_jax.models.optical_flow import FlowNetwork, enlarged
from amlr_jax.train.objectives.objective import Objective
from amlr_jax.train.objectives.self_supervised import (
    ERROR_OPTIONS,
    SMOOTHNESS,
    check_network,
    views_of,
)

PHOTOMETRIC = "photometric"
EDGE = 10.0  # weight of image gradients in the smoothness
AGREE = 0.5  # of a frame must be trusted for the rest to be left out
UNIT = 20.0  # pixels of flow that count as 1 in the smoothness


class Pairs(NamedTuple):
    """Pairs of frames in both directions: P from each target, then P to it."""

    image: jax.Array  # [2P, H, W, 3] in [0, 1], as the losses see them
    network_image: jax.Array  # with the colour jitter
    intrinsics: jax.Array  # [2P, 4]

    def others(self, array: jax.Array) -> jax.Array:
        """The same of the other frame of each pair."""
        return jnp.roll(array, len(self.image) // 2, axis=0)


def objective(config: ConfigDict, network: DepthNetwork) -> Objective:
    """The losses of the flow stage on the views of `config.data`."""
    flow, options = flow_network(config), config.selfsup
    check_network(network)
    return Objective(
        loss_names=(PHOTOMETRIC, SMOOTHNESS),
        initial_variables=partial(initial_variables, network, flow),
        losses=optical_flow(flow, error_of(options)),
        **views_of(config, tests=False),  # of the depth network, which is not trained
    )


def flow_network(config: ConfigDict) -> FlowNetwork:
    """The flow network of a config."""
    return FlowNetwork(
        unit_features=config.selfsup.unit_features,
        dtype=depth_networks.compute_dtype(config.model.dtype),
    )


def error_of(options: ConfigDict) -> Callable:
    """The photometric error of `config.selfsup`, one map [B, H, W] of two images."""
    chosen = {name: options[name] for name in ERROR_OPTIONS[options.kind]}
    return partial(losses.photometric_error, kind=options.kind, **chosen)


def initial_variables(
    network: DepthNetwork, flow: FlowNetwork, key: jax.Array
) -> dict[str, Any]:
    """Initial {"params", "batch_stats"} of depth and flow network.

    The flow stage keeps the depth network as it is, for the stage that starts from it.
    """
    keys = jax.random.split(key)
    image = jnp.zeros((1, 64, 64, 3), jnp.float32)
    made = dict(network.init({"params": keys[0]}, image, train=False))
    made["params"] = {
        **made["params"],
        "flow": flow.init(keys[1], image, image)["params"],
    }
    return made


def pairs_of(batch: Mapping[str, jax.Array]) -> Pairs:
    """Each target with each of its sources, in both directions."""

    def paired(target: jax.Array, sources: jax.Array) -> jax.Array:
        count = sources.shape[1]
        first = jnp.repeat(as_float(target), count, axis=0)
        return jnp.concatenate([first, as_float(sources).reshape(first.shape)])

    sources = batch["sources"].shape[1]
    return Pairs(
        image=paired(batch["image"], batch["sources"]),
        network_image=paired(batch["network_image"], batch["network_sources"]),
        intrinsics=jnp.tile(jnp.repeat(batch["intrinsics"], sources, 0), (2, 1)),
    )


def both_ways(flow: FlowNetwork, params: Any, pairs: Pairs) -> list[jax.Array]:
    """The flow of each frame to the other, fine to coarse, [2P, h, w, 2] each."""
    first, second = jnp.split(pairs.network_image, 2)
    found = flow.apply({"params": params["flow"]}, first, second)
    return [jnp.concatenate(level) for level in zip(*found, strict=True)]


def optical_flow(flow: FlowNetwork, error: Callable) -> Callable:
    """The loss function of the flow stage; both directions, four scales s.

        m            visibility x consistency, without gradient; where that is less
                     than half of a frame, all pixels whose match is in the image
        photometric  mean over s and pairs of  sum m r(I_s, warped I'_s) / sum m
        smoothness   mean over s of  (e^(-10 |dx I|) |dx dx f| + the same in y) / 2,
                     f in units of 20 pixels

    I_s is the image at 1/2**s and the flow, predicted at a quarter of that, is enlarged
    to it; the smoothness is of the predicted flow. r is `error`; GVO's is monodepth2's,
    .15 of the absolute error and .85 of the structural dissimilarity. GVO adds up the
    scales where this takes their mean, so both losses are an eighth of its own. It has
    no least m: flows that nowhere agree then cost nothing and have no gradient, which
    is where training ended from a bad start.
    """

    def loss_function(params, batch_stats, batch, key, loss_weights):
        del key, loss_weights
        pairs = pairs_of(batch)
        flows = both_ways(flow, params, pairs)
        values = [
            _of_scale(error, pairs, found, scale) for scale, found in enumerate(flows)
        ]
        photometric, smoothness = jnp.mean(jnp.array(values), axis=0)
        return {PHOTOMETRIC: photometric, SMOOTHNESS: smoothness}, batch_stats

    return loss_function


def _of_scale(
    error: Callable, pairs: Pairs, found: jax.Array, scale: int
) -> tuple[jax.Array, jax.Array]:
    """Photometric loss and smoothness of one scale."""
    height, width = pairs.image.shape[1:3]
    image = _resized(pairs.image, (height >> scale, width >> scale))
    flow = enlarged(found, image.shape[1:3])
    back = pairs.others(flow)
    mask = trusted(flow, back)[0]
    warped, inside = geometry.flow_warp(pairs.others(image), flow)
    agree = jnp.mean(mask, axis=(1, 2), keepdims=True) >= AGREE
    mask = jnp.where(agree, mask, inside)
    each = jnp.sum(mask * error(warped, image), axis=(1, 2))
    photometric = jnp.mean(each / jnp.maximum(jnp.sum(mask, axis=(1, 2)), 1.0))
    edges = _resized(image, found.shape[1:3])
    return photometric, second_order_smoothness(found / UNIT, edges)


def _resized(image: jax.Array, size: tuple[int, ...]) -> jax.Array:
    shape = (len(image), *size, image.shape[-1])
    return image if image.shape == shape else jax.image.resize(image, shape, "linear")


def second_order_smoothness(flow: jax.Array, image: jax.Array) -> jax.Array:
    """Mean of the second differences of a flow, less where the image has edges."""
    total = jnp.float32(0.0)
    for axis in (1, 2):
        if flow.shape[axis] < 3:
            continue
        edges = jnp.abs(jnp.diff(image, axis=axis)).mean(-1, keepdims=True)
        edges = jax.lax.slice_in_dim(edges, 1, None, axis=axis)
        curvature = jnp.abs(jnp.diff(flow, n=2, axis=axis))
        total += jnp.mean(jnp.exp(-EDGE * edges) * curvature) / 2
    return total
