"""What is exported of a network, how the file is checked, and what its JSON says."""

from functools import partial
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from amlr_jax import __version__
from amlr_jax.evaluate import presets
from amlr_jax.models.depth_network import DepthNetwork
from amlr_jax.runtime.errors import InputError

ANY = "batch"  # in a shape: any number of images
LIMIT = 2**31  # bytes in a file: of flatbuffers and of protobuf
# Largest relative difference of a pixel, from sums in another order.
TOLERANCES = {"float32": 1e-4, "bfloat16": 2e-2}


class Export(NamedTuple):
    """A network with its weights, and what the file is to take."""

    network: DepthNetwork
    variables: dict
    writer: ModuleType  # of the format
    shape: tuple[int | str, ...]  # of the images: (B, H, W, 3), B may be `ANY`
    platforms: tuple[str, ...]

    def depth(self, image_BHWC: jax.Array) -> jax.Array:
        """Depth (B, H, W), with the weights as constants."""
        return self.network.apply(self.variables, image_BHWC, train=False)


class Check(NamedTuple):
    """How the depth of a file differs from the network's, on random images."""

    difference: float  # largest of a pixel, in the unit of the depth
    relative: float  # largest of a pixel, in parts of its depth
    tolerance: float  # of `relative`
    images: int
    device: str


def portable(network: DepthNetwork, *, float32: bool) -> DepthNetwork:
    """The same function without what only one machine or training needs.

    That is cuDNN's attention and recomputation; with `float32` also bfloat16.
    """
    change = {"attention": "xla", "remat": False}
    if float32:
        change["dtype"] = jnp.float32
    parts = {}
    for name in ("encoder", "decoder"):
        part = getattr(network, name)
        fields = type(part).__dataclass_fields__.keys() & change.keys()
        parts[name] = part.clone(**{field: change[field] for field in fields})
    return network.clone(**parts)


def check_fit(export: Export) -> None:
    """Raises InputError for a size that the network refuses, or too many weights."""
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(export.variables))
    if weights >= LIMIT:
        raise InputError(
            f"the weights have {weights / 1e9:.2f} GB and a file of this format holds "
            f"less than {LIMIT / 1e9:.2f} GB; export a smaller network"
        )
    _, height, width, _ = export.shape
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    try:
        jax.eval_shape(export.depth, image)
    except ValueError as error:
        raise InputError(
            f"--height={height} --width={width} do not suit the network: {error}"
        ) from error


def compare(export: Export, file: Path) -> Check | None:
    """Runs the file and the network on random images.

    None if there is no device here for which the file is. InputError if a pixel differs
    by more than the tolerance of the network's dtype.
    """
    device = _device(export.platforms)
    if device is None:
        return None
    batch, *rest = export.shape
    images = 2 if batch == ANY else batch
    rng = np.random.default_rng(0)
    image = rng.random((images, *rest), np.float32)
    with jax.default_device(device):
        apply = jax.jit(partial(export.network.apply, train=False))
        expected = np.asarray(apply(export.variables, image))
        found = export.writer.outcome(file.read_bytes(), image)
    difference = np.abs(found - expected)
    relative = difference / np.maximum(expected, np.finfo(np.float32).tiny)
    tolerance = TOLERANCES[jnp.dtype(export.network.decoder.dtype).name]
    check = Check(
        float(difference.max()),
        float(relative.max()),
        tolerance,
        images,
        device.platform,
    )
    if not check.relative <= tolerance:  # a NaN fails too
        raise InputError(
            "the file's depth is not the network's: the largest relative difference "
            f"is {check.relative:.1e}, allowed are {tolerance:.0e}; nothing was written"
        )
    return check


def _device(platforms: tuple[str, ...]) -> jax.Device | None:
    for platform in platforms:
        try:
            return jax.devices(platform)[0]
        except RuntimeError:  # there is none
            continue
    return None


def describe(
    export: Export, file: Path, *, max_depth: float, check: Check | None
) -> dict:
    """What a user of the file must know, for its JSON."""
    relative = not presets.has_scale(export.network)
    versions = {name: metadata.version(name) for name in ("jax", "jaxlib")}
    return {
        "file": file.name,
        "input": {
            "name": "image",
            "shape": list(export.shape),
            "dtype": "float32",
            "range": [0, 1],
            "meaning": "RGB, channels last: 8-bit codes / 255, no mean taken off",
        },
        "output": {
            "name": "depth",
            "shape": list(export.shape[:3]),
            "dtype": "float32",
            "unit": "metres, up to one unknown factor" if relative else "metres",
            "meaning": "depth along the optical axis, larger than 0",
        },
        "max_depth": max_depth,
        "computed_in": jnp.dtype(export.network.decoder.dtype).name,
        "load": [line.format(file=file.name) for line in export.writer.LOAD],
        "versions": {"amlr_jax": __version__, **versions},
        "check": check and check._asdict(),
    }
