"""Evaluation equals the plain NumPy of the reference protocol, image by image."""

import numpy as np
import pytest

from amlr_jax import metrics
from amlr_jax.evaluation.protocol import Protocol, evaluate
from tests.test_metrics import numpy_metrics as metrics_of_pixels

PROTOCOL = Protocol("kitti", "folder", "garg", 1e-3, 80.0, True, 17.5)


def numpy_metrics(prediction, target) -> dict[str, float]:
    """Of the pixels of one image that count, float64."""
    mask = (target > 1e-3) & (target < 80)
    crop = np.zeros_like(mask)
    crop[143:349, 43:1172] = True
    return metrics_of_pixels(prediction[mask & crop], target[mask & crop])


def frames(count: int):
    rng = np.random.default_rng(0)
    for _ in range(count):
        depth = rng.uniform(1, 100, (352, 1216)).astype(np.float32)
        depth[rng.random(depth.shape) > rng.uniform(0.01, 0.2)] = 0
        image = rng.integers(0, 256, (352, 1216, 3), np.uint8)
        yield {"image": image, "depth": depth}


def predict(image):
    """Any function of the image."""
    return 5 + image.mean(-1).astype(np.float32) / 4


def batched(count: int, size: int):
    every = list(frames(count))
    for start in range(0, count, size):
        part = every[start : start + size]
        yield {name: np.stack([f[name] for f in part]) for name in part[0]}


@pytest.mark.parametrize("size", [1, 2, 3])
def test_mean_over_images_whatever_the_batch(size):
    result = evaluate(predict, batched(3, size), protocol=PROTOCOL)
    want = [numpy_metrics(predict(f["image"]), f["depth"]) for f in frames(3)]
    constant = [
        numpy_metrics(np.full((352, 1216), 17.5), f["depth"]) for f in frames(3)
    ]
    assert (result.frames, result.skipped) == (3, 0)
    for name in metrics.METRIC_NAMES:
        mean = np.mean([w[name] for w in want])
        assert result.metrics[name] == pytest.approx(mean, rel=1e-5)
        mean = np.mean([c[name] for c in constant])
        assert result.constant[name] == pytest.approx(mean, rel=1e-5)


def test_frame_without_a_pixel_that_counts_is_counted_apart():
    empty = {"image": np.zeros((1, 352, 1216, 3), np.uint8)}
    empty["depth"] = np.zeros((1, 352, 1216), np.float32)
    with_it = evaluate(predict, [*batched(2, 1), empty], protocol=PROTOCOL)
    without = evaluate(predict, batched(2, 1), protocol=PROTOCOL)
    assert (with_it.frames, with_it.skipped) == (2, 1)
    assert with_it.metrics == pytest.approx(without.metrics)


def test_perfect_prediction():
    truth = iter(f["depth"][None] for f in frames(2))
    result = evaluate(
        lambda image: np.maximum(next(truth), 1e-2), batched(2, 1), protocol=PROTOCOL
    )
    assert result.metrics["abs_rel"] == pytest.approx(0, abs=1e-7)
    assert result.metrics["d1"] == 1.0


def test_protocol_in_one_line():
    assert PROTOCOL.line() == (
        "kitti folder: KB crop, garg crop, 0.001 < depth < 80 m, no median scaling, "
        "test mode none; constant = 17.50 m"
    )
