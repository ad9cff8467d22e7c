"""A function of images as StableHLO, serialised by `jax.export`.

The file runs with jax and flatbuffers alone, on the platforms it was made for.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from amlr_jax.runtime.errors import InputError

ENDING = ".stablehlo"
# jax.export imports it and jax does not require it.
NEEDS = ("flatbuffers",)
INSTALL = "pip install flatbuffers"
PLATFORMS = ("cpu", "cuda", "tpu")
LOAD = (
    "from jax import export",
    "network = export.deserialize(open({file!r}, 'rb').read())",
    "depth = network.call(image)",
)


def check_platforms(platforms: list[str] | None) -> tuple[str, ...]:
    """The platforms to export for, by default CPU and CUDA; InputError if unknown."""
    if platforms is None:
        return ("cpu", "cuda")
    unknown = [p for p in platforms if p not in PLATFORMS]
    if unknown or not platforms:
        raise InputError(
            f"--platforms must be some of {', '.join(PLATFORMS)}, got "
            f"'{','.join(platforms)}'"
        )
    return tuple(dict.fromkeys(platforms))


def encoded(
    forward: Callable, shape: tuple[int | str, ...], platforms: tuple[str, ...]
) -> bytes:
    """`forward` of a float32 array of that shape, where "batch" is any number."""
    dims = export.symbolic_shape(", ".join(map(str, shape)))
    spec = jax.ShapeDtypeStruct(dims, jnp.float32)
    exported = export.export(jax.jit(forward), platforms=platforms)(spec)
    return bytes(exported.serialize())


def outcome(data: bytes, image: np.ndarray) -> np.ndarray:
    """What the file makes of an image, on the default device."""
    return np.asarray(export.deserialize(bytearray(data)).call(image))


def facts(data: bytes) -> dict:
    """What the file says of itself, for its JSON."""
    exported = export.deserialize(bytearray(data))
    return {
        "platforms": list(exported.platforms),
        "calling_convention_version": exported.calling_convention_version,
    }
