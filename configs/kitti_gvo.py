"""GVO on KITTI without ground truth. A reconstruction of ours, in stages.

    python -m amlr_jax.main --config=configs/kitti_gvo.py:flow --workdir=runs/gvo_flow \
        --config.data.root=/data/kitti --config.init_from=converted/resnet18
    python -m amlr_jax.main --config=configs/kitti_gvo.py:ssc --workdir=runs/gvo_ssc \
        --config.data.root=/data/kitti --config.init_from=runs/gvo_flow

Cao et al., "Learning Generalized Visual Odometry Using Position-Aware Optical Flow and
Geometric Bundle Adjustment" (Pattern Recognition 2023): 832x256, batches of 10, Adam at
1e-4, halved at three quarters. The flow stage keeps the depth network, here ImageNet's
encoder, for the stage that starts from its workdir. Frames in which the car stands are
left out by `data.min_speed`; GVO lists them in a file. The flow network matches
features of length 1 (`selfsup.unit_features`, ours): without, the flow on the street
was little better than none after 400 steps. Set it to False to start from the weights
that GVO released.

Variants, the row of Table 5 of Cao, Luo & Li ("Toward Better SSIM Loss", arXiv
2506.04758), its published Abs Rel, Sq Rel and RMSE:
  flow   optical flow from pairs of frames, 40 epochs
  depth  depth with the flow frozen, 30 epochs; "GVO": 0.118, 0.787, 4.488
  ssc    the same with SSIM_a, MAE and a sub-pixel head; "GVO + SSC": 0.115,
         0.747, 4.416
"""

from amlr_jax import recipes
from amlr_jax.config import base

VIEWS = 39810  # of eigen_zhou's training list


def get_config(variant: str = "flow"):
    """The config of a variant."""
    adapt = recipes.pick(VARIANTS, variant, file="configs/kitti_gvo.py")
    config = base()
    config.data.name = "kitti"
    config.data.root = "data/kitti"
    config.data.split = "eigen_697"
    config.eval.protocol = "kitti_eigen_697"
    recipes.better_ssim(config, views=VIEWS)
    config.data.size = config.model.input_size = (256, 832)
    config.data.min_speed = 1.0
    config.batch_size = 10
    adapt(config)
    return config


def _flow(config) -> None:
    recipes.gvo_flow(config)
    recipes.count_views(config, VIEWS, epochs=40)
    config.eval.every_steps = 0


def _depth(config) -> None:
    recipes.gvo_depth(config)
    recipes.count_views(config, VIEWS, epochs=30)


def _ssc(config) -> None:
    recipes.gvo_ssc(config)
    recipes.count_views(config, VIEWS, epochs=30)


VARIANTS = {"flow": _flow, "depth": _depth, "ssc": _ssc}
