"""Weights to start from: converted checkpoints, and runs of our own.

A folder of weights holds `variables/` (orbax: {"params", "batch_stats"}, float32) and
`model.json`:

    source    the kind of checkpoint it was made from
    name      of the network, an argument of `models.depth.network` as all of
    options   that are needed to build it
    complete  whether it is a whole depth network or an encoder alone
    parts     the top level names in the variables: encoder, decoder, pose

A workdir of a run is read as such a folder, with its newest good checkpoint.
"""

import functools
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from amlr_jax.checkpoints import array_store, verification
from amlr_jax.checkpoints import files as steps
from amlr_jax.models import depth
from amlr_jax.models.from_torch.assign import leaves, nested, written
from amlr_jax.runtime import files as runtime_files
from amlr_jax.runtime import workdir
from amlr_jax.runtime.console import show
from amlr_jax.runtime.errors import InputError, preview

MODEL = "model.json"
VARIABLES = "variables"


class Pretrained(NamedTuple):
    """What a folder of weights holds."""

    folder: Path
    variables: dict  # {"params": ..., "batch_stats": ...}, NumPy arrays
    model: dict  # of model.json


class Merged(NamedTuple):
    """What starting from weights did, by top level name."""

    taken: dict[str, int]  # tensors from the weights
    initial: dict[str, int]  # tensors that keep their initial value
    left: tuple[str, ...]  # parts of the weights that the network does not have


def check_output(folder: Path) -> None:
    """Raises InputError if `folder` cannot become a new folder of weights."""
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"output '{folder}' is not empty; choose another folder")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output '{folder}' is a file; choose another folder")
    above = next(p for p in folder.absolute().parents if p.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"output '{folder}' cannot be written: no access to '{above}'")


def save(folder: Path, variables: dict, model: dict) -> None:
    """Writes a folder of weights, whole or not at all; InputError if it cannot be."""
    check_output(folder)
    folder = folder.absolute()
    made = [p for p in folder.parents if not p.exists()]
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        array_store.save(temporary / VARIABLES, variables)
        runtime_files.write_json(temporary / MODEL, model)
        temporary.replace(folder)
    except (OSError, ValueError) as error:  # tensorstore's are ValueErrors
        array_store.remove(temporary)
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        raise InputError(
            f"output '{folder}' cannot be written: {array_store.reason(error)}"
        ) from error


def load(folder: Path) -> Pretrained:
    """Reads a folder of weights, or the newest good checkpoint of a workdir.

    Raises InputError if it is neither, or is damaged.
    """
    if (folder / MODEL).is_file():
        model = _json(folder / MODEL, "source", "name", "options", "parts")
        path = folder / VARIABLES
    elif steps.steps(folder / workdir.CHECKPOINTS) or _is_run(folder):
        model, path = _of_run(folder)
    else:
        what = "does not exist" if not folder.exists() else f"has no {MODEL}"
        raise InputError(
            f"'{folder}' {what}; give a folder that amlr_jax.convert made, or the "
            "workdir of a run"
        )
    try:
        variables = array_store.restore(path)
    except (OSError, ValueError, KeyError) as error:
        line = str(error).splitlines()[0]
        raise InputError(f"weights '{path}' cannot be read: {line[:120]}") from error
    parts = [*dict.fromkeys(p[1] for p, _ in leaves(variables))]
    return Pretrained(folder, variables, {"parts": parts, **model})


def load_network(folder: Path) -> tuple[depth.DepthNetwork, dict, float]:
    """The depth network of a folder of weights, its variables, and `max_depth` in m.

    Raises InputError as `load` does, and for weights of an encoder alone.
    """
    found = load(folder)
    name, options = found.model["name"], found.model["options"]
    if not found.model.get("complete"):
        parts = ", ".join(found.model["parts"])
        raise InputError(
            f"'{folder}' holds no whole depth network, only {parts}; train from it "
            f"with --config.init_from={folder}"
        )
    try:
        network = depth.network(name, **options)
    except (TypeError, ValueError) as error:
        raise InputError(f"weights '{folder}' of {name}: {error}") from error
    variables, report = merge(depth.variable_shapes(network), found)
    if report.initial:
        raise InputError(f"weights '{folder}' lack some of {', '.join(report.initial)}")
    return network, variables, float(options["max_depth"])


def _json(path: Path, *keys: str) -> dict:
    try:
        found = json.loads(path.read_text())
        missing = [key for key in keys if key not in found]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"'{path}' cannot be read: {error}") from error
    if missing:
        raise InputError(f"'{path}' has no {', '.join(missing)}; make it anew")
    return found


def newest_step(folder: Path) -> Path | None:
    """The newest whole checkpoint in a workdir, good or not."""
    found = steps.steps(folder / workdir.CHECKPOINTS)
    return found[-1] if found else None


def newest_good(folder: Path) -> Path | None:
    """The newest good checkpoint in a workdir; says which are passed over, and why.

    InputError if there are checkpoints and none is good. Nothing is changed on disk.
    """
    checkpoints = folder / workdir.CHECKPOINTS
    path, bad = verification.newest_good(checkpoints)
    if path is None and bad:
        reasons = "; ".join(f"{name}: {why}" for name, why in bad.items())
        raise InputError(f"no checkpoint of workdir '{folder}' is good ({reasons})")
    for name, why in bad.items():
        _say(f"Checkpoint '{checkpoints / name}' is bad: {why}; reading '{path.name}'")
    return path


@functools.cache
def _say(line: str) -> None:
    """Once, however often a command looks for the newest checkpoint."""
    show(line)


def _is_run(folder: Path) -> bool:
    return (folder / workdir.CONFIG).is_file()


def _of_run(folder: Path) -> tuple[dict, Path]:
    """The model of a workdir's config, and its newest good checkpoint."""
    step = newest_good(folder)
    if step is None:
        raise InputError(f"workdir '{folder}' has no checkpoint yet")
    if _is_run(folder):
        options = _json(folder / workdir.CONFIG, "model")["model"]
    else:  # its checkpoints alone were copied
        options = (steps.record(step).get("config") or {}).get("model")
    if not options:
        raise InputError(f"workdir '{folder}' has no {workdir.CONFIG}; copy it too")
    options = dict(options)
    name = options.pop("name")
    for key in [key for key, value in options.items() if value is None]:
        del options[key]
    options.pop("decoder_init", None)  # of no more use
    model = {"source": "run", "name": name, "options": options, "complete": True}
    return model | {"step": steps.step_of(step)}, step / "state"


def merge(variables: dict, pretrained: Pretrained) -> tuple[dict, Merged]:
    """`variables` with the weights in place of their initial values, and a report.

    `variables` is {"params": ..., "batch_stats": ...}; its leaves need only a shape.
    InputError for weights that are not in it or have another shape.
    """
    ours = dict(leaves(variables))
    parts = {path[1] for path in ours}
    taken, left, merged = {}, {}, dict(ours)
    for path, leaf in leaves(pretrained.variables):
        if path[1] not in parts:
            left[path[1]] = True
            continue
        _check_leaf(path, leaf, ours.get(path), pretrained)
        merged[path] = leaf
        taken[path[1]] = taken.get(path[1], 0) + 1
    total = {part: sum(path[1] == part for path in ours) for part in sorted(parts)}
    initial = {p: n - taken.get(p, 0) for p, n in total.items() if n > taken.get(p, 0)}
    return nested(merged), Merged(taken, initial, tuple(left))


def _check_leaf(path: tuple, leaf: Any, ours: Any, pretrained: Pretrained) -> None:
    if ours is not None and ours.shape == leaf.shape:
        return
    what = "no such parameter" if ours is None else f"shape {ours.shape}"
    key = "decoder_channels or model.name" if path[1] == "decoder" else "name"
    raise InputError(
        f"weights '{pretrained.folder}' do not fit: {written(path)} has shape "
        f"{leaf.shape}, this network {what}; change model.{key} (the weights are of "
        f"{pretrained.model['name']})"
    )


def summary(pretrained: Pretrained, merged: Merged) -> str:
    """One line: what came from the weights and what starts anew."""
    parts = [f"{name}: {count} tensors" for name, count in merged.taken.items()]
    text = f"Weights from {pretrained.folder}: {', '.join(parts)}"
    if merged.initial:
        some = [f"{name} ({count})" for name, count in merged.initial.items()]
        text += f"; initial: {', '.join(some)}"
    if merged.left:
        text += f"; without a place here: {preview(merged.left)}"
    return text
