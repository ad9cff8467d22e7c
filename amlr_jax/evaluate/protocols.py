"""Evaluation protocols: the published ones by name, and that of a config.

A protocol defines which frames, pixels and depths are evaluated and whether the
prediction is scaled. Metrics of different protocols cannot be compared.
"""

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from amlr_jax import metrics
from amlr_jax.config import check as check_config
from amlr_jax.data import benchmarks, loader
from amlr_jax.evaluate import tiling
from amlr_jax.evaluate.metric_sets import NO_CHOICES, Choices
from amlr_jax.models.depth_network import has_scale, is_calibrated
from amlr_jax.runtime.errors import InputError


class Preset(NamedTuple):
    """A published protocol; median_scaling None: where the network has no scale."""

    data: tuple[str, ...]  # data.name for which it is defined
    split: str  # data.split of its published values
    crop: str
    max_depth: float = metrics.KITTI_MAX_DEPTH
    min_depth: float = metrics.MIN_DEPTH
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
    # BTS from PNGs: the network gets the 352x1216 crop; its depth is pasted back into
    # the original frame, clamped, and cropped there. Garg's crop is then rows 153:371
    # and columns 44:1197 of 375x1242, and that of kitti_eigen rows 166:372 and columns
    # 56:1185 of the same frame: other pixels.
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
    "custom": Preset(("custom", "frames"), "folder", "none", windows=2),
}
PRESETS |= {
    name: Preset((name,), "folder", "none", made.cap, windows=2)
    for name, made in benchmarks.SETS.items()
}
_NO_SPLITS = ("street", "nyu_tfds", "custom", "frames", *benchmarks.SETS)


class Protocol(NamedTuple):
    """All settings that determine the metrics, apart from the network."""

    dataset: str
    split: str
    crop: str  # garg, eigen, nyu or none: the evaluated pixels
    min_depth: float  # metres: cap of the ground truth, both exclusive
    max_depth: float
    kb_crop: bool  # the network gets the 352x1216 crop
    median_depth: float  # metres: the constant predictor
    median_scaling: bool = False  # of each image, on the pixels that count
    test_mode: str = "none"  # see `tiling.Mode`
    windows: int = 16
    name: str = "custom"  # of `PRESETS`
    paste_back: bool = False  # the crop's depth is evaluated in the original frame
    cap_target: bool = True  # False: every measured pixel, at any depth
    clamp: bool = False  # prediction clamped to min_depth..max_depth
    choices: Choices = NO_CHOICES

    @property
    def mode(self) -> tiling.Mode:
        """The test-time augmentation."""
        return tiling.Mode(self.test_mode, self.windows)

    @property
    def crops_frames(self) -> bool:
        """Whether image and ground truth are cut to 352x1216 first."""
        return self.kb_crop and not self.paste_back

    @property
    def limits(self) -> dict[str, Any]:
        """Least and greatest depth in metres."""
        return {"min_depth": self.min_depth, "max_depth": self.max_depth}

    def recorded(self) -> dict[str, Any]:
        """The fields for evaluation.json; of the choices those that were made."""
        usual = NO_CHOICES._asdict()
        made = {k: v for k, v in self.choices._asdict().items() if v != usual[k]}
        fields = self._asdict()
        del fields["choices"]
        return fields | made

    def line(self) -> str:
        """The protocol in one line of text."""
        kb = "KB crop, " if self.kb_crop else ""
        kb += "pasted back, " if self.paste_back else ""
        crop = "no" if self.crop == "none" else self.crop
        cap = f"{self.min_depth:g} < depth < {self.max_depth:g} m"
        if not self.cap_target:
            cap = f"every depth, clamped to {self.max_depth:g} m"
        scaling = "median scaling" if self.median_scaling else "no median scaling"
        scaling = self.choices.line() or scaling
        mode = self.test_mode
        mode += f" ({self.windows} windows)" if self.mode.shifted else ""
        return (
            f"{self.name} on {self.dataset} {self.split}: {kb}{crop} crop, {cap}, "
            f"{scaling}, test mode {mode}"
        )


def choose(config: ConfigDict) -> str:
    """The name of the protocol of a config, or the default of its data."""
    data = config.data.name
    name = config.eval.protocol
    if not name:
        known = [name for name, preset in PRESETS.items() if data in preset.data]
        return known[0] if known else "custom"
    if data not in PRESETS[name].data:
        raise InputError(
            f"eval.protocol={name} is for data.name {', '.join(PRESETS[name].data)}; "
            f"got '{data}'; leave it empty for the protocol of the data"
        )
    return name


def split_of(config: ConfigDict) -> str:
    """The split of the protocol of a config, else the split of the config.

    A partial copy of a data set (data.split=folder) keeps its split.
    """
    name, data = choose(config), config.data
    if not config.eval.protocol or data.name in _NO_SPLITS or data.split == "folder":
        return data.split
    return PRESETS[name].split


def check(config: ConfigDict) -> None:
    """`config.check`, and the protocol against the data and its depth limits."""
    check_config(config)
    near, far = _limits(config.eval, PRESETS[choose(config)])
    if not near < far:
        raise InputError(
            f"eval.min_depth must be below eval.max_depth, got {near:g} and {far:g} m"
        )
    benchmark = benchmarks.SETS.get(config.data.name)
    cap = (config.data.depth_cap or benchmark.cap) if benchmark else far
    if far > cap:
        raise InputError(
            f"eval.max_depth={far:g} is beyond the depth cap of {config.data.name}, "
            f"{cap:g} m; set data.depth_cap, too"
        )


def _limits(options: ConfigDict, preset: Preset) -> tuple[float, float]:
    near, far = options.min_depth, options.max_depth
    return near or preset.min_depth, far or preset.max_depth


def protocol(
    config: ConfigDict, network: Any, data: Any, choices: Choices = NO_CHOICES
) -> Protocol:
    """The protocol of a config for a network on a prepared data set.

    Raises InputError as `check`, and if a crop is not defined on a test frame.
    """
    check(config)
    name, options = choose(config), config.eval
    preset = PRESETS[name]
    near, far = _limits(options, preset)
    scales = preset.median_scaling
    if options.median_scaling:
        scales = options.median_scaling == "on"
    elif is_calibrated(network):  # which a median would hide
        scales = False
    made = Protocol(
        dataset=data.name,
        split=data.split,
        crop=options.crop or preset.crop,
        min_depth=near,
        max_depth=far,
        kb_crop=preset.kb_crop and config.data.kb_crop,
        median_depth=data.median_depth,
        median_scaling=not has_scale(network) if scales is None else scales,
        test_mode=options.test_mode,
        windows=options.windows or preset.windows,
        name=name,
        paste_back=preset.paste_back and config.data.kb_crop,
        # An explicit cap applies to both.
        cap_target=preset.cap_target or bool(options.min_depth or options.max_depth),
        clamp=preset.clamp,
    )
    for size, key in data.test_sizes.items():
        check_frame(made, size, key)
    if len(data.test) and not data.test_sizes:  # not recorded
        frame = loader.test_frame(data, 0, kb_crop=made.crops_frames)
        check_frame(made, frame["depth"].shape, frame["key"])
    return with_choices(made, choices)


def with_choices(made: Protocol, choices: Choices) -> Protocol:
    """The protocol with choices; an alignment replaces its own scaling."""
    align, over = choices.align, choices.align_over
    if align == "none" or (align == "median" and over == "image"):
        choices = choices._replace(align="", align_over="image")
    if align:
        made = made._replace(median_scaling=align == "median" and not choices.align)
    return made._replace(choices=choices)


def check_frame(made: Protocol, size: tuple[int, int], key: str) -> None:
    """Raises InputError unless the protocol's crops are defined on a test frame.

    `size` is (height, width) of the frame, `key` its name.
    """
    rule, remedy = f"eval.crop={made.crop}", "--config.eval.crop=none"
    try:
        metrics.evaluation_mask(*size, crop=made.crop)
        rule, remedy = "the benchmark crop", "--config.data.kb_crop=False"
        if made.kb_crop:
            metrics.kb_crop_offsets(*size)
    except ValueError as error:
        raise InputError(
            f"test frame {key} does not fit {rule} of eval.protocol={made.name}: "
            f"{error} Leave it out of the test, or set {remedy} (another protocol)"
        ) from error
