"""NYUv2: AMLR's indoor run, Table 3 row "Ours".

    python -m amlr_jax.main --config=configs/nyu.py --workdir=runs/nyu \
        --config.data.root=/data/nyu_depth_v2

Aims at Abs Rel 0.087, RMSE 0.300, log10 0.037 with flip and shifted windows. The paper
trains for 20 epochs of 24,231 frames in batches of 6 from SimMIM weights, with crops of
448x576.

Variants:
  large  the paper's network (default)
  tiny   a small network that sees a quarter of the resolution, for two CPU cores:
         --config=configs/nyu.py:tiny --config.data.split=folder
"""

from amlr_jax.config import base, for_two_cores, pick

EPOCH = 4038  # 24,231 frames / batch 6, the last batch dropped


def get_config(variant: str = "large"):
    """The config of a variant."""
    adapt = pick({"large": _large, "tiny": _tiny}, variant, file="configs/nyu.py")
    config = base()
    config.data.name = "nyu"
    config.data.root = "data/nyu_depth_v2"
    config.data.split = "official"
    config.data.kb_crop = False
    config.data.crop = (448, 576)
    config.model.max_depth = config.eval.max_depth = 10.0
    config.eval.crop = "nyu"
    config.rebalance.rule = "log_amlr"  # see configs/kitti.py
    config.rebalance.shares = {"silog": 0.99, "gradient": 0.01}
    adapt(config)
    return config


def _large(config) -> None:
    config.steps = 20 * EPOCH
    config.rebalance.every_k_steps = -(-EPOCH // 4)
    config.batch_size = 6
    config.model.name = "swin_v2_large"
    config.model.window_size = (30, 30, 30, 15)  # MIM-Depth's, for 480x480
    config.optimizer.layer_decay = 0.85
    config.eval.every_steps = EPOCH
    config.checkpoint.every_steps = EPOCH


def _tiny(config) -> None:
    for_two_cores(config, input_scale=0.25)
    config.optimizer.peak = 1e-3
