"""The published checkpoints that can be read, and which network of ours each one is.

What a file does not say of its network (sizes, depths, heads, windows) is read from the
shapes of its tensors, once they have our names.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from amlr_jax.models.attention import COORDINATE_SCALE, relative_coordinates
from amlr_jax.models.from_torch import namings
from amlr_jax.models.from_torch.assign import place
from amlr_jax.models.from_torch.files import Weights
from amlr_jax.models.from_torch.tables import TABLES
from amlr_jax.models.mix_transformer import PRESETS as MIX_TRANSFORMERS
from amlr_jax.models.swin_v2 import PRESETS as SWINS
from amlr_jax.models.vision_transformer import PRESETS as VISION_TRANSFORMERS
from amlr_jax.runtime.errors import InputError, preview, require

HALF_PRECISION = 2.0**-8  # relative rounding of bfloat16
Shapes = dict[str, tuple[int, ...]]  # by our path, "encoder/norm/scale"


class Source(NamedTuple):
    """One kind of checkpoint; its table of names is `TABLES[name]`."""

    holds: str  # for people
    describe: Callable[[Shapes, Weights], tuple[str, dict]]  # network and its options
    parts: tuple[str, ...]  # what it fills; ("encoder",) is no whole network
    max_depth: float | None = None  # metres, of the published checkpoints
    optional_parts: tuple[str, ...] = ()
    may_miss: str = ""  # our paths in `parts` without which it is still whole
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
    require("source", name, SOURCES)
    return SOURCES[name]


def recognise(source_name: str, weights: Weights) -> Recognised:
    """Which network the weights are; InputError if they are of another source."""
    source = find(source_name)
    tensors = namings.official(weights.tensors)
    weights = weights._replace(tensors=tensors)
    places = {name: place(name, TABLES[source_name]) for name in tensors}
    unknown = [name for name, target in places.items() if target is None]
    if unknown:
        raise _other(source_name, unknown, tensors)
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


def _other(source_name: str, unknown: list[str], tensors: dict) -> InputError:
    """The error, with the source that knows and uses most of the tensors."""

    def score(name: str) -> tuple[int, int]:
        found = [place(tensor, TABLES[name]) for tensor in tensors]
        known = [target for target in found if target is not None]
        return len(known), sum(bool(target.collection) for target in known)

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
    r"(decoder\.\d+\.conv|encoder\.layer1\.0)\.conv": "the input is one file of "
    "monodepth2's network; give its folder with --source=monodepth2",
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
    """The window whose table this is, to the rounding of half precision."""
    if window == 1:
        return 1
    largest = float(table.max())
    reach = COORDINATE_SCALE**largest - 1 if largest > 0 else np.nan
    nearest = 1 + (window - 1) * COORDINATE_SCALE / reach
    if np.isfinite(nearest) and round(nearest) > 1:
        expected = relative_coordinates(window, round(nearest))[None]
        same_shape = table.shape == expected.shape
        if same_shape and np.allclose(table, expected, rtol=HALF_PRECISION, atol=0):
            return round(nearest)
    raise InputError(
        f"'{name}' is no table of Swin-v2's logarithmic positions: no whole window of "
        f"pretraining gives it, the nearest is {nearest:.2f}"
    )


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
_simmim = partial(_swin_v2, convention="mim_depth")
_official = partial(_swin_v2, convention="official")
_dinov2 = partial(_vision_transformer, family="dinov2")
_dinov3 = partial(_vision_transformer, family="dinov3")
_MIT = "a Mix Transformer classifier of SegFormer, for its encoder"
SOURCES = {
    "simmim": Source(
        "a Swin-v2 encoder pretrained by SimMIM",
        _simmim,
        ENCODER,
        # Left out, as in MIM-Depth, where it begins as the identity.
        may_miss="encoder/norm/(?:scale|bias)",
    ),
    "swinv2": Source(
        "an official Swin-v2 classifier, for its encoder", _official, ENCODER
    ),
    "mim_depth": Source("a depth network of MIM-Depth", _mim_depth, WHOLE, 80.0),
    "glpdepth": Source("a depth network of GLPDepth", _mix_transformer, WHOLE, 80.0),
    "mit": Source(_MIT, _mix_transformer, ENCODER),
    "dinov2": Source("a DINOv2 encoder", _dinov2, ENCODER),
    "dinov3": Source("a DINOv3 encoder", _dinov3, ENCODER),
    "depth_anything_v2": Source(
        "a depth network of Depth Anything V2", _depth_anything_v2, WHOLE, 100.0
    ),
    "monodepth2": Source(
        "a folder of monodepth2",
        _monodepth2,
        WHOLE,
        100.0,
        optional_parts=("pose",),
        stems=("encoder", "depth"),
        optional_stems=("pose_encoder", "pose"),
    ),
    "resnet18": Source(
        "torchvision's ResNet-18, for its encoder", _monodepth2, ENCODER
    ),
    "gvo": Source(
        "GVO's flow network, alone or with its depth network",
        _gvo,
        ("flow",),
        100.0,
        optional_parts=WHOLE,
    ),
}
