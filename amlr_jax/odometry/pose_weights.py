"""The pose network of a folder of weights, and the size of the images it has seen."""

import json
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from amlr_jax.models import depth, pretrained
from amlr_jax.models.pose import PoseNetwork
from amlr_jax.runtime import workdir
from amlr_jax.runtime.errors import InputError

SIZE = (192, 640)  # height and width, where nothing tells: monodepth2's and the paper's


class PoseWeights(NamedTuple):
    """A pose network with what it needs to look at images."""

    network: PoseNetwork
    variables: dict  # {"params", "batch_stats"} of the pose network alone
    size: tuple[int, int] | None  # height, width of its images; None: as they are
    step: int | None = None  # of a run's checkpoint


def load(folder: Path) -> PoseWeights:
    """The pose network of a run, or of monodepth2's weights that were converted.

    Raises InputError as `pretrained.load` does, and for weights without one.
    """
    found = pretrained.load(folder)
    if "pose" not in found.variables["params"]:
        parts = ", ".join(found.model["parts"])
        raise InputError(
            f"'{folder}' holds no pose network, only {parts}; "
            "odometry is for runs with config.objective=self_supervised and "
            "neighbouring frames, and for monodepth2's weights with their pose network"
        )
    options = found.model["options"]
    network = PoseNetwork(dtype=depth.DTYPES[options.get("dtype", "float32")])
    shapes = {name: {"pose": part} for name, part in _shapes(network).items()}
    merged, report = pretrained.merge(shapes, found)
    if report.initial:
        raise InputError(f"weights '{folder}' lack some of {', '.join(report.initial)}")
    step = found.model.get("step")
    return PoseWeights(network, _pose_of(merged), _size(folder, options), step)


def of_state(config, variables: dict) -> PoseWeights | None:
    """The pose network of a run that is in memory; None if it has none."""
    if "pose" not in variables["params"]:
        return None
    network = PoseNetwork(dtype=depth.DTYPES[config.model.dtype])
    return PoseWeights(network, _pose_of(variables), tuple(config.data.size) or None)


def _pose_of(variables: dict) -> dict:
    return {name: variables[name]["pose"] for name in ("params", "batch_stats")}


def _shapes(network: PoseNetwork) -> dict:
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    init = partial(network.init, jax.random.key(0), train=False)
    return jax.eval_shape(init, image, image)


def _size(folder: Path, options: dict) -> tuple[int, int] | None:
    """Of a run, its views'; of converted weights, what was kept beside them."""
    path = folder / workdir.CONFIG
    if (folder / pretrained.MODEL).is_file() or not path.is_file():
        return tuple(options.get("input_size") or SIZE)
    size = json.loads(path.read_text()).get("data", {}).get("size", SIZE)
    return tuple(size) or None
