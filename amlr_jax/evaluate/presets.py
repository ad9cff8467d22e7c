"""The published protocols by name, and what a config makes of them.

A protocol fixes which frames, pixels and depths count and whether the prediction is
scaled. Figures of two protocols say nothing about each other.
"""

import difflib
from collections.abc import Iterable
from typing import NamedTuple

from amlr_jax import metrics
from amlr_jax.evaluate import tiling
from amlr_jax.evaluate.protocol import Protocol
from amlr_jax.models.decoders.disparity import DisparityDecoder
from amlr_jax.runtime.errors import InputError


class Preset(NamedTuple):
    """A protocol without data; median_scaling None: where the network has no scale."""

    data: tuple[str, ...]  # data.name for which it is defined
    split: str  # data.split of its published figures
    crop: str
    max_depth: float = metrics.KITTI_MAX_DEPTH
    kb_crop: bool = False
    paste_back: bool = False
    cap_target: bool = True
    clamp: bool = False
    median_scaling: bool | None = None
    windows: int = 16


_KITTI = ("kitti", "street")
PRESETS = {
    # MIM-Depth, GLPDepth, AMLR: 652 frames, annotated depth, all cut to 352x1216.
    "kitti_eigen": Preset(_KITTI, "eigen", "garg", kb_crop=True),
    # BTS from PNGs: the same frames, measured and cropped in the original frame.
    "kitti_eigen_bts": Preset(
        _KITTI, "eigen", "garg", kb_crop=True, paste_back=True, clamp=True
    ),
    # monodepth2 "eigen": 697 frames, lidar scans, scaled by the median.
    "kitti_eigen_697": Preset(
        _KITTI, "eigen_697", "garg", clamp=True, median_scaling=True
    ),
    # monodepth2 "eigen_benchmark": 652 frames, annotated depth, every measured pixel.
    "kitti_eigen_benchmark": Preset(
        _KITTI, "eigen", "none", cap_target=False, clamp=True
    ),
    "nyu": Preset(
        ("nyu", "nyu_tfds"), "official", "nyu", metrics.NYU_MAX_DEPTH, windows=2
    ),
    "custom": Preset(("custom",), "folder", "none", windows=2),
}
_NO_SPLITS = ("street", "nyu_tfds", "custom")


def choose(config) -> str:
    """The name of the protocol that a config asks for, or its data set's."""
    data = config.data.name
    name = config.eval.protocol
    if not name:
        known = [name for name, preset in PRESETS.items() if data in preset.data]
        return known[0] if known else "custom"
    require("eval.protocol", name, PRESETS)
    if data not in PRESETS[name].data:
        raise InputError(
            f"eval.protocol={name} is for data.name {', '.join(PRESETS[name].data)}; "
            f"got '{data}'"
        )
    return name


def split_of(config) -> str:
    """The split whose test frames, or kind of depth, a protocol asked for is about.

    A partial copy (data.split=folder) stays what it is.
    """
    name, data = choose(config), config.data
    if not config.eval.protocol or data.name in _NO_SPLITS or data.split == "folder":
        return data.split
    return PRESETS[name].split


def check(config) -> None:
    """Raises InputError for a protocol that cannot be; needs no network and no data."""
    options = config.eval
    require("eval.test_mode", options.test_mode, tiling.MODES)
    require("eval.window_form", options.window_form, tiling.FORMS)
    require("eval.crop", options.crop or "none", (*metrics.CROPS, "none"))
    require("eval.median_scaling", options.median_scaling or "on", ("on", "off"))
    preset = PRESETS[choose(config)]
    near, far = _limits(config, preset)
    if not 0 < near < far:
        raise InputError(
            "eval.min_depth must be positive and below eval.max_depth, got "
            f"{near:g} and {far:g} m"
        )
    if (options.windows or preset.windows) < 2:
        raise InputError(f"eval.windows must be at least 2, got {options.windows}")


def _limits(config, preset: Preset) -> tuple[float, float]:
    """The least and the greatest depth that count, in metres."""
    options = config.eval
    near = options.min_depth or metrics.MIN_DEPTH
    return near, options.max_depth or preset.max_depth


def protocol(config, network) -> Protocol:
    """The protocol of a config, without the data's name, split and constant (NaN).

    Raises InputError as `check`.
    """
    check(config)
    name, options = choose(config), config.eval
    preset = PRESETS[name]
    near, far = _limits(config, preset)
    return Protocol(
        dataset=config.data.name,
        split=config.data.split,
        crop=options.crop or preset.crop,
        min_depth=near,
        max_depth=far,
        kb_crop=preset.kb_crop and config.data.kb_crop,
        median_depth=float("nan"),
        median_scaling=_scales(options.median_scaling, preset, network),
        test_mode=options.test_mode,
        windows=options.windows or preset.windows,
        window_form=options.window_form,
        name=name,
        paste_back=preset.paste_back and config.data.kb_crop,
        # A cap that is asked for is meant for both.
        cap_target=preset.cap_target or bool(options.min_depth or options.max_depth),
        clamp=preset.clamp,
    )


def has_scale(network) -> bool:
    """Whether depth is in metres; networks of disparity know it up to a factor."""
    return not isinstance(getattr(network, "decoder", None), DisparityDecoder)


def require(key: str, value: str, known: Iterable[str]) -> None:
    """Raises InputError, with the nearest known value, if `value` is not known."""
    known = list(known)
    if value in known:
        return
    near = difflib.get_close_matches(value, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise InputError(f"{key} must be one of {', '.join(known)}; got '{value}'{hint}")


def _scales(asked: str, preset: Preset, network) -> bool:
    if asked:
        return asked == "on"
    if preset.median_scaling is None:
        return not has_scale(network)
    return preset.median_scaling
