"""Metrics of a network by a protocol.

Metrics are computed per image and averaged over the images, as in the published code.
The baseline is a constant predictor, the median depth of the training set: a network
that is not better has learned nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from numpy.typing import ArrayLike

from amlr_jax import metrics
from amlr_jax.data import benchmarks, loader
from amlr_jax.evaluate import metric_sets
from amlr_jax.evaluate.protocols import Protocol, check_frame
from amlr_jax.metrics.alignment import SHIFTED
from amlr_jax.runtime import paths
from amlr_jax.runtime.console import bar
from amlr_jax.runtime.errors import InputError, counted


@partial(jax.jit, static_argnames="protocol")
def measure(prediction: jax.Array, target: jax.Array, *, protocol: Protocol) -> dict:
    """Metrics [B] of each image, evaluated `pixels` [B] and the median `ratio` [B].

    Metrics of an image without an evaluated pixel are NaN; so is the ratio without
    median scaling. `scale` and `shift` [B] are there if the prediction is aligned.
    """
    choices = protocol.choices
    where = evaluated(target, protocol=protocol)
    pixels = where.sum((-2, -1))
    facts = {"pixels": pixels, "ratio": np.nan * pixels}
    if "boundary" in choices.sets:
        facts["share"] = where.mean((-2, -1))
    prediction, scaling = _in_metres(prediction, target, where, protocol=protocol)
    values = metric_sets.values(prediction, target, where, choices=choices)
    return {**values, **facts, **scaling}


def _in_metres(
    prediction: jax.Array, target: jax.Array, where: jax.Array, *, protocol: Protocol
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The prediction [..., H, W] as the protocol scales it.

    And by what: its median `ratio` [...], or `scale` and `shift` if it is aligned.
    """
    limits, choices = protocol.limits, protocol.choices
    if choices.align:
        prediction = metrics.sanitize(prediction, **limits)
        if choices.fit:
            each = [jnp.full(where.shape[:-2], x, jnp.float32) for x in choices.fit]
            moved = metrics.apply_alignment(
                prediction, *each, how=choices.align, **limits
            )
            return moved, dict(zip(("scale", "shift"), each, strict=True))
        fitted: dict = {"how": choices.align, "robust": choices.align_robust}
        found = metrics.align(prediction, target, where=where, **fitted, **limits)
        return found.prediction, {"scale": found.scale, "shift": found.shift}
    if protocol.median_scaling:
        scaled = metrics.median_scaled(prediction, target, where=where, **limits)
        return scaled.prediction, {"ratio": scaled.ratio}
    return metrics.sanitize(prediction, clamp=protocol.clamp, **limits), {}


def evaluated(target: ArrayLike, *, protocol: Protocol) -> jax.Array:
    """Which pixels of ground truth [..., H, W] in metres are evaluated."""
    target = jnp.asarray(target)
    limits = protocol.limits
    where = metrics.valid_mask(target, **limits) if protocol.cap_target else target > 0
    return where & metrics.evaluation_mask(*target.shape[-2:], crop=protocol.crop)


def require_depth(data: Any, protocol: Protocol) -> None:
    """InputError if no pixel of the test frames is evaluated; reads up to the first.

    Training may take days, and its results would be lost.
    """
    for index in range(len(data.test)):
        frame = loader.test_frame(data, index, kb_crop=protocol.crops_frames)
        if evaluated(frame["depth"], protocol=protocol).any():
            return
    if len(data.test):
        raise _nothing(len(data.test), protocol)


def _nothing(frames: int, protocol: Protocol) -> InputError:
    return InputError(
        f"no pixel to evaluate in {counted(frames, 'test frame')} ({protocol.line()}); "
        "check eval.crop, eval.max_depth and the unit of the ground truth"
    )


def as_measured(
    prediction: np.ndarray, target: np.ndarray, *, protocol: Protocol
) -> tuple[np.ndarray, float]:
    """The depth [H, W] in metres used by the metrics, and the scale applied to it.

    Every picture of a prediction shows this depth. The scale is `measure`'s ratio, 1
    if the protocol does not scale or no pixel of `target` is evaluated. Pixels without
    a prediction (0 or NaN), as around a crop that was pasted back, have depth 0.
    """
    where = evaluated(target, protocol=protocol)
    both = jnp.asarray(prediction), jnp.asarray(target)
    depth, scaling = _in_metres(*both, where, protocol=protocol)
    scale = float(scaling.get("scale", scaling.get("ratio", 1.0)))
    shifted = protocol.choices.align in SHIFTED
    known = ~np.isnan(prediction) if shifted else prediction > 0
    if not np.isfinite(scale):
        clamp = protocol.clamp or protocol.median_scaling
        depth = metrics.sanitize(prediction, clamp=clamp, **protocol.limits)
        known, scale = prediction > 0, 1.0
    return np.where(known, np.asarray(depth), 0), scale


class Evaluation(NamedTuple):
    """Mean metrics of the network and the constant predictor, and per image."""

    metrics: dict[str, float]
    constant: dict[str, float]
    frames: int  # with at least one evaluated pixel
    skipped: int  # without
    images: tuple[dict, ...] = ()  # metrics, pixels, ratio, index and key of each
    ratio: dict[str, float] | None = None  # median and spread of the median ratios
    narrow: int = 0  # frames not wider than high, so without windows
    bands: tuple[dict, ...] = ()  # by distance: near, far, pixels, frames, metrics
    not_finite: int = 0  # frames whose evaluated depth is not, so measured at a limit


def evaluate(
    predict: Callable[[np.ndarray], np.ndarray],
    batches: Iterable[dict[str, np.ndarray]],
    *,
    protocol: Protocol,
    inspect: Callable[[np.ndarray, dict], None] = lambda prediction, batch: None,
) -> Evaluation:
    """Evaluates `predict`, which maps uint8 [B, H, W, 3] to depth [B, H, W] in metres.

    A batch holds `image`, `depth` in metres, 0 = not measured, `key` [B] and, where the
    depth edges are annotated, `edges` [B, H, W]; `inspect` is called with each
    prediction and its batch. Raises InputError for a frame on which
    a crop of the protocol is not defined, and if no pixel is evaluated.
    """
    images, constants, narrow, not_finite = [], [], 0, 0
    choices = protocol.choices
    # A fit of the set is the prediction's.
    plain = choices._replace(align="", fit=None) if choices.fit else choices
    of_constant = protocol._replace(choices=plain)
    for batch in batches:
        image, target = batch["image"], batch["depth"]
        check_frame(protocol, target.shape[1:], str(batch["key"][0]))
        prediction = predict(image)
        inspect(prediction, batch)
        values = measure(prediction, target, protocol=protocol)
        flat = np.full_like(target, protocol.median_depth)
        flat_values = measure(flat, target, protocol=of_constant)
        if "edges" in batch:
            values |= _boundary_errors(prediction, batch, protocol=protocol)
            flat_values |= _boundary_errors(flat, batch, protocol=of_constant)
        keys = map(str, batch["key"])
        images += [r | {"key": k} for r, k in zip(_rows(values), keys, strict=True)]
        constants += _rows(flat_values)
        mode = protocol.mode
        narrow += len(image) * (mode.on(*image.shape[1:3]) != mode)
        lost = ~np.isfinite(prediction) & np.asarray(
            evaluated(target, protocol=protocol)
        )
        not_finite += int(lost.any((1, 2)).sum())
    images = [row | {"index": index} for index, row in enumerate(images)]
    used = [row for row in images if row["pixels"]]
    if not used:
        raise _nothing(len(images), protocol)
    metric_sets.require_fits(used, choices)
    metric_sets.require_dense(used)
    names = [name for name in metric_sets.names(choices) if name in used[0]]
    ratio = None
    if protocol.median_scaling:
        ratios = np.array([row["ratio"] for row in used], np.float32)
        ratio = dict(
            zip(
                ("median", "std"),
                map(float, metrics.ratio_summary(ratios)),
                strict=True,
            )
        )
    return Evaluation(
        metrics=_means(used, names),
        constant=_means([row for row in constants if row["pixels"]], names),
        frames=len(used),
        skipped=len(images) - len(used),
        images=tuple(images),
        ratio=ratio,
        narrow=narrow,
        bands=tuple(metric_sets.of_bands(used, choices)),
        not_finite=not_finite,
    )


def evaluate_test_set(
    predict: Callable,
    data: Any,
    protocol: Protocol,
    *,
    config: ConfigDict,
    inspect: Callable[[np.ndarray, dict], None] = lambda prediction, batch: None,
) -> Evaluation:
    """`evaluate` on the test frames of a prepared data set, with a progress bar."""
    batches = test_batches(data, protocol, config=config)
    with bar("Evaluating", len(data.test)) as report:

        def seen(prediction: np.ndarray, batch: dict) -> None:
            inspect(prediction, batch)
            report.advance(len(prediction))

        return evaluate(predict, batches, protocol=protocol, inspect=seen)


def fitted_to_set(
    predict: Callable, data: Any, protocol: Protocol, *, config: ConfigDict
) -> Protocol:
    """The protocol, with a fit to all test frames if it asks for one fit of the set."""
    choices = protocol.choices
    if choices.align_over != "set":
        return protocol
    pairs = []
    with bar("Fitting", len(data.test)) as report:
        for batch in test_batches(data, protocol, config=config):
            where = np.asarray(evaluated(batch["depth"], protocol=protocol))
            found = metrics.sanitize(predict(batch["image"]), **protocol.limits)
            pairs.append((np.asarray(found)[where], batch["depth"][where]))
            report.advance(len(where))
    return protocol._replace(choices=metric_sets.fitted_to(pairs, choices=choices))


def test_batches(
    data: Any, protocol: Protocol, *, config: ConfigDict
) -> Iterator[dict[str, np.ndarray]]:
    """The test frames in the protocol's frame, as `loader.evaluation_batches`.

    With their annotated `edges`, if there are any and they are measured.
    """
    root = paths.expanded(config.data.root)
    for batch in loader.evaluation_batches(
        data,
        batch_size=config.eval.batch_size,
        kb_crop=protocol.crops_frames,
        threads=config.data.threads,
    ):
        if "boundary" in protocol.choices.sets:
            size = batch["depth"].shape[1:]
            read = partial(benchmarks.annotated_edges, config.data.name, root)
            edges = [read(str(key), size) for key in batch["key"]]
            if edges[0] is not None:
                batch["edges"] = np.asarray(edges)
        yield batch


def with_predictions(
    indices: Iterable[int], predict: Callable, data: Any, protocol: Protocol
) -> list[dict]:
    """Test frames from `loader.test_frame`, with their predictions.

    Each also has `prediction`, float32 [H, W] in metres as evaluated, and `scale`, the
    factor that it contains (see `as_measured`).
    """
    frames = []
    for index in indices:
        frame = loader.test_frame(data, int(index), kb_crop=protocol.crops_frames)
        depth = predict(frame["image"][None])[0]
        depth, scale = as_measured(depth, frame["depth"], protocol=protocol)
        frames.append({**frame, "prediction": depth, "scale": scale})
    return frames


def _boundary_errors(
    prediction: np.ndarray, batch: dict[str, np.ndarray], *, protocol: Protocol
) -> dict[str, jax.Array]:
    """`metrics.boundary_errors` [B] of the depth as it is evaluated."""
    found = []
    for p, g, e in zip(prediction, batch["depth"], batch["edges"], strict=True):
        depth, _ = as_measured(p, g, protocol=protocol)
        found.append(metrics.boundary_errors(depth, e))
    return dict(zip(metrics.BOUNDARY_ERRORS, jnp.array(found).T, strict=True))


def _rows(values: dict[str, jax.Array]) -> list[dict]:
    """One dict for each image of a batch."""
    columns = {name: value.tolist() for name, value in jax.device_get(values).items()}
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _means(rows: list[dict], names: Sequence[str]) -> dict[str, float]:
    """Errors of edges are means over the frames in which edges are annotated."""
    means = {}
    for name in names:
        mean = np.nanmean if name in metrics.BOUNDARY_ERRORS else np.mean
        means[name] = float(mean([row[name] for row in rows]))
    return means
