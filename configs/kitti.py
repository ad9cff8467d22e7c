"""KITTI, Eigen split: AMLR's own run, Table 1 row "None" and Table 2 row "Ours".

    python -m amlr_jax.main --config=configs/kitti.py --workdir=runs/kitti \
        --config.data.root=/data/kitti

Aims at Abs Rel 0.053, RMSE 2.065 with one pass over each image, and 0.049, 1.971 with
flip and shifted windows. The paper trains on one A100 for 30 epochs of 23,158 frames in
batches of 6 from SimMIM weights; from scratch, as here, expect worse.

Variants:
  large  the paper's network (default)
  tiny   a small network that sees half the resolution, for two CPU cores:
         --config=configs/kitti.py:tiny --config.data.split=folder --config.steps=300
"""

from amlr_jax.config import base, for_two_cores, pick

EPOCH = 3859  # 23,158 frames / batch 6, the last batch dropped


def get_config(variant: str = "large"):
    """The config of a variant."""
    adapt = pick({"large": _large, "tiny": _tiny}, variant, file="configs/kitti.py")
    config = base()
    config.data.name = "kitti"
    config.data.root = "data/kitti"
    config.data.split = "eigen"
    config.model.max_depth = config.eval.max_depth = 80.0
    config.eval.crop = "garg"
    # Shares .99 and .01: sec. IV-A. The paper gives neither lambda nor timestep.
    # docs/amlr_stability.md: the rule as printed (amlr) drifts by orders of magnitude
    # or turns negative; its form in log space (log_amlr) at 1e-2 stays within 2 % and
    # follows a trend when updated with the means of quarter epochs.
    config.rebalance.rule = "log_amlr"
    config.rebalance.shares = {"silog": 0.99, "gradient": 0.01}
    adapt(config)
    return config


def _large(config) -> None:
    config.steps = 30 * EPOCH
    config.rebalance.every_k_steps = -(-EPOCH // 4)
    config.batch_size = 6
    config.data.crop = (352, 352)  # MIM-Depth's; AMLR says "random cropping"
    config.model.name = "swin_v2_large"
    config.optimizer.layer_decay = 0.85
    config.eval.every_steps = EPOCH
    config.checkpoint.every_steps = EPOCH


def _tiny(config) -> None:
    for_two_cores(config, input_scale=0.5)
    config.data.crop = (352, 352)
