"""Initial weights: from converted checkpoints and from runs.

A folder of weights holds `variables/` (orbax: {"params", "batch_stats"}, float32), or
`model.safetensors` (of `amlr_jax.share`), and `model.json`:

    source    the kind of the original checkpoint
    name      of the network, an argument of `models.depth.network`
    options   its other arguments
    metric    whether depth from disparity is in metres; `size` [height, width] of the
              images in training: of a run, which these are read of
    complete  whether it is a whole depth network or an encoder alone
    parts     the top level names in the variables: encoder, decoder, pose

A workdir can be read as such a folder: its newest good checkpoint is used, or the one
that DIR@STEP or DIR@best chooses (`disk.candidates`). hf://REPO is such a folder on the
Hugging Face hub (`disk.place_of`).
"""

import contextlib
import functools
import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from flax.traverse_util import flatten_dict, unflatten_dict

from amlr_jax.checkpoints import arrays, disk
from amlr_jax.models import calibration, depth
from amlr_jax.runtime import files, paths, workdir
from amlr_jax.runtime.console import show
from amlr_jax.runtime.errors import InputError, preview

MODEL = "model.json"
VARIABLES = "variables"
TENSORS = "model.safetensors"


class Pretrained(NamedTuple):
    """The content of a folder of weights."""

    folder: Path  # without the choice of a checkpoint
    variables: dict  # {"params": ..., "batch_stats": ...}, NumPy arrays
    model: dict  # of model.json


class Loaded(NamedTuple):
    """A depth network with its weights."""

    network: depth.DepthNetwork
    variables: dict  # {"params": ..., "batch_stats": ...}
    max_depth: float  # of its depth, in metres
    step: int | None = None  # of a run's checkpoint
    size: tuple[int, int] | None = None  # height, width of the images in training


class Merged(NamedTuple):
    """Numbers of tensors by top level name, after a merge of weights."""

    taken: dict[str, int]  # from the weights
    initial: dict[str, int]  # that keep their initial value
    left: tuple[str, ...]  # parts of the weights that the network does not have


def check_output(folder: Path) -> None:
    """Raises InputError if `folder` cannot become a new folder of weights."""
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"output '{folder}' is not empty; choose another folder")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output '{folder}' is a file; choose another folder")
    files.check_writable(folder, option="output")


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write to, which becomes `folder` at the end; `check_output`.

    If the block fails nothing is left. InputError if it cannot be written.
    """
    check_output(folder)
    folder = folder.absolute()
    made = [p for p in folder.parents if not p.exists()]
    try:
        with files.replacing(folder) as temporary:
            temporary.mkdir(parents=True)
            yield temporary
    except (OSError, ValueError) as error:  # tensorstore's are ValueErrors
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"output '{folder}' cannot be written: {disk.reason(error)}"
        ) from error


def save(folder: Path, variables: dict, model: dict) -> None:
    """Writes a folder of weights atomically; InputError if it cannot be written."""
    with new_folder(folder) as new:
        arrays.save(new / VARIABLES, variables)
        files.write_json(new / MODEL, model)


def load(path: Path) -> Pretrained:
    """Reads a folder of weights, or a checkpoint of a workdir; see the module.

    Raises InputError if it is neither or is damaged, or has no such checkpoint.
    """
    folder, choice = disk.place_of(path)
    if (folder / MODEL).is_file() and not choice:
        model = files.read_json(folder / MODEL, "source", "name", "options", "parts")
        shared = (folder / TENSORS).is_file()
        place = folder / (TENSORS if shared else VARIABLES)
    elif newest_step(folder) or (folder / workdir.CONFIG).is_file():
        model, place = _of_run(path, folder)
    else:
        what = "does not exist" if not folder.exists() else f"has no {MODEL}"
        what = f"has no checkpoints to choose {choice} of" if choice else what
        what = "is a file" if folder.is_file() else what
        what += ", it is in a run" if workdir.CHECKPOINTS in folder.parts else ""
        raise InputError(
            f"'{folder}' {what}; give a folder that amlr_jax.convert made, or the "
            "workdir of a run"
        )
    try:
        variables = arrays.load(place)
    except (OSError, ValueError, KeyError) as error:
        line = str(error).splitlines()[0]
        raise InputError(f"weights '{place}' cannot be read: {line[:120]}") from error
    parts = [*dict.fromkeys(p[1] for p in flatten_dict(variables))]
    return Pretrained(folder, variables, {"parts": parts, **model})


def fingerprint(path: Path) -> str:
    """A hash that other weights in `path` do not have; empty without weights.

    Of names and sizes of the files, or of those of a run's checkpoint: arrays are
    written to files of new names.
    """
    folder, _ = disk.place_of(path)
    is_weights = (folder / MODEL).is_file()
    place = folder if is_weights else next(iter(disk.candidates(path)), None)
    if place is None:
        return ""
    found = sorted(paths.find(place).files)
    sizes = [
        (file.relative_to(place).as_posix(), file.stat().st_size) for file in found
    ]
    return hashlib.sha256(repr(sizes).encode()).hexdigest()[:16]


def load_network(folder: Path, *, calibrated: bool = True) -> Loaded:
    """The depth network of a folder of weights.

    It is calibrated if the weights are (`calibration`), which is printed. Raises
    InputError as `load` does, and for weights of an encoder alone.
    """
    found = load(folder)
    if not found.model.get("complete"):
        parts = ", ".join(found.model["parts"])
        raise InputError(
            f"'{folder}' holds no whole depth network, only {parts}; train from it "
            f"with --config.init_from={folder}"
        )
    network = network_of(found)
    show(f"{found.model['name']}: computing in {depth.precision_of(network)}")
    variables = complete(depth.variable_shapes(network), found)
    max_depth = float(found.model["options"]["max_depth"])
    step = found.model.get("step")
    fit = calibration.load(found.folder, step=step) if calibrated else None
    if fit is not None:
        network = network.clone(calibration=tuple(fit))
        max_depth = fit.factor * max_depth + fit.shift
    size = found.model.get("size") or found.model["options"].get("input_size")
    return Loaded(network, variables, max_depth, step, tuple(size) if size else None)


def complete(shapes: dict, pretrained: Pretrained) -> dict:
    """The weights for all of `shapes`; InputError as `merge`, or if any is absent."""
    variables, report = merge(shapes, pretrained)
    if report.initial:
        lacking = ", ".join(report.initial)
        raise InputError(f"weights '{pretrained.folder}' lack some of {lacking}")
    return variables


def network_of(pretrained: Pretrained, **defaults: Any) -> depth.DepthNetwork:
    """The network that the weights were trained with; InputError if there is none.

    It computes as in training, or as this device does best if it cannot do that.
    """
    name, options = pretrained.model["name"], pretrained.model.get("options", {})
    try:
        made = depth.network(name, **defaults | depth.fitted_to_device(name, options))
        return made.clone(metric=bool(pretrained.model.get("metric")))
    except (TypeError, ValueError) as error:
        raise InputError(f"weights '{pretrained.folder}' of {name}: {error}") from error


def newest_step(folder: Path) -> Path | None:
    """The newest finished checkpoint in a workdir, intact or damaged."""
    return next(reversed(disk.all_of(folder / workdir.CHECKPOINTS)), None)


def good_checkpoint(path: Path) -> Path | None:
    """The newest good checkpoint of a workdir, or the one that `path` chooses.

    Prints which are skipped, and why. None without checkpoints; InputError if those
    that are meant are bad. Nothing is changed on disk.
    """
    bad: dict[str, str] = {}
    for found in disk.candidates(path):
        if why := disk.damage(found):
            bad[found.name] = why
            continue
        for name, why in bad.items():
            damaged = found.with_name(name)
            _show_once(f"Checkpoint '{damaged}' is bad: {why}; reading '{found.name}'")
        return found
    if bad:
        reasons = "; ".join(f"{name}: {why}" for name, why in bad.items())
        raise InputError(f"no checkpoint of workdir '{path}' is good ({reasons})")
    return None


@functools.cache
def _show_once(line: str) -> None:
    """Prints a line once per process."""
    show(line)


def _of_run(path: Path, folder: Path) -> tuple[dict, Path]:
    """The model of the config in workdir `folder`, and the arrays that `path` means."""
    checkpoint = good_checkpoint(path)
    if checkpoint is None:
        raise InputError(f"workdir '{folder}' has no checkpoint yet")
    if (folder / workdir.CONFIG).is_file():
        config = files.read_json(folder / workdir.CONFIG, "model")
    else:  # only its checkpoints were copied
        config = disk.record(checkpoint).get("config") or {}
    if not config.get("model"):
        raise InputError(f"workdir '{folder}' has no {workdir.CONFIG}; copy it too")
    options = {k: v for k, v in config["model"].items() if v is not None}
    model = {"source": "run", "name": options.pop("name"), "options": options}
    model |= {"complete": True, "step": int(checkpoint.name), **_training(config)}
    return model, checkpoint / disk.STATE


def _training(config: dict) -> dict:
    """`metric` and `size` of a run's config."""
    data = config.get("data", {})
    if config.get("objective") == "self_supervised":
        return {"metric": data.get("stereo", False), "size": data.get("size")}
    first, *_ = data.get("mix") or [{}]  # the sets of a mix have one crop
    return {"metric": True, "size": (data | first).get("crop")}


def merge(variables: dict, pretrained: Pretrained) -> tuple[dict, Merged]:
    """`variables` with initial values replaced by the weights, and a report.

    `variables` is {"params": ..., "batch_stats": ...}; its leaves need only a shape.
    InputError for weights that are not in it or have another shape.
    """
    ours, theirs = flatten_dict(variables), flatten_dict(pretrained.variables)
    parts = {path[1] for path in ours}
    taken = {path: leaf for path, leaf in theirs.items() if path[1] in parts}
    for path, leaf in taken.items():
        _check_leaf(path, leaf, ours.get(path), pretrained)
    report = Merged(
        taken=Counter(path[1] for path in taken),
        initial=Counter(sorted(path[1] for path in ours.keys() - taken.keys())),
        left=tuple(dict.fromkeys(p[1] for p in theirs if p[1] not in parts)),
    )
    return unflatten_dict(ours | taken), report


def _check_leaf(path: tuple, leaf: Any, ours: Any, pretrained: Pretrained) -> None:
    if ours is not None and ours.shape == leaf.shape:
        return
    what = "no such parameter" if ours is None else f"shape {ours.shape}"
    key = "decoder_channels or model.name" if path[1] == "decoder" else "name"
    raise InputError(
        f"weights '{pretrained.folder}' do not fit: {'/'.join(path[1:])} has shape "
        f"{leaf.shape}, this network {what}; change model.{key} (the weights are of "
        f"{pretrained.model['name']})"
    )


def summary(pretrained: Pretrained, merged: Merged) -> str:
    """One line: the tensors set from the weights and those at their initial value."""
    parts = [f"{name}: {count} tensors" for name, count in merged.taken.items()]
    text = f"Weights from {pretrained.folder}: {', '.join(parts)}"
    if merged.initial:
        some = [f"{name} ({count})" for name, count in merged.initial.items()]
        text += f"; initial: {', '.join(some)}"
    if merged.left:
        text += f"; not used: {preview(merged.left)}"
    return text
