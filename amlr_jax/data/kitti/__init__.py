"""KITTI: frames with depth, views of raw drives, and poses."""

from amlr_jax.data.kitti.layout import DEPTH_SCALE, LIDAR_SPLIT, SPLITS, read_layout

__all__ = ["DEPTH_SCALE", "LIDAR_SPLIT", "SPLITS", "read_layout"]
