"""Depth files: codes that read back as metres, arrays, pictures; whole or absent."""

import errno
import io
import os

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.data import colors
from amlr_jax.models.decoders.disparity import depth_from_disparity
from amlr_jax.predict import outputs

DEPTH = np.random.default_rng(0).uniform(1, 79, (5, 7)).astype(np.float32)
IMAGE = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
RESULT = outputs.Result(DEPTH, IMAGE, camera=(5.0, 5.0, 3.0, 2.0))
STYLE = outputs.Style(outputs.KINDS, 80.0, 256, disparity_depths=(0.1, 100.0))


@pytest.mark.parametrize(
    "max_depth, scale", [(10, 1000), (65, 1000), (80, 256), (255, 256), (300, 0)]
)
def test_the_finest_scale_that_reaches(max_depth, scale):
    assert outputs.png_scale(max_depth) == scale


def test_codes_are_rounded_and_never_nothing():
    depth = np.array([[0.0, 0.0021, 1.0, 79.999, 1e6]])
    np.testing.assert_array_equal(
        outputs.codes(depth, scale=256), [[1, 1, 256, 20480, 65535]]
    )


def test_every_kind_reads_back(tmp_path):
    names = outputs.write(
        RESULT, "sub/frame", tmp_path, kinds=outputs.KINDS, style=STYLE
    )
    assert sorted(names) == sorted(
        p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*")
    )
    files = {
        kind: tmp_path / name for kind, name in zip(outputs.KINDS, names, strict=True)
    }
    assert files["kitti"] == tmp_path / "kitti" / "frame.png"
    for kind in ("png16", "kitti"):
        coded = cv2.imread(str(files[kind]), cv2.IMREAD_UNCHANGED)
        assert coded.dtype == np.uint16
        np.testing.assert_allclose(coded / 256, DEPTH, atol=0.5 / 256)
    np.testing.assert_array_equal(np.load(files["npy"]), DEPTH)
    assert np.load(files["npy"]).dtype == np.float32
    np.testing.assert_array_equal(np.load(files["npz"])["depth"], DEPTH)
    color = cv2.imread(str(files["color"]))[..., ::-1]
    limits = {"near": colors.nearest(DEPTH, far=80.0), "far": 80.0}
    shown = colors.colorize(DEPTH, **limits)
    np.testing.assert_array_equal(color, colors.with_scale(shown, **limits))
    both = cv2.imread(str(files["side_by_side"]))[..., ::-1]
    left = (colors.LEAST_WIDTH - 14) // 2
    np.testing.assert_array_equal(both[:5, left : left + 7], IMAGE)
    np.testing.assert_array_equal(both[:5, left + 7 : left + 14], shown)


def test_disparity_is_what_the_depth_was_made_of():
    """Of a decoder's depth, from 0.1 m to 100 m, to a millionth."""
    s = np.random.default_rng(2).uniform(0, 1, (6, 8)).astype(np.float32) ** 4
    depth = np.asarray(depth_from_disparity(jnp.asarray(s)))
    data = outputs.encoded("disparity", RESULT._replace(depth=depth), STYLE)
    back = np.load(io.BytesIO(data))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, s, atol=1e-6)
    assert outputs.file_of("disparity", "a/b") == "a/b_disparity.npy"


def test_the_servers_scale_is_its_own():
    style = STYLE._replace(scale=1000)
    data = outputs.encoded("kitti", RESULT, style)
    coded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_allclose(coded / 256, DEPTH, atol=0.5 / 256)


def test_a_given_scale_of_colours_is_kept():
    fixed = outputs.picture("color", RESULT._replace(near=7.0), STYLE)
    nearer = outputs.Result(DEPTH / 2, IMAGE, near=7.0)
    shown = outputs.picture("color", nearer, STYLE)
    np.testing.assert_array_equal(fixed[5:], shown[5:])
    beyond = RESULT._replace(near=90.0)  # a bar of no length
    assert outputs.picture("color", beyond, STYLE).shape == shown.shape


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "f_depth.npy").write_text("old")

    def full(self, data):
        self.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(outputs.CannotWriteError, match="f_depth.npy.*No space left"):
        outputs.write(RESULT, "f", tmp_path, kinds=["npy"], style=STYLE)
    assert [p.name for p in tmp_path.iterdir()] == ["f_depth.npy"]
    assert (tmp_path / "f_depth.npy").read_text() == "old"


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(outputs.CannotWriteError, match="cannot be written"):
        outputs.write_whole(tmp_path / "file" / "a.npy", b"")
