"""What a pose network says of the motion between each two frames of a drive."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from amlr_jax.data import images
from amlr_jax.data.storage import Storage, size_name
from amlr_jax.data.views.images import stored_image
from amlr_jax.evaluate.depth_stream import in_order
from amlr_jax.models.depth_network import as_float
from amlr_jax.odometry.pose_weights import PoseWeights
from amlr_jax.odometry.poses import pose_of
from amlr_jax.runtime import mesh as parallel
from amlr_jax.runtime.errors import InputError

BATCH = 16  # pairs
THREADS = min(8, os.cpu_count() or 1)
_AHEAD = 4  # images a thread reads before they are wanted


def predictor(weights: PoseWeights, mesh: Mesh, *, batch_size: int = BATCH) -> Callable:
    """`predict(images, advance)`: files in the order of time to their steps.

    The steps are next_from_previous, float64 [N - 1, 4, 4], in the unit of the depth
    that the network was trained beside. Images are resized as for training. Compiled
    once for a size of image; a batch is filled up to a multiple of the devices and
    split over them. `advance` is called with how many pairs are done.

    `predict` raises InputError for an image that cannot be read or differs in size, and
    for a prediction that is not finite.
    """
    whole, split = parallel.replicated(mesh), parallel.over_batch(mesh)
    batch_size += -batch_size % mesh.size

    def forward(variables, first, second):
        frames = as_float(first), as_float(second)
        return weights.network.apply(variables, *frames, train=False)

    compiled = jax.jit(forward, in_shardings=(whole, split, split), out_shardings=whole)
    # Once, and not with every batch.
    variables = jax.device_put(weights.variables, whole)

    def motion(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        pairs = (_filled(frames, batch_size) for frames in (first, second))
        pairs = (parallel.put_global(frames, mesh) for frames in pairs)
        found = compiled(variables, *pairs)
        return np.concatenate(jax.device_get(found), axis=1)[: len(first)]

    def predict(paths: Sequence[Path], advance: Callable = lambda count: None):
        found = []
        for first, second in _pairs(paths, weights.size, batch_size):
            found.append(motion(first, second))
            advance(len(first))
        return _as_steps(np.concatenate(found), paths)

    return predict


def _as_steps(motion: np.ndarray, paths: Sequence[Path]) -> np.ndarray:
    bad = np.flatnonzero(~np.isfinite(motion).all(axis=1))
    if len(bad):
        raise InputError(
            f"the pose network gives no finite motion for {len(bad)} of {len(motion)} "
            f"pairs, the first from '{paths[bad[0]]}'; its weights are damaged"
        )
    return pose_of(motion[:, :3], motion[:, 3:])


def _filled(frames: np.ndarray, count: int) -> np.ndarray:
    """The batch with its last one repeated: one size is one compilation."""
    missing = count - len(frames)
    return np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)])


def _pairs(paths: Sequence[Path], size, batch_size: int) -> Iterator[tuple]:
    """Frames and the frames after them, uint8 [<= batch_size, H, W, 3] each."""
    frames: list[np.ndarray] = []
    for image in _read_all(paths, size):
        frames.append(image)
        if len(frames) == batch_size + 1:
            yield np.stack(frames[:-1]), np.stack(frames[1:])
            frames = frames[-1:]
    if len(frames) > 1:
        yield np.stack(frames[:-1]), np.stack(frames[1:])


def _read_all(paths: Sequence[Path], size) -> Iterator[np.ndarray]:
    """The images in order, read in threads, a few ahead; all of one size."""
    read, shape = partial(_read, how=Storage(decoded=True, resize=size)), None
    with ThreadPoolExecutor(THREADS) as pool:
        ready = in_order(pool, read, paths, ahead=_AHEAD * THREADS)
        for path, image in zip(paths, ready, strict=True):
            shape = shape or image.shape
            if image.shape != shape:
                raise InputError(
                    f"the images of a drive must be of one size; '{path}' has "
                    f"{size_name(image.shape[:2])}, those before it "
                    f"{size_name(shape[:2])}"
                )
            yield image


def _read(path: Path, how: Storage) -> np.ndarray:
    data = images.read(path, what="image")
    images.check_image(path, data)
    return stored_image(path, data, how)
