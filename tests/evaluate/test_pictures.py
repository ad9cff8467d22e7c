"""Pictures show what they were given: sizes, panels, and values that change them."""

import json

import cv2
import numpy as np

from amlr_jax.evaluate import pictures


def frame(seed):
    rng = np.random.default_rng(seed)
    depth = np.where(rng.random((88, 304)) < 0.2, rng.uniform(2, 60, (88, 304)), 0)
    image = rng.integers(0, 256, (88, 304, 3), np.uint8)
    return {"image": image, "depth": depth.astype(np.float32), "key": f"drive/{seed}"}


def predicted(seed, metres):
    return frame(seed) | {"prediction": np.full((88, 304), metres)}


def test_panel(tmp_path):
    one, other = tmp_path / "a.png", tmp_path / "b.png"
    pictures.panel([predicted(0, 5.0), predicted(1, 5.0)], one, max_depth=80.0)
    pictures.panel([predicted(0, 5.0), predicted(1, 50.0)], other, max_depth=80.0)
    a, b = cv2.imread(str(one)), cv2.imread(str(other))
    assert a.shape == b.shape and a.shape[1] > 1500
    assert np.abs(a.astype(int) - b).mean() > 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_a_picture_fills_its_column_and_a_long_title_stays_in_it(tmp_path):
    """Indoor images of 4:3 too, whose pictures are higher than those of drives."""
    depth = np.full((48, 64), 3.0, np.float32)
    white = {"image": np.full((48, 64, 3), 255, np.uint8), "depth": depth}
    beside = []
    for key in ("a", f"worst, abs_rel 0.123, {'2011_09_26_drive_0013_sync/' * 4}7"):
        frame = white | {"prediction": depth, "key": key}
        pictures.panel([frame], tmp_path / "a.png", max_depth=10.0)
        made = cv2.imread(str(tmp_path / "a.png"))
        assert made[20:380, :480].min() > 250  # all of the first column is the image
        assert made[20:380, 480:].min() < 250
        beside.append(made[:20, 480:])
    np.testing.assert_array_equal(*beside)
    assert (made[:20, :480] > 200).sum() > 500


def test_panel_without_any_ground_truth(tmp_path):
    blank = predicted(0, 1.0) | {"depth": np.zeros((88, 304), np.float32)}
    pictures.panel([blank], tmp_path / "a.png", max_depth=80.0)
    made = cv2.imread(str(tmp_path / "a.png"))
    assert made.shape[1] == 2 * 480  # image and prediction


def row(step):
    values = {"silog": 1 / step, "gradient": 0.1}
    weights = {"silog": 0.5, "gradient": 0.5}
    return {"step": step, "total": 0.5 / step + 0.05, "losses": values} | {
        "weights": weights, "learning_rate": 1e-3, "grad_norm": 1.0,
    }  # fmt: skip


def test_curves(tmp_path):
    record = tmp_path / "metrics.jsonl"
    record.write_text("".join(json.dumps(row(s)) + "\n" for s in range(1, 50)))
    pictures.curves(record, tmp_path / "curves.png")
    assert cv2.imread(str(tmp_path / "curves.png")).shape[1] > 900
