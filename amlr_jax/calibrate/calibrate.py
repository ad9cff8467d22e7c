"""From a checkpoint and known distances to calibration.json."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from amlr_jax.calibrate import ground
from amlr_jax.calibrate.fit import LEAST_IMAGES, Fit, fit
from amlr_jax.calibrate.known import Known
from amlr_jax.checkpoints import disk
from amlr_jax.evaluate.predictor import with_weights
from amlr_jax.models import calibration, pretrained
from amlr_jax.models.depth_network import has_scale
from amlr_jax.runtime import files, workdir
from amlr_jax.runtime.console import bar, show
from amlr_jax.runtime.errors import InputError, counted

MOST_LINES = 20  # of the list of points that is printed


def run(
    checkpoint: Path, given: Iterable[Known], *, source: str, with_shift: bool = False
) -> Fit:
    """Fits, prints and writes the calibration of weights; see the command.

    `given` are the known distances, and `source` says where they are from. InputError
    for weights, files and points that cannot be used.
    """
    folder, _ = disk.place_of(checkpoint)
    every = [one for one in given if one.metres.size]  # checked before the network
    if not every:
        raise InputError(f"'{source}' has no measured pixel")
    files.check_writable(folder / workdir.CALIBRATION, option="checkpoint")
    loaded = pretrained.load_network(checkpoint, calibrated=False)
    network = loaded.network
    depth = _depths(every, with_weights(network, loaded.variables))
    metres = np.concatenate([one.metres for one in every])
    image = np.repeat(np.arange(len(every)), [one.metres.size for one in every])
    good = np.isfinite(depth)
    if not good.all():
        count = counted(int((~good).sum()), "image is|images are")
        show(f"{count} left out: no level road at the bottom")
    found = fit(depth[good], metres[good], image[good], with_shift=with_shift)
    facts = _facts(found, len(np.unique(image[good])), source)
    path = calibration.save(folder, found.calibration, step=loaded.step, **facts)
    if all(one.listed for one in every):
        _show_points(every, metres, found)
    _show(found, facts, metric=has_scale(network), path=path)
    return found


def _depths(every: list[Known], predict: Callable) -> np.ndarray:
    """The network's depth at each known pixel, or height of the camera, [N]."""
    found = []
    with bar("Predicting", len(every)) as report:
        for one in every:
            depth = predict(one.image[None])[0]
            if one.camera is not None:
                found.append(np.array([ground.height(depth, one.camera)]))
            else:
                found.append(depth[one.row, one.column].astype(np.float64))
            report.advance()
    return np.concatenate(found)


def _facts(found: Fit, images: int, source: str) -> dict:
    """What calibration.json says beside factor and shift."""
    off = np.abs(found.errors)
    interval = None
    if found.low is not None and found.high is not None:
        pairs = zip(found.low, found.high, strict=True)
        interval = dict(zip(found.calibration._fields, map(list, pairs), strict=True))
    return {
        "interval_95": interval,
        "points": found.errors.size,
        "images": images,
        "resampled": "images" if images >= LEAST_IMAGES else "points",
        "median_error": float(np.median(off)),
        "largest_error": float(off.max()),
        "source": source,
    }


def _show_points(every: list[Known], metres: np.ndarray, found: Fit) -> None:
    names = [
        f"{one.name} ({column}, {row})"
        for one in every
        for row, column in zip(one.row, one.column, strict=True)
    ]
    rows = list(zip(names, metres, found.errors, strict=True))
    for name, known_metres, error in rows[:MOST_LINES]:
        calibrated = known_metres * (1 + error)
        show(f"{name}: {known_metres:.2f} m, found {calibrated:.2f} m ({error:+.1%})")
    if len(rows) > MOST_LINES:
        show(f"and {len(rows) - MOST_LINES} more")


def _show(found: Fit, facts: dict, *, metric: bool, path: Path) -> None:
    of = counted(facts["points"], "distance")
    of += f" in {counted(facts['images'], 'image')}"
    limits = facts["interval_95"]
    within = "no interval from one distance"
    if limits:
        within = "95 % interval of the factor {:.4g} to {:.4g}"
        within = within.format(*limits["factor"])
        if found.calibration.shift:
            within += ", of the shift {:.3g} to {:.3g} m".format(*limits["shift"])
        within += f", over {facts['resampled']}"
    show(f"{found.calibration.line()}, from {of}; {within}")
    show(
        f"off by {facts['median_error']:.1%} in the median, at most "
        f"{facts['largest_error']:.1%}"
    )
    if metric:
        show("This network predicts metres already; the calibration corrects them")
        if not 0.2 < found.calibration.factor < 5.0:
            show(
                "[yellow]warning[/yellow]: by a large factor; are the distances metres?"
            )
    show(f"{path}: applied by predict, evaluate, export and amlr_jax.load")
