"""Depth from frozen optical flow, the second stage of GVO. A reconstruction of ours.

Cao et al., "Learning Generalized Visual Odometry Using Position-Aware Optical Flow and
Geometric Bundle Adjustment" (Pattern Recognition 2023). The poses are those of
`models.camera_motion`. GVO's released code samples the warped image at the nearest
pixel, so its photometric loss has no gradient; here the sampling is bilinear, and the
loss is not divided by the brightness of the image. With the losses and sub-pixel head
of Cao, Luo & Li (arXiv 2506.04758) it is the row "GVO + SSC" of their Table 5.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from amlr_jax import geometry, losses
from amlr_jax.models.camera_motion import Motion, at_places, camera_motion, trusted
from amlr_jax.models.decoders.disparity import resize_disparity
from amlr_jax.models.depth_network import DepthNetwork
from amlr_jax.models.optical_flow import FlowNetwork, enlarged
from amlr_jax.train.objectives.objective import COUNTS, Objective
from amlr_jax.train.objectives.optical_flow import (
    PHOTOMETRIC,
    Pairs,
    both_ways,
    error_of,
    flow_network,
    initial_variables,
    pairs_of,
)
from amlr_jax.train.objectives.self_supervised import (
    SMOOTHNESS,
    check_network,
    views_of,
)

ADJUSTED, CONSISTENCY = "ba", "consistency"
NAMES = (ADJUSTED, CONSISTENCY, PHOTOMETRIC, SMOOTHNESS)
LEFT_OUT = "left_out"  # pairs without a motion, since the first step


def objective(config: ConfigDict, network: DepthNetwork) -> Objective:
    """The losses of the depth stage on the views of `config.data`."""
    flow, options = flow_network(config), config.selfsup
    check_network(network)

    def variables(key: jax.Array) -> dict:
        made = initial_variables(network, flow, key)
        counts = {LEFT_OUT: jnp.zeros(())}
        return {**made, "batch_stats": {**made["batch_stats"], COUNTS: counts}}

    return Objective(
        loss_names=NAMES,
        initial_variables=variables,
        losses=depth_from_flow(
            network,
            flow,
            error_of(options),
            automask=options.automask,
            count=options.matches,
        ),
        needs=("flow",),
        **views_of(config),
    )


class _Seen(NamedTuple):
    """The pixels of each frame in the other frame of its pair."""

    pixels: jax.Array  # [2P, H, W, 2]
    depth: jax.Array  # [2P, H, W], of the points in the other camera
    valid: jax.Array  # boolean [2P, H, W], within the other image, the motion found


def depth_from_flow(
    network: DepthNetwork,
    flow: FlowNetwork,
    error: Callable,
    *,
    automask: bool = True,
    count: int = 3000,
) -> Callable:
    """The loss function of the depth stage, over both directions of each pair.

        ba           mean |r - r*| over the matches, r* by bundle adjustment
        consistency  mean |1 - z / D'(p)| over rigid pixels that are seen
        photometric  mean r(I, I' warped by the depth) over the pixels that are seen
        smoothness   `losses.smoothness_loss` of the inverse depth

    r is the inverse depth of the finest head at the size of the image, z and p the
    depth and place of a pixel in the other frame, D' the depth predicted there. With
    `automask`, photometric pixels are those whose error is below that of the unwarped
    image. A pair whose motion is not found counts in the smoothness alone, and is
    counted in the batch statistics as `counts/left_out`. No gradient flows into the
    flow, the pose and r*.

    Args:
      network: a `DepthNetwork` whose decoder gives disparities.
      flow: its parameters are `params["flow"]`.
      error: the photometric error, one map [B, H, W] of two images.
      automask: see above.
      count: of the matches of a pair.
    """

    def loss_function(params, batch_stats, batch, key, loss_weights):
        del loss_weights
        pairs = pairs_of(batch)
        inverse, new = _inverse_depth(network, params, batch_stats, pairs)
        motion = _motion(flow, params, pairs, inverse, key, count)
        counts = batch_stats[COUNTS]
        left_out = counts[LEFT_OUT] + jnp.sum(~motion.found, dtype=jnp.float32)
        seen = _seen(pairs, inverse, motion)
        values = {
            ADJUSTED: _adjusted(inverse, motion),
            CONSISTENCY: _consistency(pairs, inverse, motion, seen),
            PHOTOMETRIC: _photometric(error, pairs, seen, automask),
            SMOOTHNESS: losses.smoothness_loss(inverse, pairs.image),
        }
        return values, {**batch_stats, **new, COUNTS: {LEFT_OUT: left_out}}

    return loss_function


def _inverse_depth(network, params, batch_stats, pairs: Pairs):
    """Of all frames in one pass, [2P, H, W], and the new batch statistics."""
    found, new = network.apply(
        {"params": params, "batch_stats": batch_stats},
        pairs.network_image,
        train=True,
        method="disparities",
        mutable=["batch_stats"],
    )
    finest = resize_disparity(found[0], pairs.image.shape[1:3])
    return 1.0 / network.decoder.depth(finest), new["batch_stats"]


def _motion(flow, params, pairs: Pairs, inverse, key, count: int) -> Motion:
    frozen = jax.lax.stop_gradient(params)
    finest = both_ways(flow, frozen, pairs)[0]
    there = enlarged(finest, pairs.image.shape[1:3])
    mask, inconsistency = trusted(there, pairs.others(there))
    arrays = (there, mask, inconsistency, inverse, pairs.intrinsics)
    return camera_motion(*arrays, key, count=count)


def _seen(pairs: Pairs, inverse: jax.Array, motion: Motion) -> _Seen:
    height, width = inverse.shape[1:]
    points = geometry.backproject(1.0 / inverse, pairs.intrinsics)
    points = geometry.transform(points, motion.pose)
    pixels, ahead = geometry.project(points, pairs.intrinsics)
    inside = geometry.in_image(pixels, height=height, width=width)
    return _Seen(pixels, points[..., 2], ahead & inside & motion.found[:, None, None])


def _mean(values: jax.Array, where: jax.Array) -> jax.Array:
    """The mean where True, 0 where nothing is."""
    total = jnp.sum(jnp.where(where, values, 0.0))
    return total / jnp.maximum(jnp.sum(where), 1)


def _adjusted(inverse: jax.Array, motion: Motion) -> jax.Array:
    difference = at_places(inverse, motion.places) - motion.inverse_depth
    return _mean(jnp.abs(difference), motion.used)


def _consistency(
    pairs: Pairs, inverse: jax.Array, motion: Motion, seen: _Seen
) -> jax.Array:
    other = pairs.others(1.0 / inverse)[..., None]
    sampled = geometry.bilinear_sample(other, seen.pixels)[..., 0]
    valid = seen.valid & motion.rigid
    ratio = jnp.where(valid, seen.depth, 1.0) / jnp.where(valid, sampled, 1.0)
    return _mean(jnp.abs(1.0 - ratio), valid)


def _photometric(
    error: Callable, pairs: Pairs, seen: _Seen, automask: bool
) -> jax.Array:
    other = pairs.others(pairs.image)
    found = error(geometry.bilinear_sample(other, seen.pixels), pairs.image)
    valid = seen.valid
    if automask:
        valid &= found < error(other, pairs.image)
    return _mean(found, valid)
