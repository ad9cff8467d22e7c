"""Tileable value noise, the stuff of every texture."""

import cv2
import numpy as np


def value_noise(rng, *, size, cells):
    """Smooth noise [rows, columns] that repeats at its borders, about N(0, 1).

    `size` and `cells` are (rows, columns); a cell is the grain of the noise.
    """
    pad = 4
    grid = np.pad(rng.standard_normal(cells).astype(np.float32), pad, mode="wrap")
    step = [s / c for s, c in zip(size, cells, strict=True)]
    rows = (np.arange(size[0], dtype=np.float32) + 0.5) / step[0] - 0.5 + pad
    cols = (np.arange(size[1], dtype=np.float32) + 0.5) / step[1] - 0.5 + pad
    cols, rows = np.meshgrid(cols, rows)
    return cv2.remap(grid, cols, rows, cv2.INTER_CUBIC) * 1.2


def octaves(rng, *, size, cells, count, persistence):
    """Sum of `count` noises, each twice as fine as the last; zero mean, std 1."""
    total = np.zeros(size, np.float32)
    for k in range(count):
        finer = tuple(min(c << k, s) for c, s in zip(cells, size, strict=True))
        total += persistence**k * value_noise(rng, size=size, cells=finer)
    return (total - total.mean()) / total.std()


def leaf_ranks():
    """Ranks in [0, 1) [rows, columns] of the patches of a leafy shell."""
    rng = np.random.default_rng(20)
    size = (96, 192)
    field = octaves(rng, size=size, cells=(14, 28), count=3, persistence=0.9)
    order = np.empty(field.size, np.float32)
    order[np.argsort(field, axis=None, kind="stable")] = np.arange(field.size)
    return (order / field.size).reshape(size)
