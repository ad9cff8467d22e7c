"""Custom images and depth: from two folders to a trained network.

    my_data/rgb/<any folders>/<name>.png      8-bit RGB, PNG or JPEG
    my_data/depth/<same folders>/<name>.png   16-bit, 1000 a metre; or .npy, .npz, .exr
                                              in metres

    python -m amlr_jax.main --config=configs/custom.py:tiny --workdir=runs/mine \
        --config.data.root=my_data

Zero, NaN and infinity mean "not measured", and so does depth beyond 10 m. For another
range set --config.data.depth_cap, --config.model.max_depth and --config.eval.max_depth
together; for another unit --config.data.depth_scale. The crop must fit in the images:
--config.data.crop=(height,width). The folder may also hold lists of training and
test frames and the camera: see amlr_jax/data/custom.py.

Variants:
  large  AMLR's network and losses (default); give --config.steps, 20 epochs or more,
         and SimMIM weights by --config.init_from
  depth_anything_v2_small  fine-tunes Depth Anything V2 small to metres in 2,000 steps:
         --config.init_from=converted, from `amlr_jax.convert
         --source=depth_anything_v2`, relative or metric. Of relative weights all is
         taken but the last convolution: depth is then sigmoid * max_depth. Few images:
         --config.optimizer.freeze="('encoder',)" trains the head alone. Crops of
         378x504 need images of at least this size
  tiny   a small network at a quarter of the resolution, from scratch: 300 steps take
         minutes on two CPU cores. A few photographs are too few to beat a constant
         depth (evaluation.json has both); more of one place may be enough
"""

from amlr_jax.config import base
from amlr_jax.recipes import for_two_cores, pick, tune_vision_transformer


def get_config(variant: str = "large"):
    """The config of a variant."""
    adapt = pick(VARIANTS, variant, file="configs/custom.py")
    config = base()
    config.data.name = "custom"
    config.data.root = "data/custom"
    config.data.split = "folder"
    config.data.kb_crop = False
    config.data.crop = (352, 352)
    config.data.depth_cap = config.model.max_depth = config.eval.max_depth = 10.0
    config.rebalance.rule = "log_amlr"  # see configs/kitti.py
    config.rebalance.shares = {"silog": 0.99, "gradient": 0.01}
    adapt(config)
    return config


def _large(config) -> None:
    config.steps = 20_000
    config.batch_size = 6
    config.rebalance.every_k_steps = 250
    config.model.name = "swin_v2_large"
    config.optimizer.layer_decay = 0.85
    config.eval.every_steps = config.checkpoint.every_steps = 1000


def _depth_anything_v2_small(config) -> None:
    config.steps = 2000
    config.batch_size = 8
    config.model.name = "depth_anything_v2_small_metric_indoor"
    config.init_partly = True  # the last convolution of relative weights is not taken
    config.data.crop = (378, 504)  # patches of 14
    config.data.cut_depth = 0.0  # as Depth Anything
    tune_vision_transformer(config)
    config.eval.every_steps = config.checkpoint.every_steps = 500


def _tiny(config) -> None:
    for_two_cores(config, input_scale=0.25)
    config.data.crop = (448, 576)  # most of a 480x640 image, to keep the whole scene
    config.optimizer.peak = 1e-3


VARIANTS = {
    "large": _large,
    "depth_anything_v2_small": _depth_anything_v2_small,
    "tiny": _tiny,
}
