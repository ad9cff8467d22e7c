"""Every key of a run, with its one default, unit and meaning.

A file in `configs/` starts from `base()` and changes what its experiment needs. A key
that is not here cannot be set, so a mistyped override fails at once.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from amlr_jax.errors import InputError


def base() -> ConfigDict:
    """The defaults; data, model, losses and steps are left to the config file."""
    config = ConfigDict()
    config.seed = 0
    config.steps = 1000  # optimizer steps of the whole run
    config.batch_size = 8  # of all devices together
    config.data = _data()
    config.model = _model()
    # name -> its options; see amlr_jax/training/objectives.py
    config.losses = ConfigDict({"silog": {"variance_focus": 0.5}, "gradient": {}})
    config.rebalance = _rebalance()
    config.optimizer = _optimizer()
    config.eval = _eval()
    config.checkpoint = ConfigDict(
        {
            "every_steps": 500,
            "keep": 3,  # the latest so many
        }
    )
    config.log = ConfigDict({"every_steps": 1})  # lines of metrics.jsonl
    # Devices of one replica over which parameters may be sharded.
    config.parallel = ConfigDict({"fsdp": 1})
    return config


def _data() -> ConfigDict:
    return ConfigDict(
        {
            "name": "kitti",  # kitti, nyu, street
            "root": "data/kitti",
            "split": "eigen",  # kitti: eigen, folder; nyu: official, folder
            "cache": "",  # prepared data; empty: $AMLR_JAX_CACHE or ~/.cache/amlr_jax
            "kb_crop": True,  # KITTI benchmark crop, 352x1216, train and test
            "crop": (352, 352),  # random crop: height, width in pixels
            "flip": 0.5,  # probabilities, from here on
            "brightness_contrast": 0.5,
            "gamma": 0.5,
            "hue_saturation": 0.5,
            "threads": 2,  # reading threads in a process
            "workers": 0,  # reading processes; 0: threads only
            # The embedded street, rendered under `root` on first use.
            "street": {"drives": 6, "frames": 20, "seed": 0},
        }
    )


def _model() -> ConfigDict:
    """Arguments of `models.depth.network`; a placeholder keeps the network's own."""
    return ConfigDict(
        {
            "name": "swin_v2_large",
            "max_depth": 80.0,  # metres: the network predicts in (0, max_depth)
            "input_scale": 1.0,  # the network sees the image resized by this
            "input_size": placeholder(tuple),  # or to this height and width
            "convention": placeholder(str),  # Swin-v2: mim_depth, official
            "window_size": placeholder(tuple),  # tokens, for each of four stages
            "pretrained_window_size": placeholder(tuple),
            "use_shift": placeholder(tuple),
            "drop_path": placeholder(float),  # largest rate
            "residual_init": placeholder(float),  # scale of the residual norms
            "attention": placeholder(str),  # xla, or cudnn on a GPU in bfloat16
            "decoder_channels": placeholder(tuple),
            "decoder_activation": placeholder(str),  # silu (AMLR), relu (MIM-Depth)
            "decoder_init": placeholder(str),  # "he", or a standard deviation
            "upsampling": placeholder(str),  # five_level: nearest, subpixel_head, ...
            "dtype": "float32",  # of activations; bfloat16 on GPU
            "remat": False,  # recompute blocks in the backward pass to save memory
        }
    )


def _rebalance() -> ConfigDict:
    return ConfigDict(
        {
            # amlr, log_amlr, lee_kim, fixed, dwa, softadapt, uncertainty, famo
            "rule": "log_amlr",
            "learning_rate": 1e-2,  # the paper's lambda; of uncertainty and famo too
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-8,
            # Share of each loss in the total at step 1, Eq. 9; `fixed` weights.
            "shares": {"silog": 0.99, "gradient": 0.01},
            "every_k_steps": 1,  # the rule's timestep, in optimizer steps
        }
    )


def _optimizer() -> ConfigDict:
    return ConfigDict(
        {
            "start": 3e-5,  # learning rate at both ends
            "peak": 5e-4,  # and at `peak_at` of the run
            "peak_at": 0.5,
            "power": 0.9,
            "b1": 0.9,
            "b2": 0.999,
            "weight_decay": 0.05,
            "layer_decay": 0.85,
            "clip_norm": 0.0,  # global gradient norm; 0: no clipping
        }
    )


def _eval() -> ConfigDict:
    return ConfigDict(
        {
            "every_steps": 0,  # 0: only at the end
            "batch_size": 1,
            "crop": "garg",  # garg, eigen, nyu, none
            "min_depth": 1e-3,  # metres, both exclusive
            "max_depth": 80.0,
            "pictures": 4,  # held-out frames in panel.png
        }
    )


def positive(config, *names: str) -> None:
    """Raises InputError for the first of `names` that is below 1."""
    for name in names:
        value = config
        for part in name.split("."):
            value = value[part]
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")


def check(config: ConfigDict) -> None:
    """Raises InputError for values that no part could use."""
    positive(config, "steps", "batch_size", "checkpoint.every_steps", "checkpoint.keep")
    positive(config, "log.every_steps", "eval.batch_size", "rebalance.every_k_steps")
    if not config.losses:
        raise InputError("losses must name at least one loss, got none")
