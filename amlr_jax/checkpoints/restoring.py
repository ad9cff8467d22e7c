"""Reading checkpoints onto devices: they fit or not, and are what was saved or not."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from amlr_jax.checkpoints import array_store, fingerprint, verification
from amlr_jax.checkpoints import files as steps
from amlr_jax.runtime.console import show
from amlr_jax.runtime.distributed import is_first, of_first
from amlr_jax.runtime.errors import InputError


class Damaged(Exception):
    """A checkpoint that fits was not read as it was saved."""


def newest(
    checkpointer: Any, folder: Path, like: Any, sharding: Any
) -> tuple[Any, dict] | None:
    """The newest good state in `folder`, as `Checkpoints.restore_newest` tells."""
    bad: dict[str, str] = {}
    while True:
        name, bad = of_first(_choose(folder, bad) if is_first() else None)
        if name is None:
            return _none_good(folder, bad)
        try:
            found = read(checkpointer, folder / name, like, sharding)
        except Damaged as error:
            bad[name] = str(error)
            continue
        if is_first():
            _put_aside(folder, bad, going_on=steps.step_of(folder / name))
        return found


def _choose(folder: Path, bad: dict[str, str]) -> tuple[str | None, dict[str, str]]:
    path, bad = verification.newest_good(folder, bad=bad, write=True)
    return (None if path is None else path.name), bad


def _put_aside(folder: Path, bad: dict[str, str], *, going_on: int) -> None:
    for name, why in bad.items():
        aside = steps.set_aside(folder / name)
        show(
            f"Checkpoint '{folder / name}' is bad: {why}; put aside as "
            f"'{aside.name}', going on from step {going_on}"
        )


def _none_good(folder: Path, bad: dict[str, str]) -> None:
    """They are left where they are, so that the next start does not begin anew."""
    if bad:
        all_of = "; ".join(f"{name}: {why}" for name, why in bad.items())
        raise InputError(
            f"no checkpoint in '{folder}' is good ({all_of}); repair one, or move the "
            "folder away to begin anew"
        )
    if is_first() and any(folder.glob(f"{steps.BAD}*")):
        show(f"'{folder}' holds bad checkpoints alone: beginning anew")


def one(checkpointer: Any, path: Path, like: Any, sharding: Any) -> tuple[Any, dict]:
    """The state at `path` and its record; InputError if it is bad or does not fit."""
    why = of_first(verification.damage(path, write=True) if is_first() else "")
    try:
        if why:
            raise Damaged(why)
        return read(checkpointer, path, like, sharding)
    except Damaged as error:
        raise InputError(f"checkpoint '{path}' is bad: {error}") from error


def read(checkpointer: Any, path: Path, like: Any, sharding: Any) -> tuple[Any, dict]:
    """The state at `path` like `like` on `sharding`, and its record.

    Fingerprints are computed again on the devices and compared with the record's.

    Raises:
      InputError: if it has other leaves, shapes or dtypes than `like`.
      Damaged: if other values are read than were saved.
    """
    record = steps.record(path)
    wanted = record.get("leaves", {})  # none: of an earlier version
    if wanted:
        _check_fits(path, misfit(like, wanted))
    try:
        state = _arrays(checkpointer, path, _targets(like, sharding))
    except (OSError, ValueError, KeyError) as error:
        if wanted:
            raise Damaged(array_store.reason(error)) from error
        _check_fits(path, str(error).splitlines()[0])
    for name, value in fingerprint.of_tree(state).items() if wanted else ():
        if value != wanted[name][-1]:
            raise Damaged(f"{name} was read with other values than were saved")
    return state, record


def _check_fits(path: Path, why: str) -> None:
    if why:
        raise InputError(
            f"checkpoint {steps.step_of(path)} in '{path.parent}' does not fit this "
            f"config: {why}"
        )


def misfit(like: Any, wanted: dict[str, list]) -> str:
    """The first difference between the leaves of `like` and a record's; "": none."""
    ours = fingerprint.named(like)
    for name in sorted(wanted.keys() - ours.keys()):
        return f"it has {name}, which this config has not"
    for name, leaf in ours.items():
        if name not in wanted:
            return f"it has no {name}"
        theirs, mine = tuple(wanted[name][:2]), fingerprint.shape_and_dtype(leaf)
        if theirs != mine:
            return f"{name} is {_as_text(theirs)}, here {_as_text(mine)}"
    return ""


def _as_text(kind: tuple[list[int], str]) -> str:
    shape, dtype = kind
    return f"{dtype}{shape}"


def _targets(like: Any, sharding: Any) -> Any:
    """Shapes with shardings: one for all leaves, or a tree of them."""
    if isinstance(sharding, jax.sharding.Sharding):
        return jax.tree.map(lambda x: _target(x, sharding), like)
    return jax.tree.map(_target, like, sharding)


def _target(leaf: Any, sharding: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _arrays(checkpointer: Any, path: Path, targets: Any) -> Any:
    arguments = ocp.args.Composite(state=ocp.args.StandardRestore(targets))
    return checkpointer.restore(path, args=arguments)["state"]
