"""Depth of host images by a network on a mesh, compiled once for each image size."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from amlr_jax import metrics
from amlr_jax.evaluate import tiling
from amlr_jax.evaluate.protocols import Protocol
from amlr_jax.models.depth_network import as_float
from amlr_jax.runtime import compilation
from amlr_jax.runtime import mesh as parallel

ONCE = tiling.Mode()
CPU_AT_ONCE = 4


class Predictor:
    """Maps host images uint8 [B, H, W, 3] to depth in metres, float32 [B, H, W].

    Called with variables and images; see `predictor`.
    """

    def __init__(
        self, forward: Callable, whole: NamedSharding, batch: int, most_sizes: int
    ) -> None:
        self._jitted = jax.jit(
            forward, in_shardings=(whole, whole), out_shardings=whole
        )
        self._whole, self._batch = whole, batch
        self._most = most_sizes
        self._compiled: dict[Any, Callable] = {}
        self._one_at_a_time = threading.Lock()

    def __call__(self, variables: dict, image: np.ndarray) -> np.ndarray:
        count = len(image)
        if count < self._batch:
            filling = np.repeat(image[-1:], self._batch - count, axis=0)
            image = np.concatenate([image, filling])
        everywhere = jax.make_array_from_callback(
            image.shape, self._whole, lambda index: image[index]
        )
        compiled = self.prepare(variables, image.shape)
        return np.asarray(compiled(variables, everywhere))[:count]

    def prepare(self, variables: Any, shape: tuple[int, ...]) -> Callable:
        """The compiled function for images of this shape, made if it is new.

        `variables` may be `jax.ShapeDtypeStruct`s with a sharding.
        """
        leaves, structure = jax.tree.flatten(variables)
        key = shape, structure, tuple((x.shape, x.dtype) for x in leaves)
        with self._one_at_a_time:
            made = self._compiled.pop(key, None) or self._compile(variables, shape)
            self._compiled[key] = made  # as the last one used
            if self._most and len(self._compiled) > self._most:
                del self._compiled[next(iter(self._compiled))]
        return made

    def _compile(self, variables: Any, shape: tuple[int, ...]) -> Callable:
        what = "the network, {} x {}x{}".format(*shape)
        remedy = "lower eval.batch_size or eval.at_once, in predict --batch_size, or "
        remedy += "give smaller images, without --tile"
        images = jax.ShapeDtypeStruct(shape, np.uint8, sharding=self._whole)
        first = not self._compiled  # of many sizes the others pass without a line
        made, _ = compilation.compiled(
            self._jitted, variables, images, what=what, remedy=remedy, show=first
        )
        return made


def predictor(
    network,
    mesh: Mesh,
    *,
    mode: tiling.Mode = ONCE,
    at_once: int = 0,
    batch_size: int = 1,
    with_spread: bool = False,
    most_sizes: int = 0,
) -> Predictor:
    """`predict(variables, image)`: uint8 [B, H, W, 3] -> float32 metres [B, H, W].

    Image and depth are on the host. All windows and mirror images of `mode` are one
    batch, padded to a multiple of the devices and sharded over them. A device computes
    `at_once` of them together; 0: all, but four on a CPU, where more is slower. Fewer
    than `batch_size` images are padded to that, so that a last batch compiles nothing.
    `with_spread` gives [B, 2, H, W], see `tiling.predict_with_spread`. Of the sizes the
    `most_sizes` that were used last stay compiled; 0: all.
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

        join = tiling.predict_with_spread if with_spread else tiling.predict
        return join(on_mesh, image, mode)

    return Predictor(forward, whole, batch_size, most_sizes)


def with_weights(
    network, variables: dict, **options: Any
) -> Callable[[np.ndarray], np.ndarray]:
    """`predictor` on all devices, to which the variables go once and for all."""
    mesh = parallel.make_mesh()
    on_devices = jax.device_put(variables, parallel.replicated(mesh))
    return partial(predictor(network, mesh, **options), on_devices)


def _in_parts(see: Callable, views: jax.Array, *, part: int, unit: int) -> jax.Array:
    """`see` of all views, at most `part` in one call, 0: all; a multiple of `unit`."""
    count = len(views)
    if not part or count <= part:
        return see(_filled(views, -count % unit))[:count]
    parts = _filled(views, -count % part)
    parts = parts.reshape(-1, part, *parts.shape[1:])
    depth = jax.lax.map(see, parts)
    return depth.reshape(-1, *depth.shape[2:])[:count]


def _filled(views: jax.Array, missing: int) -> jax.Array:
    return jnp.concatenate([views, jnp.repeat(views[-1:], missing, axis=0)])


def in_frame(predict: Callable, protocol: Protocol) -> Callable:
    """`predict`, which maps images to depth, in the frame that is evaluated."""
    return pasted(predict) if protocol.paste_back else predict


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
