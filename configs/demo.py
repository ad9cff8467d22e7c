"""The embedded street: a small Swin-v2 with AMLR learns depth on two CPU cores.

    python -m amlr_jax.main --config=configs/demo.py --workdir=runs/demo

Renders six drives of twenty frames in KITTI's layout under runs/street, trains on the
first sixteen frames of each and tests on the last four. Expect minutes, and an error
of at most half of that of a constant depth. The results show that training works; they
do not apply to real streets. Variant silog: without the gradient loss.
"""

from amlr_jax.config import base
from amlr_jax.recipes import for_two_cores, only_silog, pick


def get_config(variant: str = "log_amlr"):
    """The config of a variant."""
    adapt = pick(VARIANTS, variant, file="configs/demo.py")
    config = base()
    for_two_cores(config, input_scale=0.25)
    config.steps = 600
    config.data.name = "street"
    config.data.root = "runs/street"
    config.data.cache = "runs/cache"
    config.data.split = "folder"
    config.data.crop = (352, 704)
    config.model.max_depth = 80.0
    config.optimizer.peak = 1e-3
    # 96 frames and few steps need no colour augmentation.
    config.data.brightness_contrast = config.data.gamma = 0.0
    config.data.hue_saturation = config.data.cut_depth = 0.0
    adapt(config)
    return config


def _log_amlr(config) -> None:
    """The recipe itself."""


VARIANTS = {"log_amlr": _log_amlr, "silog": only_silog}
