"""Whether the views of an image agree where the depth is right.

The confidence of `predict --save=confidence` is the agreement of mirror images and
windows; `metrics.sparsification` tells what it is worth on the test frames.
"""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from amlr_jax import metrics
from amlr_jax.evaluate.measure import as_measured, evaluated
from amlr_jax.evaluate.predictor import predictor
from amlr_jax.evaluate.protocols import Protocol
from amlr_jax.runtime import files, workdir
from amlr_jax.runtime.errors import InputError, counted

MODES = ("flip", "shifted", "shifted_flip")


class Confidence(NamedTuple):
    """Means over the test frames of `metrics.sparsification` of the relative error."""

    frames: int  # with at least one evaluated pixel
    ause: float
    gain: float
    kept: list[float]  # shares of the pixels
    by_confidence: list[float]  # error over that of all pixels
    oracle: list[float]

    def line(self) -> str:
        """What the curves say, for the terminal."""
        half = self.by_confidence[int(np.argmin(np.abs(np.subtract(self.kept, 0.5))))]
        return (
            f"Confidence over {counted(self.frames, 'frame')}: AUSE {self.ause:.3f} (0 "
            f"is best), gain over random {self.gain:.3f}; the most confident half has "
            f"{half:.0%} of the error of all pixels"
        )


def check(protocol: Protocol) -> None:
    """InputError for a protocol without several views, or that pastes a crop back."""
    if protocol.mode.name not in MODES:
        raise InputError(
            f"--confidence compares views of an image, and test mode "
            f"{protocol.mode.name} has none; give --test_mode={'|'.join(MODES)}"
        )
    if protocol.paste_back:
        raise InputError(
            f"--confidence measures whole frames, and {protocol.name} pastes a crop "
            "back; give another --protocol"
        )


class Views:
    """Depth of a network, and how far the views of an image agree about it.

    `predict` and `inspect` are those of `measure.evaluate`, in which one pass over the
    test frames gives the metrics and the curves of |p - g| / g, p as it is evaluated.
    The confidence is the negative standard deviation of log depth over the views
    (`tiling.predict_with_spread`).
    """

    def __init__(
        self,
        network: Any,
        variables: dict,
        *,
        protocol: Protocol,
        config: ConfigDict,
        mesh: Mesh,
    ) -> None:
        options = {key: config.eval[key] for key in ("at_once", "batch_size")}
        made = predictor(network, mesh, mode=protocol.mode, with_spread=True, **options)
        self._predict = partial(made, variables)
        self._found: list[metrics.Sparsification] = []

    def predict(self, image: np.ndarray) -> np.ndarray:
        """The depth [B, H, W] of images uint8 [B, H, W, 3]."""
        depth, self._spread = np.moveaxis(self._predict(image), 1, 0)
        return depth

    def inspect(self, depth: np.ndarray, batch: dict, *, protocol: Protocol) -> None:
        """The curves of the images that were predicted last."""
        for one, spread, target in zip(
            depth, self._spread, batch["depth"], strict=True
        ):
            found, _ = as_measured(one, target, protocol=protocol)
            self._found.append(_curves(found, spread, target, protocol=protocol))

    def result(self) -> Confidence:
        """The means over the frames with an evaluated pixel."""
        used = [one for one in self._found if np.isfinite(one.ause)]
        if not used:
            frames = counted(len(self._found), "frame")
            raise InputError(f"no pixel to evaluate in {frames}")
        mean = jax.tree.map(lambda *values: np.mean(values, axis=0).tolist(), *used)
        return Confidence(frames=len(used), **mean._asdict())


@partial(jax.jit, static_argnames="protocol")
def _curves(
    depth: jax.Array, spread: jax.Array, target: jax.Array, *, protocol: Protocol
) -> metrics.Sparsification:
    where = evaluated(target, protocol=protocol)
    error = abs(depth - target) / jax.numpy.where(where, target, 1.0)
    return metrics.sparsification(error, -spread, where=where)


def write(found: Confidence, folder: Path, facts: dict) -> None:
    """confidence.json, with further `facts`, and confidence.png.

    The picture has the two curves and that of a random order, 1 everywhere.
    """
    files.write_json(folder / workdir.CONFIDENCE, {**facts, **found._asdict()})
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    axis.plot(found.kept, found.by_confidence, label="least confident removed first")
    axis.plot(found.kept, found.oracle, label="largest errors removed first")
    axis.axhline(1.0, color="grey", linestyle=":", label="in random order")
    axis.set(xlabel="share of the pixels kept", xlim=(1, 0), ylim=(0, None))
    axis.set_ylabel("relative error, that of all pixels = 1")
    axis.grid(alpha=0.3)
    axis.legend()
    with files.replacing(folder / workdir.CONFIDENCE_PICTURE) as temporary:
        figure.savefig(temporary, dpi=110)
