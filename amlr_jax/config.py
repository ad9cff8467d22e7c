"""Every configuration key, with its default, its rule, unit and meaning.

A file in `configs/` starts from `base()` and changes the keys of its experiment. Other
keys cannot be set, so a mistyped override is an error. `check` applies the rules before
anything starts; values that depend on the data or the devices are checked there.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference

from amlr_jax.runtime.errors import InputError, did_you_mean, require
from amlr_jax.runtime.rules import (
    AUTO,
    FLAG,
    NOT_EMPTY,
    TEXT,
    Rule,
    apply,
    each,
    named,
    number,
    one_of,
    optional,
    or_auto,
    whole,
)

# Values of data.name: drives with a car's two cameras, calibration and speed, and all
# data sets with frames in the order of time.
DRIVES = ("kitti", "street")
VIDEO = (*DRIVES, "frames")

COUNT = whole(1)
NATURAL = whole(0)
SHARE = number("[0, 1]")
AT_LEAST_0 = number("[0, inf)")
POSITIVE = number("(0, inf)")
MOMENT = number("[0, 1)")  # decay of a moment of Adam
SIZE = each(COUNT, 2, text="(height, width) in pixels")
SIZE_OR_NONE = each(COUNT, 0, 2, text="(height, width) in pixels, or ()")
WINDOWS = Rule(
    "0, or a whole number of at least 2", lambda x: NATURAL.holds(x) and x != 1
)
OFFSETS = each(
    Rule("", lambda x: whole(-1000, 1000).holds(x) and x != 0),
    text="a tuple of whole numbers other than 0, as (-1, 1)",
)
# The supervised losses, and the rules of their options.
_FOCUS = {"variance_focus": SHARE}
LOSSES = {"silog": _FOCUS, "scale_invariant": _FOCUS}
LOSSES |= {name: {} for name in ("gradient", "l1", "berhu", "log_l1")}

# Names that other rooms define: tests/test_configs.py compares them.
METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog", "d1", "d2", "d3")
RULES: tuple[str, ...] = ("amlr", "log_amlr", "lee_kim", "fixed")
RULES += ("dwa", "softadapt", "uncertainty", "famo", "relobralo", "imtl_l")
RULES += ("geometric", "random_weights")
# By the gradients of each loss, which cost a backward pass a loss at each update
RULES += ("gradient_balance", "grad_norm", "ntk", "mgda", "upgrad", "cagrad", "pcgrad")
# Networks, and how many parameters their encoder and decoder have.
# Depth Anything V2 as published, to predict with and to start from.
RELATIVE = {
    "depth_anything_v2_small": 24_710_849,
    "depth_anything_v2_base": 97_174_849,
    "depth_anything_v2_large": 334_134_465,
}
MODELS = {
    "swin_v2_nano": 5_597_371,
    "swin_v2_tiny": 29_294_923,
    "swin_v2_small": 50_676_187,
    "swin_v2_base": 89_944_697,
    "swin_v2_large": 202_064_821,
    "swin_v2_huge": 678_266_571,
    "glpdepth_b0": 3_414_807,
    "glpdepth_b1": 13_529_639,
    "glpdepth_b2": 24_574_503,
    "glpdepth_b3": 44_450_343,
    "glpdepth_b4": 61_220_903,
    "glpdepth_b5": 81_821_223,
    "dinov2_small_dpt": 24_710_849,
    "dinov2_base_dpt": 97_174_849,
    "dinov2_large_dpt": 334_134_465,
    "dinov2_giant_dpt": 1_255_475_713,
    "dinov3_small_dpt": 24_250_817,
    "dinov3_base_dpt": 96_254_785,
    "dinov3_large_dpt": 332_895_425,
    **{
        f"{name}_metric_{place}": count
        for name, count in RELATIVE.items()
        for place in ("indoor", "outdoor")
    },
    **RELATIVE,
    "monodepth2": 14_329_236,
    "five_level": 14_505_252,
}
# Test sets alone, amlr_jax/data/benchmarks.py
BENCHMARKS: tuple[str, ...] = ("diode_indoors", "diode_outdoor", "eth3d", "ibims")
BENCHMARKS += ("sintel", "ddad")
PROTOCOLS: tuple[str, ...] = ("kitti_eigen", "kitti_eigen_bts", "kitti_eigen_697")
PROTOCOLS += ("kitti_eigen_benchmark", "nyu", "custom", *BENCHMARKS)
TEST_MODES = ("none", "flip", "flip_ramps", "shifted", "shifted_flip")

_SETS = each(
    Rule("", lambda x: hasattr(x, "items")),
    text="a tuple of dicts, each with the keys of config.data of one data set",
)
# Data sets of image and depth files.
LAYOUTS = ("kitti", "nyu", "custom", "frames", "street", *BENCHMARKS)
# Keys of config.data that only some data sets use.
USES = {
    "list": ("kitti", "nyu", "custom"),
    "test_list": ("kitti", "nyu", "custom"),
    "depth_scale": ("custom", "frames"),
    "depth_cap": ("custom", "frames", *BENCHMARKS),
    "depth_key": ("custom", "frames"),
    "invalid_values": ("custom", "frames"),
    "intrinsics": ("frames",),
    "min_change": ("frames",),
    "min_speed": DRIVES,
    "stereo": DRIVES,
    "decoded": LAYOUTS,
    "resize": LAYOUTS,
    "skip_bad": LAYOUTS,
}
# Keys of config.data that all sets of data.mix share.
SHARED = ("mix", "cache", "threads", "workers")

_CHECKPOINT = {
    "every_steps": (500, COUNT),
    "keep": (3, COUNT),  # number of newest checkpoints to keep
    "best": (0, NATURAL),  # number of best ones to keep, saved at evaluations
    "best_by": ("abs_rel", one_of(*METRICS)),  # metric that ranks them
    "every_hours": (0.0, AT_LEAST_0),  # also keep one per this many hours; 0: none
}

_LOG = {
    "every_steps": (1, COUNT),  # lines of metrics.jsonl
    # Other places for the same numbers and pictures, amlr_jax/train/writers.py
    "writers": (("tensorboard",), each(one_of("tensorboard", "wandb", "mlflow"))),
    # First and last step of a trace, for Perfetto
    "profile": ((), each(COUNT, 0, 2, text="(first step, last step), or ()")),
}

_PARALLEL = {
    "fsdp": (1, COUNT),  # devices over which parameters and moments are sharded
    "fsdp_min_size": (65536, COUNT),  # smaller arrays are replicated, not sharded
    "heartbeat": (30, COUNT),  # seconds without one of a process until all end
    "patience": (900, COUNT),  # seconds without a finished step until a process ends
}

_DATA: dict[str, Any] = {
    "name": ("kitti", one_of(*LAYOUTS, "nyu_tfds")),
    "root": ("data/kitti", NOT_EMPTY),
    # kitti: eigen, eigen_697, benchmark, folder; nyu: official, folder; none: no test,
    # in self-supervision alone
    "split": ("eigen", NOT_EMPTY),
    # Files that name the training and the test frames, in BTS's, GLPDepth's or
    # monodepth2's format; without test_list the test frames are the split's.
    "list": ("", TEXT),
    "test_list": ("", TEXT),
    # custom, frames: stored value of a metre (0: 1000 in PNGs, 1 elsewhere); metres
    # beyond which nothing was measured (0: none, of a test set its published cap);
    # array of npz, channel of EXR.
    "depth_scale": (0.0, AT_LEAST_0),
    "depth_cap": (0.0, AT_LEAST_0),
    "depth_key": ("", TEXT),
    # custom, frames: stored values that mean "not measured", beside 0, as (65535,)
    "invalid_values": ((), each(number("(-inf, inf)"), text="numbers, as (65535,)")),
    "cache": ("", TEXT),  # prepared data; empty: $AMLR_JAX_CACHE or ~/.cache/amlr_jax
    "kb_crop": (True, FLAG),  # KITTI benchmark crop, 352x1216, train and test
    "crop": ((352, 352), SIZE),  # random crop
    # Probabilities of GLPDepth and MIM-Depth, on whose code AMLR builds. AMLR itself
    # names "flipping and random cropping".
    "cut_depth": (0.25, SHARE),  # a strip of depth pasted over the image
    "flip": (0.5, SHARE),
    "brightness_contrast": (0.5, SHARE),
    "gamma": (0.5, SHARE),
    "hue_saturation": (0.5, SHARE),
    # Reading threads in a process; auto: one for each core that it may use
    "threads": (AUTO, or_auto(COUNT)),
    "workers": (0, NATURAL),  # reading processes; 0: threads only
    # Prepared as pixels, not as the files: PNGs are read four times as fast, and KITTI
    # needs 55 GB, not 25. auto: where the disk has room
    "decoded": (AUTO, or_auto(FLAG)),
    "resize": ((), SIZE_OR_NONE),  # prepared so, test frames too; (): as they are
    "skip_bad": (False, FLAG),  # leave out training frames whose files are damaged
    # Self-supervision alone: the frames of the sources, counted from the target
    "offsets": ((-1, 1), OFFSETS),
    # frames: the camera, "fx,fy,cx,cy" in pixels or a file; empty: ROOT/intrinsics.json
    "intrinsics": ("", TEXT),
    # frames: grey levels (of 255) by which a frame must differ from the one kept before
    "min_change": (0.0, AT_LEAST_0),
    "min_speed": (0.0, AT_LEAST_0),  # m/s: leaves out frames in which the car is slower
    "size": ((192, 640), SIZE_OR_NONE),  # of the views; (): as they are
    "stereo": (False, FLAG),  # add the other camera's image as a source
    # From the files, or monodepth2's one camera for all of KITTI
    "camera": ("file", one_of("file", "monodepth2")),
    "jitter": (0.5, SHARE),  # probability of the networks' colour jitter
    # Several data sets for supervised training: for each a dict of the keys of `data`
    # that differ, as ({"name": "nyu", "root": "data/nyu", "weight": 2.0}, ...)
    "mix": ((), _SETS),
    # Of a set of `mix`: its part of the examples, relative to the others; None: 1
    "weight": (None, optional(POSITIVE)),
    # The embedded street, rendered under `root` on first use.
    "street": {"drives": (6, COUNT), "frames": (20, COUNT), "seed": (0, NATURAL)},
}

# Arguments of `training.self_supervised`; the sources are keys of `data`.
_SELFSUP = {
    # monodepth2 and ssim_m: the losses photometric and smoothness; ssim_a: mae,
    # luminance, contrast, structure and smoothness
    "kind": ("ssim_a", one_of("monodepth2", "ssim_m", "ssim_a")),
    "ssim_weight": (0.85, SHARE),  # monodepth2, ssim_m: against the absolute error
    # Exponents of ssim_m: luminance, contrast, structure
    "alpha": (1.0, AT_LEAST_0),
    "beta": (1.0, AT_LEAST_0),
    "gamma": (1.0, AT_LEAST_0),
    "automask": (True, FLAG),  # leave out pixels that move with the camera
    "neighbours": (True, FLAG),  # the frames at data.offsets are sources
    # of optical_flow and depth_from_flow: features of length 1 are matched, which GVO
    # does not do; False for the weights that GVO released
    "unit_features": (True, FLAG),
    "matches": (3000, whole(8)),  # of depth_from_flow: drawn of each pair of frames
}

# Arguments of `models.depth.network`; None keeps the network's value.
_MODEL = {
    "name": ("swin_v2_large", one_of(*MODELS)),
    "max_depth": (80.0, POSITIVE),  # metres: the network predicts in (0, max_depth)
    "input_scale": (1.0, POSITIVE),  # resize the network's input by this factor
    "input_size": (None, optional(SIZE)),  # or to this height and width
    # Or so that its shorter side has so many pixels, as 518
    "shorter_side": (None, optional(COUNT)),
    "convention": (None, optional(one_of("mim_depth", "official"))),  # of Swin-v2
    "window_size": (None, optional(each(COUNT, 4))),  # tokens, for each stage
    "pretrained_window_size": (None, optional(each(NATURAL, 4))),
    "drop_path": (None, optional(MOMENT)),  # largest rate
    "registers": (None, optional(NATURAL)),  # tokens, of dinov2
    # Of the encoder: cudnn on a GPU in bfloat16; auto: what the device does best
    "attention": (AUTO, one_of("xla", "cudnn", AUTO)),
    "decoder_channels": (None, optional(each(COUNT, 3))),
    # silu (AMLR), relu (MIM-Depth)
    "decoder_activation": (None, optional(one_of("silu", "relu"))),
    "upsampling": (  # of five_level
        None,
        optional(one_of("nearest", "subpixel_head", "subpixel_levels")),
    ),
    # Of five_level: GVO's head over planes of inverse depth, 48; 0: a sigmoid
    "planes": (None, optional(NATURAL)),
    # Of activations; auto: bfloat16 on a GPU that has it
    "dtype": (AUTO, one_of("float32", "bfloat16", AUTO)),
    "remat": (False, FLAG),  # recompute blocks in the backward pass to save memory
}

_REBALANCE = {
    "rule": ("log_amlr", one_of(*RULES)),
    # The paper's lambda; also of uncertainty, imtl_l, famo, grad_norm
    "learning_rate": (1e-2, AT_LEAST_0),
    "b1": (0.9, MOMENT),
    "b2": (0.999, MOMENT),
    "eps": (1e-8, POSITIVE),
    # Share of each loss in the total at step 1, Eq. 9; weights of `fixed`, brought to a
    # sum of 1, unless `weights` gives them as they are.
    "shares": ({"silog": 0.99, "gradient": 0.01}, named(AT_LEAST_0)),
    "weights": ({}, named(AT_LEAST_0)),
    # Losses with constant weights, which the rule does not change: those that should
    # not be balanced
    "held": ({}, named(AT_LEAST_0)),
    "every_k_steps": (1, COUNT),  # the rule's timestep, in optimizer steps
}

_OPTIMIZER = {
    # polynomial: from `start` to `peak` and back; step_decay: `peak`, and `drop` times
    # that after `drop_at` of the run
    "schedule": ("polynomial", one_of("polynomial", "step_decay")),
    "start": (3e-5, AT_LEAST_0),  # learning rate at both ends
    "peak": (5e-4, AT_LEAST_0),  # and at `peak_at` of the run
    "peak_at": (0.5, number("(0, 1]")),
    "power": (0.9, POSITIVE),
    "warmup": (0, NATURAL),  # first steps, in which the rate rises linearly from 0
    # Steps after which the schedule begins and ends; outside of them the learning rate
    # is the first or last one. (): 0 and `steps`, which a run keeps when it goes on
    # with other `steps`
    "span": ((), each(NATURAL, 0, 2, text="(begin, end) in steps, or ()")),
    "drop_at": (0.75, number("(0, 1]")),
    "drop": (0.1, SHARE),
    "b1": (0.9, MOMENT),
    "b2": (0.999, MOMENT),
    "weight_decay": (0.05, AT_LEAST_0),
    "layer_decay": (0.85, number("(0, 1]")),
    "clip_norm": (0.0, AT_LEAST_0),  # global gradient norm; 0: no clipping
    # Patterns of parameters that stay as they are, as ("encoder/stage1*", "pose"); the
    # paths are in parameters.txt, and a path stands for all below it
    "freeze": ((), each(NOT_EMPTY, text="a tuple of patterns, as ('encoder',)")),
    # Decay of the moving average of the weights, which is what is evaluated, as 0.999;
    # 0: none
    "ema": (0.0, MOMENT),
    # Number of parts of a batch, computed sequentially to save memory
    "accumulate": (1, COUNT),
}

_EVAL = {
    "every_steps": (0, NATURAL),  # 0: only at the end
    "batch_size": (1, COUNT),
    # amlr_jax/evaluate/protocols.py; empty: the data set's first
    "protocol": ("", one_of(*PROTOCOLS, empty=True)),
    "test_mode": ("none", one_of(*TEST_MODES)),  # amlr_jax/evaluate/tiling.py
    "windows": (0, WINDOWS),  # of a shifted mode; 0: 16, indoors 2
    # Windows and mirror images in one pass of a device; 0: all (CPU: four)
    "at_once": (0, NATURAL),
    # Empty and 0: the protocol's value.
    "crop": ("", one_of("garg", "eigen", "nyu", "none", empty=True)),
    "min_depth": (0.0, AT_LEAST_0),  # metres, both exclusive
    "max_depth": (0.0, AT_LEAST_0),
    # Empty: on if the depth has no scale
    "median_scaling": ("", one_of("on", "off", empty=True)),
    "pictures": (4, NATURAL),  # held-out frames in panel.png
}

KEYS = {
    "seed": (0, whole(0, 2**32 - 1)),
    "steps": (1000, COUNT),  # optimizer steps of the whole run
    "batch_size": (8, COUNT),  # global, over all devices
    # Folder of weights to start from, of amlr_jax.convert or a run; empty: random.
    "init_from": ("", TEXT),
    # Take of it what fits where the decoder or pretrained_window_size is another
    "init_partly": (False, FLAG),
    # Continue although the frames or the weights of `init_from` are not those that the
    # run started with; inputs.json records it.
    "accept_changes": (False, FLAG),
    "data": _DATA,
    "model": _MODEL,
    # The last two are the stages of GVO, configs/kitti_gvo.py
    "objective": (
        "supervised",
        one_of("supervised", "self_supervised", "optical_flow", "depth_from_flow"),
    ),
    # Supervised: name -> its options; see amlr_jax/train/objectives/supervised.py
    "losses": (
        {"silog": {"variance_focus": 0.5}, "gradient": {}},
        named(Rule("a dict of options", lambda x: hasattr(x, "items"))),
    ),
    "selfsup": _SELFSUP,
    "rebalance": _REBALANCE,
    "optimizer": _OPTIMIZER,
    "eval": _EVAL,
    "checkpoint": _CHECKPOINT,
    "log": _LOG,
    "parallel": _PARALLEL,
    # Keep compiled functions in xla under data.cache, for a start within seconds
    "compilation_cache": (True, FLAG),
    # Consecutive steps with non-finite losses or gradient that may be skipped.
    "max_skipped": (10, COUNT),
}


def base() -> ConfigDict:
    """The defaults; data, model, losses and steps are left to the config file."""
    return _defaults(KEYS)


def _defaults(keys: dict) -> ConfigDict:
    config = ConfigDict()
    for name, entry in keys.items():
        if isinstance(entry, dict):
            config[name] = _defaults(entry)
            continue
        value, rule = entry
        if value is None or value == AUTO:
            value = FieldReference(value, field_type=rule.type)
        config[name] = ConfigDict(value) if isinstance(value, dict) else value
    return config


def of_record(saved: Mapping[str, Any]) -> ConfigDict:
    """The config in config.json of a run; a key that it lacks has its default."""
    config = base()
    _restore(config, saved, KEYS)
    return config


def _restore(config: ConfigDict, saved: Mapping[str, Any], keys: dict) -> None:
    for name, entry in keys.items():
        if name not in saved:
            continue
        if isinstance(entry, dict):
            _restore(config[name], saved[name], entry)
        elif isinstance(saved[name], dict):
            config[name] = ConfigDict(_as_tuples(saved[name]))
        else:
            config[name] = _as_tuples(saved[name])


def _as_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_tuples(one) for name, one in value.items()}
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def trains_on_video(config: ConfigDict) -> bool:
    """Whether training needs neighbouring frames, and depth only for the test."""
    return config.objective != "supervised"


def of_each_set(config: ConfigDict) -> dict[str, ConfigDict]:
    """The config of each data set of data.mix; the config itself without `mix`.

    By data.name, numbered from the second set of one name ("custom_2"). Raises
    InputError for a key that is not in config.data, or that the sets share.
    """
    if not config.data.mix:
        return {config.data.name: config}
    apply("data.mix", config.data.mix, _SETS)
    made: dict[str, ConfigDict] = {}
    for place, changes in enumerate(config.data.mix):
        for key in changes:
            if key not in config.data or key in SHARED:
                known = [name for name in config.data if name not in SHARED]
                raise InputError(
                    f"data.mix[{place}] has the key '{key}', which is not one of "
                    f"config.data of a single set{did_you_mean(key, known)}"
                )
        one = config.copy_and_resolve_references()
        one.data.mix = ()
        name, usual = changes.get("name", one.data.name), {}
        if name != one.data.name:  # it does not take that set's cap, lists, camera
            usual = {key: _DATA[key][0] for key in USES if name not in USES[key]}
        with one.ignore_type():
            one.data.update(usual | dict(changes))
        same = sum(other.data.name == one.data.name for other in made.values())
        made[f"{one.data.name}_{same + 1}" if same else one.data.name] = one
    return made


def check(config: ConfigDict) -> None:
    """Raises InputError for a value that breaks its rule, and for contradictions."""
    for key, value, rule in _entries(config, KEYS):
        apply(key, value, rule)
    _check_losses(config.losses)
    each_set = list(of_each_set(config).values())
    if config.data.mix:
        _check_mix(config, each_set)
    for one in each_set:
        for wrong, text in _contradictions(one):
            if wrong:
                raise InputError(text)


def _check_mix(config: ConfigDict, each_set: list[ConfigDict]) -> None:
    for place, one in enumerate(each_set):
        for key, value, rule in _entries(one.data, _DATA, f"data.mix[{place}]."):
            apply(key, value, rule)
    crops = {tuple(one.data.crop): one.data.name for one in each_set}
    if len(crops) > 1:
        sizes = ", ".join(f"{crop} of {name}" for crop, name in crops.items())
        raise InputError(
            f"a batch has one size: data.crop differs in data.mix: {sizes}"
        )
    if trains_on_video(config):
        raise InputError("data.mix is for supervised training")
    if config.eval.protocol:
        raise InputError(
            f"eval.protocol={config.eval.protocol}, but each set of data.mix has its "
            "own; leave it empty"
        )


def _entries(config: Any, keys: dict, prefix: str = "") -> Iterator[tuple]:
    """(dotted key, value, rule) of each key; InputError if other keys are there."""
    found = list(config) if hasattr(config, "items") else []
    for name in sorted(set(found) ^ set(keys)):
        if name in keys:
            raise InputError(f"the config has no key {prefix}{name}; begin with base()")
        known = [prefix + one for one in keys]
        hint = did_you_mean(prefix + name, known)
        raise InputError(f"unknown config key '{prefix}{name}'{hint}")
    for name, entry in keys.items():
        if isinstance(entry, dict):
            yield from _entries(config[name], entry, f"{prefix}{name}.")
        else:
            yield prefix + name, config[name], entry[1]


def _check_losses(losses: ConfigDict) -> None:
    for name, options in losses.items():
        require("losses", name, LOSSES)
        for option, value in options.items():
            if option not in LOSSES[name]:
                raise InputError(f"losses.{name} has no option {option}")
            apply(f"losses.{name}.{option}", value, LOSSES[name][option])


def _larger(size: Any, than: Any) -> bool:
    return any(one > other for one, other in zip(size, than, strict=True))


def _contradictions(c: ConfigDict) -> Iterator[tuple[bool, str]]:
    """Whether values contradict each other, and the message for them."""
    rates, trace = c.optimizer, c.log.profile
    yield (
        c.model.name in RELATIVE,
        f"model.name={c.model.name} predicts relative depth and is not trained here; "
        f"train {c.model.name}_metric_indoor or _metric_outdoor, which starts from its "
        "weights with init_partly=True",
    )
    yield (
        rates.schedule == "polynomial" and rates.start > rates.peak,
        f"optimizer.start must not exceed optimizer.peak, got {rates.start:g} and "
        f"{rates.peak:g}; set both",
    )
    yield (
        len(rates.span) == 2 and not rates.span[0] < rates.span[1],
        f"optimizer.span must be (begin, end) with begin < end, got {rates.span}",
    )
    yield (
        len(trace) == 2 and not trace[0] <= min(trace[1], c.steps),
        "log.profile must be the first and the last step of the trace, the first one "
        f"within steps={c.steps}; got {trace}",
    )
    yield (
        c.checkpoint.best > 0 and c.data.split == "none",
        f"checkpoint.best={c.checkpoint.best} needs test frames, which data.split=none "
        "does not have; set checkpoint.best=0",
    )
    yield from (_of_video if trains_on_video(c) else _of_supervision)(c)


def _of_supervision(c: ConfigDict) -> Iterator[tuple[bool, str]]:
    data, benchmark = c.data, (352, 1216)
    yield (
        data.name == "frames",
        "data.name=frames has no depth to learn from: use configs/custom_selfsup.py, "
        "or with depth data.name=custom",
    )
    yield not c.losses, "losses must name at least one loss, got none"
    yield (
        data.split == "none",
        "data.split=none, without a test frame, is for self-supervision alone",
    )
    yield (
        len(data.resize) == 2 and _larger(data.crop, data.resize),
        f"data.crop={data.crop} must fit in data.resize={data.resize}",
    )
    cut = data.kb_crop and data.name in DRIVES
    yield (
        cut and _larger(data.crop, benchmark),
        f"data.crop={data.crop} must fit in {benchmark}, to which data.kb_crop cuts",
    )


def _of_video(c: ConfigDict) -> Iterator[tuple[bool, str]]:
    yield (
        c.data.name not in VIDEO,
        f"self-supervision needs data.name {', '.join(VIDEO)}: recordings with "
        f"neighbouring frames; got '{c.data.name}'. For your own frames or videos use "
        "configs/custom_selfsup.py",
    )
    yield (
        c.data.name == "frames" and c.data.camera != "file",
        f"data.camera={c.data.camera} is KITTI's; data.name=frames needs data.camera="
        "file and data.intrinsics",
    )
    neighbours = c.selfsup.neighbours and len(c.data.offsets)
    yield (
        not neighbours and not (c.data.stereo and c.objective == "self_supervised"),
        "self-supervision needs a source: selfsup.neighbours=True and data.offsets, or "
        "data.stereo=True, which is none for the stages of GVO",
    )
    yield (
        bool(c.selfsup.neighbours) and not c.data.offsets,
        "data.offsets must name the neighbouring frames, as (-1, 1); without them set "
        "selfsup.neighbours=False",
    )


def networks() -> str:
    """The networks and their sizes, a line each."""
    lines = (f"  {name:38} {size / 1e6:5.1f} million" for name, size in MODELS.items())
    return "\n".join(("Networks (--config.model.name) and their parameters:", *lines))
