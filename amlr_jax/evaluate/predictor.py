"""Depth of host images by a network on a mesh, compiled once for each image size."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from amlr_jax import metrics
from amlr_jax.evaluate import tiling
from amlr_jax.evaluate.protocols import Protocol
from amlr_jax.models.depth_network import as_float
from amlr_jax.runtime import mesh as parallel

ONCE = tiling.Mode()
CPU_AT_ONCE = 4


def predictor(
    network, mesh: Mesh, *, mode: tiling.Mode = ONCE, at_once: int = 0
) -> Callable:
    """`predict(variables, image)`: uint8 [B, H, W, 3] -> float32 metres [B, H, W].

    Image and depth are on the host. All windows and mirror images of `mode` are one
    batch, padded to a multiple of the devices and sharded over them. A device computes
    `at_once` of them together; 0: all, but four on a CPU, where more is slower.
    """
    whole, split = parallel.replicated(mesh), parallel.over_batch(mesh)
    if mesh.devices.flat[0].platform == "cpu":
        at_once = at_once or CPU_AT_ONCE

    def forward(variables, image):
        def see(views):
            views = jax.lax.with_sharding_constraint(views, split)
            depth = network.apply(variables, as_float(views), train=False)
            return jax.lax.with_sharding_constraint(depth, whole)

        def on_mesh(views):
            return _in_parts(see, views, part=mesh.size * at_once, unit=mesh.size)

        return tiling.predict(on_mesh, image, mode)

    compiled = jax.jit(forward, in_shardings=(whole, whole), out_shardings=whole)

    def predict(variables, image: np.ndarray) -> np.ndarray:
        everywhere = jax.make_array_from_callback(
            image.shape, whole, lambda index: image[index]
        )
        return np.asarray(compiled(variables, everywhere))

    return predict


def _in_parts(see: Callable, views: jax.Array, *, part: int, unit: int) -> jax.Array:
    """`see` of all views, at most `part` in one call, 0: all; a multiple of `unit`."""
    count = len(views)
    if not part or count <= part:
        return see(_filled(views, -count % unit))[:count]
    parts = _filled(views, -count % part)
    parts = parts.reshape(-1, part, *parts.shape[1:])
    depth = jax.lax.map(see, parts)
    return depth.reshape(-1, *depth.shape[2:])[:count]


def frame_predictor(
    network, mesh: Mesh, protocol: Protocol, *, at_once: int = 0
) -> Callable:
    """`predict(variables, image)` in the test mode and the frame of a protocol."""
    predict = predictor(network, mesh, mode=protocol.mode, at_once=at_once)
    if not protocol.paste_back:
        return predict
    return lambda variables, image: pasted(partial(predict, variables))(image)


def _filled(views: jax.Array, missing: int) -> jax.Array:
    return jnp.concatenate([views, jnp.repeat(views[-1:], missing, axis=0)])


def pasted(predict: Callable) -> Callable:
    """`predict` on the KITTI benchmark's crop, pasted back into the frame with zeros.

    Maps images [B, H, W, 3] to depth [B, H, W], as in the offline evaluation of BTS.
    Raises ValueError for a frame smaller than the crop.
    """

    def of_frame(image: np.ndarray) -> np.ndarray:
        top, left = metrics.kb_crop_offsets(*image.shape[1:3])
        height, width = metrics.KB_CROP_SHAPE
        depth = np.zeros(image.shape[:3], np.float32)
        window = np.s_[:, top : top + height, left : left + width]
        depth[window] = predict(image[window])
        return depth

    return of_frame
