"""What is measured beyond a protocol: alignment, sets of metrics, bands of distance."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import jax
import numpy as np

from amlr_jax import metrics
from amlr_jax.runtime.errors import InputError, counted, require

SETS = {
    "standard": metrics.METRIC_NAMES,
    "kitti": metrics.KITTI_NAMES,
    "delta": metrics.DELTA_NAMES,
    "boundary": ("boundary_f1", *metrics.BOUNDARY_ERRORS),  # errors: iBims-1 alone
}
EVERY = tuple(name for names in SETS.values() for name in names)


def _boundary(prediction: jax.Array, target: jax.Array, *, where: jax.Array) -> dict:
    return {"boundary_f1": metrics.boundary_f1(prediction, target, where=where)}


_FUNCTIONS: dict[str, Callable] = {
    "standard": metrics.depth_metrics,
    "kitti": metrics.kitti_metrics,
    "delta": metrics.delta_metrics,
    "boundary": _boundary,
}
LEAST_PIXELS = 10  # of a fit; fewer give one that says nothing
DENSE = 0.5  # share of a frame's pixels that `boundary` needs


class Choices(NamedTuple):
    """What a user measures beyond a protocol, which does not change its own values."""

    align: str = ""  # of `metrics.ALIGNMENTS`; empty: as the protocol scales
    align_robust: bool = False  # to absolute errors
    align_over: str = "image"  # one fit for each image, or for the set
    fit: tuple[float, float] | None = None  # scale and shift of the set, once known
    sets: tuple[str, ...] = ("standard",)  # of `metric_sets.SETS`
    bands: tuple[float, ...] = ()  # metres: the limits of the bands of distance

    def line(self) -> str:
        """The alignment in words; empty if the protocol's own."""
        if not self.align:
            return ""
        robust = "robustly " if self.align_robust else ""
        over = "one fit for each image"
        if self.align_over == "set":
            over = "one fit for the set"
        if self.fit:
            over += " (scale {:.6g}, shift {:.6g})".format(*self.fit)
        return f"{robust}aligned by {self.align}, {over}"


NO_CHOICES = Choices()


def names(choices: Choices) -> tuple[str, ...]:
    """The metrics of the chosen sets, in the order of the tables."""
    return tuple(name for chosen in choices.sets for name in SETS[chosen])


def bands(choices: Choices) -> list[tuple[float, float]]:
    """The nearest and the farthest depth of each band, metres."""
    return list(pairwise(choices.bands))


def in_band(name: str, band: tuple[float, float]) -> str:
    """The name of a metric in a band.

    >>> in_band("abs_rel", (20.0, 40.0))
    'abs_rel@20-40'
    """
    return "{}@{:g}-{:g}".format(name, *band)


def values(
    prediction: jax.Array, target: jax.Array, where: jax.Array, *, choices: Choices
) -> dict[str, jax.Array]:
    """The chosen metrics [B], and those of each band with its `pixels`.

    A band holds the pixels whose ground truth is in [near, far); edges are measured
    over the image alone.
    """

    def measured(sets: tuple[str, ...], where: jax.Array) -> dict[str, jax.Array]:
        each = (_FUNCTIONS[name](prediction, target, where=where) for name in sets)
        return {name: value for one in each for name, value in one.items()}

    found = measured(choices.sets, where)
    for near, far in bands(choices):
        inside = where & (target >= near) & (target < far)
        of_band = measured(by_distance(choices), inside)
        of_band["pixels"] = inside.sum((-2, -1))
        found |= {in_band(k, (near, far)): v for k, v in of_band.items()}
    return found


def by_distance(choices: Choices) -> tuple[str, ...]:
    """The chosen sets that are measured in bands, too: edges are of the image."""
    return tuple(chosen for chosen in choices.sets if chosen != "boundary")


def of_bands(rows: list[dict], choices: Choices) -> Iterator[dict]:
    """Each band, from the rows of the images: the means over those with a pixel there.

    `near`, `far`, `pixels`, `frames` and `metrics`.
    """
    measured = names(choices._replace(sets=by_distance(choices)))
    for band in bands(choices):
        key = in_band("pixels", band)
        used = [row for row in rows if row[key]]
        found = {
            name: float(np.mean([row[in_band(name, band)] for row in used]))
            for name in (measured if used else ())
        }
        facts = {"pixels": sum(row[key] for row in used), "frames": len(used)}
        yield {"near": band[0], "far": band[1], **facts, "metrics": found}


def require_dense(rows: list[dict]) -> None:
    """InputError if edges were measured on frames whose depth is sparse."""
    shares = [row["share"] for row in rows if "share" in row]
    if shares and np.mean(shares) < DENSE:
        raise InputError(
            "--metrics=boundary needs dense ground truth; only "
            f"{np.mean(shares):.1%} of the pixels of these frames are evaluated"
        )


def check(choices: Choices) -> None:
    """InputError for a set that is not known, and for choices that do not fit."""
    for chosen in choices.sets or ("",):
        require("--metrics", chosen, SETS)
    if len(set(choices.sets)) < len(choices.sets):
        raise InputError(f"--metrics names a set twice: {','.join(choices.sets)}")
    limits, rise = choices.bands, all(near < far for near, far in bands(choices))
    if limits and not (len(limits) > 1 and limits[0] >= 0 and rise):
        shown = ",".join(f"{x:g}" for x in limits)
        raise InputError(
            "--bands must be two or more metres that rise, as 0,20,40,60,80; got "
            f"{shown}"
        )
    fitted = choices.align not in ("", "none")
    if choices.align_over == "set" and not fitted:
        raise InputError("--align_over=set needs --align, as --align=scale")
    if choices.align_robust and (not fitted or choices.align == "median"):
        raise InputError(
            "--align_robust is for --align=scale, scale_shift and "
            f"disparity_scale_shift; got --align={choices.align}"
        )


def fitted_to(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], *, choices: Choices
) -> Choices:
    """The choices with one fit to the prediction and ground truth of all pixels.

    In float64; all pixels are in memory. InputError if there are too few, or if all
    predictions are one value.
    """
    p, g = (np.concatenate(one).astype(float)[None] for one in zip(*pairs, strict=True))
    how, robust = choices.align, choices.align_robust
    with jax.enable_x64(True):
        fit = jax.jit(partial(metrics.fit_alignment, how=how, robust=robust))
        scale, shift = map(float, fit(p, g))
    _require_fit("the set", p.size, scale, choices=choices)
    return choices._replace(fit=(scale, shift))


def require_fits(rows: list[dict], choices: Choices) -> None:
    """InputError for an image whose fit is not determined by its pixels."""
    for row in rows if choices.align and not choices.fit else ():
        of, pixels = f"frame {row['key']}", row["pixels"]
        _require_fit(of, pixels, row["scale"], choices=choices)


def _require_fit(of: str, pixels: int, scale: float, *, choices: Choices) -> None:
    how = choices.align
    if pixels < LEAST_PIXELS:
        raise InputError(
            f"{of} has {counted(pixels, 'evaluated pixel')}, and --align={how} needs "
            f"{LEAST_PIXELS} or more; leave the frame out, or give --align_over=set"
        )
    if not scale:
        raise InputError(
            f"the prediction of {of} is one value at all evaluated pixels, so that "
            f"--align={how} finds no scale; leave it out, or give --align=median"
        )
