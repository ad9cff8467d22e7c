"""Training from weights: checks that they fit the network, and sets the state.

If the run has a checkpoint, training resumes from it and these weights are not read.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from amlr_jax.models import depth, optical_flow
from amlr_jax.models import pretrained as folders
from amlr_jax.models.decoders.dpt import DPT
from amlr_jax.models.pretrained import Pretrained
from amlr_jax.runtime import paths
from amlr_jax.runtime.console import show
from amlr_jax.runtime.errors import InputError

# Attributes of modules that may differ from those the weights were trained with:
# options of the run, and sizes of windows and depth on which no parameter depends.
FREE = {"window_size", "use_shift", "drop_path", "residual_init", "kernel_init"}
FREE |= {"max_depth", "attention", "dtype", "remat", "parent", "name"}
LAST = "head_depth"  # of a DPT, whose values are metres or relative inverse depth
# Attributes with a separate key under `model`; the others are encoder options.
KEYS = {"channels": "decoder_channels", "activation": "decoder_activation"}
KEYS |= {name: name for name in ("upsampling", "planes", "registers")}


def starting_weights(
    init_from: str,
    network: Any,
    workdir: Path,
    *,
    partly: bool = False,
    needs: Sequence[str] = (),
) -> Pretrained | None:
    """The weights in the folder `init_from`, for a new run; None without them.

    `partly` is that of `what_fits`; `needs` names networks that the weights must have.
    Raises InputError if they lack one or do not fit the network.
    """
    if folders.newest_step(workdir) is not None:
        return None
    found = folders.load(paths.expanded(init_from)) if init_from else None
    for part in needs:
        if found is None or part not in found.variables["params"]:
            raise InputError(
                f"this run trains with a {part} network that it does not change, and "
                f"init_from '{init_from}' has none; set --config.init_from to a run "
                "that trained one"
            )
    return found and what_fits(network, found, partly=partly)


def start_from(state: Any, pretrained: Pretrained | None, *, sharding: Any) -> Any:
    """`state` with its parameters set from the weights; prints a one-line summary.

    `state` is a NamedTuple with `params` and `batch_stats`, of which `sharding` is
    {"params": ..., "batch_stats": ...} or one for all.
    """
    if pretrained is None:
        return state
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    if "pose" in state.params:
        pretrained = with_pose_encoder(pretrained)
    if "flow" in state.params:
        _check_flow(state.params["flow"], pretrained)
    merged, report = folders.merge(variables, pretrained)
    show(folders.summary(pretrained, report))
    return state._replace(**jax.device_put({**variables, **merged}, sharding))


def _check_flow(ours: Mapping[str, Any], pretrained: Pretrained) -> None:
    """Raises InputError unless the weights' flow network matches features as ours."""
    theirs = pretrained.variables["params"].get("flow", ours)
    unit = optical_flow.has_unit_features(theirs)
    if unit != optical_flow.has_unit_features(ours):
        raise InputError(
            f"init_from '{pretrained.folder}' has a flow network that was trained "
            f"with{'' if unit else 'out'} features of length 1; set "
            f"--config.selfsup.unit_features={unit}"
        )


def with_pose_encoder(pretrained: Pretrained) -> Pretrained:
    """The weights with an encoder for the pose network, if they have none.

    It is that of the depth network, a ResNet-18, with the first convolution extended to
    two images (`stack_conv1`): monodepth2 starts both encoders from ImageNet's weights.
    """
    found = pretrained.variables
    if "pose" in found["params"] or "encoder" not in found["params"]:
        return pretrained
    new = {
        name: {**part, "pose": {"encoder": dict(part["encoder"])}}
        for name, part in found.items()
    }
    one = found["params"]["encoder"]["conv1"]["kernel"]
    two = stack_conv1(one, images=2)
    new["params"]["pose"]["encoder"]["conv1"] = {"kernel": two}
    return pretrained._replace(variables=new)


def stack_conv1(kernel: np.ndarray, *, images: int) -> np.ndarray:
    """The first convolution of a ResNet for several images, from that for one.

    The kernel is repeated along its input channels and divided by `images`, so that a
    stack of equal images gives the same output as one image.

    Args:
      kernel: (h, w, 3, out).
      images: how many images are stacked.

    Returns:
      (h, w, 3 * images, out).
    """
    return np.concatenate([kernel] * images, axis=2) / images


def what_fits(network: Any, pretrained: Pretrained, *, partly: bool) -> Pretrained:
    """The weights, of which each must fit; InputError, naming a key of `config.model`.

    Every attribute of encoder and decoder, except those in `FREE`, must be the same as
    in training; this includes pretrained_window_size and convention, which change no
    shape. Then every shape must agree.

    With `partly` these are the weights without those of a decoder that do not fit, and
    what differs is printed. A decoder of another kind is left out, and of other sizes
    what has another shape. Of a relative DPT that becomes a metric one, or the reverse,
    the last convolution is left out, whose values have another meaning. An encoder must
    fit, but may have had another `pretrained_window_size`, which changes what it
    computes.
    """
    ours = flatten_dict(depth.variable_shapes(network))
    theirs = flatten_dict(pretrained.variables)
    left = set()
    for part, name, text in _differences(network, pretrained):
        permitted = part == "decoder" or name == "pretrained_window_size"
        if not (partly and permitted):
            hint = ", or --config.init_partly=True for what fits" if permitted else ""
            raise InputError(
                f"init_from '{pretrained.folder}' {text}{'' if partly else hint}"
            )
        show(f"init_partly: '{pretrained.folder}' {text.partition(';')[0]}")
        if name in ("", LAST):
            place = (part, name) if name else (part,)
            left |= {path for path in theirs if path[1 : 1 + len(place)] == place}
    for path, leaf in theirs.items() if partly else ():
        if path[1] == "decoder" and leaf.shape != getattr(ours.get(path), "shape", ()):
            left.add(path)
    if left:
        names = sorted({"/".join(path[1:-1]) for path in left})
        show(f"init_partly: of the weights, not taken: {', '.join(names)}")
    kept = {path: leaf for path, leaf in theirs.items() if path not in left}
    found = pretrained._replace(variables=unflatten_dict(kept))
    folders.merge(unflatten_dict(ours), found)
    return found


def _differences(network: Any, pretrained: Pretrained) -> Iterator[tuple]:
    """(part, attribute, text) of what differs; a part of another kind has no attribute.

    The text says what, and which key to set. Between relative and metric DPT it is
    `LAST`, a layer.
    """
    model = pretrained.model
    whole = folders.network_of(pretrained, max_depth=1.0)
    for part in ("encoder", "decoder"):
        if part not in model["parts"]:
            continue
        ours, theirs = getattr(network, part), getattr(whole, part)
        if type(ours) is not type(theirs):
            name = model["name"]
            both_dpt = isinstance(ours, DPT) and isinstance(theirs, DPT)
            what = "depth in another unit" if both_dpt else "another network"
            text = f"is for {name}, {what}; set --config.model.name={name}"
            yield part, LAST if both_dpt else "", text
            if not both_dpt:
                continue
        for field in dataclasses.fields(DPT if isinstance(ours, DPT) else ours):
            a, b = (_effective(module, field.name) for module in (ours, theirs))
            if field.name not in FREE and a != b:
                yield part, field.name, _difference(field.name, a, b, model)


def _difference(name: str, ours: Any, theirs: Any, model: dict) -> str:
    key = KEYS.get(name, name)
    value = model["options"].get(key, theirs)
    if key not in (*depth.SWIN_OPTIONS, *KEYS.values()):
        key, value = "name", model["name"]
    return (
        f"does not fit model.{key}: its {name} is {_text(theirs)}, this network's "
        f"{_text(ours)}; set --config.model.{key}={_text(value, quoted=True)}"
    )


def _effective(module: Any, name: str) -> Any:
    """An attribute; a pretraining window of 0 means the window itself."""
    value = getattr(module, name)
    if name != "pretrained_window_size":
        return value
    return tuple(p or w for p, w in zip(value, module.window_size, strict=True))


def _text(value: Any, *, quoted: bool = False) -> str:
    """A value as text for a message, or `quoted` for a flag."""
    if quoted and isinstance(value, list | tuple):
        return f"'({','.join(map(str, value))})'"
    return str(getattr(value, "__name__", value))
