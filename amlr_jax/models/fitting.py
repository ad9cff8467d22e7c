"""Training from weights: checks that they fit the network, and sets the state.

If the run has a checkpoint, training resumes from it and these weights are not read.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from amlr_jax.models import depth
from amlr_jax.models import pretrained as folders
from amlr_jax.models.pretrained import Pretrained
from amlr_jax.runtime import paths
from amlr_jax.runtime.console import show
from amlr_jax.runtime.errors import InputError

# Attributes of modules that may differ from those the weights were trained with:
# options of the run, and sizes of windows and depth on which no parameter depends.
FREE = {"window_size", "use_shift", "drop_path", "residual_init", "kernel_init"}
FREE |= {"max_depth", "attention", "dtype", "remat", "parent", "name"}
# Attributes with a separate key under `model`; the others are encoder options.
KEYS = {"channels": "decoder_channels", "activation": "decoder_activation"}
KEYS |= {"upsampling": "upsampling"}


def starting_weights(init_from: str, network: Any, workdir: Path) -> Pretrained | None:
    """The weights in the folder `init_from`, for a new run; None without them.

    Raises InputError if there are none or they do not fit the network.
    """
    if not init_from or folders.newest_step(workdir) is not None:
        return None
    pretrained = folders.load(paths.expanded(init_from))
    check_fits(network, pretrained)
    return pretrained


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
    merged, report = folders.merge(variables, pretrained)
    show(folders.summary(pretrained, report))
    return state._replace(**jax.device_put({**variables, **merged}, sharding))


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


def check_fits(network: Any, pretrained: Pretrained) -> None:
    """Raises InputError, naming a key of `config.model`, if the weights do not fit.

    Every attribute of encoder and decoder, except those in `FREE`, must be the same as
    in training; this includes pretrained_window_size and convention, which change no
    shape. Then every shape must agree.
    """
    theirs = folders.network_of(pretrained, max_depth=1.0)
    for part in ("encoder", "decoder"):
        if part in pretrained.model["parts"]:
            _check_module(getattr(network, part), getattr(theirs, part), pretrained)
    folders.merge(depth.variable_shapes(network), pretrained)


def _check_module(ours: Any, theirs: Any, pretrained: Pretrained) -> None:
    model, folder = pretrained.model, pretrained.folder
    if type(ours) is not type(theirs):
        raise InputError(
            f"init_from '{folder}' is for {model['name']}, another network; set "
            f"--config.model.name={model['name']}"
        )
    for field in dataclasses.fields(ours):
        a, b = (_effective(module, field.name) for module in (ours, theirs))
        if field.name in FREE or a == b:
            continue
        key = KEYS.get(field.name, field.name)
        value = model["options"].get(key, b)
        if key not in (*depth.SWIN_OPTIONS, *KEYS.values()):
            key, value = "name", model["name"]
        raise InputError(
            f"init_from '{folder}' does not fit model.{key}: its {field.name} is "
            f"{_text(b)}, this network's {_text(a)}; set "
            f"--config.model.{key}={_text(value, quoted=True)}"
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
