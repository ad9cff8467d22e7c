"""NYUv2: AMLR's indoor runs, Table 3.

    python -m amlr_jax.main --config=configs/nyu.py --workdir=runs/nyu \
        --config.data.root=/data/nyu_depth_v2 \
        --config.init_from=converted/simmim_large

The paper trains for 20 epochs of 24,231 frames in batches of 6 from SimMIM weights with
crops of 448x576; from scratch expect worse. All test with flip and shifted windows.

Variants, the target row of each, its published Abs Rel and RMSE:
  large     the paper's network (default): Table 3 "Ours": 0.087, 0.300
  silog     the same with the scale-invariant loss alone; no row of the paper
  lee_kim   the same, rebalanced by Lee & Kim's rule; no row of the paper
  mim_depth AMLR's baseline with its original recipe, crops of 480x480: 0.083, 0.287
  base      Swin-v2 base with AMLR; no row of the paper. MIM-Depth's base: RMSE 0.304
  glpdepth  GLPDepth with AMLR; no row of the paper. Table 3 "GLPDepth": 0.098, 0.344
  dinov3_base  DINOv3 ViT-B with a DPT head and AMLR's losses, from
            weights of --source=dinov3; no row of the paper, not run. The nearest
            published row is Depth Anything V1, a fine-tuned DINOv2 ViT-L: 0.056, 0.206.
            Optimizer of Depth Anything V2, with layer decay
  tiny      a small network at a quarter of the resolution, for two CPU cores:
            --config=configs/nyu.py:tiny --config.data.split=folder
"""

from amlr_jax.config import base
from amlr_jax.recipes import for_two_cores, pick, supervised


def get_config(variant: str = "large"):
    """The config of a variant."""
    adapt = pick(VARIANTS, variant, file="configs/nyu.py")
    config = base()
    config.data.name = "nyu"
    config.data.root = "data/nyu_depth_v2"
    config.data.split = "official"
    config.data.kb_crop = False
    config.data.crop = (448, 576)  # sec. IV-B, as GLPDepth's
    config.model.window_size = (30, 30, 30, 15)  # MIM-Depth's, for 480x480
    config.model.max_depth = 10.0
    config.rebalance.rule = "log_amlr"  # see configs/kitti.py
    config.rebalance.shares = {"silog": 0.99, "gradient": 0.01}
    adapt(config)
    return config


def _tiny(config) -> None:
    for_two_cores(config, input_scale=0.25)
    config.model.window_size = None  # the preset's windows
    config.optimizer.peak = 1e-3


_PAPERS = supervised(frames=24231, epochs=20, mim_crop=(480, 480))
VARIANTS = {**_PAPERS, "tiny": _tiny}
