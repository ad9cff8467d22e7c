"""The figures of a depth map that the rules need, and those of many together."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from amlr_jax.data.frames import Camera, Layout

# Metres between the bars of the histogram; the last bar has no end.
EDGES = (0, 0.5, 1, 2, 3, 4, 5, 7.5, 10, 15, 20, 30, 40, 60, 80, 120, 1000)
_BINS = 512  # of 3.4 % each, so that frames can be added up to a set


class Measured(NamedTuple):
    """The depth of one frame, in metres, before a cap is applied."""

    share: float  # of all pixels, capped
    beyond: float  # share of the measured ones that the cap takes away
    low: float
    median: float
    high: float
    counts: np.ndarray  # [len(EDGES)] pixels between the edges
    bins: np.ndarray  # uint32 [_BINS] pixels by the logarithm of depth
    slope: float  # correlation of log depth with the row; NaN where it has none
    camera_height: float  # metres, of a flat ground at the bottom; NaN if unknown


def measure(metres: np.ndarray, layout: Layout, camera: Camera) -> Measured:
    """The figures of a depth map [H, W] in metres, 0 where nothing was measured."""
    valid = metres > 0
    values = np.sort(metres[valid])
    total = len(values)
    kept = np.searchsorted(values, layout.depth_cap or np.inf, side="right")
    low, median, high = (
        (float(values[int(q * (total - 1))]) for q in (0, 0.5, 1))
        if total
        else (math.nan,) * 3
    )
    return Measured(
        float(kept / metres.size),
        float(1 - kept / total) if total else 0.0,
        low,
        median,
        high,
        np.diff(np.searchsorted(values, EDGES), append=total),
        _log_counts(values),
        _slope(metres, valid),
        _camera_height(metres, camera),
    )


# Logarithms of depth from a millimetre to 28 km in steps of 3.4 %.
_FIRST, _STEP = math.log(1e-3), math.log(2.8e7) / _BINS


def _log_counts(values: np.ndarray) -> np.ndarray:
    borders = np.exp(_FIRST + _STEP * np.arange(1, _BINS))
    where = np.searchsorted(values, borders)
    return np.diff(where, prepend=0, append=len(values)).astype(np.uint32)


def quantile(measured: Iterable[Measured], q: float) -> float:
    """Of all pixels of several frames, in metres, to 2 % or so; NaN without any."""
    counts = sum((m.bins.astype(np.int64) for m in measured), np.zeros(_BINS, np.int64))
    total = counts.sum()
    if not total:
        return math.nan
    index = int(np.searchsorted(np.cumsum(counts), max(q * total, 1)))
    return math.exp(_FIRST + _STEP * (index + 0.5))


def _slope(metres: np.ndarray, valid: np.ndarray) -> float:
    """The correlation of each row's mean depth with its number, in logarithms."""
    counts = valid.sum(axis=1)
    rows = np.flatnonzero(counts)
    if len(rows) < 8:
        return math.nan
    means = np.log(metres.sum(axis=1, dtype=np.float64)[rows] / counts[rows])
    if means.std() < 1e-3:
        return math.nan
    return float(np.corrcoef(rows, means)[0, 1])


def _camera_height(metres: np.ndarray, camera: Camera) -> float:
    """h = Z (v - cy) / fy, the median over the lowest tenth's middle third.

    Of a road this is how high the camera stands above it, whatever else is seen.
    """
    height, width = metres.shape
    fy, cy = camera[1], camera[3]
    top = height - height // 10
    part = metres[top:, width // 3 : width - width // 3]
    rows, columns = np.nonzero(part)
    if len(rows) < 16 or not fy > 0 or not cy < top:
        return math.nan
    return float(np.median(part[rows, columns] * (rows + top - cy) / fy))
