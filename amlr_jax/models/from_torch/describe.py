"""Which network of ours the tensors of a file are, and with which options.

What a file does not say of its network (sizes, depths, heads, windows) is read from the
shapes of its tensors, once they have our names. Each function gives a name and options
for `models.depth.network`; InputError where no network of ours is like that.
"""

import re
from typing import Any

import numpy as np

from amlr_jax.models.from_torch.files import Weights
from amlr_jax.models.mix_transformer import PRESETS as MIX_TRANSFORMERS
from amlr_jax.models.swin_v2_presets import MIM_DEPTH as SWINS
from amlr_jax.runtime.errors import InputError

LOG_RANGE = 8.0  # of Swin-v2's coordinates; see `models.windows`
Shapes = dict[str, tuple[int, ...]]  # by our path, "encoder/norm/scale"


def _size(shapes: Shapes, path: str) -> tuple[int, ...]:
    if path not in shapes:
        raise InputError(f"the input has no tensor for {path}; the file is not whole")
    return shapes[path]


def _depths(shapes: Shapes) -> tuple[int, ...]:
    """Blocks in each stage, by the highest number seen."""
    depths: dict[int, int] = {}
    for path in shapes:
        match = re.match(r"encoder/stage(\d+)_block(\d+)/", path)
        if match:
            stage, block = int(match[1]), int(match[2])
            depths[stage] = max(depths.get(stage, 0), block + 1)
    return tuple(depths[stage] for stage in sorted(depths))


def _preset(sizes: dict, presets: dict[str, dict], family: str) -> str:
    """The name of the network with these sizes."""
    for name, preset in presets.items():
        if all(preset[key] == value for key, value in sizes.items()):
            return f"{family}_{name}"
    found = ", ".join(f"{key} {value}" for key, value in sizes.items())
    known = ", ".join(presets)
    raise InputError(f"no {family} ({known}) has {found}, as the input has")


def swin_v2(shapes: Shapes, weights: Weights, *, convention: str) -> tuple[str, dict]:
    """Sizes from the tensors; pretraining windows from the tables of coordinates."""
    depths = _depths(shapes)
    path = "encoder/stage{}_block0/attn/logit_scale"
    sizes = {
        "embed_dim": _size(shapes, "encoder/patch_embed/proj/kernel")[-1],
        "depths": depths,
        "num_heads": tuple(_size(shapes, path.format(s))[0] for s in range(4)),
    }
    name = _preset(sizes, SWINS, "swin_v2")
    options: dict[str, Any] = {"convention": convention}
    windows = _windows(weights.tensors)
    if len(windows) == len(depths):
        pretrained = tuple(pretrained for _, pretrained in windows)
        options["pretrained_window_size"] = pretrained
    return name, options


def _windows(tensors: dict[str, np.ndarray]) -> list[tuple[int, int]]:
    """Window of each stage and the window that it was pretrained with.

    A table of coordinates is (1, 2w - 1, 2w - 1, 2), and its largest value is
    log2(8 (w - 1) / (p - 1) + 1) / log2(8) for a pretraining window p.
    """
    found = []
    for name, table in sorted(tensors.items()):
        if not re.fullmatch(r".*layers\.\d+\.blocks\.0\..*relative_coords_table", name):
            continue
        window = (table.shape[1] + 1) // 2
        ratio = (LOG_RANGE ** float(table.max()) - 1) / LOG_RANGE
        pretrained = 1 + (window - 1) / ratio if ratio else window
        if not np.isclose(pretrained, round(pretrained), rtol=1e-3):
            raise InputError(f"'{name}' is no table of Swin-v2's logarithmic positions")
        found.append((window, round(pretrained)))
    return found


def mim_depth(shapes: Shapes, weights: Weights) -> tuple[str, dict]:
    """A Swin-v2 with MIM-Depth's decoder."""
    name, options = swin_v2(shapes, weights, convention="mim_depth")
    deconvolutions = [_size(shapes, f"decoder/deconv{i}/kernel") for i in range(3)]
    windows = _windows(weights.tensors)
    if windows:
        options["window_size"] = tuple(window for window, _ in windows)
    return name, options | {
        "decoder_channels": tuple(shape[-1] for shape in deconvolutions),
        "decoder_activation": "relu",
    }


def mix_transformer(shapes: Shapes, weights: Weights) -> tuple[str, dict]:
    """GLPDepth's network by its encoder; all of it, or the encoder alone."""
    del weights
    path = "encoder/stage{}_patch_embed/proj/kernel"
    dims = tuple(_size(shapes, path.format(stage))[-1] for stage in range(4))
    sizes = {"embed_dims": dims, "depths": _depths(shapes)}
    return _preset(sizes, MIX_TRANSFORMERS, "glpdepth"), {}


def monodepth2(shapes: Shapes, weights: Weights) -> tuple[str, dict]:
    """The size of the images is kept beside the tensors."""
    del shapes
    height, width = (weights.extras.get(f"encoder:{n}") for n in ("height", "width"))
    size = {"input_size": (int(height), int(width))} if height and width else {}
    return "monodepth2", size


def resnet18(shapes: Shapes, weights: Weights) -> tuple[str, dict]:
    """ImageNet's weights, for images of any size."""
    del shapes, weights
    return "monodepth2", {}
