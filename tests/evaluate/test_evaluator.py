"""One depth a frame: what is measured is what panel.png and report.html show."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.data import loader
from amlr_jax.evaluate import protocols
from amlr_jax.evaluate.evaluator import Evaluator
from amlr_jax.evaluate.measure import measure
from amlr_jax.report import keep
from amlr_jax.runtime import mesh as parallel
from amlr_jax.runtime import workdir
from configs import kitti_selfsup
from tests.train.toy import Toy


def frame(index: int) -> dict:
    """A test frame whose few measurements stand outside of the crop, too."""
    rng = np.random.default_rng(index)
    depth = np.where(rng.random((48, 160)) < 0.2, rng.uniform(2, 60, (48, 160)), 0)
    depth[:16] = 79  # not in Garg's crop
    image = rng.integers(0, 256, (48, 160, 3), np.uint8)
    return {"image": image, "depth": depth.astype(np.float32), "key": f"d/{index}"}


@pytest.fixture
def evaluator(tmp_path, monkeypatch):
    """Of a network without a scale, so that its depth is scaled by the median."""
    config = kitti_selfsup.get_config("tiny")
    monkeypatch.setattr(loader, "test_frame", lambda data, index, kb_crop: frame(index))
    monkeypatch.setattr(protocols, "has_scale", lambda network: False)
    facts = {"name": "kitti", "split": "eigen_697", "median_depth": 9.0}
    data = SimpleNamespace(**facts, test="ab", test_sizes={})
    return Evaluator(config, Toy(), data, parallel.make_mesh(), tmp_path)


def test_panel_and_report_show_the_depth_that_is_measured(evaluator, tmp_path):
    network = Toy()
    variables = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
    frames = evaluator.held_out(variables)
    assert [f["key"] for f in frames] == ["d/0", "d/1"]
    keep.save_frames(tmp_path, frames, max_depth=80.0, step=3)
    shown = keep.load_frames(tmp_path / workdir.FRAMES)
    for index, (panel, report) in enumerate(zip(frames, shown, strict=True)):
        image, target = panel["image"], panel["depth"]
        raw = network.apply(variables, image[None] / 255.0, train=False)
        ratio = measure(raw, target[None], protocol=evaluator.protocol)["ratio"].item()
        assert ratio != pytest.approx(np.median(target[target > 0]) / np.median(raw))
        assert panel["scale"] == report.ratio == pytest.approx(ratio, rel=1e-5)
        want = np.clip(raw[0] * ratio, 1e-3, 80)
        np.testing.assert_allclose(panel["prediction"], want, rtol=1e-4)
        np.testing.assert_allclose(report.prediction, want, rtol=2e-3)
        assert report.key == frame(index)["key"]


def test_facts_name_protocol_and_published_rows(evaluator):
    facts = evaluator.facts()
    assert facts["protocol"]["median_depth"] == 9.0
    assert {row.method for row in facts["published"]} >= {"GVO"}
