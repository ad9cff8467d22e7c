"""The curves of a test set beside NumPy, and what cannot be measured."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.evaluate import confidence
from amlr_jax.evaluate.protocols import Protocol
from amlr_jax.runtime import mesh
from amlr_jax.runtime.errors import InputError
from configs import custom

WIDTH = 60


class Ramp:
    """A network that sees the brightness, and errs more and more to the right."""

    def apply(self, variables, image, *, train):
        del variables, train
        return 4.0 + 4.0 * image[..., 0] + 2.0 * (jnp.arange(WIDTH) / WIDTH) ** 2


def frames():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (3, 40, WIDTH, 3), np.uint8)
    depth = (4.0 + 4.0 * image[..., 0] / 255).astype(np.float32)
    depth[:, :, ::3] = 0
    depth[2] = 0  # no pixel to evaluate
    return {"image": image, "depth": depth, "key": np.array(["a", "b", "c"])}


def measured(batch, *, test_mode="flip"):
    limits = {"crop": "none", "min_depth": 0.1, "max_depth": 20.0}
    options = {"kb_crop": False, "median_depth": 6.0, "test_mode": test_mode}
    made = Protocol("custom", "folder", **limits, **options)
    confidence.check(made)
    options = {"config": custom.get_config("tiny"), "mesh": mesh.make_mesh()}
    views = confidence.Views(Ramp(), {}, protocol=made, **options)
    depth = views.predict(batch["image"])
    views.inspect(depth, batch, protocol=made)
    return views.result()


def test_curves_against_numpy():
    batch = frames()
    found = measured(batch)
    curves = []
    for image, target in zip(batch["image"][:2], batch["depth"][:2], strict=True):
        bright = image[..., 0] / 255
        views = [
            4 + 4 * bright + 2 * (np.arange(WIDTH) / WIDTH) ** 2,
            4 + 4 * bright + 2 * (np.arange(WIDTH)[::-1] / WIDTH) ** 2,
        ]
        depth, spread = np.mean(views, 0), np.std(np.log(views), 0)
        known = target > 0
        error = np.abs(depth - target)[known] / target[known]
        rows = []
        for order in (np.argsort(spread[known], kind="stable"), np.argsort(error)):
            count = [int(np.ceil(s * error.size - 1e-3)) for s in found.kept]
            rows.append([error[order][:n].mean() / error.mean() for n in count])
        curves.append(rows)
    by_confidence, oracle = np.mean(curves, 0)
    assert found.frames == 2 and len(found.kept) == 50
    np.testing.assert_allclose(found.by_confidence, by_confidence, atol=2e-3)
    np.testing.assert_allclose(found.oracle, oracle, atol=1e-4)
    np.testing.assert_allclose(found.ause, (by_confidence - oracle).mean(), atol=2e-3)
    assert found.line().startswith("Confidence over 2 frames: AUSE ")


def test_what_cannot_be_measured():
    empty = frames() | {"depth": np.zeros((3, 40, WIDTH), np.float32)}
    with pytest.raises(InputError, match="no pixel to evaluate in 3 frames"):
        measured(empty)
    for mode in ("none", "flip_ramps"):
        with pytest.raises(InputError, match="give --test_mode=flip"):
            measured(frames(), test_mode=mode)


def test_files(tmp_path):
    found = measured(frames())
    confidence.write(found, tmp_path, {"weights": "runs/a"})
    values = json.loads((tmp_path / "confidence.json").read_text())
    assert values["weights"] == "runs/a" and values["ause"] == found.ause
    assert (tmp_path / "confidence.png").stat().st_size > 5000
