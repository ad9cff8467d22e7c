"""Views hold the right files, prepared once, with the camera of what is stored."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from amlr_jax.data import views
from amlr_jax.data.frames import UNKNOWN_CAMERA, Sequences, View
from amlr_jax.data.kitti import sequences
from amlr_jax.data.views.index import camera_of
from amlr_jax.runtime.errors import InputError
from tests.data.test_prepared import damage

SIZE = (24, 80)  # of the stored images
FILE_SIZE = (64, 192)
CAMERA = (100.0, 110.0, 96.0, 32.0)
OFFSET = (-0.5, 0.0, 0.01)
FRAMES = 6


def write_views(folder: Path, *, frames=FRAMES, size=FILE_SIZE) -> Sequences:
    """A left drive with its right images: noise, so that no two images are alike."""
    for side in "lr":
        (folder / side).mkdir(parents=True, exist_ok=True)
        for frame in range(frames):
            rng = np.random.default_rng([ord(side), frame])
            small = rng.integers(0, 256, (size[0] // 8, size[1] // 8, 3), np.uint8)
            image = cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(folder / side / f"{frame}.png"), image)
    train = tuple(_view(folder, n) for n in range(1, frames - 1))
    return Sequences("drive", "all", (-1, 1), train, ())


def _view(folder: Path, n: int) -> View:
    left = [folder / "l" / f"{k}.png" for k in (n, n - 1, n + 1)]
    right = folder / "r" / f"{n}.png"
    return View(f"drive/{n}", left[0], tuple(left[1:]), CAMERA, right, OFFSET)


@pytest.fixture
def drive(tmp_path):
    return write_views(tmp_path / "drive")


@pytest.fixture
def prepare(tmp_path):
    """Prepares in a cache of the test's own."""

    def make(made, **options):
        options = {"size": SIZE} | options
        return views.prepare_views(made, cache=tmp_path / "cache", **options)

    return make


def rgb(path: Path) -> np.ndarray:
    return cv2.imread(str(path))[..., ::-1]


def lanczos(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Lanczos-3 whose support grows as the image shrinks, in float64, unrounded."""
    for axis in (0, 1):
        before, after = image.shape[axis], size[axis]
        scale = max(before / after, 1.0)
        centres = (np.arange(after) + 0.5) * before / after - 0.5
        x = (np.arange(before) - centres[:, None]) / scale
        weights = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)
        weights /= weights.sum(axis=1, keepdims=True)
        image = np.moveaxis(np.tensordot(weights, image, (1, axis)), 0, axis)
    return image


def test_a_view_is_its_files_in_the_order_of_the_offsets(drive, prepare):
    data = prepare(drive, size=None, stereo=True)
    assert len(data.train) == 4
    for place, view in enumerate(drive.train):
        got = data.train[place]
        assert (got["key"], got["index"]) == (view.key, place)
        np.testing.assert_array_equal(got["image"], rgb(view.image))
        np.testing.assert_array_equal(got["sources"], [rgb(p) for p in view.sources])
        np.testing.assert_array_equal(got["partner"], rgb(view.partner))
        np.testing.assert_allclose(got["partner_from_target"], OFFSET)
        np.testing.assert_array_equal(got["intrinsics"], CAMERA)
    assert len(list(data.train)) == 4


def test_without_stereo_there_is_no_partner(drive, prepare, counter):
    view = prepare(drive).train[0]
    assert view.keys() == {"image", "sources", "intrinsics", "key", "index"}
    assert counter.steps == FRAMES  # each left image once, no right one


def test_resizing_is_pillows_and_that_of_the_formula(drive, prepare):
    view = prepare(drive).train[2]
    path = drive.train[2].image
    want = Image.open(path).resize(SIZE[::-1], Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(view["image"], np.asarray(want))
    exact = np.clip(lanczos(rgb(path).astype(np.float64), SIZE), 0, 255)
    # Pillow rounds and clips between the two axes.
    assert np.abs(view["image"] - exact).max() < 3
    assert np.abs(view["image"] - exact).mean() < 0.35


def test_the_camera_follows_the_resize(drive, prepare):
    sx, sy = SIZE[1] / FILE_SIZE[1], SIZE[0] / FILE_SIZE[0]
    want = [100 * sx, 110 * sy, 96.5 * sx - 0.5, 32.5 * sy - 0.5]
    np.testing.assert_allclose(prepare(drive).train[0]["intrinsics"], want, rtol=1e-6)


def test_camera_of_monodepth2(drive, prepare):
    view = prepare(drive, camera="monodepth2").train[0]
    want = [0.58 * 80, 1.92 * 24, 0.5 * 80, 0.5 * 24]
    np.testing.assert_allclose(view["intrinsics"], want, rtol=1e-6)
    np.testing.assert_allclose(camera_of((192, 640))[0], 371.2)


def test_jpeg_images(tmp_path, prepare):
    made = write_views(tmp_path / "drive")
    paths = [path.with_suffix(".jpg") for path in (made.train[0][1], *made.train[0][2])]
    for path in paths:
        Image.open(path.with_suffix(".png")).save(path, quality=92)
    view = made.train[0]._replace(image=paths[0], sources=tuple(paths[1:]))
    got = prepare(made._replace(train=(view,))).train[0]
    want = Image.open(paths[0]).resize(SIZE[::-1], Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(got["image"], np.asarray(want))


def test_prepared_once_for_other_cameras_and_again_for_other_files(
    tmp_path, drive, prepare, counter
):
    prepare(drive)
    other = drive._replace(
        train=tuple(v._replace(intrinsics=(90, 90, 9, 9)) for v in drive.train),
    )
    prepare(other)
    assert counter.steps == FRAMES
    prepare(drive, size=(12, 40))
    assert counter.steps == 2 * FRAMES
    write_views(tmp_path / "drive")
    prepare(drive)
    assert counter.steps == 3 * FRAMES


@pytest.mark.parametrize("fault", ["truncated", "flipped", "empty", "text"])
def test_damaged_file_is_named_and_nothing_is_left(tmp_path, drive, prepare, fault):
    path = drive.train[2].image
    damage(path, fault)
    with pytest.raises(InputError, match=f"{path.name}' is damaged"):
        prepare(drive)
    left = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert not [p for p in left if p.suffix != ".lock"]


def test_missing_file(drive, prepare):
    drive.train[2].image.unlink()
    with pytest.raises(InputError, match=r"image '.*3\.png' cannot be read"):
        prepare(drive)


def test_images_of_different_sizes_in_a_view(tmp_path, drive, prepare):
    cv2.imwrite(str(drive.train[3].sources[1]), np.zeros((64, 200, 3), np.uint8))
    with pytest.raises(InputError, match=r"1 view.*drive/4 .*64x192, .*64x200"):
        prepare(drive)


def test_views_without_partner_or_camera(tmp_path, drive, prepare):
    """Said before anything is prepared."""
    first, *rest = drive.train
    alone = first._replace(partner=None, partner_from_target=None)
    with pytest.raises(
        InputError, match="data.stereo=True, but 1 of 4 views .*drive/1"
    ):
        prepare(drive._replace(train=(alone, *rest)), stereo=True)
    for camera in (UNKNOWN_CAMERA, (0.0, 1.0, 1.0, 1.0)):
        unknown = drive._replace(train=(first._replace(intrinsics=camera),))
        with pytest.raises(InputError, match="1 of 1 views have no camera: drive/1"):
            prepare(unknown)
    assert not list(tmp_path.glob("cache/*"))
    assert len(prepare(unknown, camera="monodepth2").train) == 1


def test_nothing_to_prepare(drive, prepare):
    with pytest.raises(InputError, match="data.split=all leaves no training view"):
        prepare(drive._replace(train=()))


def test_metadata_that_is_not_whole(tmp_path, drive, prepare):
    prepare(drive)
    (path,) = (tmp_path / "cache").rglob("metadata.json")
    for sizes in ([], [[2, 64, 192]]):
        path.write_text(json.dumps({"sizes": sizes}))
        with pytest.raises(InputError, match="is damaged .*delete that folder"):
            prepare(drive)


def test_views_of_a_real_drive(real_data, tmp_path, prepare, counter):
    """monodepth2's kind of list; drive 0013 is a test drive, which lists may name."""
    names = tmp_path / "list.txt"
    folder = "2011_09_26/2011_09_26_drive_0013_sync"
    names.write_text("".join(f"{folder} {n} l\n" for n in range(41, 71)))
    root = real_data / "kitti"
    made = sequences.read_sequences(root, train_list=str(names))
    data = prepare(made, size=(192, 640))
    assert (len(data.train), counter.steps) == (30, 32)
    view = data.train[4]
    images = root / "raw_data" / folder / "image_02" / "data"
    for n, got in zip((45, 44, 46), (view["image"], *view["sources"]), strict=True):
        picture = Image.open(images / f"{n:010d}.png")
        want = picture.resize((640, 192), Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(got, np.asarray(want))
    sx, sy = 640 / 1242, 192 / 375
    camera = [721.5377 * sx, 721.5377 * sy, 610.0593 * sx - 0.5, 173.354 * sy - 0.5]
    np.testing.assert_allclose(view["intrinsics"], camera, rtol=1e-6)
    with_right = made._replace(train=made.train[:7])
    stereo = prepare(with_right, size=(192, 640), stereo=True).train[0]
    assert stereo["partner_from_target"][0] == pytest.approx(-0.5327, abs=1e-4)
    right = np.asarray(
        Image.open(str(made.train[0].partner)).resize(
            (640, 192), Image.Resampling.LANCZOS
        )
    )
    np.testing.assert_array_equal(stereo["partner"], right)
