"""calibration.json: the factor, and the shift, that turn a network's depth into metres.

    metres = factor * depth + shift

`amlr_jax.calibrate` writes it beside the weights, and `pretrained.load_network` applies
it. It belongs to the step of a run at which it was measured: training changes the scale
of a network without one.
"""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from amlr_jax.runtime import files, workdir
from amlr_jax.runtime.console import show
from amlr_jax.runtime.errors import InputError


class Calibration(NamedTuple):
    """What a network's depth is multiplied by, and the metres that are added."""

    factor: float
    shift: float = 0.0

    def line(self) -> str:
        """The equation with its numbers."""
        shift = f" {self.shift:+.4g}" if self.shift else ""
        return f"metres = {self.factor:.4g} * depth of the network{shift}"


def save(folder: Path, found: Calibration, *, step: int | None, **facts: Any) -> Path:
    """Writes the calibration of weights in `folder`, of a run those of a step."""
    path = folder / workdir.CALIBRATION
    with files.refused(f"calibration '{path}'"):
        files.write_json(path, {**found._asdict(), "step": step, **facts})
    return path


def load(folder: Path, *, step: int | None) -> Calibration | None:
    """The calibration of weights; None, and a line, if it is of another step.

    InputError if the file is damaged.
    """
    path = folder / workdir.CALIBRATION
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text())
        made = Calibration(float(found["factor"]), float(found["shift"]))
        good = made.factor > 0 and all(map(math.isfinite, made))
    except (OSError, ValueError, KeyError, TypeError):
        good = False
    if not good:
        raise InputError(
            f"'{path}' is damaged; remove it, or run amlr_jax.calibrate again"
        )
    if found.get("step") != step:
        show(
            f"'{path}' is of step {found.get('step')}, these weights are of step "
            f"{step}: not applied; run amlr_jax.calibrate again"
        )
        return None
    show(f"'{path}': {made.line()}")
    return made
