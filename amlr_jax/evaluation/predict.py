"""Depth of host images by a network on a mesh, compiled once for each image size."""

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh

from amlr_jax import parallel
from amlr_jax.training.objectives import as_float


def predictor(network, mesh: Mesh) -> Callable:
    """`predict(variables, image)`: uint8 [B, H, W, 3] -> float32 metres [B, H, W].

    Image and depth are on the host. Any B: the batch is filled up to a multiple of
    the devices.
    """
    whole, split = parallel.replicated(mesh), parallel.over_batch(mesh)

    def forward(variables, image):
        return network.apply(variables, as_float(image), train=False)

    compiled = jax.jit(forward, in_shardings=(whole, split), out_shardings=whole)

    def predict(variables, image: np.ndarray) -> np.ndarray:
        missing = -len(image) % mesh.size
        filled = np.concatenate([image, np.repeat(image[-1:], missing, axis=0)])
        depth = compiled(variables, parallel.put_global(filled, mesh))
        return np.asarray(depth)[: len(image)]

    return predict
