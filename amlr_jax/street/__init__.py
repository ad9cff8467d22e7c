"""The street: a small synthetic KITTI, so that everything runs without a download."""

from amlr_jax.street.frames import Truth, exact
from amlr_jax.street.writer import generate

__all__ = ["Truth", "exact", "generate"]
