"""Rules on depth: valid share, range and unit."""

import math
import statistics
from collections import Counter

import numpy as np

from amlr_jax.data.check.facts import Examined, quantile
from amlr_jax.data.check.findings import FAULT, NOTE, WARNING, Finding, named

_BEYOND = 0.05  # share of measurements that a limit may remove without a warning
_SHARED = 0.01  # share of measurements that may have one extreme value
# Stored value of a metre in common data sets.
SCALES = {
    1.0: "whole metres",
    100.0: "centimetres",
    256.0: "KITTI's 256 a metre",
    1000.0: "millimetres",
    5000.0: "TUM's 5000 a metre",
    10000.0: "tenths of a millimetre",
}


def depth_range(examined: Examined) -> list[Finding]:
    """Range and valid share, frames without depth, and depth removed by limits."""
    every = [fact.depth for fact in examined.facts if fact.depth]
    if not every:
        return [Finding("depth", FAULT, "no ground truth could be read")]
    shares = [summary.share for summary in every]
    low, middle, far = (quantile(every, q) for q in (0.01, 0.5, 0.99))
    text = (
        f"valid share {statistics.mean(shares):.1%} of pixels "
        f"({min(shares):.1%} to {max(shares):.1%} in a frame); depth in metres: "
        f"median {middle:.3g}, 98 % between {low:.3g} and {far:.3g}"
    )
    findings = [Finding("depth", NOTE, text)]
    empty = [f.key for f in examined.facts if f.depth and not f.depth.share]
    text = "{n:frame has|frames have} no valid depth"
    findings += named("depth", FAULT, text, empty)
    cap, limit = examined.layout.depth_cap, examined.max_depth
    lost = statistics.mean(summary.beyond for summary in every)
    if lost > _BEYOND:
        text = f"{lost:.0%} of the measured pixels are beyond data.depth_cap={cap:g} m"
        findings.append(Finding("depth", WARNING, text))
    if not cap and quantile(every, 1 - _BEYOND) > limit:
        text = (
            f"more than {_BEYOND:.0%} of measured pixels are beyond model.max_depth="
            f"{limit:g} m, the largest depth of the network"
        )
        findings.append(Finding("depth", WARNING, text))
    return findings


def shared_extreme(examined: Examined) -> list[Finding]:
    """A warning for an extreme value that many pixels share: is it "not measured"?"""
    every = [fact.depth for fact in examined.facts if fact.depth]
    total = sum(int(summary.counts.sum()) for summary in every)
    pixels: Counter[float] = Counter()
    for summary in every:
        for metres, count in summary.spikes:
            pixels[metres] += count
    known = {f.key: dict(f.depth.spikes) for f in examined.facts if f.depth}
    layout, findings = examined.layout, []
    for metres, count in sorted(pixels.items()):
        if count < _SHARED * total or 0 < layout.depth_cap < metres:
            continue
        names = tuple(key for key, spikes in known.items() if metres in spikes)
        code = _as_stored(metres, layout.depth_scale)
        text = (
            f"{count / total:.1%} of the measured pixels have the same extreme value, "
            f"{metres:.6g} m, stored as {code}"
        )
        if layout.name == "custom":
            text += '; if it means "not measured", set '
            text += f"--config.data.invalid_values='({code},)'"
        findings.append(Finding("depth", WARNING, text, names))
    return findings


def _as_stored(metres: float, scale: float) -> str:
    """The value in the file, which is float32 or a whole number."""
    value = np.float32(metres) * np.float32(scale)
    whole = scale != 1 and abs(value - np.rint(value)) < 0.01
    return str(int(np.rint(value))) if whole else str(value)


# Least and greatest expected median, and the same of the 99 % quantile, in metres.
Band = tuple[float, float, float, float]
_DRIVES: Band = (4.0, 35.0, 20.0, 100.0)
_ROOMS: Band = (1.0, 6.0, 2.0, 10.5)
_BANDS = {"kitti": _DRIVES, "street": _DRIVES, "nyu": _ROOMS, "nyu_tfds": _ROOMS}


def unit(examined: Examined) -> list[Finding]:
    """A warning where depth is outside the expected band, with units that would fit."""
    name, limit = examined.layout.name, examined.max_depth
    every = [fact.depth for fact in examined.facts if fact.depth]
    median, far = quantile(every, 0.5), quantile(every, 0.99)
    # Of scenes with this largest depth.
    usual = 0.01 * limit, limit, 0.08 * limit, 1.5 * limit
    band = _BANDS.get(name, usual)
    knows = name in _BANDS or not examined.layout.test_only  # a network without scale
    if not knows or math.isnan(median) or _is_within(band, median, far):
        return []
    where = f"of {name}" if name in _BANDS else f"with model.max_depth={limit:g}"
    text = (
        f"depth has median {median:.3g} m and 99 % below {far:.3g} m; expected {where} "
        f"is median {band[0]:.3g} to {band[1]:.3g}, 99 % below "
        f"{band[2]:.3g} to {band[3]:.3g}"
    )
    now = examined.layout.depth_scale
    fits = [
        words
        for other, words in SCALES.items()
        if other != now and _is_within(band, median * now / other, far * now / other)
    ]
    if fits:
        fix = " (data.depth_scale)" if name == "custom" else ""
        text += f"; read as {now:g} a metre{fix}, stored as {' or '.join(fits)}?"
    return [Finding("scale", WARNING, text)]


def _is_within(band: Band, median: float, far: float) -> bool:
    return band[0] <= median <= band[1] and band[2] <= far <= band[3]
