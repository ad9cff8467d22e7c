"""How a number was made, and the making: depth metrics of the test frames.

Each image is measured by itself and the images are averaged, as in the published code.
Beside the network stands a constant predictor, the median depth of the training set: a
model that does not beat it has learnt nothing.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics

from amlr_jax import metrics


class Protocol(NamedTuple):
    """All that decides the figures, apart from the network."""

    dataset: str
    split: str
    crop: str  # garg, eigen, nyu or none: which pixels count
    min_depth: float  # metres, both exclusive
    max_depth: float
    kb_crop: bool  # image and ground truth cropped to 352x1216 before
    median_depth: float  # metres: the constant predictor
    median_scaling: bool = False
    test_mode: str = "none"  # no flip, no shifted windows

    def line(self) -> str:
        """One line for people."""
        kb = "KB crop, " if self.kb_crop else ""
        return (
            f"{self.dataset} {self.split}: {kb}{self.crop} crop, "
            f"{self.min_depth:g} < depth < {self.max_depth:g} m, no median scaling, "
            f"test mode {self.test_mode}; constant = {self.median_depth:.2f} m"
        )


_Averages = clu_metrics.Collection.create(
    **{name: clu_metrics.Average.from_output(name) for name in metrics.METRIC_NAMES}
)


@partial(jax.jit, static_argnames="protocol")
def measure(prediction: jax.Array, target: jax.Array, *, protocol: Protocol) -> dict:
    """Metrics [B] of each image, and `mask` [B]: False where no pixel counts."""
    where = metrics.valid_mask(
        target, min_depth=protocol.min_depth, max_depth=protocol.max_depth
    )
    where &= metrics.evaluation_mask(*target.shape[-2:], crop=protocol.crop)
    prediction = metrics.sanitize(
        prediction, min_depth=protocol.min_depth, max_depth=protocol.max_depth
    )
    values = metrics.depth_metrics(prediction, target, where=where)
    mask = where.any((-2, -1))
    return {n: jnp.where(mask, v, 0.0) for n, v in values.items()} | {"mask": mask}


class Evaluation(NamedTuple):
    """Mean metrics of the network and of the constant predictor."""

    metrics: dict[str, float]
    constant: dict[str, float]
    frames: int  # with at least one pixel that counts
    skipped: int  # without


def evaluate(
    predict: Callable[[np.ndarray], np.ndarray],
    batches: Iterable[dict[str, np.ndarray]],
    *,
    protocol: Protocol,
    advance: Callable[[int], None] = lambda frames: None,
) -> Evaluation:
    """Measures `predict`, which maps uint8 [B, H, W, 3] to depth [B, H, W] metres."""
    model = constant = _Averages.empty()
    frames = skipped = 0
    for batch in batches:
        target = batch["depth"]
        values = measure(predict(batch["image"]), target, protocol=protocol)
        model = model.merge(_Averages.single_from_model_output(**values))
        flat = np.full_like(target, protocol.median_depth)
        reference = measure(flat, target, protocol=protocol)
        constant = constant.merge(_Averages.single_from_model_output(**reference))
        counted = int(np.sum(values["mask"]))
        frames, skipped = frames + counted, skipped + len(target) - counted
        advance(len(target))
    return Evaluation(_floats(model), _floats(constant), frames, skipped)


def _floats(averages) -> dict[str, float]:
    return {name: float(value) for name, value in averages.compute().items()}
