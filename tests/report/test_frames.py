"""Frames kept by a run: as they were, small, and shown as pictures and points."""

import base64
import math

import cv2
import numpy as np
import pytest

from amlr_jax.report import cloud, gather, keep, pictures
from tests.report import runs


def kept(folder, *pairs, **options) -> list[keep.Kept]:
    runs.save(folder, pairs, **options)
    return keep.load_frames(folder / keep.FRAMES)


def test_frames_come_back(tmp_path):
    frame, prediction = runs.frame()
    (back,) = kept(tmp_path, (frame, prediction))
    assert (back.key, back.step, back.max_depth) == ("drive/1", 30, 80.0)
    np.testing.assert_allclose(back.depth, frame["depth"], rtol=1e-3)
    np.testing.assert_allclose(back.prediction, prediction, rtol=1e-3)
    np.testing.assert_array_equal(back.intrinsics, frame["intrinsics"])
    assert np.abs(back.image.astype(float) - frame["image"]).mean() < 4
    assert sorted(p.name for p in tmp_path.iterdir()) == [keep.FRAMES]


def test_large_frames_are_kept_smaller_with_their_camera(tmp_path):
    (back,) = kept(tmp_path, runs.frame(size=(64, 2 * keep.MAX_SIDE)))
    assert back.image.shape == (32, keep.MAX_SIDE, 3)
    np.testing.assert_allclose(back.intrinsics, [50, 55, 39.75, 11.75])
    assert set(np.unique(back.depth > 0)) == {False, True}


def test_no_more_than_a_few_are_kept(tmp_path):
    pairs = [runs.frame(f"drive/{number}") for number in range(20)]
    keys = [frame.key for frame in kept(tmp_path, *pairs)]
    assert len(keys) == keep.MAX_FRAMES
    assert keys[0] == "drive/0" and keys[-1] == "drive/19"


def test_the_scale_is_kept_beside_the_scaled_depth(tmp_path):
    frame, prediction = runs.frame()
    (back,) = kept(tmp_path, (frame, prediction / 50), scale=50.0)
    assert back.ratio == 50.0
    np.testing.assert_allclose(back.prediction, prediction, rtol=2e-3)
    text = pictures.html([run_of("a", [back])])
    assert "prediction scaled by 50" in text


def test_depth_that_is_not_finite_is_none(tmp_path):
    frame, prediction = runs.frame()
    prediction[0], prediction[1] = np.nan, np.inf
    (back,) = kept(tmp_path, (frame, prediction))
    assert np.isfinite(back.prediction).all() and (back.prediction[0] == 0).all()


def decoded(uri: str) -> np.ndarray:
    code = np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8)
    return cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1]


def run_of(name: str, frames) -> gather.RunFiles:
    return gather.RunFiles(name, frames=frames)


def sources(text: str) -> list[str]:
    return [part.partition('"')[0] for part in text.split('src="')[1:]]


def test_pictures_of_two_runs_share_image_and_truth(tmp_path):
    (back,) = kept(tmp_path, runs.frame())
    text = pictures.html([run_of("a", [back]), run_of("b", [back])])
    found = sources(text)
    assert len(found) == 6
    for title in ("Image", "Ground truth", "Prediction of a", "Error of b"):
        assert f"<p>{title}</p>" in text
    image, truth, prediction, wrong, *_ = map(decoded, found)
    assert image.shape == truth.shape == prediction.shape == wrong.shape == (48, 160, 3)
    grey = np.abs(truth.astype(int) - 128).max(-1) < 16
    assert (~grey).mean() > 2 * (back.depth > 0).mean()  # points are widened
    near, far = prediction[-4:].astype(int).sum(), prediction[:4].astype(int).sum()
    assert near > 1.5 * far
    assert "mean relative error 0.100" in text


def test_pictures_are_bounded(tmp_path):
    frames = kept(tmp_path, *(runs.frame(f"d/{n}", size=(32, 1216)) for n in range(3)))
    whole = pictures.html([run_of("a", frames)])
    assert decoded(sources(whole)[0]).shape[1] == 1216
    limit = len(whole) // 4
    small = pictures.html([run_of("a", frames)], limit=limit)
    assert len(small) < limit + 200
    assert decoded(sources(small)[0]).shape[1] < 1216
    assert "more frames left out" in pictures.html([run_of("a", frames)], limit=9000)


def test_no_frames():
    assert "No run has left frames" in pictures.html([run_of("a", [])])


def test_frames_without_truth_and_without_prediction(tmp_path):
    frame, prediction = runs.frame()
    frame["depth"][:] = 0
    (back,) = kept(tmp_path, (frame, 0 * prediction))
    text = pictures.html([run_of("a", [back])])
    assert "no ground truth" in text and "nan" not in text
    assert "<p>Ground truth</p>" not in text and "error 0" not in text
    assert cloud.packed(back)["xyz"] == ""


def unpacked(made: dict) -> np.ndarray:
    codes = np.frombuffer(base64.b64decode(made["xyz"]), "<i2").reshape(-1, 3)
    return codes * made["scale"]


def test_points_project_back_to_their_pixels(tmp_path):
    (back,) = kept(tmp_path, runs.frame())
    made = cloud.packed(back, count=2000)
    x, y, z = unpacked(made).T
    assert 1000 < len(z) <= 2000
    fx, fy, cx, cy = back.intrinsics
    u, v = fx * x / z + cx, fy * y / z + cy
    # Codes of 16 bit leave a thousandth of the nearest depth.
    np.testing.assert_allclose(u, u.round(), atol=0.1)
    row, column = v.round().astype(int), u.round().astype(int)
    np.testing.assert_allclose(z, back.prediction[row, column], atol=0.01)
    rgb = np.frombuffer(base64.b64decode(made["rgb"]), np.uint8).reshape(-1, 3)
    np.testing.assert_array_equal(rgb, back.image[row, column])
    assert "f = 100.0, 110.0" in made["camera"]


def test_an_unknown_camera_is_assumed_and_said(tmp_path):
    (back,) = kept(tmp_path, runs.frame(camera=(math.nan,) * 4))
    camera, line = cloud.intrinsics(back)
    across = 2 * math.degrees(math.atan(80 / camera[0]))
    assert across == pytest.approx(60) and "60 degrees across are assumed" in line


@pytest.mark.parametrize("size", [(352, 1216), (480, 640), (30, 40)])
def test_number_of_points(size):
    depth, image = np.full(size, 5.0, np.float32), np.zeros((*size, 3), np.uint8)
    frame = keep.Kept("a", image, depth, depth, np.ones(4), 1.0, 80.0, 1)
    count = len(unpacked(cloud.packed(frame)))
    assert 0.95 * min(cloud.POINTS, depth.size) < count <= cloud.POINTS
