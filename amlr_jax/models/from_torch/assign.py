"""Tensors of a PyTorch state dict to the variables of a network, each accounted for.

A source is a table of modules: a pattern of the module's name in PyTorch, the path of
ours (with {0}, {1} for the groups of the pattern) and its kind. The kind tells what
`weight`, `bias` and the running statistics become:

    kind         weight                             bias    running_mean, running_var
    linear       kernel, (out, in) -> (in, out)     bias
    conv         kernel, OIHW -> HWIO               bias
    deconv       kernel, (in, out, k, k) -> (k, k, in, out)
    norm         scale                              bias
    batch_norm   scale                              bias    mean, var in batch_stats

The kind "array" is for a parameter by itself: the pattern is its whole name and the
path ends on it. "buffer" is for what is computed anew (index tables, counters).
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from amlr_jax.runtime.errors import InputError, preview

# Buffers that a network computes anew; other buffers belong to another task.
REBUILT = r".*(?:relative_\w+|attn_mask|num_batches_tracked|bias_mask|periods)"


class Module(NamedTuple):
    """One row of a table of names."""

    pattern: str  # of the whole module name, re.fullmatch
    path: str  # "encoder/stage{0}_block{1}/norm1"
    kind: str


class Place(NamedTuple):
    """Where a tensor goes: with its axes permuted, to `path` in `collection`."""

    collection: str  # "params" or "batch_stats"; "" for a buffer, which goes nowhere
    path: tuple[str, ...]
    axes: tuple[int, ...] = ()  # order of the tensor's axes; (): as they are

    def transform(self, tensor: np.ndarray) -> np.ndarray:
        """The tensor in our layout; ValueError if it has another rank."""
        return tensor.transpose(self.axes) if self.axes else tensor


class Report(NamedTuple):
    """Where everything went; our paths are "encoder/norm/scale", without collection."""

    used: dict[str, str]  # our path: the name in PyTorch
    unused: tuple[str, ...]  # known, and of no use here: heads of other tasks
    rebuilt: tuple[str, ...]  # computed anew: index tables, counters
    missing: tuple[str, ...]  # our paths that keep their initial value


_BUFFER = Place("", ())
# kind -> name of the tensor -> collection, our name, axes
_LEAVES: dict[str, dict[str, tuple[str, str, tuple[int, ...]]]] = {
    "linear": {"weight": ("params", "kernel", (1, 0))},
    "conv": {"weight": ("params", "kernel", (2, 3, 1, 0))},
    "deconv": {"weight": ("params", "kernel", (2, 3, 0, 1))},
    "norm": {"weight": ("params", "scale", ())},
    "batch_norm": {
        "weight": ("params", "scale", ()),
        "running_mean": ("batch_stats", "mean", ()),
        "running_var": ("batch_stats", "var", ()),
    },
}


def place(name: str, table: Sequence[Module]) -> Place | None:
    """The place of the tensor `name`; None if the table does not know it."""
    module, _, leaf = name.rpartition(".")
    for pattern, path, kind in table:
        whole = kind in ("array", "buffer")
        match = re.fullmatch(pattern, name if whole else module)
        if match is None:
            continue
        if kind == "buffer":
            return _BUFFER
        parts = tuple(path.format(*match.groups()).split("/"))
        if kind == "array":
            return Place("params", parts)
        if kind == "batch_norm" and leaf == "num_batches_tracked":
            return _BUFFER
        known = _LEAVES[kind] | {"bias": ("params", "bias", ())}
        if leaf in known:
            collection, ours, axes = known[leaf]
            return Place(collection, (*parts, ours), axes)
    return None


def assign(
    tensors: dict[str, np.ndarray],
    table: Sequence[Module],
    shapes: dict,
    *,
    parts: Sequence[str],
    may_miss: str = "",
    advance: Callable[[], None] = lambda: None,
) -> tuple[dict, Report]:
    """The variables that the tensors fill, as nested dicts of float32 arrays.

    Args:
      tensors: by their name in PyTorch.
      table: where they go; see above.
      shapes: all variables of the network, {"params": ..., "batch_stats": ...}, leaves
        with a `shape`.
      parts: the top level names that must be filled, "encoder" or "decoder".
      may_miss: pattern of our paths in `parts` that need no tensor.
      advance: called once for each tensor.

    Raises:
      InputError: for a tensor without a place, of another shape or not finite, for two
        with one place, and for a variable in `parts` without a tensor.
    """
    wanted = flatten_dict(shapes)
    filled: dict[tuple[str, ...], np.ndarray] = {}
    used, unused, rebuilt, unknown = {}, [], [], []
    for name, tensor in tensors.items():
        advance()
        target = place(name, table)
        if target is None:
            unknown.append(name)
        elif not target.collection:
            (rebuilt if re.fullmatch(REBUILT, name) else unused).append(name)
        else:
            ours = "/".join(target.path)
            if ours in used:
                raise InputError(
                    f"tensors '{used[ours]}' and '{name}' both go to {ours}; keep one"
                )
            path = (target.collection, *target.path)
            filled[path] = _fitted(name, tensor, target, wanted.get(path))
            used[ours] = name
    if unknown:
        raise InputError(f"the input has tensors of no known place: {preview(unknown)}")
    missing = tuple("/".join(path[1:]) for path in wanted if path not in filled)
    _check_missing(missing, parts, may_miss)
    report = Report(used, tuple(unused), tuple(rebuilt), missing)
    return unflatten_dict(filled), report


def unassign(variables: dict, table: Sequence[Module]) -> dict[str, np.ndarray]:
    """The tensors of PyTorch that `assign` turns into `variables`, without buffers.

    Raises:
      InputError: the table has no name for an array.
    """
    names = [_names(row) for row in table if row.kind != "buffer"]
    tensors = {}
    for (collection, *path), array in flatten_dict(variables).items():
        ours = "/".join(path)
        candidates = (name for find in names for name in find(ours))
        for name in candidates:
            target = place(name, table)
            if target and (target.collection, target.path) == (collection, tuple(path)):
                axes = np.argsort(target.axes or range(array.ndim))
                tensors[name] = np.ascontiguousarray(array.transpose(axes))
                break
        else:
            raise InputError(f"{ours} has no name in PyTorch")
    return tensors


def _names(row: Module) -> Callable[[str], list[str]]:
    """The possible names in PyTorch of a path of ours, by one row of a table.

    Of alternatives in a pattern, (?:a|b), the first is taken.
    """
    groups = re.findall(r"\((?!\?)(.*?)\)", row.pattern)
    numbers = iter(range(len(groups)))
    name = re.sub(r"\((?!\?).*?\)", lambda _: f"{{{next(numbers)}}}", row.pattern)
    name = re.sub(r"\(\?:(.*?)(?:\|.*?)?\)", r"\1", name).replace("\\", "")
    named = (f"(?P<g{i}>{pattern})" for i, pattern in enumerate(groups))
    path = re.compile(
        row.path.format(*named) + ("" if row.kind == "array" else "/(.*)")
    )

    def find(ours: str) -> list[str]:
        match = path.fullmatch(ours)
        if match is None:
            return []
        module = name.format(*(match[f"g{i}"] for i in range(len(groups))))
        leaves = [*_LEAVES[row.kind], "bias"] if row.kind != "array" else []
        return [f"{module}.{leaf}" for leaf in leaves] or [module]

    return find


def _fitted(name: str, tensor: np.ndarray, target: Place, wanted: Any) -> np.ndarray:
    path = "/".join(target.path)
    if wanted is None:
        raise InputError(f"tensor '{name}' goes to {path}, which this network lacks")
    axes = target.axes or tuple(range(len(wanted.shape)))
    theirs = tuple(wanted.shape[axes.index(axis)] for axis in range(len(axes)))
    if tensor.shape != theirs:
        raise InputError(
            f"tensor '{name}' of shape {tensor.shape} does not fit {path}, "
            f"which takes {theirs} here, so {wanted.shape} in our layout; is it of "
            "another network?"
        )
    array = np.ascontiguousarray(target.transform(tensor), np.float32)
    if not np.isfinite(array).all():
        raise InputError(
            f"tensor '{name}' holds values that are not finite; the file is damaged "
            "or its training had failed"
        )
    return array


def _check_missing(missing: Sequence[str], parts: Sequence[str], may_miss: str) -> None:
    inside = [path for path in missing if path.partition("/")[0] in parts]
    needed = [path for path in inside if not re.fullmatch(may_miss, path)]
    if needed:
        raise InputError(
            f"the input lacks {len(needed)} tensors that this source has, for "
            f"{preview(needed)}; the file is not whole or is of another source"
        )
