"""Where a tensor of a PyTorch state dict goes in our variables, and in which layout.

A source is a table of modules: a pattern of the module's name in PyTorch, the path of
ours (with {0}, {1} for the groups of the pattern) and its kind. The kind tells what
`weight`, `bias` and the running statistics become:

    kind         weight                             bias    running_mean, running_var
    linear       kernel, (out, in) -> (in, out)     bias
    conv         kernel, OIHW -> HWIO               bias
    deconv       kernel, (in, out, 2, 2) -> (2, 2, in, out)
    norm         scale                              bias
    batch_norm   scale                              bias    mean, var in batch_stats

The kind "array" is for a parameter by itself: the pattern is its whole name and the
path ends on it. "buffer" is for what is computed anew (index tables, counters).
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np


class Module(NamedTuple):
    """One row of a table of names."""

    pattern: str  # of the whole module name, re.fullmatch
    path: str  # "encoder/stage{0}_block{1}/norm1"
    kind: str


class Place(NamedTuple):
    """Where a tensor goes: `transform` of it at `path` in `collection`."""

    collection: str  # "params" or "batch_stats"; "" for a buffer, which goes nowhere
    path: tuple[str, ...]
    transform: Callable[[np.ndarray], np.ndarray]


def _linear(weight: np.ndarray) -> np.ndarray:
    return weight.T


def _conv(weight: np.ndarray) -> np.ndarray:
    return weight.transpose(2, 3, 1, 0)


def _deconv(weight: np.ndarray) -> np.ndarray:
    return weight.transpose(2, 3, 0, 1)


def _same(array: np.ndarray) -> np.ndarray:
    return array


# kind -> name of the tensor -> collection, our name, layout
LEAVES = {
    "linear": {"weight": ("params", "kernel", _linear)},
    "conv": {"weight": ("params", "kernel", _conv)},
    "deconv": {"weight": ("params", "kernel", _deconv)},
    "norm": {"weight": ("params", "scale", _same)},
    "batch_norm": {
        "weight": ("params", "scale", _same),
        "running_mean": ("batch_stats", "mean", _same),
        "running_var": ("batch_stats", "var", _same),
    },
}
for _leaves in LEAVES.values():
    _leaves["bias"] = ("params", "bias", _same)

_BUFFER = Place("", (), _same)


def place(name: str, table: Sequence[Module]) -> Place | None:
    """The place of the tensor `name`; None if the table does not know it."""
    module, _, leaf = name.rpartition(".")
    for row in table:
        whole = row.kind in ("array", "buffer")
        match = re.fullmatch(row.pattern, name if whole else module)
        if match is None:
            continue
        if row.kind == "buffer":
            return _BUFFER
        path = tuple(row.path.format(*match.groups()).split("/"))
        if row.kind == "array":
            return Place("params", path, _same)
        if row.kind == "batch_norm" and leaf == "num_batches_tracked":
            return _BUFFER
        if leaf in LEAVES[row.kind]:
            collection, ours, transform = LEAVES[row.kind][leaf]
            return Place(collection, (*path, ours), transform)
    return None
