"""Rules on the unit of depth: guesses from where it should lie."""

import math
import statistics
from typing import NamedTuple

from amlr_jax.data.check.facts import Facts
from amlr_jax.data.check.findings import WARNING, Examined, Finding
from amlr_jax.data.check.measures import quantile

# Row correlation above this, in most frames: the top is near and the bottom far.
_INVERTED = 0.6
# Stored value of a metre in files that are about.
SCALES = {
    1.0: "whole metres",
    100.0: "centimetres",
    256.0: "KITTI's 256 a metre",
    1000.0: "millimetres",
    5000.0: "TUM's 5000 a metre",
    10000.0: "tenths of a millimetre",
}


class Band(NamedTuple):
    """Where the median and the 99 % quantile of a whole set are expected, metres."""

    median: tuple[float, float]
    far: tuple[float, float]
    usual: tuple[float, float]  # of both

    def holds(self, median: float, far: float) -> bool:
        """Whether both are inside."""
        return (
            self.median[0] <= median <= self.median[1]
            and self.far[0] <= far <= self.far[1]
        )

    def distance(self, median: float, far: float) -> float:
        """From what is usual, in logarithms."""
        pairs = zip((median, far), self.usual, strict=True)
        return sum(abs(math.log(value / usual)) for value, usual in pairs)


STREET = Band((4.0, 35.0), (20.0, 100.0), (12.0, 65.0))
ROOM = Band((1.0, 6.0), (2.0, 10.5), (2.8, 8.5))
BANDS = {"kitti": STREET, "street": STREET, "nyu": ROOM, "nyu_tfds": ROOM}
# KITTI's cameras stand 1.65 m above the road (Geiger et al. 2013).
CAMERA_HEIGHT = (0.8, 3.0)


def scale(examined: Examined) -> list[Finding]:
    """Guesses from where depth should lie; each with its figures."""
    facts = [fact for fact in examined.measured() if math.isfinite(fact.measured.low)]
    if not facts:
        return []
    findings = _unit(examined, facts) + _odd_groups(examined)
    if examined.layout.name in ("kitti", "street"):
        findings += _camera_heights(examined)
    slopes = [fact.measured.slope for fact in facts]
    slopes = [slope for slope in slopes if math.isfinite(slope)]
    if slopes and statistics.median(slopes) > _INVERTED:
        text = (
            "depth grows from the top of the image to its bottom (median correlation "
            f"{statistics.median(slopes):+.2f}); is it disparity or inverse depth?"
        )
        findings.append(Finding("scale", WARNING, text))
    return findings


def _unit(examined: Examined, facts: list[Facts]) -> list[Finding]:
    name, limit = examined.layout.name, examined.max_depth
    band = BANDS.get(name) or _band_below(limit)
    every = [fact.measured for fact in facts]
    median, far = quantile(every, 0.5), quantile(every, 0.99)
    if band.holds(median, far):
        return []
    where = f"of {name}" if name in BANDS else f"with model.max_depth={limit:g}"
    text = (
        f"depth has median {median:.3g} m and 99 % below {far:.3g} m; expected {where} "
        f"is median {band.median[0]:.3g} to {band.median[1]:.3g}, 99 % below "
        f"{band.far[0]:.3g} to {band.far[1]:.3g}"
    )
    return [Finding("scale", WARNING, text + _guess(examined, band, median, far))]


def _band_below(limit: float) -> Band:
    """Of scenes for which someone chose this largest depth, in metres."""
    usual = 0.25 * limit, 0.9 * limit
    return Band((0.01 * limit, limit), (0.08 * limit, 1.5 * limit), usual)


def _guess(examined: Examined, band: Band, median: float, far: float) -> str:
    """The units with which the depth would be where it is expected, best first."""
    now = examined.layout.depth_scale
    fits = {}
    for other, words in SCALES.items():
        values = median * now / other, far * now / other
        if other != now and band.holds(*values):
            fits[words] = band.distance(*values)
    if not fits:
        return ""
    fix = " (data.depth_scale)" if examined.layout.name == "custom" else ""
    words = " or ".join(sorted(fits, key=fits.get))
    return f"; read as {now:g} a metre{fix}, stored as {words}?"


def _odd_groups(examined: Examined) -> list[Finding]:
    """Drives or scenes whose median is eight times off that of the others."""
    medians = {}
    for group, facts in examined.groups().items():
        median = quantile([f.measured for f in facts if f.measured], 0.5)
        if math.isfinite(median):
            medians[group] = median
    if len(medians) < 3:
        return []
    usual = statistics.median(medians.values())
    odd = tuple(
        f"{group} {median:.3g} m"
        for group, median in medians.items()
        if not usual / 8 < median < usual * 8
    )
    text = f"median depth is eight times off the usual {usual:.3g} m in {len(odd)}"
    return [Finding("scale", WARNING, f"{text} drives or scenes", odd)] if odd else []


def _camera_heights(examined: Examined) -> list[Finding]:
    """Drives whose road lies too near or too far for a car's camera."""
    odd, every = [], []
    for group, facts in examined.groups().items():
        heights = [f.measured.camera_height for f in facts if f.measured]
        heights = [height for height in heights if math.isfinite(height)]
        height = statistics.median(heights) if heights else math.nan
        if not math.isnan(height) and not (
            CAMERA_HEIGHT[0] <= height <= CAMERA_HEIGHT[1]
        ):
            odd.append(f"{group} {height:.2g} m")
            every.append(height)
    text = (
        "the camera would stand at an unlikely height above the ground in front of it "
        f"(KITTI: 1.65 m); wrong unit or calibration?{_fitting_unit(examined, every)}"
    )
    return [Finding("scale", WARNING, text, tuple(odd))] if odd else []


def _fitting_unit(examined: Examined, heights: list[float]) -> str:
    """The unit in which the cameras would stand as KITTI's do."""
    if not heights:
        return ""
    now, height = examined.layout.depth_scale, statistics.median(heights)
    off = {u: abs(math.log(height * now / s / 1.65)) for s, u in SCALES.items()}
    best = min(off, key=off.get)
    return f" It fits {best}" if off[best] < 0.35 else ""
