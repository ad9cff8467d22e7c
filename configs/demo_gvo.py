"""GVO on the embedded street, in small images, for two CPU cores.

    python -m amlr_jax.main --config=configs/demo_gvo.py:flow --workdir=runs/gvo_flow
    python -m amlr_jax.main --config=configs/demo_gvo.py:ssc --workdir=runs/gvo_ssc \
        --config.init_from=runs/gvo_flow

Variants as in configs/kitti_gvo.py. **No stage has learned anything useful yet**: 450
steps of `:flow` (12 minutes) took the photometric loss from 0.176 to 0.116, and the
flow was still 1.1 times as far from the true one as no flow is.
"""

from amlr_jax import recipes
from amlr_jax.config import base


def get_config(variant: str = "flow"):
    """The config of a variant."""
    adapt = recipes.pick(VARIANTS, variant, file="configs/demo_gvo.py")
    config = base()
    config.data.name = "street"
    config.data.root = "runs/street"
    config.data.cache = "runs/cache"
    config.data.split = "folder"
    recipes.better_ssim(config, views=168)
    recipes.video_for_two_cores(config)
    adapt(config)
    config.optimizer.peak = 3e-4
    return config


VARIANTS = {
    "flow": recipes.gvo_flow,
    "depth": recipes.gvo_depth,
    "ssc": recipes.gvo_ssc,
}
