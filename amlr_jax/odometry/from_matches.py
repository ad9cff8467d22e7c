"""Steps between frames from optical flow and depth, of runs of GVO's depth stage."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from amlr_jax.models import depth, pretrained
from amlr_jax.models.camera_motion import camera_motion, trusted
from amlr_jax.models.decoders.disparity import resize_disparity
from amlr_jax.models.depth_network import DepthNetwork
from amlr_jax.models.optical_flow import (
    FlowNetwork,
    enlarged,
    network_of,
    variable_shapes,
)
from amlr_jax.models.pretrained import Pretrained
from amlr_jax.runtime.console import show
from amlr_jax.runtime.errors import counted


class MatchWeights(NamedTuple):
    """A depth and a flow network with their variables and the size of their images."""

    network: DepthNetwork
    flow: FlowNetwork
    variables: dict  # {"params", "batch_stats"}, the flow's as params/flow
    size: tuple[int, int] | None  # height, width; None: as the files
    step: int | None = None  # of a run's checkpoint

    def motion(
        self, variables: dict, first: jax.Array, second: jax.Array, camera: jax.Array
    ) -> jax.Array:
        """second_from_first, its rows as [B, 12], and 1 where it was found: [B, 13]."""
        size = first.shape[1:3]
        network: Any = self.network
        maps = network.apply(variables, first, train=False, method="disparities")
        inverse = 1.0 / self.network.decoder.depth(resize_disparity(maps[0], size))
        flow: Any = self.flow
        flows = flow.apply({"params": variables["params"]["flow"]}, first, second)
        there, back = (enlarged(levels[0], size) for levels in flows)
        found = camera_motion(
            there,
            *trusted(there, back),
            inverse,
            jnp.tile(camera, (len(first), 1)),
            jax.random.key(0),
        )
        rows = found.pose[:, :3].reshape(-1, 12)
        return jnp.concatenate([rows, found.found[:, None]], axis=1)

    def steps(self, motion: np.ndarray, paths: Any) -> np.ndarray:
        """float64 [N, 4, 4]; the identity where there is none, which is printed."""
        lost = int(np.sum(motion[:, 12] == 0))
        if lost:
            show(
                f"{lost} of {counted(len(motion), 'pair')} of frames from {paths[0]} "
                "on have no motion from matches; the camera is taken to stand"
            )
        poses = np.tile(np.eye(4), (len(motion), 1, 1))
        poses[:, :3] = motion[:, :12].reshape(-1, 3, 4)
        u, _, v = np.linalg.svd(poses[:, :3, :3])  # float32 is 1e-7 off orthonormal
        poses[:, :3, :3] = u @ v
        return poses


def load(found: Pretrained, size: tuple[int, int] | None) -> MatchWeights | None:
    """Of weights with a depth and a flow network; None of others."""
    if not {"encoder", "decoder", "flow"} <= found.variables["params"].keys():
        return None
    network = pretrained.network_of(found)
    flow = network_of(found.variables["params"], found.model["options"].get("dtype"))
    shapes = depth.variable_shapes(network)
    flow_shapes = variable_shapes(flow)["params"]
    shapes["params"] = {**shapes["params"], "flow": flow_shapes}
    variables = pretrained.complete(shapes, found)
    return MatchWeights(network, flow, variables, size, found.model.get("step"))
