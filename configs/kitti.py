"""KITTI."""
from amlr_jax.config import base
def get_config(variant: str = "large"):
    config = base()
    config.model.name="swin_v2_nano"
    config.model.input_scale=0.25
    config.data.crop=(352,704)
    config.optimizer.layer_decay=1.0
    config.optimizer.weight_decay=0.01
    config.batch_size=4
    config.steps=300
    return config
