"""The embedded street: a small Swin-v2 with AMLR learns depth on two CPU cores.

    python -m amlr_jax.main --config=configs/demo.py --workdir=runs/demo
"""

from amlr_jax.config import base


def get_config(variant: str = ""):
    """No variants."""
    if variant:
        raise ValueError(f"configs/demo.py has no variant, got '{variant}'")
    config = base()
    config.data.name = "street"
    config.data.root = "runs/street"
    config.data.split = "folder"
    return config
