"""Depth files that read back as they were, points of a flat lane, KITTI's archive."""

import errno
import io
import os
import zipfile
from pathlib import Path

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax import geometry
from amlr_jax.data import calibration, colors
from amlr_jax.models.decoders.disparity import depth_from_disparity
from amlr_jax.predict import outputs
from amlr_jax.predict.inputs import InputFile
from amlr_jax.runtime import paths
from amlr_jax.runtime.errors import InputError

DEPTH = np.random.default_rng(0).uniform(1, 79, (5, 7)).astype(np.float32)
IMAGE = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
RESULT = outputs.Result(DEPTH, IMAGE, camera=(5.0, 5.0, 3.0, 2.0))
STYLE = outputs.OutputStyle(outputs.KINDS, 80.0, 256, disparity_depths=(0.1, 100.0))


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
    result = RESULT._replace(spread=np.full(DEPTH.shape, 0.5))
    options = {"kinds": outputs.KINDS, "style": STYLE}
    names = outputs.write(result, "sub/frame", tmp_path, **options)
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
    np.testing.assert_allclose(np.load(files["confidence"]), np.exp(-0.5), rtol=1e-6)
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


# ---------------------------------------------------------------- points

RNG = np.random.default_rng(0)
MAP = RNG.uniform(1, 80, (6, 8)).astype(np.float32)
PHOTO = RNG.integers(0, 256, (6, 8, 3), np.uint8)
CAMERA = (700.0, 710.0, 3.2, 2.1)


def coordinates(vertices):
    return np.stack([vertices[axis] for axis in "xyz"], axis=-1)


def test_the_points_of_geometry():
    expected = np.asarray(geometry.backproject(MAP, np.array(CAMERA)))
    found = coordinates(outputs.points(MAP, PHOTO, CAMERA))
    np.testing.assert_allclose(found, expected.reshape(-1, 3), rtol=1e-5, atol=1e-6)
    sparse = coordinates(outputs.points(MAP, PHOTO, CAMERA, stride=4))
    np.testing.assert_allclose(
        sparse, expected[::4, ::4].reshape(-1, 3), rtol=1e-5, atol=1e-6
    )


def test_nothing_where_nothing_was_measured():
    depth = MAP.copy()
    depth[0, :4] = [0, np.nan, np.inf, -1]
    found = outputs.points(depth, PHOTO, CAMERA)
    np.testing.assert_array_equal(found["z"], MAP.ravel()[4:])
    np.testing.assert_array_equal(found["red"], PHOTO.reshape(-1, 3)[4:, 0])
    assert len(outputs.points(0 * MAP, PHOTO, CAMERA)) == 0


@pytest.mark.parametrize("depth", [MAP, 0 * MAP])
def test_the_file_by_its_definition(depth):
    vertices = outputs.points(depth, PHOTO, CAMERA)
    header, _, body = outputs.as_ply(vertices).partition(b"end_header\n")
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    assert lines[2].startswith("comment camera frame, x right, y down, z forward")
    assert f"element vertex {len(vertices)}" in lines
    assert lines[4:7] == [f"property float {axis}" for axis in "xyz"]
    assert lines[7:] == [f"property uchar {c}" for c in ("red", "green", "blue")]
    assert len(body) == 15 * len(vertices)
    if len(vertices):
        np.testing.assert_array_equal(
            np.frombuffer(body[:12], "<f4"), coordinates(vertices)[0]
        )
        assert tuple(body[12:15]) == tuple(PHOTO[0, 0])


def test_a_standard_reader():
    trimesh = pytest.importorskip("trimesh")
    vertices = outputs.points(MAP, PHOTO, CAMERA)
    cloud = trimesh.load(io.BytesIO(outputs.as_ply(vertices)), file_type="ply")
    np.testing.assert_array_equal(cloud.vertices, coordinates(vertices))
    np.testing.assert_array_equal(cloud.colors[:, :3], PHOTO.reshape(-1, 3))


def test_a_real_road_is_flat(real_data):
    """KITTI's lane before the car: a plane, 1.65 m below the camera."""
    kitti = real_data / "kitti"
    date, drive = "2011_09_26", "2011_09_26_drive_0013_sync"
    camera = calibration.read_intrinsics(kitti / "raw_data" / date, camera="image_02")
    truth = kitti / "data_depth_annotated" / "val" / drive / "proj_depth/groundtruth"
    path = truth / "image_02" / "0000000045.png"
    depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) / 256
    lane = np.zeros_like(depth)
    lane[240:, 480:700] = depth[240:, 480:700]
    image = np.zeros((*depth.shape, 3), np.uint8)
    points = coordinates(outputs.points(lane, image, camera)).astype(np.float64)
    centre = points.mean(0)
    normal = np.linalg.svd(points - centre)[2][2]
    normal *= np.sign(normal[1])
    # Measured: 2,405 points from 6 to 18 m, 1.0 cm, 1.649 m, (0.013, 1.000, -0.004).
    assert len(points) > 2000
    assert np.std((points - centre) @ normal) < 0.02
    assert centre @ normal == pytest.approx(1.65, abs=0.03)
    np.testing.assert_allclose(normal, [0, 1, 0], atol=0.03)


# ---------------------------------------------------------------- KITTI's server


def predicted(target, names, size=outputs.KITTI_SIZE):
    (target / "kitti").mkdir(parents=True, exist_ok=True)
    for name in names:
        (target / "kitti" / name).write_bytes(name.encode())
    return dict.fromkeys(names, size)


def test_what_the_server_takes(tmp_path):
    sizes = predicted(tmp_path, outputs.KITTI_NAMES)
    line = outputs.archive(sizes, tmp_path, [])
    assert line.endswith("500 files, as KITTI's server takes them")
    with zipfile.ZipFile(tmp_path / "kitti.zip") as archive:
        assert archive.namelist() == list(outputs.KITTI_NAMES)
        assert archive.namelist()[-1] == "0000000499.png"
        assert archive.read("0000000007.png") == b"0000000007.png"
        assert archive.testzip() is None


@pytest.mark.parametrize(
    "names, size, size_bytes, words",
    [
        (outputs.KITTI_NAMES, (352, 1216), 1, []),
        (outputs.KITTI_NAMES[1:], (352, 1216), 1, ["1 files missing, first 000"]),
        ([*outputs.KITTI_NAMES, "x.png"], (352, 1216), 1, ["1 files of other names"]),
        (outputs.KITTI_NAMES, (375, 1242), 1, ["500 files not of 1216 x 352, first 0"]),
        (outputs.KITTI_NAMES, (352, 1216), 6e8, ["600 MB, at most 500"]),
    ],
)
def test_shortcomings(names, size, size_bytes, words):
    found = outputs.shortcomings(dict.fromkeys(names, size), size_bytes=size_bytes)
    assert len(found) == len(words)
    assert all(word in line for word, line in zip(words, found, strict=True))


def test_whole_or_not_at_all(tmp_path, monkeypatch):
    sizes = predicted(tmp_path, ["0000000000.png"])
    (tmp_path / "kitti.zip").write_text("old")

    def full(self, *arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(zipfile.ZipFile, "write", full)
    with pytest.raises(InputError, match="kitti.zip' cannot be written: No space"):
        outputs.archive(sizes, tmp_path, [])
    assert (tmp_path / "kitti.zip").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kitti", "kitti.zip"]


# ---------------------------------------------------------------- names


def inputs_of(*names):
    return [InputFile(Path("in", name), name) for name in names]


@pytest.mark.parametrize(
    "names, kinds",
    [
        (["a.png", "a.jpg"], ["npy"]),
        (["drive.mp4", "drive/000000.png"], ["npy", "color"]),
        (["drive/000123.jpg", "b.png", "drive.MOV"], ["png16"]),
        (["drive.mp4", "drive.webm"], ["color"]),
        (["x/a.png", "y/a.png"], ["kitti"]),
        (["kitti/a.jpg", "a_depth.png"], ["png16", "kitti"]),
    ],
)
def test_results_never_share_a_name(tmp_path, names, kinds):
    with pytest.raises(InputError, match="would have one name.*two folders") as caught:
        outputs.require_distinct(inputs_of(*names), kinds, tmp_path)
    assert sum(name in str(caught.value) for name in names) == 2


@pytest.mark.parametrize(
    "names, kinds",
    [
        (["IMG_1.JPG", "IMG_1.MOV"], ["png16", "npy", "color"]),  # a live photo
        (["drive.mp4", "drive/000000.png"], ["color"]),
        (["drive.mp4", "drive/000000/a.png", "drive/a.png"], ["npy"]),
        (["a.png", "A.png", "a/b.png", "ab.png"], ["npy", "ply"]),
        (["drive/000000.png", "drive/000001.png"], ["npy"]),
    ],
)
def test_names_that_are_different(tmp_path, names, kinds):
    outputs.require_distinct(inputs_of(*names), kinds, tmp_path / "new")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "names", [("a.png", "A.jpg"), ("\u00e9.png", "e\u0301.png"), ("K/1.png", "k/1.png")]
)
def test_names_that_the_disk_takes_for_one(tmp_path, monkeypatch, names):
    monkeypatch.setattr(paths, "are_one_file", lambda names, folder: True)
    with pytest.raises(InputError, match="would have one name"):
        outputs.require_distinct(inputs_of(*names), ["npy"], tmp_path)


def test_a_result_never_replaces_an_image(tmp_path):
    for name in ("a/a/x.png", "a/x_depth.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    sources = [InputFile(tmp_path / "a" / n, n) for n in ("a/x.png", "x_depth.png")]
    with pytest.raises(InputError, match="a/x_depth.png' would replace one of the im"):
        outputs.require_distinct(sources, ["png16"], tmp_path)
