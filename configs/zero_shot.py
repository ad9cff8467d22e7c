"""Published test sets, on which a trained network is measured and not trained.

    python -m amlr_jax.evaluate --config=configs/zero_shot.py:eth3d \
        --config.data.root=/data/eth3d --checkpoint=runs/kitti --workdir=runs/on_eth3d

The variants are the sets: diode_indoors, diode_outdoor, eth3d, ibims, sintel, ddad. For
their files and depth caps see amlr_jax/data/benchmarks.py. A network whose depth has no
scale, or another one, needs --config.eval.median_scaling=on.
"""

from amlr_jax.config import BENCHMARKS, base


def get_config(variant: str = "diode_indoors"):
    """The config of a set."""
    if variant not in BENCHMARKS:
        raise ValueError(
            f"configs/zero_shot.py has variants {', '.join(BENCHMARKS)}; got "
            f"'{variant}'"
        )
    config = base()
    config.data.name = variant
    config.data.root = f"data/{variant}"
    config.data.split = "folder"
    config.data.kb_crop = False
    return config


VARIANTS = BENCHMARKS
