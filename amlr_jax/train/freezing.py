"""Frozen parameters: which ones, and losses that have no gradient with respect to them.

A batch normalisation whose parameters are frozen computes as at evaluation: with its
running statistics, which stay as they are.
"""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import flax.linen as nn
import jax
from flax.traverse_util import flatten_dict, unflatten_dict

from amlr_jax.models.pose import PoseNetwork
from amlr_jax.runtime import workdir
from amlr_jax.runtime.errors import InputError, counted, preview


def frozen(params: Any, patterns: Sequence[str]) -> Any:
    """A tree of bools like `params`: whether a pattern matches the parameter's path.

    A pattern is that of a shell ("*", "?", "[12]"; "*" also takes "/") for a whole
    path, as "encoder/patch_embed/kernel", or for the first parts of it.

    Raises:
      InputError: a pattern matches nothing, or all parameters are frozen.
    """
    paths = flatten_dict(params, sep="/")
    found = {one: [path for path in paths if _matches(path, one)] for one in patterns}
    unused = [pattern for pattern, some in found.items() if not some]
    parts = preview(dict.fromkeys("/".join(path.split("/")[:2]) for path in paths))
    if unused:
        raise InputError(
            f"optimizer.freeze: no parameter matches '{unused[0]}'; there are {parts} "
            f"({workdir.PARAMETERS} of a run lists all)"
        )
    stays = {path for some in found.values() for path in some}
    if len(stays) == len(paths):
        raise InputError(
            f"optimizer.freeze={tuple(patterns)} leaves none of "
            f"{counted(len(paths), 'parameter')} to train; remove a pattern"
        )
    return unflatten_dict({path: path in stays for path in paths}, sep="/")


def _matches(path: str, pattern: str) -> bool:
    pattern = pattern.rstrip("/")
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}/*")


def without_gradient(losses: Callable, frozen: Any) -> Callable:
    """The loss function of an objective with these parameters frozen.

    XLA then leaves out the backward pass below the first parameter that is trained.
    """
    flat = flatten_dict(frozen)
    trained = {path[:-1] for path, stays in flat.items() if not stays}
    whole = {path[:-1] for path in flat} - trained

    def as_at_evaluation(call, args, kwargs, context):
        if isinstance(context.module, nn.BatchNorm) and _path(context.module) in whole:
            kwargs = kwargs | {"use_running_average": True}
        return call(*args, **kwargs)

    def loss_function(params, *rest):
        held = jax.tree.map(
            lambda p, stays: jax.lax.stop_gradient(p) if stays else p, params, frozen
        )
        with nn.intercept_methods(as_at_evaluation):
            return losses(held, *rest)

    return loss_function


def _path(module: nn.Module) -> tuple[str, ...]:
    """Where the parameters of a module are in the tree of both networks."""
    root: Any = module
    while isinstance(root.parent, nn.Module):
        root = root.parent
    return (*(["pose"] if isinstance(root, PoseNetwork) else []), *module.path)
