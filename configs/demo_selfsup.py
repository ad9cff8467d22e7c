"""The embedded street without ground truth: depth from its frames alone.

    python -m amlr_jax.main --config=configs/demo_selfsup.py --workdir=runs/demo_selfsup

Renders KITTI-like drives, a metre between frames, and learns to reconstruct each frame
from its neighbours, with the error of configs/kitti_selfsup.py. It tests on the last
fifth of each drive, scaled by the median of each image. Expect a quarter of an hour,
and less than half the error of a constant depth. The results show that training works;
they do not apply to real streets. From random values some seeds end at a bound of the
depth: look at the table after 100 steps (--config.eval.every_steps=100), and change
--config.seed where the network has the error of the constant. Variants as in
configs/kitti_selfsup.py: ssim_a (default), ssc, ssim_m, baseline, monodepth2 (only its
loss; all variants have its network), amlr.
"""

from amlr_jax import recipes
from amlr_jax.config import base


def get_config(variant: str = "ssim_a"):
    """The config of a variant."""
    adapt = recipes.pick(VARIANTS, variant, file="configs/demo_selfsup.py")
    config = base()
    config.data.name = "street"
    config.data.root = "runs/street"
    config.data.cache = "runs/cache"
    config.data.split = "folder"
    recipes.better_ssim(config, views=168)
    recipes.video_for_two_cores(config)
    config.data.jitter = 0.0  # few steps need no colour augmentation
    # With seed 0 and a warmup of 50 every disparity went to its bound by step 100.
    config.steps, config.seed, config.optimizer.warmup = 800, 1, 100
    adapt(config)
    return config


def _monodepth2(config) -> None:
    recipes.photometric(config, "monodepth2")


# A timestep of 25 steps: two of them have equal weights (Eq. 8).
VARIANTS = {
    **recipes.video_variants(rebalanced_every=25),
    "monodepth2": _monodepth2,
}
