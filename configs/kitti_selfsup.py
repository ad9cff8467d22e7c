"""KITTI without ground truth: Cao, Luo & Li, "Toward Better SSIM Loss", Tables 1 to 5.

    python -m amlr_jax.main --config=configs/kitti_selfsup.py --workdir=runs/selfsup \
        --config.data.root=/data/kitti --config.init_from=converted/resnet18 \
        --config.data.list=eigen_zhou/train_files.txt

The paper trains for 20 epochs on 640x192 in batches of 8, as monodepth2 on the 39,810
frames of Zhou et al. (we assume), from ImageNet's ResNet-18 for both encoders (python
-m amlr_jax.convert --source=resnet18); from scratch expect worse. Without a list the
views are every frame of every drive without an Eigen test frame. Depth has no scale:
each test image is scaled by its median.

Variants, the target row of each, its published Abs Rel, Sq Rel and RMSE:
  ssim_a     SSIM_a and MAE (default): Table 2 (.4, .5, .5, .7), Table 4 "1/2" with
             bilinear: 0.115, 0.823, 4.828
  ssc        the same with sub-pixel convolution: Table 5 "Monodepth2 + SSC", Table 4
             "1/2": 0.115, 0.770, 4.813
  ssim_m     SSIM_m, structure squared: Table 1 (1, 1, 2): 0.114, 0.836, 4.862
  baseline   SSIM_m with exponents of 1: Table 1 "Baseline": 0.118, 0.868, 4.856
  monodepth2 monodepth2's original recipe: Tables 1 and 5 "Monodepth2": 0.115, 0.903,
             4.863
  amlr       ssim_a with its four weights set by AMLR's rule; no row of the paper
  tiny       a small image for two CPU cores, on any part of KITTI with depth:
             --config=configs/kitti_selfsup.py:tiny --config.data.split=folder
"""

from amlr_jax import recipes
from amlr_jax.config import base

VIEWS = 39810  # of eigen_zhou's training list


def get_config(variant: str = "ssim_a"):
    """The config of a variant."""
    adapt = recipes.pick(VARIANTS, variant, file="configs/kitti_selfsup.py")
    config = base()
    config.data.name = "kitti"
    config.data.root = "data/kitti"
    config.data.split = "eigen_697"
    config.eval.protocol = "kitti_eigen_697"
    recipes.better_ssim(config, views=VIEWS)
    adapt(config)
    return config


_PAPER = recipes.video_variants()


def _monodepth2(config) -> None:
    _PAPER["monodepth2"](config)
    config.batch_size = 12
    recipes.count_views(config, VIEWS)


VARIANTS = {
    **_PAPER,
    "monodepth2": _monodepth2,
    "tiny": recipes.video_for_two_cores,
}
