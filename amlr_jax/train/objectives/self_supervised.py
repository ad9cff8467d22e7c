"""Self-supervised training: depth from video by view synthesis.

The losses of Cao, Luo & Li, "Toward Better SSIM Loss for Unsupervised Monocular Depth
Estimation" (arXiv 2506.04758, sec. 3). Image formation, minimum over sources, automatic
masking and the mean over scales are those of Godard et al., "Digging Into
Self-Supervised Monocular Depth Estimation" (ICCV 2019, monodepth2).

Axes: K scales, S sources, B images, H, W.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from amlr_jax import geometry, losses
from amlr_jax.data.sources import Joined
from amlr_jax.data.views import batches as view_batches
from amlr_jax.data.views.batches import Unmeasured
from amlr_jax.models import depth as depth_networks
from amlr_jax.models.decoders.disparity import DisparityDecoder, resize_disparity
from amlr_jax.models.depth_network import DepthNetwork, as_float
from amlr_jax.models.pose import PoseNetwork
from amlr_jax.train.objectives.objective import Objective

SMOOTHNESS = "smoothness"
# The losses of each kind of photometric error, in addition to the smoothness.
PHOTOMETRIC = {
    "monodepth2": ("photometric",),
    "ssim_m": ("photometric",),
    "ssim_a": ("mae", "luminance", "contrast", "structure"),
}


# The options of `photometric_error` that each kind takes from `config.selfsup`.
ERROR_OPTIONS = {
    "monodepth2": ("ssim_weight",),
    "ssim_m": ("ssim_weight", "alpha", "beta", "gamma"),
    "ssim_a": (),
}


def objective(config: ConfigDict, network: DepthNetwork) -> Objective:
    """The losses of `config.selfsup` on the views of `config.data`."""
    options, data = config.selfsup, config.data
    names = loss_names(options.kind)
    pose = pose_network(config)
    return Objective(
        loss_names=names,
        initial_variables=partial(initial_variables, network, pose),
        losses=self_supervised(
            network,
            pose,
            kind=options.kind,
            error={name: options[name] for name in ERROR_OPTIONS[options.kind]},
            offsets=tuple(data.offsets),
            stereo=data.stereo,
            automask=options.automask,
        ),
        **views_of(config),
    )


def views_of(config: ConfigDict, *, tests: bool = True) -> dict[str, Any]:
    """`data_sets` and `batches` of an objective on the views of `config.data`.

    Without `tests`, nothing is measured on the test frames.
    """
    data = config.data

    def data_sets() -> tuple[Joined, Joined]:
        found = view_batches.measured(config) if tests else Unmeasured(data.name)
        views = Joined({data.name: view_batches.load(config)})
        return views, Joined({data.name: found})

    def batches(views: Joined, **position: object) -> Iterator[dict[str, np.ndarray]]:
        draw = {"seed": config.seed, "threads": data.threads, **position}
        return view_batches.batches(config, views.sets[data.name], **draw)

    return {"data_sets": data_sets, "batches": batches}


def pose_network(config: ConfigDict) -> PoseNetwork | None:
    """The pose network of a config; None without neighbouring frames."""
    if not config.selfsup.neighbours:
        return None
    return PoseNetwork(dtype=depth_networks.compute_dtype(config.model.dtype))


def loss_names(kind: str) -> tuple[str, ...]:
    """The losses of a kind of photometric error; ValueError if it is not known."""
    if kind not in PHOTOMETRIC:
        raise ValueError(f"`kind` must be one of {', '.join(PHOTOMETRIC)}; got {kind}")
    return (*PHOTOMETRIC[kind], SMOOTHNESS)


def self_supervised(
    network: DepthNetwork,
    pose: nn.Module | None,
    *,
    kind: str,
    error: Mapping[str, float] | None = None,
    offsets: Sequence[int] = (-1, 1),
    stereo: bool = False,
    automask: bool = True,
) -> Callable:
    """The loss function of self-supervised training; losses as in `loss_names`.

        r_ks   error of the target and source s, warped by the depth of scale k
        L      mean over scales and all pixels of min_s r_ks                      Eq. 4
        smoothness   mean over scales of (w_k / W) smoothness_loss(disparity_k)   Eq. 5

    r is Eq. 6 ("monodepth2"), Eq. 10 ("ssim_m") or Eq. 11 ("ssim_a"), whose four parts
    are separate losses. The minimum over the sources is then that of their sum,
    weighted with the input loss weights, through which no gradient flows.

    Each disparity is resized to the target (bilinear; sub-pixel heads have that size),
    because coarse images hide small motion. Its smoothness is computed at the width w_k
    of the scale, with the target resized by Lanczos: for monodepth2's four scales the
    factor w_k / W is its 1 / 2^k.

    The batch is that of `training_views`. Parameters are one tree, {"encoder",
    "decoder", "pose"}, and so are batch statistics. The pose network gets two frames in
    the order of time, in one forward pass per source as in monodepth2, so each pass has
    its own batch statistics.

    Args:
      network: a `DepthNetwork` whose decoder gives disparities.
      pose: a `PoseNetwork`; None = the partner is the only source.
      kind: of the photometric error.
      error: options of `photometric_error`: `ssim_weight`, `alpha`, `beta`, `gamma`,
        window options.
      offsets: frames from the target to each source of the batch, negative = before.
      stereo: adds the other camera's image as a source, with the pose of the
        calibration. Depth is then in metres.
      automask: leave out pixels for which an unwarped source has a smaller error than
        all warped ones, because they move with the camera or nothing moves.

    Raises:
      ValueError: an option is not known or there is no source.
    """
    names = loss_names(kind)
    _check(network, pose, offsets=offsets, stereo=stereo)
    measured = partial(_components, kind=kind, **(error or {}))

    def loss_function(params, batch_stats, batch, key, loss_weights):
        variables = {"params": params, "batch_stats": batch_stats}
        disparities, batch_stats = _disparities(network, variables, batch)
        poses, batch_stats = _poses(pose, params, batch_stats, batch, offsets)
        target = as_float(batch["image"])
        sources = jnp.moveaxis(as_float(batch["sources"]), 1, 0)[: len(poses)]
        if stereo:
            offset = batch["partner_from_target"]  # rectified: a pure translation
            still = jnp.zeros_like(offset, jnp.float32)
            poses.append(geometry.pose_from_axis_angle(still, offset))
            sources = jnp.concatenate([sources, as_float(batch["partner"])[None]])
        depth = _full_depth(network.decoder, disparities, target.shape[1:3])
        warped = _warped(sources, depth, jnp.stack(poses), batch["intrinsics"])
        values = _reconstruction(
            measured,
            target,
            warped,
            sources if automask else None,
            weights={name: loss_weights[name] for name in names[:-1]},
            key=key,
        )
        return values | {SMOOTHNESS: _smoothness(disparities, target)}, batch_stats

    return loss_function


def initial_variables(
    network: DepthNetwork, pose: nn.Module | None, key: jax.Array
) -> dict:
    """Initial {"params", "batch_stats"} of both networks, for images of any size."""
    keys = jax.random.split(key)
    image = jnp.zeros((1, 64, 64, 3), jnp.float32)
    made = network.init({"params": keys[0]}, image, train=False)
    if pose is None:
        return dict(made)
    moved = pose.init({"params": keys[1]}, image, image, train=False)
    return {name: {**made[name], "pose": moved[name]} for name in made}


def check_network(network: DepthNetwork) -> None:
    """Raises ValueError for a network without disparities."""
    if not isinstance(getattr(network, "decoder", None), DisparityDecoder):
        raise ValueError("self-supervision needs model.name monodepth2 or five_level")


def _check(network, pose, *, offsets, stereo: bool) -> None:
    check_network(network)
    if pose is None and not stereo:
        raise ValueError("self-supervision needs neighbouring frames or stereo")
    if pose is not None and (not offsets or 0 in offsets):
        raise ValueError(f"`offsets` must be frames other than 0, got {offsets}")


def _disparities(network: DepthNetwork, variables: dict, batch: dict):
    """Disparities fine to coarse, [B, h, w] each, and the new batch statistics."""
    found, new = network.apply(
        variables,
        as_float(batch["network_image"]),
        train=True,
        method="disparities",
        mutable=["batch_stats"],
    )
    return found, {**variables["batch_stats"], **new["batch_stats"]}


def _poses(pose, params, batch_stats, batch: dict, offsets):
    """source_from_target [B, 4, 4] of each neighbour, and the new batch statistics."""
    if pose is None:
        return [], batch_stats
    target = as_float(batch["network_image"])
    statistics, found = batch_stats["pose"], []
    for place, offset in enumerate(offsets):
        source = as_float(batch["network_sources"][:, place])
        before = offset < 0
        frames = (source, target) if before else (target, source)
        motion, new = pose.apply(
            {"params": params["pose"], "batch_stats": statistics},
            *frames,
            train=True,
            mutable=["batch_stats"],
        )
        statistics = new["batch_stats"]
        found.append(geometry.pose_from_axis_angle(*motion, invert=before))
    return found, {**batch_stats, "pose": statistics}


def _full_depth(decoder, disparities: list, size: tuple[int, int]) -> jax.Array:
    """Depth [K, B, H, W] of every scale at the size of the target."""
    full = [resize_disparity(disparity, size) for disparity in disparities]
    return decoder.depth(jnp.stack(full))


def _warped(sources, depth, poses, intrinsics) -> jax.Array:
    """Sources [S, B, H, W, 3] warped into the target's view, [K, S, B, H, W, 3]."""

    def warp(source, depth, pose):
        return geometry.warp(source, depth, pose, intrinsics).image

    each = jax.vmap(warp, in_axes=(0, None, 0))
    return jax.vmap(each, in_axes=(None, 0, None))(sources, depth, poses)


def _components(x, y, *, kind: str, **options) -> dict[str, jax.Array]:
    """The errors of two images as maps [B, H, W], by the names of their losses."""
    if kind == "ssim_a":
        return losses.photometric_components(x, y, **options)
    return {"photometric": losses.photometric_error(x, y, kind=kind, **options)}


def _reconstruction(
    measured: Callable,
    target: jax.Array,
    warped: jax.Array,
    unwarped: jax.Array | None,
    *,
    weights: dict[str, jax.Array],
    key: jax.Array,
) -> dict[str, jax.Array]:
    """Losses of the source with the least error at each pixel."""
    against_target = jax.vmap(measured, in_axes=(0, None))
    errors = jax.vmap(against_target, in_axes=(0, None))(warped, target)
    errors = {name: jnp.moveaxis(e, 1, 0) for name, e in errors.items()}  # S, K, ...
    identity = None
    if unwarped is not None:
        identity = against_target(unwarped, target)
        identity = {
            name: jnp.broadcast_to(e[:, None], (len(e), len(warped), *e.shape[1:]))
            for name, e in identity.items()
        }
    if len(weights) == 1:  # weights of 0 would give ties
        weights = dict.fromkeys(weights, jnp.float32(1.0))
    chosen, _ = losses.select_components(errors, weights, identity, key=key)
    return {name: e.mean() for name, e in chosen.items()}


def _smoothness(disparities: list[jax.Array], target: jax.Array) -> jax.Array:
    """Mean over the scales, each at the size of its disparity and times w_k / W."""
    total = jnp.float32(0.0)
    for disparity in disparities:
        shape = (*disparity.shape, target.shape[-1])
        image = target
        if shape != target.shape:
            image = jax.image.resize(target, shape, "lanczos3", antialias=True)
        share = disparity.shape[-1] / target.shape[-2]
        total += share * losses.smoothness_loss(disparity, image)
    return total / len(disparities)
