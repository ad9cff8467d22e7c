"""Tensors of a state dict to the variables of a network, each accounted for."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from amlr_jax.models.from_torch.names import Module, Place, place
from amlr_jax.runtime.errors import InputError, preview

Path = tuple[str, ...]  # ("params", "encoder", "norm", "scale")
# Buffers that a network computes anew; other buffers belong to another task.
REBUILT = r".*(?:relative_\w+|attn_mask|num_batches_tracked)"


class Report(NamedTuple):
    """Where everything went; our paths are "encoder/norm/scale", without collection."""

    used: dict[str, str]  # our path: the name in PyTorch
    unused: tuple[str, ...]  # known, and of no use here: heads of other tasks
    rebuilt: tuple[str, ...]  # computed anew: index tables, counters
    missing: tuple[str, ...]  # our paths that keep their initial value


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
      table: where they go; see `names`.
      shapes: all variables of the network, {"params": ..., "batch_stats": ...}, leaves
        with a `shape`.
      parts: the top level names that must be filled, "encoder" or "decoder".
      may_miss: pattern of our paths in `parts` that need no tensor.
      advance: called once for each tensor.

    Raises:
      InputError: for a tensor without a place, of another shape or not finite, for two
        with one place, and for a variable in `parts` without a tensor.
    """
    wanted = dict(leaves(shapes))
    filled: dict[Path, np.ndarray] = {}
    used, unused, rebuilt, unknown = {}, [], [], []
    for name, tensor in tensors.items():
        advance()
        target = place(name, table)
        if target is None:
            unknown.append(name)
        elif not target.collection:
            (rebuilt if re.fullmatch(REBUILT, name) else unused).append(name)
        else:
            path = (target.collection, *target.path)
            if written(path) in used:
                raise _twice(name, used[written(path)], path)
            filled[path] = _fitted(name, tensor, target, wanted.get(path))
            used[written(path)] = name
    if unknown:
        raise InputError(f"the input has tensors of no known place: {preview(unknown)}")
    missing = tuple(written(path) for path in wanted if path not in filled)
    _check_missing(missing, parts, may_miss)
    return nested(filled), Report(used, tuple(unused), tuple(rebuilt), missing)


def leaves(tree: dict, prefix: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Paths and leaves of nested dicts."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*prefix, name))
        else:
            yield (*prefix, name), value


def nested(flat: dict[Path, Any]) -> dict:
    """The inverse of `leaves`."""
    tree: dict = {}
    for path, leaf in flat.items():
        node = tree
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = leaf
    return tree


def written(path: Path) -> str:
    """As messages write a path: without its collection."""
    return "/".join(path[1:])


def _fitted(name: str, tensor: np.ndarray, target: Place, wanted: Any) -> np.ndarray:
    path = "/".join(target.path)
    if wanted is None:
        raise InputError(f"tensor '{name}' goes to {path}, which this network lacks")
    try:
        array = target.transform(tensor)
    except ValueError:  # of another rank
        array = None
    if array is None or array.shape != wanted.shape:
        raise InputError(
            f"tensor '{name}' of shape {tensor.shape} does not fit {path}, "
            f"which takes {_before(target, wanted.shape)} here, so {wanted.shape} "
            "in our layout; is it of another network?"
        )
    array = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(array).all():
        raise InputError(
            f"tensor '{name}' holds values that are not finite; the file is damaged "
            "or its training had failed"
        )
    return array


def _before(target: Place, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in PyTorch of what becomes `shape`: layouts only permute axes."""
    axes = target.transform(np.empty(tuple(range(2, 2 + len(shape))))).shape
    order = [axis - 2 for axis in axes]
    return tuple(shape[order.index(axis)] for axis in range(len(shape)))


def _twice(name: str, other: str, path: Path) -> InputError:
    return InputError(
        f"tensors '{other}' and '{name}' both go to {written(path)}; keep one"
    )


def _check_missing(missing: Sequence[str], parts: Sequence[str], may_miss: str) -> None:
    inside = [path for path in missing if path.partition("/")[0] in parts]
    needed = [path for path in inside if not re.fullmatch(may_miss, path)]
    if needed:
        raise InputError(
            f"the input lacks {len(needed)} tensors that this source has, for "
            f"{preview(needed)}; the file is not whole or is of another source"
        )
