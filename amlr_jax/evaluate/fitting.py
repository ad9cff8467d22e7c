"""Alignment of predictions as --align chooses it: by image, or one fit for the set."""

from collections.abc import Iterable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from amlr_jax import metrics
from amlr_jax.evaluate.metric_sets import Choices
from amlr_jax.evaluate.protocols import Protocol
from amlr_jax.runtime.errors import InputError, counted

LEAST_PIXELS = 10  # fewer give a fit that says nothing


def aligned(
    prediction: ArrayLike, target: ArrayLike, where: jax.Array, *, protocol: Protocol
) -> metrics.Aligned:
    """By the fit of the set if there is one, else by that of each image."""
    limits, choices = protocol.limits, protocol.choices
    prediction, target = metrics.sanitize(prediction, **limits), jnp.asarray(target)
    how, robust = choices.align, choices.align_robust
    if choices.fit is None:
        more = {"where": where, "robust": robust, **limits}
        return metrics.align(prediction, target, how=how, **more)
    fit = [jnp.full(where.shape[:-2], x, jnp.float32) for x in choices.fit]
    moved = metrics.apply_alignment(prediction, *fit, how=how, **limits)
    return metrics.Aligned(moved, *fit)


def of_set(
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


def check_rows(rows: list[dict], choices: Choices) -> None:
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
