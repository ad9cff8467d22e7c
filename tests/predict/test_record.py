"""The record takes over what is done, and nothing of another run."""

import json
import os

import numpy as np
import pytest

from amlr_jax.predict import record as records
from amlr_jax.predict.inputs import InputFile
from amlr_jax.runtime.errors import InputError

HEAD = {"weights_crc32": 7, "settings": {"flip": False}, "unit": "m"}
ROW = {"kinds": ("npy",), "height": 2, "width": 3, "outputs": ["a_depth.npy"]}


@pytest.fixture
def source(tmp_path):
    (tmp_path / "a.png").write_text("image")
    return InputFile(tmp_path / "a.png", "a.png")


@pytest.fixture
def target(tmp_path, source):
    """A folder of results with one image."""
    target = tmp_path / "out"
    record = records.PredictionRecord(target, HEAD)
    record.add(source, ROW)
    record.write(["'b.png' is no image"])
    (target / "a_depth.npy").write_text("")
    return target


def test_what_it_says(target):
    found = json.loads((target / "predictions.json").read_text())
    assert found["failed"] == ["'b.png' is no image"]
    (row,) = found["images"]
    assert row["file"] == "a.png" and row["outputs"] == ["a_depth.npy"]


def test_done_is_not_done_again(target, source):
    record = records.PredictionRecord(target, HEAD)
    assert record.done(source, ("npy",))
    assert not record.done(source, ("npy", "ply"))
    assert not record.done(source._replace(name="b.png"), ("npy",))
    record.add(source, ROW | {"kinds": ("ply",), "outputs": ["a_points.ply"]})
    (target / "a_points.ply").write_text("")
    assert record.done(source, ("npy", "ply"))
    again = records.PredictionRecord(target, HEAD, overwrite=True)
    assert not again.done(source, ("npy",))


@pytest.mark.parametrize("change", ["gone", "edited"])
def test_what_changed_is_done_again(target, source, change):
    if change == "gone":
        (target / "a_depth.npy").unlink()
    else:
        os.utime(source.path, ns=(1, 1))
    assert not records.PredictionRecord(target, HEAD).done(source, ("npy",))


def test_more_frames_of_a_video_are_to_be_done(target, tmp_path):
    (tmp_path / "v.mp4").write_text("")
    video = InputFile(tmp_path / "v.mp4", "v.mp4")
    record = records.PredictionRecord(target, HEAD, limit=3)
    record.add(video, ROW)
    record.write([])
    assert records.PredictionRecord(target, HEAD, limit=3).done(video, ("npy",))
    assert not records.PredictionRecord(target, HEAD).done(video, ("npy",))


@pytest.mark.parametrize(
    "head, words",
    [
        (HEAD | {"weights_crc32": 8}, "other weights"),
        (HEAD | {"settings": {"flip": True}}, "flip was False, now True"),
        (HEAD | {"settings": {"flip": None}}, "flip was False, now not set"),
    ],
)
def test_another_run_is_refused(target, head, words):
    with pytest.raises(InputError, match=f"results of another run .{words}"):
        records.PredictionRecord(target, head)
    assert not records.PredictionRecord(target, head, overwrite=True).is_new


def test_points_are_made_beside_the_other_kinds_by_any_camera(target):
    head = HEAD | {"settings": HEAD["settings"] | {"fov": 60.0}}
    assert not records.PredictionRecord(target, head).is_new


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"images": [{"file": "a"}]}'])
def test_a_damaged_record(target, text):
    (target / "predictions.json").write_text(text)
    with pytest.raises(InputError, match="is damaged; choose another --output"):
        records.PredictionRecord(target, HEAD)


def test_weights_by_their_values():
    weights = {"a": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float32)}
    one = records.weights_crc32(weights)
    assert records.weights_crc32(dict(weights)) == one
    weights["a"] = weights["a"] + np.float32(1e-7)
    assert records.weights_crc32(weights) != one


def test_numbers_of_several_maps():
    maps = [np.array([[1.0, 2.0, 9.0]]), np.array([[3.0, 4.0, 5.0]])]
    assert records.about_all([records.about(depth) for depth in maps]) == {
        "frames": 2,
        "height": 1,
        "width": 3,
        "min": 1.0,
        "median": 3.0,
        "max": 9.0,
    }
