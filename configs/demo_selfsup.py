"""The embedded street without ground truth: depth from its frames alone.

    python -m amlr_jax.main --config=configs/demo_selfsup.py --workdir=runs/demo_selfsup

Renders KITTI-like drives, a metre between frames, and learns to reconstruct each frame
from its neighbours, with the error of configs/kitti_selfsup.py. It tests on the last
fifth of each drive, scaled by the median of each image. Expect ten minutes, and half
the error of a constant depth. The figures say that the road works; they say nothing
about real streets.
"""

from amlr_jax import recipes
from amlr_jax.config import base


def get_config(variant: str = ""):
    """There are no variants."""
    if variant:
        raise ValueError(f"configs/demo_selfsup.py has no variants, got '{variant}'")
    config = base()
    config.data.name = "street"
    config.data.root = "runs/street"
    config.data.cache = "runs/cache"
    config.data.split = "folder"
    recipes.better_ssim(config, views=168)
    recipes.video_for_two_cores(config)
    config.data.jitter = 0.0  # few steps: colours need not vary more than the street's
    return config
