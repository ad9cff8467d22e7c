"""Every configuration key, with its default, unit and meaning.

A file in `configs/` starts from `base()` and changes the keys of its experiment. Other
keys cannot be set, so a mistyped override is an error.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from amlr_jax.runtime.errors import InputError

OBJECTIVES = ("supervised", "self_supervised")


def base() -> ConfigDict:
    """The defaults; data, model, losses and steps are left to the config file."""
    config = ConfigDict()
    config.seed = 0
    config.steps = 1000  # optimizer steps of the whole run
    config.batch_size = 8  # global, over all devices
    # Folder of weights to start from, of amlr_jax.convert or a run; empty: random.
    config.init_from = ""
    config.data = _data()
    config.model = _model()
    config.objective = "supervised"  # or self_supervised: see selfsup
    # Supervised: name -> its options; see amlr_jax/train/objectives/supervised.py
    config.losses = ConfigDict({"silog": {"variance_focus": 0.5}, "gradient": {}})
    config.selfsup = _selfsup()
    config.rebalance = _rebalance()
    config.optimizer = _optimizer()
    config.eval = _eval()
    config.checkpoint = ConfigDict(
        {
            "every_steps": 500,
            "keep": 3,  # number of newest checkpoints to keep
            "best": 0,  # number of best ones to keep, saved at evaluations
            "best_by": "abs_rel",  # metric that ranks them
            "every_hours": 0.0,  # also keep one per this many hours; 0: none
        }
    )
    config.log = ConfigDict(
        {
            "every_steps": 1,  # lines of metrics.jsonl
            "profile": (),  # first and last step of a trace, for Perfetto
        }
    )
    config.parallel = _parallel()
    # Consecutive steps with non-finite losses or gradient that may be skipped.
    config.max_skipped = 10
    return config


def _parallel() -> ConfigDict:
    return ConfigDict(
        {
            "fsdp": 1,  # devices over which parameters and their moments are sharded
            "fsdp_min_size": 65536,  # smaller arrays are replicated, not sharded
            "heartbeat": 30,  # seconds without a heartbeat of a process until all end
            "patience": 900,  # seconds without a finished step until a process ends
        }
    )


def _data() -> ConfigDict:
    return ConfigDict(
        {
            "name": "kitti",  # kitti, nyu, nyu_tfds, custom, street
            "root": "data/kitti",
            # kitti: eigen, eigen_697, benchmark, folder; nyu: official, folder; none:
            # no test, in self-supervision alone
            "split": "eigen",
            # Files that name the training and the test frames, in BTS's, GLPDepth's or
            # monodepth2's format; without test_list the test frames are the split's.
            "list": "",
            "test_list": "",
            # custom: stored value of a metre (0: 1000 in PNGs, 1 elsewhere); metres
            # beyond which nothing was measured (0: none); array of npz, channel of EXR.
            "depth_scale": 0.0,
            "depth_cap": 0.0,
            "depth_key": "",
            "cache": "",  # prepared data; empty: $AMLR_JAX_CACHE or ~/.cache/amlr_jax
            "kb_crop": True,  # KITTI benchmark crop, 352x1216, train and test
            "crop": (352, 352),  # random crop: height, width in pixels
            # Probabilities of GLPDepth and MIM-Depth, on whose code AMLR builds. AMLR
            # itself names "flipping and random cropping".
            "cut_depth": 0.25,  # a strip of depth pasted over the image
            "flip": 0.5,
            "brightness_contrast": 0.5,
            "gamma": 0.5,
            "hue_saturation": 0.5,
            "threads": 2,  # reading threads in a process
            "workers": 0,  # reading processes; 0: threads only
            # Prepared as pixels, not PNGs: four times as fast; KITTI has 31 GB, not 25.
            "decoded": False,
            # Prepared at this height and width, test frames too; (): as they are
            "resize": (),
            "skip_bad": False,  # leave out training frames whose files are damaged
            # Self-supervision alone: the frames of the sources, counted from the target
            "offsets": (-1, 1),
            "sides": "lr",  # left and right colour camera: l, r, lr
            "min_speed": 0.0,  # m/s: leaves out frames in which the car is slower
            "size": (192, 640),  # height, width of the views; (): as they are
            "stereo": False,  # add the other camera's image as a source
            "camera": "file",  # or monodepth2: its one camera for all of KITTI
            "jitter": 0.5,  # probability of the networks' colour jitter
            # The embedded street, rendered under `root` on first use.
            "street": {"drives": 6, "frames": 20, "seed": 0},
        }
    )


def _selfsup() -> ConfigDict:
    """Arguments of `training.self_supervised`; the sources are keys of `data`."""
    return ConfigDict(
        {
            # monodepth2 and ssim_m: the losses photometric and smoothness; ssim_a: mae,
            # luminance, contrast, structure and smoothness
            "kind": "ssim_a",
            "ssim_weight": 0.85,  # monodepth2, ssim_m: against the absolute error
            # Exponents of ssim_m: luminance, contrast, structure
            "alpha": 1.0,
            "beta": 1.0,
            "gamma": 1.0,
            "automask": True,  # leave out pixels that move with the camera
            "average": False,  # mean over the sources, not their minimum
            "scales": 0,  # number of finest disparities used; 0: all
            "neighbours": True,  # the frames at data.offsets are sources
        }
    )


def _model() -> ConfigDict:
    """Arguments of `models.depth.network`; a placeholder keeps the network's value."""
    return ConfigDict(
        {
            "name": "swin_v2_large",
            "max_depth": 80.0,  # metres: the network predicts in (0, max_depth)
            "input_scale": 1.0,  # resize the network's input by this factor
            "input_size": placeholder(tuple),  # or to this height and width
            "convention": placeholder(str),  # Swin-v2: mim_depth, official
            "window_size": placeholder(tuple),  # tokens, for each of four stages
            "pretrained_window_size": placeholder(tuple),
            "use_shift": placeholder(tuple),
            "drop_path": placeholder(float),  # largest rate
            "attention": placeholder(str),  # xla, or cudnn on a GPU in bfloat16
            "decoder_channels": placeholder(tuple),
            "decoder_activation": placeholder(str),  # silu (AMLR), relu (MIM-Depth)
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
            "learning_rate": 1e-2,  # the paper's lambda; also of uncertainty, famo
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-8,
            # Share of each loss in the total at step 1, Eq. 9; weights of `fixed`,
            # brought to a sum of 1, unless `weights` gives them as they are.
            "shares": {"silog": 0.99, "gradient": 0.01},
            "weights": {},
            # Losses with constant weights, which the rule does not change: those that
            # should not be balanced
            "held": {},
            "every_k_steps": 1,  # the rule's timestep, in optimizer steps
        }
    )


def _optimizer() -> ConfigDict:
    return ConfigDict(
        {
            # polynomial: from `start` to `peak` and back; step_decay: `peak` after
            # `warmup` steps, and `drop` times that after `drop_at` of the run
            "schedule": "polynomial",
            "start": 3e-5,  # learning rate at both ends
            "peak": 5e-4,  # and at `peak_at` of the run
            "peak_at": 0.5,
            "power": 0.9,
            "warmup": 0,
            "drop_at": 0.75,
            "drop": 0.1,
            "b1": 0.9,
            "b2": 0.999,
            "weight_decay": 0.05,
            "layer_decay": 0.85,
            "clip_norm": 0.0,  # global gradient norm; 0: no clipping
            # Number of parts of a batch, computed sequentially to save memory
            "accumulate": 1,
        }
    )


def _eval() -> ConfigDict:
    return ConfigDict(
        {
            "every_steps": 0,  # 0: only at the end
            "batch_size": 1,
            # kitti_eigen, kitti_eigen_bts, kitti_eigen_697, kitti_eigen_benchmark, nyu,
            # custom (amlr_jax/evaluate/protocols.py); empty: the data set's first
            "protocol": "",
            # none, flip, flip_ramps, shifted, shifted_flip: amlr_jax/evaluate/tiling
            "test_mode": "none",
            "windows": 0,  # of a shifted mode; 0: 16, indoors 2
            # Windows and mirror images in one pass of a device; 0: all (CPU: four)
            "at_once": 0,
            # Empty and 0: the protocol's value.
            "crop": "",  # garg, eigen, nyu, none
            "min_depth": 0.0,  # metres, both exclusive
            "max_depth": 0.0,
            "median_scaling": "",  # on, off; empty: on if the depth has no scale
            "pictures": 4,  # held-out frames in panel.png
        }
    )


def trains_on_video(config: ConfigDict) -> bool:
    """Whether training needs neighbouring frames, and depth only for the test."""
    return config.objective == "self_supervised"


def positive(config, *names: str) -> None:
    """Raises InputError for the first of `names` that is below 1."""
    for name in names:
        value = config
        for part in name.split("."):
            value = value[part]
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")


def check(config: ConfigDict) -> None:
    """Raises InputError for values out of range."""
    positive(config, "steps", "batch_size", "checkpoint.every_steps", "checkpoint.keep")
    positive(config, "log.every_steps", "eval.batch_size", "rebalance.every_k_steps")
    positive(config, "optimizer.accumulate", "max_skipped", "parallel.fsdp_min_size")
    positive(config, "parallel.heartbeat", "parallel.patience")
    if config.objective not in OBJECTIVES:
        raise InputError(
            f"objective must be one of {', '.join(OBJECTIVES)}; got "
            f"'{config.objective}'"
        )
    if config.objective == "supervised" and not config.losses:
        raise InputError("losses must name at least one loss, got none")
