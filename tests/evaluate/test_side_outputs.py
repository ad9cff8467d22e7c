"""Each side output beside NumPy and OpenCV; which rows of Table 4 stand beside."""

import json

import cv2
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.data import loader
from amlr_jax.data.views import batches as view_batches
from amlr_jax.evaluate import protocols, published, side_outputs
from amlr_jax.evaluate.evaluator import evaluate_weights
from amlr_jax.evaluate.measure import Evaluation
from amlr_jax.evaluate.side_outputs import Head
from amlr_jax.models import depth, pretrained
from amlr_jax.models.decoders.disparity import DisparityDecoder
from amlr_jax.models.depth_network import DepthNetwork
from amlr_jax.runtime.errors import InputError
from configs import kitti_selfsup


class Encoder(nn.Module):
    """The image."""

    @nn.compact
    def __call__(self, image, *, train: bool):
        return image


class Decoder(DisparityDecoder):
    """A disparity of the brightness, smaller from scale to scale."""

    scales: tuple[int, ...] = (0, 2)

    @nn.compact
    def disparities(self, features):
        slope = self.param("slope", nn.initializers.ones, ())
        return [
            nn.sigmoid(slope * features[:, :: 2**k, :: 2**k].mean(-1) - 3 - k)
            for k in self.scales
        ]


@pytest.fixture(scope="module")
def network():
    made = DepthNetwork(
        Encoder(), Decoder(), input_size=(32, 96), multiple_of=32, decoder_resizes=True
    )
    image = jnp.zeros((1, 32, 96, 3))
    return made, made.init(jax.random.key(0), image, train=False)


@pytest.fixture
def config(kitti_root, tmp_path):
    made = kitti_selfsup.get_config("tiny")
    changes = {"data.root": str(kitti_root), "data.cache": str(tmp_path / "cache")}
    changes |= {"data.split": "folder", "eval.crop": "none"}
    with made.unlocked():
        made.update_from_flattened_dict(changes)
    return made


def in_numpy(network, variables, frame, head: int) -> float:
    """abs_rel of a head, scaled by the median: OpenCV's resize, then float64."""
    image = jnp.asarray(frame["image"][None], jnp.float32) / 255
    maps = network.apply(variables, image, train=False, method="disparities")
    truth = np.float64(frame["depth"])
    size = truth.shape[::-1]
    disparity = cv2.resize(np.asarray(maps[head][0]), size, interpolation=1)
    made = 1 / (0.01 + (10 - 0.01) * np.float64(disparity))
    there = (truth > 1e-3) & (truth < 80)
    truth, made = truth[there], made[there]
    made = np.clip(made * np.median(truth) / np.median(made), 1e-3, 80)
    return np.mean(np.abs(truth - made) / truth)


def test_each_head_is_measured(config, network, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        pretrained, "load_network", lambda _: pretrained.Loaded(*network, 100.0)
    )
    weights, results = tmp_path / "weights", tmp_path / "results"
    evaluate_weights(config, results, weights, resolutions=True)
    found = json.loads((results / "resolutions.json").read_text())
    ordinary = json.loads((results / "evaluation.json").read_text())
    rows = found["resolutions"]
    assert [(r["resolution"], r["bilinear"]) for r in rows] == [
        ("1", False),
        ("1/4", True),
    ]
    assert rows[0]["metrics"] == ordinary["metrics"]
    assert found["protocol"] == ordinary["protocol"]
    data = view_batches.measured(config)
    frames = [loader.test_frame(data, i, kb_crop=False) for i in range(len(data.test))]
    assert len(frames) == 2
    for head, row in enumerate(rows):
        want = np.mean([in_numpy(*network, frame, head) for frame in frames])
        assert row["metrics"]["abs_rel"] == pytest.approx(want, rel=1e-4)
    assert rows[0]["metrics"]["abs_rel"] != rows[1]["metrics"]["abs_rel"]
    out = " ".join(capsys.readouterr().out.split())
    assert "resolutions.json" in out and "paper" not in out


@pytest.mark.parametrize(
    "name, options, want",
    [
        ("monodepth2", {}, [(0, False), (1, True), (2, True), (3, True)]),
        ("five_level", {}, [(k, True) for k in (1, 2, 3, 4)]),
        (
            "five_level",
            {"upsampling": "subpixel_head"},
            [(k, False) for k in (1, 2, 3, 4)],
        ),
    ],
)
def test_heads_of_the_networks(name, options, want):
    made = depth.network(name, max_depth=100.0, **options)
    assert [tuple(head) for head in side_outputs.heads(made)] == want


def test_a_network_of_one_depth_has_none():
    one = depth.network("swin_v2_nano", max_depth=80.0)
    with pytest.raises(InputError, match="--resolutions measures the side outputs"):
        side_outputs.heads(one)


def test_side_depths_begin_with_the_networks_own(network):
    made, variables = network
    image = jnp.asarray(np.random.default_rng(0).random((2, 64, 192, 3)), jnp.float32)
    sides = made.apply(variables, image, train=False, method="side_depths")
    own = made.apply(variables, image, train=False)
    np.testing.assert_array_equal(sides[0], own)
    assert [side.shape for side in sides] == [(2, 64, 192)] * 2
    assert float(jnp.abs(sides[1] - own).max()) > 1e-3


def protocol(**changes):
    config, network = (
        kitti_selfsup.get_config(),
        depth.network("five_level", max_depth=1),
    )
    data = view_batches.Unmeasured("kitti", config.data.split, median_depth=10.0)
    return protocols.protocol(config, network, data)._replace(**changes)


def test_the_papers_rows_stand_beside_their_own_protocol_alone():
    assert len(published.resolutions_beside(protocol())[0]) == 8
    for change in ({"test_mode": "flip"}, {"split": "folder"}, {"dataset": "street"}):
        rows, why = published.resolutions_beside(protocol(**change))
        assert rows == () and "other settings" in why
    rows, why = published.resolutions_beside(protocol(name="kitti_eigen"))
    assert rows == () and "kitti_eigen" in why


@pytest.mark.parametrize("bilinear, first", [(True, 0.823), (False, 0.770)])
def test_the_table_has_the_rows_of_the_same_kind(bilinear, first):
    values = dict.fromkeys(side_outputs.COLUMNS, 0.5)
    result = Evaluation(values, values, frames=697, skipped=0)
    rows = {Head(k, bilinear): result for k in (1, 2, 3, 4)}
    table = side_outputs.table(rows, protocol=protocol(), title="")
    cells = [list(column.cells) for column in table.columns]
    assert cells[0] == ["network"] * 4 + ["paper"] * 4
    assert cells[1] == ["1/2", "1/4", "1/8", "1/16"] * 2
    assert set(cells[2]) == {"✓" if bilinear else "native"}
    assert cells[4][4] == f"{first:.3f}"
    assert "Table 4" in table.caption


def test_nothing_to_measure(config, network, tmp_path, monkeypatch):
    monkeypatch.setattr(
        pretrained, "load_network", lambda _: pretrained.Loaded(*network, 100.0)
    )
    config.eval.protocol, config.data.split = "", "none"
    with pytest.raises(InputError, match="data.split=none has no test frame"):
        evaluate_weights(config, tmp_path / "results", tmp_path / "weights")
    assert not (tmp_path / "results" / "evaluation.json").exists()
