"""Odometry of a pose network on drives with known poses, on the host in float64.

`trajectories` holds the alignment and the errors, `drives` finds images with true
poses, `pose_network` predicts the steps between frames, `results` measures drives and
writes tables and pictures, also when a training run ends.
"""
