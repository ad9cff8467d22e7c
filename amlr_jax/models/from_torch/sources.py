"""The published checkpoints that can be read, and which network of ours each one is.

What a file does not say of its network (sizes, depths, heads, windows) is read from the
shapes of its tensors, once they have our names.
"""

import difflib
import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from amlr_jax.models.attention import COORDINATE_SCALE, relative_coordinates
from amlr_jax.models.from_torch import namings
from amlr_jax.models.from_torch.assign import place
from amlr_jax.models.from_torch.files import Weights
from amlr_jax.models.from_torch.tables import TABLES
from amlr_jax.models.mix_transformer import PRESETS as MIX_TRANSFORMERS
from amlr_jax.models.swin_v2 import PRESETS as SWINS
from amlr_jax.models.vision_transformer import PRESETS as VISION_TRANSFORMERS
from amlr_jax.runtime.errors import InputError, preview

Shapes = dict[str, tuple[int, ...]]  # by our path, "encoder/norm/scale"


class Source(NamedTuple):
    """One kind of checkpoint; its table of names is `TABLES[name]`."""

    holds: str  # for people
    describe: Callable[[Shapes, Weights], tuple[str, dict]]  # network and its options
    parts: tuple[str, ...]  # what it fills; ("encoder",) is no whole network
    optional_parts: tuple[str, ...] = ()
    may_miss: str = ""  # our paths in `parts` without which it is still whole
    max_depth: float | None = None  # metres, of the published checkpoints
    stems: tuple[str, ...] = ()  # of a folder: files that must be there,
    optional_stems: tuple[str, ...] = ()  # and that may


class Recognised(NamedTuple):
    """The input as a network of ours."""

    tensors: dict[str, np.ndarray]
    name: str
    options: dict[str, Any]
    parts: tuple[str, ...]


def find(name: str) -> Source:
    """The source of that name; InputError with the nearest one."""
    if name in SOURCES:
        return SOURCES[name]
    near = difflib.get_close_matches(name, SOURCES, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise InputError(f"source must be one of {', '.join(SOURCES)}; got '{name}'{hint}")


def recognise(source_name: str, weights: Weights) -> Recognised:
    """Which network the weights are; InputError if they are of another source."""
    source = find(source_name)
    tensors = namings.official(weights.tensors)
    weights = weights._replace(tensors=tensors)
    tensors = _without_prefix(source_name, tensors)
    places = {name: place(name, TABLES[source_name]) for name in tensors}
    unknown = [name for name, target in places.items() if target is None]
    if unknown:
        raise _other(source_name, unknown, weights.tensors)
    shapes = {
        "/".join(target.path): target.transform(tensors[name]).shape
        for name, target in places.items()
        # `assign` reports a wrong rank.
        if target and target.collection and len(target.axes) in (0, tensors[name].ndim)
    }
    name, options = source.describe(shapes, weights)
    there = {path.partition("/")[0] for path in shapes}
    more = (part for part in source.optional_parts if part in there)
    return Recognised(tensors, name, options, (*source.parts, *more))


def _without_prefix(source_name: str, tensors: dict) -> dict[str, np.ndarray]:
    """Official encoders are at times kept inside a model, as `encoder.`."""
    if source_name != "swinv2":
        return tensors
    return {name.removeprefix("encoder."): value for name, value in tensors.items()}


def _other(source_name: str, unknown: list[str], tensors: dict) -> InputError:
    """The error, with the source that knows and uses most of the tensors."""

    tensors = namings.official(tensors)

    def score(name: str) -> tuple[int, int]:
        names = _without_prefix(name, tensors)
        known = [p for p in (place(n, TABLES[name]) for n in names) if p is not None]
        return len(known), sum(1 for target in known if target.collection)

    for pattern, remedy in UNSUPPORTED.items():
        if any(re.match(pattern, name) for name in tensors):
            return InputError(remedy)
    best = max(SOURCES, key=score)
    hint = f"that is for {SOURCES[source_name].holds}"
    if score(best) > score(source_name):
        hint = f"it looks like {SOURCES[best].holds}: --source={best}"
    return InputError(
        f"{len(unknown)} of {len(tensors)} tensors are not of source {source_name} "
        f"({preview(unknown)}); {hint}"
    )


# Names of models that look like ours and are others -> what to do.
UNSUPPORTED = {
    r"stages\.\d\.blocks\.\d+\.attn\.meta_mlp": "the input is timm's swinv2_cr, "
    "another network; give timm's swinv2 or the official file",
    r"stages\.\d\.blocks\.\d+\.attn\.w_msa": "the input is MMPretrain's Swin-v2, "
    "which merges pixels in another order; give the official file it was made from",
}

# ---------------------------------------------------------------- networks


def _size(shapes: Shapes, path: str) -> tuple[int, ...]:
    if path not in shapes:
        raise InputError(f"the input has no tensor for {path}; the file is not whole")
    return shapes[path]


def _depths(shapes: Shapes) -> tuple[int, ...]:
    """Blocks in each stage, by the highest number seen."""
    depths: dict[int, int] = {}
    for path in shapes:
        if match := re.match(r"encoder/stage(\d+)_block(\d+)/", path):
            stage, block = int(match[1]), int(match[2])
            depths[stage] = max(depths.get(stage, 0), block + 1)
    return tuple(depths[stage] for stage in sorted(depths))


def _preset(sizes: dict, presets: dict[str, dict], family: str) -> str:
    """The name of the network with these sizes."""
    for name, preset in presets.items():
        if all(preset[key] == value for key, value in sizes.items()):
            return f"{family}_{name}"
    found = ", ".join(f"{key} {value}" for key, value in sizes.items())
    known = ", ".join(presets)
    raise InputError(f"no {family} ({known}) has {found}, as the input has")


def _swin_v2(shapes: Shapes, weights: Weights, *, convention: str) -> tuple[str, dict]:
    """Sizes from the tensors; pretraining windows from the tables of coordinates."""
    path = "encoder/stage{}_block0/attn/logit_scale"
    sizes: dict = {
        "embed_dim": _size(shapes, "encoder/patch_embed/proj/kernel")[-1],
        "depths": _depths(shapes),
        "num_heads": tuple(_size(shapes, path.format(s))[0] for s in range(4)),
    }
    options: dict[str, Any] = {"convention": convention}
    windows = _windows(weights.tensors)
    if len(windows) == len(sizes["depths"]):
        options["pretrained_window_size"] = tuple(before for _, before in windows)
    return _preset(sizes, SWINS, "swin_v2"), options


def _windows(tensors: dict[str, np.ndarray]) -> list[tuple[int, int]]:
    """Window of each stage and the window that it was pretrained with.

    A table of coordinates is (1, 2w - 1, 2w - 1, 2), and its largest value is
    log2(8 (w - 1) / (p - 1) + 1) / log2(8) for a pretraining window p.
    """
    found = []
    for name, table in sorted(tensors.items()):
        if not re.fullmatch(r".*layers\.\d+\.blocks\.0\..*relative_coords_table", name):
            continue
        window = (table.shape[1] + 1) // 2
        found.append((window, _pretrained_window(name, table, window)))
    return found


def _pretrained_window(name: str, table: np.ndarray, window: int) -> int:
    """The one integer whose table this is, to the rounding of the stored values."""
    rounding = _rounding(table)
    if window == 1:
        return 1
    largest = float(table.max()) * (1 + rounding * np.array([-1.0, 1.0]))
    with np.errstate(all="ignore"):
        reach = COORDINATE_SCALE
        high, low = 1 + (window - 1) * reach / (reach**largest - 1)
    if not 1 < low <= high < np.inf:
        raise InputError(f"'{name}' is no table of Swin-v2's logarithmic positions")
    fits = range(max(2, math.ceil(low)), math.floor(high) + 1)
    if len(fits) > 1:
        raise InputError(
            f"'{name}' is stored too coarsely to tell the pretraining window, which "
            f"may be {', '.join(map(str, fits))}; give the file before quantisation"
        )
    for pretrained in fits:
        expected = relative_coordinates(window, pretrained)[None]
        same_shape = table.shape == expected.shape
        if same_shape and np.allclose(table, expected, rtol=rounding, atol=0):
            return pretrained
    raise InputError(
        f"'{name}' is no table of Swin-v2's logarithmic positions: no whole window of "
        f"pretraining gives it, the nearest is {(low + high) / 2:.2f}"
    )


def _rounding(table: np.ndarray) -> float:
    """The relative rounding of the coarsest float type that holds the table exactly.

    A checkpoint may have been in half precision before it was saved in float32.
    """
    for dtype in (jnp.float8_e5m2, jnp.float8_e4m3fn, jnp.bfloat16, jnp.float16):
        if np.array_equal(table.astype(dtype).astype(table.dtype), table):
            return float(jnp.finfo(dtype).eps)
    return 1e-5  # float32, as different libraries compute the logarithm


def _mim_depth(shapes: Shapes, weights: Weights) -> tuple[str, dict]:
    """A Swin-v2 with MIM-Depth's decoder."""
    name, options = _swin_v2(shapes, weights, convention="mim_depth")
    deconvolutions = [_size(shapes, f"decoder/deconv{i}/kernel") for i in range(3)]
    if windows := _windows(weights.tensors):
        options["window_size"] = tuple(window for window, _ in windows)
    channels = tuple(shape[-1] for shape in deconvolutions)
    return name, options | {"decoder_channels": channels, "decoder_activation": "relu"}


def _mix_transformer(shapes: Shapes, _: Weights) -> tuple[str, dict]:
    """GLPDepth's network by its encoder; all of it, or the encoder alone."""
    path = "encoder/stage{}_patch_embed/proj/kernel"
    dims = tuple(_size(shapes, path.format(stage))[-1] for stage in range(4))
    sizes = {"embed_dims": dims, "depths": _depths(shapes)}
    return _preset(sizes, MIX_TRANSFORMERS, "glpdepth"), {}


def _vision_transformer(shapes: Shapes, _: Weights, *, family: str) -> tuple[str, dict]:
    """DINOv2 or DINOv3 by its encoder, with the number of registers."""
    patch, width = (_size(shapes, "encoder/patch_embed/kernel")[n] for n in (0, -1))
    blocks = {m[1] for path in shapes if (m := re.match(r"encoder/block(\d+)/", path))}
    sizes = {"embed_dim": width, "depth": len(blocks), "patch_size": patch}
    name = _preset(sizes, VISION_TRANSFORMERS[family], family)
    tokens = shapes.get("encoder/register_tokens")
    extra = {"registers": tokens[1]} if tokens and family == "dinov2" else {}
    return f"{name}_dpt", extra


def _depth_anything_v2(shapes: Shapes, weights: Weights) -> tuple[str, dict]:
    """The relative network; the official images have a shorter side of 518 pixels."""
    name, options = _vision_transformer(shapes, weights, family="dinov2")
    name = name.replace("dinov2_", "depth_anything_v2_").removesuffix("_dpt")
    return name, options | {"shorter_side": 518}


def _monodepth2(_: Shapes, weights: Weights) -> tuple[str, dict]:
    """The size of the images is kept beside the tensors, but for ResNet-18's."""
    height, width = (weights.extras.get(f"encoder:{n}") for n in ("height", "width"))
    size = {"input_size": (int(height), int(width))} if height and width else {}
    return "monodepth2", size


def _gvo(shapes: Shapes, _: Weights) -> tuple[str, dict]:
    """The planes by the head; of the flow network alone those of the release.

    The size of its images, 256 x 832, is in no file.
    """
    planes = shapes.get("decoder/head1/kernel", (48,))[-1]
    return "five_level", {"planes": planes, "input_size": (256, 832)}


ENCODER, WHOLE = ("encoder",), ("encoder", "decoder")
SOURCES = {
    "simmim": Source(
        "a Swin-v2 encoder pretrained by SimMIM",
        partial(_swin_v2, convention="mim_depth"),
        parts=ENCODER,
        # Left out, as in MIM-Depth, where it begins as the identity.
        may_miss="encoder/norm/(?:scale|bias)",
    ),
    "swinv2": Source(
        "an official Swin-v2 classifier, for its encoder",
        partial(_swin_v2, convention="official"),
        parts=ENCODER,
    ),
    "mim_depth": Source(
        "a depth network of MIM-Depth", _mim_depth, parts=WHOLE, max_depth=80.0
    ),
    "glpdepth": Source(
        "a depth network of GLPDepth", _mix_transformer, parts=WHOLE, max_depth=80.0
    ),
    "mit": Source(
        "a Mix Transformer classifier of SegFormer, for its encoder",
        _mix_transformer,
        parts=ENCODER,
    ),
    "dinov2": Source(
        "a DINOv2 encoder",
        partial(_vision_transformer, family="dinov2"),
        parts=ENCODER,
    ),
    "dinov3": Source(
        "a DINOv3 encoder",
        partial(_vision_transformer, family="dinov3"),
        parts=ENCODER,
    ),
    "depth_anything_v2": Source(
        "a depth network of Depth Anything V2",
        _depth_anything_v2,
        parts=WHOLE,
        max_depth=100.0,
    ),
    "monodepth2": Source(
        "a folder of monodepth2",
        _monodepth2,
        parts=WHOLE,
        optional_parts=("pose",),
        max_depth=100.0,
        stems=("encoder", "depth"),
        optional_stems=("pose_encoder", "pose"),
    ),
    "resnet18": Source(
        "torchvision's ResNet-18, for its encoder", _monodepth2, parts=ENCODER
    ),
    "gvo": Source(
        "GVO's flow network, alone or with its depth network",
        _gvo,
        parts=("flow",),
        optional_parts=WHOLE,
        max_depth=100.0,
    ),
}
