"""The published checkpoints that can be read, and which network of ours each one is."""

import difflib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from amlr_jax.models.from_torch import describe, glpdepth, monodepth2, swin_v2
from amlr_jax.models.from_torch.describe import Shapes
from amlr_jax.models.from_torch.files import Weights
from amlr_jax.models.from_torch.names import Module, place
from amlr_jax.runtime.errors import InputError, preview

TABLES = swin_v2.TABLES | glpdepth.TABLES | monodepth2.TABLES


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


WHOLE = ("encoder", "decoder")
SOURCES = {
    "simmim": Source(
        "a Swin-v2 encoder pretrained by SimMIM",
        TABLES["simmim"],
        partial(describe.swin_v2, convention="mim_depth"),
        parts=("encoder",),
        # Left out, as in MIM-Depth, where it begins as the identity.
        may_miss="encoder/norm/(?:scale|bias)",
    ),
    "swinv2": Source(
        "an official Swin-v2 classifier, for its encoder",
        TABLES["swinv2"],
        partial(describe.swin_v2, convention="official"),
        parts=("encoder",),
    ),
    "mim_depth": Source(
        "a depth network of MIM-Depth",
        TABLES["mim_depth"],
        describe.mim_depth,
        parts=WHOLE,
        max_depth=80.0,
    ),
    "glpdepth": Source(
        "a depth network of GLPDepth",
        TABLES["glpdepth"],
        describe.mix_transformer,
        parts=WHOLE,
        max_depth=80.0,
    ),
    "mit": Source(
        "a Mix Transformer classifier of SegFormer, for its encoder",
        TABLES["mit"],
        describe.mix_transformer,
        parts=("encoder",),
    ),
    "monodepth2": Source(
        "a folder of monodepth2",
        TABLES["monodepth2"],
        describe.monodepth2,
        parts=WHOLE,
        optional_parts=("pose",),
        max_depth=100.0,
        stems=("encoder", "depth"),
        optional_stems=("pose_encoder", "pose"),
    ),
    "resnet18": Source(
        "torchvision's ResNet-18, for its encoder",
        TABLES["resnet18"],
        describe.resnet18,
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
    """How many tensors it knows, and how many of them it has a use for."""
    names = _without_prefix(source_name, tensors)
    places = [place(name, SOURCES[source_name].table) for name in names]
    known = [target for target in places if target is not None]
    return len(known), sum(1 for target in known if target.collection)


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
