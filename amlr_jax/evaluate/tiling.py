"""Test-time augmentation: mirror images and sliding square windows.

MIM-Depth's test mode, also used for AMLR's results: h x h windows of an h x w image,
each also mirrored, averaged linearly where they overlap.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

MODES = ("none", "flip", "flip_ramps", "shifted", "shifted_flip")


class Mode(NamedTuple):
    """A test-time augmentation.

    none: the image alone. flip: the mean with the depth of the mirror image.
    flip_ramps: monodepth2's post-processing, see `merge_ramps`. shifted: the mean of
    square windows, see `window_starts`. shifted_flip: the mean of windows and the
    mirror image of each.
    """

    name: str = "none"
    windows: int = 16  # of a shifted mode

    @property
    def shifted(self) -> bool:
        """Whether it has windows."""
        return self.name.startswith("shifted")

    def on(self, height: int, width: int) -> "Mode":
        """The mode for an image of this size: no windows if it is not wider than high.

        >>> Mode("shifted_flip").on(480, 480).name
        'flip'
        """
        if not self.shifted or width > height:
            return self
        return self._replace(name="flip" if self.name == "shifted_flip" else "none")


def window_starts(height: int, width: int, *, count: int) -> tuple[int, ...]:
    """First columns of `count` windows of side `height`, as in MIM-Depth:

        i * ((width - height) // (count - 1)),   i = 0 ... count - 1

    which may leave the last columns out (see `spare_starts`).

    >>> window_starts(352, 1216, count=16)[-2:]
    (798, 855)
    >>> window_starts(480, 640, count=2)
    (0, 160)
    """
    interval = (width - height) // (count - 1)
    return tuple(i * interval for i in range(count))


def spare_starts(
    starts: tuple[int, ...], height: int, width: int
) -> tuple[tuple[int, int, int], ...]:
    """More windows for the columns that no window covers: (start, first, end column).

    On KITTI the reference's windows end at 1207 of 1216, and its depth after it is
    0 / 0. A spare window gives the depth of only these columns.

    >>> spare_starts(window_starts(352, 1216, count=16), 352, 1216)
    ((864, 1207, 1216),)
    """
    spares = []
    bare = np.flatnonzero(coverage(starts, height, width) == 0)
    while bare.size:
        first = int(bare[0])
        start = min(first, width - height)
        run = bare[(bare < start + height) & (bare - first == np.arange(bare.size))]
        spares.append((start, first, int(run[-1]) + 1))
        bare = bare[run.size :]
    return tuple(spares)


def coverage(starts: tuple[int, ...], height: int, width: int) -> np.ndarray:
    """The number of windows at each column, [width]."""
    columns = np.arange(width)
    windows = (((columns >= s) & (columns < s + height)).astype(int) for s in starts)
    return sum(windows, np.zeros(width, int))


def predict(forward: Callable, image_BHWC: jax.Array, mode: Mode) -> jax.Array:
    """Depth [B, H, W] of images [B, H, W, 3] by `mode`.

    `forward` maps [N, h, w, 3] to depth [N, h, w] in metres and is called once, with
    all windows and their mirror images.
    """
    height, width = image_BHWC.shape[1:3]
    mode = mode.on(height, width)
    if not mode.shifted:
        return _mirrored(forward, image_BHWC, mode)
    starts = window_starts(height, width, count=mode.windows)
    spares = spare_starts(starts, height, width)
    every = (*starts, *(start for start, _, _ in spares))
    views = [image_BHWC[:, :, s : s + height] for s in every]
    depth = _mirrored(forward, jnp.concatenate(views), mode)
    depth_NBhh = depth.reshape(len(every), -1, height, height)
    return join(depth_NBhh, starts, spares, width=width)


def predict_with_spread(
    forward: Callable, image_BHWC: jax.Array, mode: Mode
) -> jax.Array:
    """`predict`, and how much its views disagree: [B, 2, H, W].

    The spread is the standard deviation of log depth over the windows and mirror images
    that see a pixel, weighted as in their mean; not defined for flip_ramps.
    """

    def moments(views: jax.Array) -> jax.Array:
        depth = forward(views)
        log = jnp.log(depth)
        stacked = jnp.stack([depth, log, log * log], 1)
        return stacked.reshape(-1, *depth.shape[1:])  # as more images of each view

    found = predict(moments, image_BHWC, mode)
    depth, mean, square = jnp.moveaxis(found.reshape(-1, 3, *found.shape[1:]), 1, 0)
    spread = jnp.sqrt(jnp.maximum(square - mean * mean, 0))
    return jnp.stack([depth, spread], 1)


def _mirrored(forward: Callable, image_BHWC: jax.Array, mode: Mode) -> jax.Array:
    if mode.name in ("none", "shifted"):
        return forward(image_BHWC)
    both = forward(jnp.concatenate([image_BHWC, image_BHWC[:, :, ::-1]]))
    depth, mirrored = jnp.split(both, 2)
    mirrored = mirrored[:, :, ::-1]
    if mode.name == "flip_ramps":
        return merge_ramps(depth, mirrored)
    return (depth + mirrored) / 2


def merge_ramps(depth_BHW: jax.Array, mirrored_BHW: jax.Array) -> jax.Array:
    """monodepth2's post-processing of two depths of one image, in inverse depth.

        1 / (r d + l d' + (1 - l - r)(d + d') / 2),   l = 1 - clip(20 (x - 0.05), 0, 1)

    x from 0 to 1 over the columns, r is l mirrored, d and d' inverse depths, d' of the
    mirrored image and mirrored back: the left 5 % use only d', the right 5 % only d.
    Godard et al., CVPR 2017, at the network's size; here at the image's.
    """
    d, other = (1 / jnp.maximum(x, 1e-6) for x in (depth_BHW, mirrored_BHW))
    x = np.linspace(0.0, 1.0, d.shape[-1])
    left = 1 - np.clip(20 * (x - 0.05), 0, 1)
    right = left[::-1]
    middle = (1 - left - right) / 2
    own, others = ((side + middle).astype(np.float32) for side in (right, left))
    return 1 / (d * own + other * others)


def join(
    depth_NBhh: jax.Array,
    starts: tuple[int, ...],
    spares: tuple[tuple[int, int, int], ...],
    *,
    width: int,
) -> jax.Array:
    """The mean of the windows at each column, [B, h, width]; spares elsewhere."""
    _, batch, height, _ = depth_NBhh.shape
    total = jnp.zeros((batch, height, width), depth_NBhh.dtype)
    for depth, start in zip(depth_NBhh, starts, strict=False):
        total = total.at[:, :, start : start + height].add(depth)
    mean = total / np.maximum(coverage(starts, height, width), 1).astype(np.float32)
    extra = depth_NBhh[len(starts) :]
    for depth, (start, first, end) in zip(extra, spares, strict=True):
        part = depth[:, :, first - start : end - start]
        mean = mean.at[:, :, first:end].set(part)
    return mean
