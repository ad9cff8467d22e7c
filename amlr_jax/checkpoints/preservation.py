"""Which checkpoints stay: the latest, the best, and one every so many hours.

Plain functions and not orbax's policies: its BestN keeps any checkpoint without metrics
while there are few, and its manager deletes before the new checkpoint has been read
back.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from amlr_jax.checkpoints import files as steps
from amlr_jax.runtime.errors import InputError

RISING = ("d1", "d2", "d3")  # metrics of which more is better; errors are all others


class Stored(NamedTuple):
    """A checkpoint, as far as it matters here."""

    step: int
    time: float  # of saving, in seconds
    metrics: dict[str, float]


class Policy(NamedTuple):
    """Any of these keeps a checkpoint."""

    keep: int  # the latest so many
    best: int = 0  # the best so many
    best_by: str = "abs_rel"  # by this metric; lower is better but for d1, d2, d3
    every_hours: float = 0.0  # the first, and one each so many hours; 0: none


def kept(stored: Sequence[Stored], policy: Policy) -> set[int]:
    """The steps that stay, of checkpoints in order of their steps."""
    latest = [one.step for one in stored[-policy.keep :]]
    best = sorted(stored, key=lambda one: quality(one, policy.best_by), reverse=True)
    known = [s.step for s in best if quality(s, policy.best_by)[0] > -math.inf]
    return {*latest, *known[: policy.best], *_hourly(stored, policy.every_hours)}


def quality(one: Stored, by: str) -> tuple[float, int]:
    """More is better; the later of equals. Minus infinity without the metric."""
    value = one.metrics.get(by, math.nan)
    if not math.isfinite(value):
        return -math.inf, one.step
    return (value if by in RISING else -value), one.step


def _hourly(stored: Sequence[Stored], hours: float) -> list[int]:
    """Those that are at least so far from the one kept before them."""
    found: list[Stored] = []
    for one in stored if hours > 0 else ():
        if not found or one.time - found[-1].time >= 3600 * hours:
            found.append(one)
    return [one.step for one in found]


def checked(metrics: dict | None, policy: Policy) -> dict[str, float]:
    """As numbers; InputError if what checkpoints are chosen by is not among them."""
    values = {name: float(value) for name, value in (metrics or {}).items()}
    if metrics is not None and policy.best and policy.best_by not in values:
        raise InputError(
            f"checkpoint.best_by must be one of {', '.join(sorted(values))}; got "
            f"'{policy.best_by}'"
        )
    return values


def tidy(folder: Path, policy: Policy) -> None:
    """Deletes the checkpoints that need not stay."""
    found = steps.steps(folder)
    stay = kept([_stored(path) for path in found], policy)
    for path in found:
        if steps.step_of(path) not in stay:
            steps.delete(path)


def _stored(path: Path) -> Stored:
    try:
        record = steps.record(path)
    except (OSError, ValueError):  # its damage is told when it is to be used
        record = {}
    time = record.get("time", path.stat().st_mtime)
    return Stored(steps.step_of(path), time, record.get("metrics", {}))
