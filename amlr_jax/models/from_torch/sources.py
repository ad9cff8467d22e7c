"""The published checkpoints that can be read, and which network of ours each one is.

What a file does not say of its network (sizes, depths, heads, windows) is read from the
shapes of its tensors, once they have our names.
"""

import difflib
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from amlr_jax.errors import InputError, preview
from amlr_jax.models import mix_transformer, swin_v2_presets
from amlr_jax.models.from_torch import glpdepth, monodepth2, swin_v2
from amlr_jax.models.from_torch.files import Weights
from amlr_jax.models.from_torch.names import Module, place

TABLES = swin_v2.TABLES | glpdepth.TABLES | monodepth2.TABLES
LOG_RANGE = 8.0  # of Swin-v2's coordinates; see `models.windows`
Shapes = dict[str, tuple[int, ...]]  # by our path, "encoder/norm/scale"


class Source(NamedTuple):
    """One kind of checkpoint."""

    holds: str  # for people
    table: tuple[Module, ...]
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


def _size(shapes: Shapes, path: str) -> tuple[int, ...]:
    if path not in shapes:
        raise InputError(f"the input has no tensor for {path}; the file is not whole")
    return shapes[path]


def _depths(shapes: Shapes) -> tuple[int, ...]:
    """Blocks in each stage, by the highest number seen."""
    depths: dict[int, int] = {}
    for path in shapes:
        match = re.match(r"encoder/stage(\d+)_block(\d+)/", path)
        if match:
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


def _swin(shapes: Shapes, weights: Weights, *, convention: str) -> tuple[str, dict]:
    """Sizes from the tensors; pretraining windows from the tables of coordinates."""
    depths = _depths(shapes)
    path = "encoder/stage{}_block0/attn/logit_scale"
    sizes = {
        "embed_dim": _size(shapes, "encoder/patch_embed/proj/kernel")[-1],
        "depths": depths,
        "num_heads": tuple(_size(shapes, path.format(s))[0] for s in range(4)),
    }
    name = _preset(sizes, swin_v2_presets.MIM_DEPTH, "swin_v2")
    options: dict[str, Any] = {"convention": convention}
    windows = _windows(weights.tensors)
    if len(windows) == len(depths):
        pretrained = tuple(pretrained for _, pretrained in windows)
        options["pretrained_window_size"] = pretrained
    return name, options


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
        ratio = (LOG_RANGE ** float(table.max()) - 1) / LOG_RANGE
        pretrained = 1 + (window - 1) / ratio if ratio else window
        if not np.isclose(pretrained, round(pretrained), rtol=1e-3):
            raise InputError(f"'{name}' is no table of Swin-v2's logarithmic positions")
        found.append((window, round(pretrained)))
    return found


def _mim_depth(shapes: Shapes, weights: Weights) -> tuple[str, dict]:
    name, options = _swin(shapes, weights, convention="mim_depth")
    deconvolutions = [_size(shapes, f"decoder/deconv{i}/kernel") for i in range(3)]
    windows = _windows(weights.tensors)
    if windows:
        options["window_size"] = tuple(window for window, _ in windows)
    return name, options | {
        "decoder_channels": tuple(shape[-1] for shape in deconvolutions),
        "decoder_activation": "relu",
    }


def _mit(shapes: Shapes, weights: Weights) -> tuple[str, dict]:
    del weights
    path = "encoder/stage{}_patch_embed/proj/kernel"
    dims = tuple(_size(shapes, path.format(stage))[-1] for stage in range(4))
    sizes = {"embed_dims": dims, "depths": _depths(shapes)}
    return _preset(sizes, mix_transformer.PRESETS, "glpdepth"), {}


def _monodepth2(shapes: Shapes, weights: Weights) -> tuple[str, dict]:
    del shapes
    height, width = (weights.extras.get(f"encoder:{n}") for n in ("height", "width"))
    size = {"input_size": (int(height), int(width))} if height and width else {}
    return "monodepth2", size


def _encoder_of(convention: str) -> Callable:
    return lambda shapes, weights: _swin(shapes, weights, convention=convention)


WHOLE = ("encoder", "decoder")
SOURCES = {
    "simmim": Source(
        "a Swin-v2 encoder pretrained by SimMIM",
        TABLES["simmim"],
        _encoder_of("mim_depth"),
        parts=("encoder",),
        # Left out, as in MIM-Depth, where it begins as the identity.
        may_miss="encoder/norm/(?:scale|bias)",
    ),
    "swinv2": Source(
        "an official Swin-v2 classifier, for its encoder",
        TABLES["swinv2"],
        _encoder_of("official"),
        parts=("encoder",),
    ),
    "mim_depth": Source(
        "a depth network of MIM-Depth",
        TABLES["mim_depth"],
        _mim_depth,
        parts=WHOLE,
        max_depth=80.0,
    ),
    "glpdepth": Source(
        "a depth network of GLPDepth",
        TABLES["glpdepth"],
        _mit,
        parts=WHOLE,
        max_depth=80.0,
    ),
    "mit": Source(
        "a Mix Transformer classifier of SegFormer, for its encoder",
        TABLES["mit"],
        _mit,
        parts=("encoder",),
    ),
    "monodepth2": Source(
        "a folder of monodepth2",
        TABLES["monodepth2"],
        _monodepth2,
        parts=WHOLE,
        optional_parts=("pose",),
        max_depth=100.0,
        stems=("encoder", "depth"),
        optional_stems=("pose_encoder", "pose"),
    ),
    "resnet18": Source(
        "torchvision's ResNet-18, for its encoder",
        TABLES["resnet18"],
        lambda shapes, weights: ("monodepth2", {}),
        parts=("encoder",),
    ),
}


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
    tensors = _without_prefix(source_name, weights.tensors)
    places = {name: place(name, source.table) for name in tensors}
    unknown = [name for name, target in places.items() if target is None]
    if unknown:
        raise _other(source_name, unknown, weights.tensors)
    shapes = {
        "/".join(target.path): target.transform(tensors[name]).shape
        for name, target in places.items()
        if target.collection and _has_layout(target, tensors[name])
    }
    name, options = source.describe(shapes, weights)
    there = {path.partition("/")[0] for path in shapes}
    more = (part for part in source.optional_parts if part in there)
    return Recognised(tensors, name, options, (*source.parts, *more))


def _has_layout(target: Any, tensor: np.ndarray) -> bool:
    """Whether the layout can be changed; `assign` reports a wrong rank."""
    try:
        target.transform(tensor)
    except ValueError:
        return False
    return True


def _without_prefix(source_name: str, tensors: dict) -> dict[str, np.ndarray]:
    """Official encoders are at times kept inside a model, as `encoder.`."""
    if source_name != "swinv2":
        return tensors
    return {name.removeprefix("encoder."): value for name, value in tensors.items()}


def _score(source_name: str, tensors: dict) -> tuple[int, int]:
    """How many tensors have a place in it, and how many are unknown, negated."""
    names = _without_prefix(source_name, tensors)
    places = [place(name, SOURCES[source_name].table) for name in names]
    placed = sum(1 for p in places if p is not None and p.collection)
    return placed, -sum(1 for p in places if p is None)


def _other(source_name: str, unknown: Sequence[str], tensors: dict) -> InputError:
    scores = {name: _score(name, tensors) for name in SOURCES}
    best = max(scores, key=scores.__getitem__)
    hint = f"that is for {SOURCES[source_name].holds}"
    if scores[best] > scores[source_name]:
        hint = f"it looks like {SOURCES[best].holds}: --source={best}"
    return InputError(
        f"{len(unknown)} of {len(tensors)} tensors are not of source {source_name} "
        f"({preview(unknown)}); {hint}"
    )
