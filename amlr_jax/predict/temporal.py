"""Depth over the time of a film: smoothing of what is shown, and its flicker."""

import math

import numpy as np

MOTION = 0.1  # of log depth: pixels that change more than the frame does show motion
STILL = 4  # codes of 255: pixels whose image changes less are still
LEAST_SHARE = 0.01  # of still pixels, for a pair of frames to count


class Smoothing:
    """The exponential mean over time of the log depth of a film, for its pictures.

    With l = log depth, the time dt since the last frame and w = 1 - exp(-dt / seconds):

        c = median(l - mean),   r = l - mean - c
        mean <- mean + w c + (w r where |r| < 0.1, else r)

    So the scale of the whole frame and small changes are smoothed, while pixels that
    change by more than a tenth, as at the edge of what moves, follow at once. If that
    is more than half of them the film was cut, and the mean starts anew.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._mean: np.ndarray | None = None
        self._time = 0.0

    def __call__(self, depth: np.ndarray, time: float) -> np.ndarray:
        """The smoothed depth, of [H, W] > 0 at a time in seconds that increases."""
        now = np.log(depth)
        passed, self._time = time - self._time, time
        if self._mean is not None:
            weight = -math.expm1(-passed / self._seconds)
            change = now - self._mean
            common = np.median(change)
            rest = change - common
            steady = np.abs(rest) < MOTION
            if 2 * steady.sum() >= steady.size:
                step = weight * common + np.where(steady, weight * rest, rest)
                now = self._mean + step
        self._mean = now
        return np.exp(now)


class Flicker:
    """The mean absolute change of log depth from frame to frame, on still pixels.

    A pixel is still if no channel of the image changes by more than 4 of 255 codes. The
    mean is over the pixels of a pair of frames, then over the pairs; pairs in which
    less than 1 % are still do not count. 0.01 means that depth changes by 1 % where
    nothing changes in the image.
    """

    def __init__(self) -> None:
        self._before: tuple[np.ndarray, np.ndarray] | None = None
        self._changes: list[float] = []

    def add(self, image: np.ndarray, depth: np.ndarray) -> None:
        """The next frame: uint8 [H, W, 3] and depth [H, W] > 0."""
        pixels, log = image.astype(np.int16), np.log(depth)
        if self._before is not None:
            moved = np.abs(pixels - self._before[0]).max(axis=-1)
            still = moved <= STILL
            if still.mean() >= LEAST_SHARE:
                change = np.abs(log - self._before[1])
                self._changes.append(float(change[still].mean()))
        self._before = pixels, log

    @property
    def mean(self) -> float | None:
        """Over the film so far; None if no pair of frames has still pixels."""
        return float(np.mean(self._changes)) if self._changes else None
