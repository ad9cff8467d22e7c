"""Depth files: codes that read back as metres, and colours that order distances."""

import cv2
import numpy as np
import pytest

from amlr_jax.evaluation import outputs


@pytest.mark.parametrize(
    "max_depth, scale", [(10, 1000), (65, 1000), (80, 256), (255, 256)]
)
def test_the_finest_scale_that_reaches(max_depth, scale):
    assert outputs.png_scale(max_depth) == scale


def test_too_far_for_sixteen_bits():
    with pytest.raises(ValueError, match="at most 256 m .* got 300"):
        outputs.png_scale(300)


def test_codes_are_rounded_and_never_nothing():
    depth = np.array([[0.0, 0.0021, 1.0, 79.999, 1e6]])
    np.testing.assert_array_equal(
        outputs.codes(depth, scale=256), [[1, 1, 256, 20480, 65535]]
    )


def test_nearer_is_brighter():
    depth = np.linspace(2, 80, 100).reshape(10, 10)
    shown = outputs.colors(depth, far=80.0)
    assert shown.dtype == np.uint8 and shown.shape == (10, 10, 3)
    brightness = shown.astype(int).sum(-1).ravel()
    assert (np.diff(brightness[2:]) <= 0).all() and brightness[0] > brightness[-1]


@pytest.mark.parametrize("depth", [np.full((4, 6), 5.0), np.full((4, 6), 80.0)])
def test_a_flat_map_has_colours(depth):
    assert outputs.colors(depth, far=80.0).shape == (4, 6, 3)


def test_written_files_read_back(tmp_path):
    depth = np.random.default_rng(0).uniform(1, 80, (5, 7)).astype(np.float32)
    outputs.write(depth, tmp_path / "sub" / "frame", max_depth=80.0)
    coded = cv2.imread(str(tmp_path / "sub/frame_depth.png"), cv2.IMREAD_UNCHANGED)
    assert coded.dtype == np.uint16
    np.testing.assert_allclose(coded / 256, depth, atol=0.5 / 256)
    np.testing.assert_array_equal(np.load(tmp_path / "sub/frame_depth.npy"), depth)
    color = cv2.imread(str(tmp_path / "sub/frame_color.png"))[..., ::-1]
    np.testing.assert_array_equal(color, outputs.colors(depth, far=80.0))
