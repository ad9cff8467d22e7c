"""Your own frames or videos without ground truth: depth from one moving camera.

    my_video/kitchen.mp4             a video, or
    my_video/garden/0001.jpg, ...    a folder of frames in the order of their names
    my_video/intrinsics.json         {"fx": .., "fy": .., "cx": .., "cy": ..}, pixels

    python -m amlr_jax.main --config=configs/custom_selfsup.py:tiny \
        --workdir=runs/my_video --config.data.root=my_video

The camera may also be given as --config.data.intrinsics=fx,fy,cx,cy. Frames that differ
by less than data.min_change grey levels from the one kept before are left out: 1 leaves
out those of a camera at rest, more chooses frames by motion, 0 keeps all. With frames
in rgb/ and depth of the same names in depth/, --config.data.split=folder tests on the
last fifth of each recording. See amlr_jax/data/recordings.py and
docs/guides/self_supervised.md.

Variants as in configs/kitti_selfsup.py: ssim_a (default), ssc, ssim_m, baseline,
monodepth2 (only its loss; all variants have five_level's network), amlr; and
  tiny   a small network and image from scratch, for two CPU cores
"""

from amlr_jax import recipes
from amlr_jax.config import base


def get_config(variant: str = "ssim_a"):
    """The config of a variant."""
    adapt = recipes.pick(VARIANTS, variant, file="configs/custom_selfsup.py")
    config = base()
    config.data.name = "frames"
    config.data.root = "data/custom"
    config.data.split = "none"
    config.data.min_change = 8.0
    recipes.better_ssim(config, views=8_000)
    # Multiples of 32; the ratio need not be that of the frames.
    config.data.size = config.model.input_size = (192, 256)
    config.eval.every_steps = 0
    adapt(config)
    return config


def _monodepth2(config) -> None:
    recipes.photometric(config, "monodepth2")


def _tiny(config) -> None:
    recipes.video_for_two_cores(config)
    config.data.size = config.model.input_size = (96, 128)


VARIANTS = {**recipes.video_variants(), "monodepth2": _monodepth2, "tiny": _tiny}
