"""One line a frame, and the frames at both ends as pictures."""

import csv

import cv2
import numpy as np
import pytest

from amlr_jax.data import loader
from amlr_jax.evaluate import results
from amlr_jax.evaluate.measure import Evaluation
from amlr_jax.metrics import METRIC_NAMES
from tests.evaluate.test_measure import PROTOCOL
from tests.evaluate.test_pictures import frame


def result(errors, ratio=None) -> Evaluation:
    """An evaluation whose images have these abs_rel; NaN: no pixel counts."""
    images = []
    for i, error in enumerate(errors):
        row = dict.fromkeys(METRIC_NAMES, 0.5) | {"abs_rel": error, "ratio": 2.0}
        images.append(
            row
            | {
                "pixels": 0 if np.isnan(error) else 9,
                "index": i,
                "key": f"drive/{i + 1}",
            }
        )
    return Evaluation({}, {}, 0, 0, tuple(images), ratio)


def read(path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv(tmp_path):
    path = tmp_path / "a.csv"
    results.write_csv(result([0.25, np.nan]), path)
    first, second = read(path)
    assert list(first) == ["key", *METRIC_NAMES, "pixels"]
    assert (first["key"], first["abs_rel"], first["pixels"]) == ("drive/1", "0.25", "9")
    assert (second["abs_rel"], second["pixels"]) == ("", "0")
    results.write_csv(result([0.25], {"median": 2.0}), path)
    assert read(path)[0]["ratio"] == "2.0"
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize(
    "errors, worst, best",
    [
        ([0.2, 0.9, 0.1, 0.5, 0.4], [1, 3], [2, 0]),
        ([0.2, 0.9, 0.1], [1, 0], [2]),
        ([0.2, np.nan, 0.1], [0], [2]),
        ([0.2], [0], []),
        ([np.nan], [], []),
    ],
)
def test_extremes(errors, worst, best):
    found = results.extremes(result(errors), 2)
    assert [row["index"] for row in found["worst"]] == worst
    assert [row["index"] for row in found["best"]] == best


def test_pictures_of_the_worst_and_the_best(tmp_path, monkeypatch):
    monkeypatch.setattr(loader, "test_frame", lambda data, index, kb_crop: frame(index))
    panels = []
    panel = results.pictures.panel
    monkeypatch.setattr(
        results.pictures,
        "panel",
        lambda frames, *args, **more: (
            panels.append(frames) or panel(frames, *args, **more)
        ),
    )
    results.write_pictures(
        result([0.2, 0.9]),
        tmp_path / "a.png",
        data=None,
        predict=lambda image: np.full(image.shape[:3], 70.0),
        protocol=PROTOCOL._replace(crop="none"),
        count=1,
    )
    assert [f["key"] for f in panels[0]] == [
        "worst, abs_rel 0.900, drive/1",
        "best, abs_rel 0.200, drive/0",
    ]
    assert cv2.imread(str(tmp_path / "a.png")) is not None
