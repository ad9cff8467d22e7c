"""A trained network as one StableHLO file, serialised by `jax.export`.

The weights are inside, so the file runs with jax and flatbuffers alone, on the
platforms that it was made for. FILE.json beside it describes input and output, how to
load it, and how it was checked.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from amlr_jax import __version__
from amlr_jax.models import pretrained
from amlr_jax.models.depth_network import DepthNetwork, has_scale
from amlr_jax.runtime import files
from amlr_jax.runtime.console import bar, show
from amlr_jax.runtime.errors import InputError, require

ENDING = ".stablehlo"
DYNAMIC = "dynamic"
PLATFORMS = ("cpu", "cuda", "tpu")
MOST_BYTES = 2**31  # of a flatbuffer
# Largest relative difference of a pixel, from sums in another order.
TOLERANCES = {"float32": 1e-4, "bfloat16": 2e-2}
LOAD = (
    "from jax import export",
    "network = export.deserialize(open({file!r}, 'rb').read())",
    "depth = network.call(image)",
)


def run(
    checkpoint: Path,
    output: Path,
    *,
    height: int | None = None,
    width: int | None = None,
    batch: str = DYNAMIC,
    platforms: Sequence[str] = ("cpu", "cuda"),
) -> Path:
    """Exports the network of a folder of weights and checks the result; its path.

    `height` and `width` of the images are by default those of the training, `batch` is
    their number or "dynamic". InputError for options that do not fit, and for an
    exported network whose depth is not that of the network; then nothing is written.
    """
    platforms = ["cuda" if platform == "gpu" else platform for platform in platforms]
    for platform in platforms:
        require("--platforms", platform, PLATFORMS)
    targets, images = tuple(dict.fromkeys(platforms)), _batch(batch)
    path = output_file(output)
    with bar("Exporting", 3) as report:
        network, variables, max_depth, _, trained = pretrained.load_network(checkpoint)
        rows, columns = trained or (0, 0)
        size = height or rows, width or columns
        if not all(size):
            raise InputError(
                f"'{checkpoint}' does not tell the size of the images in training; "
                "give --height and --width"
            )
        network, shape = portable(network), (images, *size, 3)
        check_fit(network, variables, size)
        report.advance(note="converting")
        data = encoded(partial(network.apply, variables, train=False), shape, targets)
        report.advance(note="checking")
        exported = export.deserialize(bytearray(data))
        facts = describe(network, exported, max_depth=max_depth, file=path.name)
        facts["check"] = compare(network, variables, exported)
        _write(path, data, facts)
        report.advance(note="")
    _show(path, len(data), facts)
    return path


def _batch(text: str) -> int | str:
    if text == DYNAMIC:
        return "batch"
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--batch must be {DYNAMIC} or at least 1, got '{text}'")
    return int(text)


def output_file(output: Path) -> Path:
    """The file to write; InputError if it exists or cannot be written."""
    in_folder = output.is_dir() or not output.suffix
    path = output / f"depth{ENDING}" if in_folder else output
    for there in (path, _json_of(path)):
        if there.exists():
            raise InputError(f"--output '{there}' exists; choose another")
    files.check_writable(path, option="output")
    return path


def _json_of(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def portable(network: DepthNetwork) -> DepthNetwork:
    """The same function without cuDNN's attention and without recomputation."""
    change = {"attention": "xla", "remat": False}
    parts = {}
    for name in ("encoder", "decoder"):
        part = getattr(network, name)
        fields = type(part).__dataclass_fields__.keys() & change.keys()
        parts[name] = part.clone(**{field: change[field] for field in fields})
    return network.clone(**parts)


def check_fit(network: DepthNetwork, variables: dict, size: tuple[int, int]) -> None:
    """Raises InputError for a size that the network refuses, or too many weights."""
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(variables))
    if weights >= MOST_BYTES:
        raise InputError(
            f"the weights have {weights / 1e9:.2f} GB and a StableHLO file holds less "
            f"than {MOST_BYTES / 1e9:.2f} GB; export a smaller network"
        )
    image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    try:
        jax.eval_shape(partial(network.apply, train=False), variables, image)
    except ValueError as error:
        raise InputError(
            f"--height={size[0]} --width={size[1]} do not suit the network: {error}"
        ) from error


def encoded(forward, shape: tuple[int | str, ...], platforms: tuple[str, ...]) -> bytes:
    """`forward` of a float32 array of that shape; "batch" in it stands for any number.

    What `forward` closes over, such as weights, becomes constants of the file.
    """
    dims = export.symbolic_shape(", ".join(map(str, shape)))
    spec = jax.ShapeDtypeStruct(dims, jnp.float32)
    return bytes(export.export(jax.jit(forward), platforms=platforms)(spec).serialize())


def compare(
    network: DepthNetwork, variables: dict, exported: export.Exported
) -> dict[str, Any] | None:
    """Runs the exported network and the original on the same random images.

    Returns the largest difference of a pixel in the unit of depth and relative to its
    depth, the tolerance of the latter, the number of images and the device; None if
    there is no device here that the file was made for. InputError beyond the tolerance.
    """
    device = _device(exported.platforms)
    if device is None:
        return None
    batch, *rest = exported.in_avals[0].shape
    images = batch if isinstance(batch, int) else 2
    image = np.random.default_rng(0).random((images, *rest), np.float32)
    with jax.default_device(device):
        expected = jax.jit(partial(network.apply, train=False))(variables, image)
        difference = np.abs(np.asarray(exported.call(image)) - np.asarray(expected))
    relative = difference / np.maximum(expected, np.finfo(np.float32).tiny)
    check = {
        "difference": float(difference.max()),
        "relative": float(relative.max()),
        "tolerance": TOLERANCES[jnp.dtype(network.decoder.dtype).name],
        "images": images,
        "device": device.platform,
    }
    if not check["relative"] <= check["tolerance"]:  # NaN fails too
        raise InputError(
            "the exported depth is not the network's: the largest relative difference "
            f"is {check['relative']:.1e}, allowed are {check['tolerance']:.0e}; "
            "nothing was written"
        )
    return check


def _device(platforms: tuple[str, ...]) -> jax.Device | None:
    for platform in platforms:
        with suppress(RuntimeError):  # there is none
            return jax.devices(platform)[0]
    return None


def describe(
    network: DepthNetwork, exported: export.Exported, *, max_depth: float, file: str
) -> dict[str, Any]:
    """What a user of the file must know, for its JSON."""
    shape = [d if isinstance(d, int) else str(d) for d in exported.in_avals[0].shape]
    factor = "" if has_scale(network) else ", up to one unknown factor"
    versions = {name: metadata.version(name) for name in ("jax", "jaxlib")}
    return {
        "file": file,
        "input": {
            "name": "image",
            "shape": shape,
            "dtype": "float32",
            "range": [0, 1],
            "meaning": "RGB, channels last: 8-bit codes / 255, no mean subtracted",
        },
        "output": {
            "name": "depth",
            "shape": shape[:3],
            "dtype": "float32",
            "unit": f"metres{factor}",
            "meaning": "depth along the optical axis, larger than 0",
        },
        "max_depth": max_depth,
        "computed_in": jnp.dtype(network.decoder.dtype).name,
        "load": [line.format(file=file) for line in LOAD],
        "versions": {"amlr_jax": __version__, **versions},
        "format": {
            "platforms": list(exported.platforms),
            "calling_convention_version": exported.calling_convention_version,
        },
    }


def _write(path: Path, data: bytes, facts: dict[str, Any]) -> None:
    with files.refused(f"--output '{path}'"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(path) as temporary:
            temporary.write_bytes(data)
        files.write_json(_json_of(path), facts)


def _show(path: Path, size: int, facts: dict[str, Any]) -> None:
    shapes = " to ".join(str(tuple(facts[k]["shape"])) for k in ("input", "output"))
    show(f"{path}: {size / 1e6:.1f} MB, images {shapes}; how to load it: {path}.json")
    check, platforms = facts["check"], ", ".join(facts["format"]["platforms"])
    if check is None:
        show(f"[yellow]not checked[/yellow]: no {platforms} device here")
        return
    unit = "m" if facts["output"]["unit"] == "metres" else "units"
    show(
        f"equal to the network on {check['images']} random images: largest difference "
        f"{check['difference']:.1e} {unit}, {check['relative']:.1e} of the depth"
    )
