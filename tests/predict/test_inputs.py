"""The files that an option stands for; images of every kind become 8-bit RGB."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from amlr_jax.predict import inputs
from amlr_jax.runtime.errors import InputError

NAMES = ["b.png", "a.JPG", "below/c.tiff", "clip.mp4", "notes.txt", ".hidden.png"]
NAMES += [".trash/d.png", "out/old_color.png"]


@pytest.fixture
def folder(tmp_path):
    for name in NAMES:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return tmp_path / "in"


def names(source, target, **options):
    return [s.name for s in inputs.find(source, target=target, **options)]


def test_a_folder_is_read_in_order_without_its_results(folder, tmp_path):
    expected = ["a.JPG", "b.png", "below/c.tiff", "clip.mp4"]
    assert names(folder, folder / "out") == expected
    assert names(folder, tmp_path / "o", limit=5) == [*expected, "out/old_color.png"]
    assert names(folder, folder / "out", limit=2) == expected[:2]


def test_stem_and_kind(folder):
    found = inputs.find(folder, target=folder / "out")
    assert [s.stem for s in found] == ["a", "b", "below/c", "clip"]
    assert [s.is_video for s in found] == [False, False, False, True]


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("*.png", ["b.png"]),
        ("**/*.tiff", ["below/c.tiff"]),
        ("be*/*", ["below/c.tiff"]),
        ("**.png", ["b.png"]),
        ("[ab].*", ["a.JPG", "b.png"]),
    ],
)
def test_a_pattern(folder, tmp_path, pattern, expected):
    assert names(folder / pattern, tmp_path / "o") == expected


def test_a_pattern_in_a_folder_whose_name_looks_like_one(folder, tmp_path):
    folder = folder.rename(tmp_path / "in[1]")
    assert names(folder / "*.png", tmp_path / "o") == ["b.png"]


def test_a_file_whose_name_looks_like_a_pattern(folder, tmp_path):
    (folder / "x[1].png").write_text("")
    assert names(folder / "x[1].png", tmp_path / "o") == ["x[1].png"]


def test_a_file_of_any_ending_is_taken_at_its_word(folder, tmp_path):
    assert names(folder / "notes.txt", tmp_path / "o") == ["notes.txt"]


@pytest.mark.parametrize(
    "source, target, words",
    [
        ("absent", "o", "does not exist"),
        ("*.webp", "o", "holds no image and no video"),
        (".trash", ".trash", "--output must not be the folder"),
        ("b.png", ".", "--output must not be the folder"),
    ],
)
def test_nothing_to_predict(folder, source, target, words):
    with pytest.raises(InputError, match=words):
        inputs.find(folder / source, target=folder / target)


def test_results_never_share_a_name(folder, tmp_path):
    (folder / "b.jpeg").write_text("")
    with pytest.raises(InputError, match=r"suffix only: .*b.jpeg, .*b.png; rename"):
        inputs.find(folder, target=tmp_path / "o")


# ---------------------------------------------------------------- images

GREY = np.add.outer(np.arange(6), np.arange(9)).astype(np.uint8) * 17  # 0 to 221
RGB = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)
ALPHA = np.where(GREY > 100, 255, 0).astype(np.uint8)


def saved(tmp_path, name, array_or_image):
    path = tmp_path / name
    image = array_or_image
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(path)
    return path


def grey3(codes):
    return np.repeat(codes[..., None], 3, axis=-1)


CASES = {
    "rgb": ("a.png", lambda: RGB, RGB),
    "grey": ("a.png", lambda: GREY, grey3(GREY)),
    "grey and alpha": (
        "a.png",
        lambda: Image.fromarray(np.stack([GREY, ALPHA], axis=-1)),
        grey3(np.where(ALPHA > 0, GREY, 0)),
    ),
    "alpha": (
        "a.png",
        lambda: np.concatenate([RGB, ALPHA[..., None]], axis=-1),
        np.where(ALPHA[..., None] > 0, RGB, 0),
    ),
    "palette": (
        "a.png",
        lambda: Image.fromarray(GREY).convert("P"),
        grey3(GREY),
    ),
    "bits": ("a.png", lambda: Image.fromarray(ALPHA > 0), grey3(ALPHA)),
    "16-bit grey": ("a.png", lambda: GREY.astype(np.uint16) * 257, grey3(GREY)),
    "16-bit grey, rounded": (
        "a.png",
        lambda: np.array([[0, 128, 129, 257 * 8 + 128, 65535]], np.uint16),
        grey3(np.array([[0, 0, 1, 8, 255]], np.uint8)),
    ),
    "cmyk": ("a.tif", lambda: Image.fromarray(RGB).convert("CMYK"), RGB),
}


@pytest.mark.parametrize("case", CASES)
def test_modes(case, tmp_path):
    name, make, expected = CASES[case]
    path = saved(tmp_path, name, make())
    found = inputs.read_image(path)
    assert found.dtype == np.uint8 and found.flags.writeable
    np.testing.assert_array_equal(found, expected)
    assert inputs.read_size(path) == expected.shape[:2]


def test_sixteen_bit_colour(tmp_path):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), RGB[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(inputs.read_image(path), RGB)


def test_the_first_frame_of_an_animation(tmp_path):
    first, second = (Image.fromarray(grey3(g)) for g in (GREY, 255 - GREY))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    found = inputs.read_image(tmp_path / "a.gif").astype(int)
    assert np.abs(found - grey3(GREY)).max() < 8


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_an_image_turned_by_its_camera_is_upright(name, tmp_path):
    image = Image.fromarray(np.kron(RGB, np.ones((8, 8, 1), np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by a quarter
    image.save(tmp_path / name, exif=exif)
    found = inputs.read_image(tmp_path / name)
    turned = np.rot90(np.asarray(image), -1).astype(int)
    assert np.abs(found - turned).mean() < 8
    if name == "a.jpg":
        assert inputs.read_size(tmp_path / name) == (72, 48)


def claiming(width, height):
    """A PNG whose header promises more than it holds."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    "data, words",
    [
        (claiming(30000, 30000), "claims more than 89 million pixels; make it smaller"),
        (claiming(10000, 10000), "claims more than 89 million pixels"),
        (b"<html>not found</html>", "is no image of a known format"),
        (b"", "is no image of a known format"),
    ],
)
def test_no_image(data, words, tmp_path):
    (tmp_path / "a.png").write_bytes(data)
    for read in (inputs.read_size, inputs.read_image):
        with pytest.raises(InputError, match=words):
            read(tmp_path / "a.png")


def test_damaged_or_unfit(tmp_path):
    whole = saved(tmp_path, "a.png", RGB).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:-60])
    with pytest.raises(InputError, match="cut.png' cannot be read as an image"):
        inputs.read_image(tmp_path / "cut.png")
    floats = saved(tmp_path, "f.tif", GREY.astype(np.float32))
    with pytest.raises(InputError, match="holds floats or codes beyond 16 bits; give"):
        inputs.read_image(floats)
    codes = saved(tmp_path, "i.tif", GREY.astype(np.int32) * 1000)
    with pytest.raises(InputError, match="holds floats or codes beyond 16 bits"):
        inputs.read_image(codes)
    with pytest.raises(InputError, match="No such file"):
        inputs.read_image(tmp_path / "absent.png")
