"""A pose network from a folder of weights or a state, and the steps it predicts."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from amlr_jax.config import base
from amlr_jax.data.intrinsics import resize_intrinsics
from amlr_jax.data.storage import size_name
from amlr_jax.data.views.prepare import read_pixels
from amlr_jax.evaluate.evaluator import config_of_run
from amlr_jax.models import depth, pretrained
from amlr_jax.models.depth_network import as_float
from amlr_jax.models.optical_flow import network_of
from amlr_jax.models.pose import PoseNetwork, variable_shapes
from amlr_jax.odometry import from_matches
from amlr_jax.odometry.from_matches import MatchWeights
from amlr_jax.odometry.trajectories import pose_of
from amlr_jax.runtime import files, workdir
from amlr_jax.runtime import mesh as parallel
from amlr_jax.runtime.cluster import cores
from amlr_jax.runtime.errors import InputError
from amlr_jax.runtime.threads import in_order

BATCH = 16  # pairs of images
THREADS = min(8, cores())
SIZE = (192, 640)  # height and width of monodepth2 and the paper, where none is stored


class PoseWeights(NamedTuple):
    """A pose network with its variables and the size of its images."""

    network: PoseNetwork
    variables: dict  # {"params", "batch_stats"} of the pose network alone
    size: tuple[int, int] | None  # height, width of its images; None: as the files
    step: int | None = None  # of a run's checkpoint

    def motion(
        self, variables: dict, first: jax.Array, second: jax.Array, camera: jax.Array
    ) -> jax.Array:
        """Axis-angle and translation of second_from_first, [B, 6]; no camera needed."""
        del camera
        apply: Any = self.network.apply
        return jnp.concatenate(apply(variables, first, second, train=False), axis=1)

    def steps(self, motion: np.ndarray, paths: Sequence[Path]) -> np.ndarray:
        """float64 [N, 4, 4] of the rows of `motion`."""
        del paths
        return pose_of(motion[:, :3], motion[:, 3:])


def load(folder: Path) -> PoseWeights | MatchWeights:
    """The pose network of a run, or of monodepth2's weights that were converted.

    Weights with a flow network give the motion from matches instead. Raises InputError
    as `pretrained.load` does, and for weights with neither.
    """
    found = pretrained.load(folder)
    options = found.model["options"]
    size = _size(found.folder, options)
    if matching := from_matches.load(found, size):
        return matching
    if "pose" not in found.variables["params"]:
        parts = ", ".join(found.model["parts"])
        raise InputError(
            f"'{folder}' holds no pose network, only {parts}; "
            "odometry is for runs with config.objective=self_supervised and "
            "neighbouring frames or depth_from_flow, and for weights of monodepth2 "
            "with their pose network and of GVO with their flow network"
        )
    network = PoseNetwork(dtype=depth.compute_dtype(options.get("dtype")))
    shapes = {name: {"pose": part} for name, part in variable_shapes(network).items()}
    variables = pretrained.complete(shapes, found)
    step = found.model.get("step")
    return PoseWeights(network, _pose_of(variables), size, step)


def data_of(folder: Path, root: Path) -> ConfigDict:
    """config.data of own recordings at `root`, with data.min_change of the run."""
    try:
        data = config_of_run(folder).data
    except InputError:  # converted weights
        data = base().data
    data.update({"name": "frames", "root": str(root), "split": "none"})
    return data


def of_state(config: ConfigDict, variables: dict) -> PoseWeights | MatchWeights | None:
    """The pose or flow network of a run in memory; None if it has none."""
    size, dtype = tuple(config.data.size) or None, config.model.dtype
    if "flow" in variables["params"] and config.objective == "depth_from_flow":
        flow = network_of(variables["params"], dtype)
        network = depth.network(**dict(config.model))
        return MatchWeights(network, flow, variables, size)
    if "pose" not in variables["params"]:
        return None
    pose = PoseNetwork(dtype=depth.compute_dtype(dtype))
    return PoseWeights(pose, _pose_of(variables), size)


def _pose_of(variables: dict) -> dict:
    return {name: variables[name]["pose"] for name in ("params", "batch_stats")}


def _size(folder: Path, options: dict) -> tuple[int, int] | None:
    """The size of a run's views, or what was stored with converted weights."""
    path = folder / workdir.CONFIG
    if (folder / pretrained.MODEL).is_file() or not path.is_file():
        return tuple(options.get("input_size") or SIZE)
    size = files.read_json(path).get("data", {}).get("size", SIZE)
    return tuple(size) or None


def predictor(
    weights: PoseWeights | MatchWeights, mesh: Mesh, *, batch_size: int = BATCH
) -> Callable:
    """`predict(paths, advance, camera)`: the steps of images in the order of time.

    The steps are next_from_previous, float64 [N - 1, 4, 4], in the unit of the depth
    that the network was trained with. Images are resized as for training. It is
    compiled once for a size of image; a batch is padded to a multiple of the devices
    and split over them. `advance` is called with the number of pairs that are done.
    `camera` is fx, fy, cx, cy in pixels of the files, which matches need.

    `predict` raises InputError for an image that cannot be read or differs in size, for
    a prediction that is not finite and for a camera that is needed and not known.
    """
    whole, split = parallel.replicated(mesh), parallel.over_batch(mesh)
    batch_size += -batch_size % mesh.size

    def forward(variables, first, second, camera):
        return weights.motion(variables, as_float(first), as_float(second), camera)

    places = (whole, split, split, whole)
    compiled = jax.jit(forward, in_shardings=places, out_shardings=whole)
    variables = jax.device_put(weights.variables, whole)  # once, not with each batch

    def predict(
        paths: Sequence[Path],
        advance: Callable = lambda count: None,
        camera: Sequence[float] | None = None,
    ):
        seen = _camera_seen(weights, paths, camera)
        found = []
        with ThreadPoolExecutor(THREADS) as pool:
            for frames in _batches(pool, paths, weights.size, batch_size):
                count = len(frames) - 1
                # The last frame is repeated, so that one size is compiled.
                missing = ((0, batch_size - count), (0, 0), (0, 0), (0, 0))
                pairs = (np.pad(p, missing, "edge") for p in (frames[:-1], frames[1:]))
                placed = (parallel.put_global(p, mesh) for p in pairs)
                found.append(jax.device_get(compiled(variables, *placed, seen))[:count])
                advance(count)
        motion = np.concatenate(found)
        bad = np.flatnonzero(~np.isfinite(motion).all(axis=1))
        if len(bad):
            raise InputError(
                f"the pose network gives no finite motion for {len(bad)} of "
                f"{len(motion)} pairs, the first from '{paths[bad[0]]}'; its weights "
                "are damaged"
            )
        return weights.steps(motion, paths)

    return predict


def _camera_seen(
    weights: PoseWeights | MatchWeights, paths: Sequence[Path], camera: Any
) -> np.ndarray:
    """The camera in pixels of the resized images, float32 [4]; zeros if not needed."""
    if isinstance(weights, PoseWeights):
        return np.zeros(4, np.float32)
    if camera is None:
        raise InputError(
            f"the motion from matches needs the camera of '{paths[0]}', and its data "
            "has none: of own recordings only a pose network gives odometry"
        )
    before, pixels = read_pixels(paths[0], weights.size)
    after = pixels.shape[:2]
    return resize_intrinsics(camera, before=before, after=after).astype(np.float32)


def _batches(
    pool: Executor, paths: Sequence[Path], size, batch_size: int
) -> Iterator[np.ndarray]:
    """uint8 [<= batch_size + 1, H, W, 3]; a batch starts with the last frame before."""
    starts = range(0, len(paths) - 1, batch_size)
    read = partial(_read, size=size)
    chunks = (paths[start : start + batch_size + 1] for start in starts)
    return in_order(pool, read, chunks, ahead=THREADS)


def _read(paths: Sequence[Path], size: tuple[int, int] | None) -> np.ndarray:
    frames: list[np.ndarray] = []
    for path in paths:
        frames.append(read_pixels(path, size)[1])
        found, before = frames[-1].shape[:2], frames[0].shape[:2]
        if found != before:
            raise InputError(
                f"the images of a drive must be of one size; '{path}' has "
                f"{size_name(found)}, those before it {size_name(before)}"
            )
    return np.stack(frames)
