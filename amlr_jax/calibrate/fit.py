"""The factor, or factor and shift, from predicted depths to known distances."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from amlr_jax import metrics
from amlr_jax.models.calibration import Calibration
from amlr_jax.runtime.errors import InputError, counted

RESAMPLES = 200
LEAST_WITH_SHIFT = 3  # two points fit any line
LEAST_IMAGES = 5  # from which the interval is over images instead of points


class Fit(NamedTuple):
    """A calibration, and how well the known distances agree with it."""

    calibration: Calibration
    low: Calibration | None  # limits of the 95 % interval; None from a single point
    high: Calibration | None
    errors: np.ndarray  # [N] of metres / known - 1, after the calibration


def fit(
    depth: np.ndarray, metres: np.ndarray, image: np.ndarray, *, with_shift: bool
) -> Fit:
    """The calibration of most agreement, from N points.

        factor = exp(median(log(metres / depth)))
        with a shift:  min sum |factor depth + shift - metres| / metres

    Neither follows a few wrong points. The interval is a percentile bootstrap of 200
    resamples with a fixed seed: of the images if there are at least 5, because the
    points of one image err together, else of the points.

    Args:
      depth: [N] of the network, > 0.
      metres: [N] known, > 0.
      image: [N] the number of each point's image.
      with_shift: fit the shift, too.

    Raises:
      InputError: no point; with a shift fewer than 3, or points that give no factor
        above 0, as those of one depth.

    >>> found = fit(np.array([1.0, 2, 3]), np.array([10.0, 20, 99]), np.arange(3),
    ...             with_shift=False)
    >>> round(found.calibration.factor, 6), round(found.errors[2], 4)
    (10.0, -0.697)
    """
    least = LEAST_WITH_SHIFT if with_shift else 1
    if depth.size < least:
        what = "--shift needs" if with_shift else "calibration needs"
        raise InputError(f"{what} {least} known distances or more, got {depth.size}")
    find = _line if with_shift else _factor
    factor, shift = (float(x[0]) for x in find(depth[None], metres[None]))
    if not factor > 0:
        raise InputError(
            f"factor and shift of {counted(depth.size, 'point')} are {factor:.3g} and "
            f"{shift:.3g} m: the known distances do not grow with the network's depth; "
            "give points at different depths, or leave out --shift"
        )
    found = Calibration(factor, shift)
    errors = (factor * depth + shift) / metres - 1
    if depth.size == 1:
        return Fit(found, None, None, errors)
    every = find(*_resampled(depth, metres, image))
    limits = np.nanpercentile(every, [2.5, 97.5], axis=1)
    low, high = (Calibration(*map(float, pair)) for pair in limits)
    return Fit(found, low, high, errors)


def _factor(depth: np.ndarray, metres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each row; NaN is no point."""
    factor = np.exp(np.nanmedian(np.log(metres / depth), axis=1))
    return factor, np.zeros_like(factor)


def _line(depth: np.ndarray, metres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factor and shift of each row; NaN is no point."""
    where = np.isfinite(metres)
    p, g = (jnp.where(where, x, 1)[:, None] for x in (depth, metres))
    options: dict = {"how": "scale_shift", "robust": True, "max_depth": np.inf}
    found = metrics.align(p, g, where=jnp.asarray(where[:, None]), **options)
    return np.asarray(found.scale), np.asarray(found.shift)


def _resampled(
    depth: np.ndarray, metres: np.ndarray, image: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of resampled images, or points; both [R, M], NaN where there is no point."""
    images, unit = np.unique(image, return_inverse=True)
    if len(images) < LEAST_IMAGES:
        unit = np.arange(depth.size)
    counts = np.bincount(unit)
    order = np.argsort(unit, kind="stable")
    place = np.arange(depth.size) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.full((2, len(counts), np.max(counts)), np.nan)
    table[:, unit[order], place] = depth[order], metres[order]
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(counts), size=(RESAMPLES, len(counts)))
    depth, metres = table[:, chosen].reshape(2, RESAMPLES, -1)
    return depth, metres
