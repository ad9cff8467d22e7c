"""Images of every kind become 8-bit RGB, or one line; nothing else is ever raised."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from amlr_jax.data import images
from amlr_jax.runtime.errors import InputError

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
    found = images.read_as_rgb(path)
    assert found.dtype == np.uint8 and found.flags.writeable
    np.testing.assert_array_equal(found, expected)
    assert images.read_size(path) == expected.shape[:2]


def test_sixteen_bit_colour(tmp_path):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), RGB[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(images.read_as_rgb(path), RGB)


def test_the_first_frame_of_an_animation(tmp_path):
    first, second = (Image.fromarray(grey3(g)) for g in (GREY, 255 - GREY))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    found = images.read_as_rgb(tmp_path / "a.gif").astype(int)
    assert np.abs(found - grey3(GREY)).max() < 8


# ---------------------------------------------------------------- orientation

LARGE = np.kron(RGB, np.ones((8, 8, 1), np.uint8))
TURNED = {  # orientation -> the upright picture, by its definition in EXIF
    2: LARGE[:, ::-1],
    3: LARGE[::-1, ::-1],
    4: LARGE[::-1],
    5: LARGE.transpose(1, 0, 2),
    6: np.rot90(LARGE, -1),
    7: LARGE[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(LARGE),
}
WITH_EXIF = ["a.jpg", "a.png", "a.webp", "a.tiff", "a.mpo"]
WITH_EXIF += ["a.avif"] if ".avif" in images.READABLE else []


def with_exif(tmp_path, name, value, **options):
    exif = Image.Exif()
    exif[0x0112] = value
    image = Image.fromarray(LARGE)
    options |= {"lossless": True} if name.endswith("webp") else {"quality": 95}
    image.save(tmp_path / name, exif=exif, **options)
    return tmp_path / name


@pytest.mark.parametrize("name", WITH_EXIF)
@pytest.mark.parametrize("orientation", TURNED)
def test_a_turned_image_is_upright_for_prediction(name, orientation, tmp_path):
    path = with_exif(tmp_path, name, orientation)
    want = TURNED[orientation]
    found = images.read_as_rgb(path)
    assert found.shape == want.shape
    assert np.abs(found - want.astype(int)).mean() < 8
    assert images.read_size(path) == want.shape[:2]


@pytest.mark.parametrize("name", WITH_EXIF)
@pytest.mark.parametrize("orientation", [3, 6])
def test_a_turned_image_of_a_data_set_is_refused(name, orientation, tmp_path):
    path = with_exif(tmp_path, name, orientation)
    words = f"{name}' must be stored upright, got orientation {orientation} of EXIF"
    with pytest.raises(InputError, match=words):
        images.decode_rgb(path, path.read_bytes())


@pytest.mark.parametrize("name", WITH_EXIF)
@pytest.mark.parametrize("value", [0, 1, 9, 65535])
def test_an_orientation_that_turns_nothing(name, value, tmp_path):
    path = with_exif(tmp_path, name, value)
    decoded = decode_twice(path, path.read_bytes())
    assert np.abs(decoded - LARGE.astype(int)).mean() < 8
    np.testing.assert_array_equal(images.read_as_rgb(path), decoded)
    assert images.read_size(path) == LARGE.shape[:2]


# The type and value of the entry of EXIF, little-endian.
ODD_ENTRIES = {
    "rational 1/0": (5, struct.pack("<II", 1, 0)),
    "signed rational -1/0": (10, struct.pack("<ii", -1, 0)),
    "text": (2, b"upright\0"),
    "byte": (1, b"\3"),
    "float nan": (11, struct.pack("<f", np.nan)),
    "unknown type": (99, b"\3\0\0\0"),
    "beyond the end": (2, b"x" * 5000),
}


def odd_exif(kind, value):
    """EXIF whose orientation is of that type."""
    size = {1: 1, 2: 1, 3: 2, 5: 8, 10: 8, 11: 4}.get(kind, 4)
    head = b"II*\0" + struct.pack("<IHHHI", 8, 1, 0x0112, kind, len(value) // size)
    if len(value) <= 4:
        return head + value.ljust(4, b"\0") + bytes(4)
    return head + struct.pack("<II", 26, 0) + value[:100]


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
@pytest.mark.parametrize("case", ODD_ENTRIES)
def test_exif_that_makes_no_sense_turns_nothing(case, ending, tmp_path):
    path, exif = tmp_path / f"a.{ending}", odd_exif(*ODD_ENTRIES[case])
    header = b"" if ending == "png" else b"Exif\0\0"
    Image.fromarray(LARGE).save(path, exif=header + exif)
    assert decode_twice(path, path.read_bytes()).shape == LARGE.shape
    assert images.read_as_rgb(path).shape == LARGE.shape
    assert images.read_size(path) == LARGE.shape[:2]


def test_orientation_in_xmp_and_behind_the_pixels(tmp_path):
    """Of a PNG: XMP says it, or EXIF after the pixels."""
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    Image.fromarray(LARGE).save(tmp_path / "xmp.png", pnginfo=text)
    before = with_exif(tmp_path, "before.png", 6).read_bytes()
    start = before.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(before[start : start + 4], "big")
    late = before[:start] + before[end:-12] + before[start:end] + before[-12:]
    (tmp_path / "late.png").write_bytes(late)
    for name in ("xmp.png", "late.png"):
        path = tmp_path / name
        np.testing.assert_array_equal(images.read_as_rgb(path), TURNED[6])
        with pytest.raises(InputError, match="stored upright, got orientation 6"):
            images.decode_rgb(path, path.read_bytes())


def test_turned_depth_is_refused(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    for name in ("a.png", "a.tiff"):
        path = tmp_path / name
        Image.fromarray(GREY.astype(np.uint16) * 257).save(path, exif=exif)
        with pytest.raises(InputError, match="stored upright, got orientation 8"):
            images.decode_grey(path, path.read_bytes())


# ---------------------------------------------------------------- layouts of pixels


def chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def decode_twice(path, data):
    """`decode_rgb`, which that of a stored file must equal."""
    pixels = images.decode_rgb(path, data)
    for stored in (data, images.without_extras(data)):
        found = images.decode_checked_rgb(path, stored)
        np.testing.assert_array_equal(found, pixels)
    return pixels


def png(bits, color, *more):
    """A PNG of 6 x 9 pixels of that depth and colour type, with more chunks."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    row = bytes(17 * i % 256 for i in range((9 * bits * channels + 7) // 8))
    header = struct.pack(">IIBBBBB", 9, 6, bits, color, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *more]
    parts += [chunk(b"IDAT", zlib.compress((b"\0" + row) * 6)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


PALETTE = chunk(b"PLTE", bytes(range(6)))
CLEAR = chunk(b"tRNS", b"\0")
LAYOUTS = {
    **{f"grey {bits}": (png(bits, 0), "L") for bits in (2, 4, 8)},
    "grey 1": (png(1, 0), "1"),
    "grey 16": (png(16, 0), "I;16"),
    "grey and tRNS": (png(8, 0, chunk(b"tRNS", b"\0\x11")), "L with transparency"),
    "grey 16, tRNS": (png(16, 0, chunk(b"tRNS", b"\0\x11")), "I;16 with transparency"),
    "rgb and tRNS": (png(8, 2, chunk(b"tRNS", bytes(6))), "RGB with transparency"),
    "rgb 16": (png(16, 2), "16-bit RGB"),
    "rgb 16, tRNS": (png(16, 2, chunk(b"tRNS", b"\1\1" * 3)), "16-bit RGB"),
    **{f"palette {bits}": (png(bits, 3, PALETTE), "P") for bits in (1, 2, 4, 8)},
    "palette, tRNS": (png(1, 3, PALETTE, CLEAR), "P with transparency"),
    "grey and alpha": (png(8, 4), "LA"),
    "grey and alpha 16": (png(16, 4), "16-bit RGBA"),
    "rgba": (png(8, 6), "RGBA"),
    "rgba 16": (png(16, 6), "16-bit RGBA"),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_a_data_set_holds_8_bit_rgb_and_prediction_takes_all(case, tmp_path):
    data, kind = LAYOUTS[case]
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(
        InputError, match=f"a.png' must be an 8-bit RGB image, got {kind}"
    ):
        images.decode_rgb(path, data)
    found = images.read_as_rgb(path)
    assert (found.dtype, found.shape) == (np.uint8, (6, 9, 3))


# What a decoder might apply to the colours, turn or compose.
ANCILLARY = {
    "gamma": chunk(b"gAMA", struct.pack(">I", 20_000)),
    "primaries": chunk(b"cHRM", struct.pack(">8I", *([10_000] * 8))),
    "profile": chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(200))),
    "background": chunk(b"bKGD", bytes(range(6))),
    "significant bits": chunk(b"sBIT", b"\5\6\5"),
    "suggested palette": chunk(b"PLTE", bytes(range(6))),
    "HDR": chunk(b"cICP", b"\t\x10\0\1"),
}


@pytest.mark.parametrize("case", ANCILLARY)
def test_a_checked_png_has_the_pixels_as_stored(case, capfd):
    row = bytes(17 * i % 256 for i in range(27))
    data = png(8, 2, ANCILLARY[case])
    assert images.without_extras(data) == png(8, 2)
    assert decode_twice(Path("a.png"), data).tobytes() == row * 6
    assert capfd.readouterr() == ("", "")  # libpng prints its warnings


def test_a_checked_animation_and_interlaced_rows(tmp_path):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    path = tmp_path / "a.png"
    frames[0].save(path, save_all=True, append_images=frames[1:], default_image=True)
    np.testing.assert_array_equal(decode_twice(path, path.read_bytes()), RGB)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)]  # of Adam7
    passes += [(2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [RGB[y::down, x::right] for y, x, down, right in passes]
    rows = b"".join(b"\0" + row.tobytes() for part in parts for row in part)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 6, 8, 2, 0, 0, 1))
    body = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    data = b"\x89PNG\r\n\x1a\n" + header + body
    np.testing.assert_array_equal(decode_twice(path, data), RGB)


def test_a_checked_file_that_was_damaged_since(tmp_path):
    data = saved(tmp_path, "a.png", LARGE).read_bytes()
    for damaged in (data[:100], b"", data[:8] + bytes(100)):
        with pytest.raises(images.DamagedFile, match="a.png' is damaged"):
            images.decode_checked_rgb(Path("a.png"), damaged)


@pytest.mark.parametrize("mode", ["CMYK", "L", "1", "YCbCr", "LAB", "RGBA", "I;16"])
def test_other_modes_of_files(mode, tmp_path):
    grey = np.full((6, 9), 300, np.uint16)
    image = Image.fromarray(grey if mode == "I;16" else RGB)
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")
    elif mode != "I;16":
        image = image.convert(mode)
    image.save(tmp_path / "a.tiff")
    why = "must be an 8-bit RGB image, got"
    if mode == "YCbCr":  # which Pillow 12.3 writes and does not read
        why += "|damaged or invalid"
    with pytest.raises(InputError, match=why):
        images.decode_rgb(tmp_path / "a.tiff", (tmp_path / "a.tiff").read_bytes())
    if mode == "CMYK":
        image.save(tmp_path / "a.jpg")
        with pytest.raises(InputError, match="8-bit RGB image, got CMYK"):
            images.decode_rgb(tmp_path / "a.jpg", (tmp_path / "a.jpg").read_bytes())


ENDINGS = [".png", ".jfif", ".bmp", ".tiff", ".ppm", ".pgm", ".qoi", ".tga", ".gif"]
ENDINGS += [".webp", ".avif", ".jp2"]
ENDINGS = [ending for ending in ENDINGS if ending in images.READABLE]


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_formats_of_the_installed_pillow(ending, tmp_path):
    path = tmp_path / f"a{ending}"
    grey = ending in (".gif", ".pgm")
    options = {".webp": {"lossless": True}, ".tiff": {"compression": "tiff_lzw"}}
    Image.fromarray(LARGE[..., 0] if grey else LARGE).save(
        path, **options.get(ending, {})
    )
    found = images.read_as_rgb(path)
    assert images.read_size(path) == found.shape[:2] == LARGE.shape[:2]
    want = grey3(LARGE[..., 0]) if grey else LARGE
    exact = ending not in (".avif", ".jp2", ".jfif")
    assert np.abs(found.astype(int) - want).mean() < (1e-9 if exact else 8)
    if not grey:
        np.testing.assert_array_equal(decode_twice(path, path.read_bytes()), found)


def test_pixels_are_judged_as_an_array():
    for bad in (RGB.astype(np.uint16), GREY, RGB[None], RGB[:0], RGB[..., :2]):
        with pytest.raises(InputError, match="image 'k' must be uint8"):
            images.judged_rgb(bad, "k")


# ---------------------------------------------------------------- damaged files


def claiming(width, height):
    """A PNG whose header promises more than it holds."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    "data, words",
    [
        (claiming(30000, 30000), "claims more than 89 million pixels; make it smaller"),
        (claiming(10000, 10000), "claims more than 89 million pixels"),
        (b"<html>not found</html>", "is damaged or no image of a known format"),
        (b"", "is damaged or no image of a known format"),
    ],
)
def test_no_image(data, words, tmp_path):
    (tmp_path / "a.png").write_bytes(data)
    for read in (images.read_size, images.read_as_rgb):
        with pytest.raises(InputError, match=words):
            read(tmp_path / "a.png")


def test_damaged_or_unfit(tmp_path):
    whole = saved(tmp_path, "a.png", RGB).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:-60])
    with pytest.raises(InputError, match="cut.png' is damaged or invalid"):
        images.read_as_rgb(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes(whole[:-14])  # every pixel is there
    with pytest.raises(images.DamagedFile, match="cut.png' is damaged"):
        images.decode_rgb(tmp_path / "cut.png", whole[:-14])
    floats = saved(tmp_path, "f.tif", GREY.astype(np.float32))
    with pytest.raises(InputError, match="holds floats or codes beyond 16 bits; give"):
        images.read_as_rgb(floats)
    codes = saved(tmp_path, "i.tif", GREY.astype(np.int32) * 1000)
    with pytest.raises(InputError, match="holds floats or codes beyond 16 bits"):
        images.read_as_rgb(codes)
    with pytest.raises(InputError, match="No such file"):
        images.read_as_rgb(tmp_path / "absent.png")


FUZZED = [ending for ending in ENDINGS if ending != ".pgm"]


def mutated(data, rng, number):
    """The file with one to four bytes of its header changed; one of ten is cut."""
    codes = np.frombuffer(data, np.uint8).copy()
    places = rng.integers(0, min(len(codes), 250), rng.integers(1, 5))
    codes[places] = rng.integers(0, 256, len(places))
    data = codes.tobytes()
    return data if number % 10 else data[: rng.integers(len(data))]


def with_checksums(data):
    """A mutated PNG whose chunks have the right checksums, as far as they can."""
    made, at = data[:8], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        made += chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + length])
        at += 12 + length
    return made


def _decoders(deep):
    if deep:
        return [images.decode_grey]
    stored = (images.read_as_rgb, images.read_size)
    return [decode_twice, *(lambda path, _, f=f: f(path) for f in stored)]


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it repairs
@pytest.mark.parametrize(
    "ending, deep", [*((e, False) for e in FUZZED), (".png", True), (".tiff", True)]
)
def test_no_mutated_header_raises_anything_else(ending, deep, tmp_path):
    rng = np.random.default_rng(15)
    pixels = rng.integers(0, 255, (8, 12, 3), dtype=np.uint8)
    pixels = pixels[..., 0].astype(np.uint16) * 250 if deep else pixels
    exif = Image.Exif()
    exif[0x0112], exif[0x011A], exif[0x010F] = 3, (72, 1), "maker"
    path = tmp_path / f"a{ending}"
    has_exif = ending in (".png", ".jfif", ".webp", ".avif", ".tiff")
    Image.fromarray(pixels).save(path, **({"exif": exif} if has_exif else {}))
    data, outcomes = path.read_bytes(), set()
    for number in range(500):
        made = mutated(data, rng, number)
        if ending == ".png" and number % 2:
            made = with_checksums(made)
        path.write_bytes(made)
        for decode in _decoders(deep):
            try:
                decode(path, made)
                outcomes.add("read")
            except InputError as error:
                assert path.name in str(error) and "\n" not in str(error)
                outcomes.add(type(error))
    assert {"read", images.DamagedFile} <= outcomes
