"""Image files: reading, decoding and judging. All readers and commands use this module.

Every image is decoded here and nowhere else, so that preparation, training,
`data.check`, evaluation and `predict` see the same pixels: by Pillow, and where Pillow
has accepted a PNG before, by OpenCV. Orientation is one rule for all formats: pixels
are upright by the orientation of EXIF or XMP, and every value but 2 to 8 (0, 9, text,
EXIF that cannot be parsed) means that there is nothing to turn. An image or depth of a
data set must be stored upright, because nothing tells whether its counterpart was
turned with it.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from amlr_jax.runtime.errors import InputError

Image.init()  # registers every format of the installed Pillow
# TGA is last because it has no signature. EPS and the like start other programs.
_PICTURES = ["PNG", "JPEG", "WEBP", "AVIF", "JPEG2000", "TIFF", "BMP", "DIB", "GIF"]
_PICTURES += ["PPM", "QOI", "TGA"]
FORMATS = tuple(name for name in _PICTURES if name in Image.OPEN)
# Endings in lower case of the files that can be read as images; .pfm holds floats.
READABLE = frozenset(
    ending
    for ending, name in Image.registered_extensions().items()
    if name in (*FORMATS, "MPO") and ending != ".pfm"
)
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SECOND_CHUNK = slice(37, 41)  # its type
MOST_PIXELS = 89_478_485  # more is what Pillow calls a decompression bomb

_TURNS = {  # orientation -> what makes it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_QUARTER_TURNS = (5, 6, 7, 8)
_ORIENTATION = ExifTags.Base.Orientation


class DamagedFile(InputError):
    """A file exists but cannot be decoded."""


def read(path: Path, *, what: str) -> bytes:
    """The bytes of a file; InputError with its role and name if it is missing."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{what} '{path}' cannot be read: {error.strerror}") from error


@contextmanager
def decoding(path: Path, *, what: str) -> Iterator[None]:
    """Makes an InputError of whatever a decoder raises on the file inside the block.

    The decoders of Pillow, NumPy and zlib have no common exception for damaged data:
    they raise OSError, SyntaxError, struct.error, KeyError, MemoryError and many more.
    DamagedFile, unless the system cannot read the file or it is too large.
    """
    try:
        yield
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        text = f"claims more than {MOST_PIXELS / 1e6:.0f} million pixels; make it "
        raise InputError(f"{what} '{path}' {text}smaller") from error
    except UnidentifiedImageError as error:
        text = f"{what} '{path}' is damaged or no image of a known format"
        raise DamagedFile(text) from error
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            text = f"{what} '{path}' cannot be read: {error.strerror}"
            raise InputError(text) from error
        why = str(error) or type(error).__name__
        text = f"{what} '{path}' is damaged or invalid: {why}"
        raise DamagedFile(" ".join(text.split())) from error


def read_rgb(path: Path) -> np.ndarray:
    """`decode_rgb` of a file."""
    return decode_rgb(path, read(path, what="image"))


def decode_rgb(path: Path, data: bytes) -> np.ndarray:
    """The pixels uint8 RGB [H, W, 3] of an image of a data set.

    It must be stored as 8-bit RGB, upright and without transparency: InputError for
    any other image, DamagedFile for one that cannot be decoded.
    """
    with _loaded(path, data, what="image") as found:
        wanted = f"an 8-bit RGB image, got {found.kind}; convert it to RGB"
        _require(found.kind == "RGB", path, wanted)
        _require_upright(path, found)
        return judged_rgb(np.array(found.image), path)


def without_extras(data: bytes) -> bytes:
    """A PNG that `decode_rgb` has accepted, without what does not change its pixels.

    Only header, pixels and end are left; a file of another format is returned as it is.
    """
    if not data.startswith(_PNG_SIGNATURE):
        return data
    kept, at = [_PNG_SIGNATURE], len(_PNG_SIGNATURE)
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] in (b"IHDR", b"IDAT", b"IEND"):
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def decode_checked_rgb(path: Path, data: bytes) -> np.ndarray:
    """`decode_rgb` of what `without_extras` returned, faster: the same pixels.

    Threads decode PNGs at the same time with OpenCV. Pillow takes Python's lock for
    each chunk of a PNG, and an image of KITTI has a hundred. Other chunks than those of
    the pixels are left to Pillow, because libpng prints a line for some of them.
    """
    if data.startswith(_PNG_SIGNATURE) and data[_SECOND_CHUNK] == b"IDAT":
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if pixels is not None:
            return pixels
    return decode_rgb(path, data)


def judged_rgb(pixels: np.ndarray, name: object) -> np.ndarray:
    """`pixels` if they are uint8 [H, W, 3]; InputError with `name` if not."""
    shape = pixels.shape
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or shape[2] != 3 or not pixels.size:
        raise InputError(
            f"image '{name}' must be uint8 [H, W, 3], got {pixels.dtype} {list(shape)}"
        )
    return pixels


def decode_grey(path: Path, data: bytes) -> np.ndarray:
    """The values [H, W] of a ground truth with one channel of more than 8 bits.

    A file that ends in .png must be a 16-bit PNG and gives uint16; any other must be a
    TIFF and gives uint16, int32 or float32. It must be stored upright. InputError for
    any other file, DamagedFile for one that cannot be decoded.
    """
    is_png = path.suffix.lower() == ".png"
    wanted, bits = ("PNG", "16") if is_png else ("TIFF", "16- or 32")
    with _loaded(path, data, what="ground truth") as found:
        text = f"a {bits}-bit grey {wanted} as ground truth, got {found.kind}"
        same = found.format == wanted
        other = "" if same else f" in a {found.format}"
        _require(found.is_deep and same, path, text + other)
        _require_upright(path, found)
        values = np.array(found.image)
        # Before Pillow 11 the 16 bits of a PNG are int32.
        return values.astype(np.uint16) if is_png else values


def read_size(path: Path) -> tuple[int, int]:
    """Height and width from the header, upright; InputError if it is no image.

    The EXIF block of a PNG may come after its pixels, which are not read: it is then
    the size as stored.
    """
    with decoding(path, what="image"), Image.open(path, formats=FORMATS) as image:
        _check_size(image)
        width, height = image.size
        # Whether `size` of a TIFF is upright depends on the version of Pillow.
        if tags := getattr(image, "tag_v2", None):
            width, height = tags[256], tags[257]
        quarter = _orientation(image, decode=False) in _QUARTER_TURNS
        return (width, height) if quarter else (height, width)


def read_as_rgb(path: Path) -> np.ndarray:
    """Any image as uint8 RGB [H, W, 3], upright, for prediction.

    Of an animation the first frame. 16-bit grey: value / 257, rounded, so that 65535 is
    white; 16-bit colour: the high byte. Transparent pixels are laid over black.
    Palettes, grey and CMYK are converted to RGB without colour profiles. InputError if
    it is no image, is damaged, has more than MOST_PIXELS pixels or holds floats.
    """
    with _loaded(path, read(path, what="image"), what="image") as found:
        image = found.image
        if found.is_deep:
            return np.repeat(_grey_of_16_bits(path, image)[..., None], 3, axis=-1)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            black = Image.new("RGBA", image.size, "black")
            image = Image.alpha_composite(black, image)
        return judged_rgb(np.array(image.convert("RGB")), path)


def _grey_of_16_bits(path: Path, image: Image.Image) -> np.ndarray:
    """uint8 [H, W] of a grey image of more than 8 bits."""
    codes = np.asarray(image)
    if codes.dtype.kind == "f" or codes.min() < 0 or codes.max() > 65535:
        raise InputError(
            f"'{path}' holds floats or codes beyond 16 bits; give an image of 8 or 16 "
            "bits"
        )
    if "transparency" in image.info:
        codes = np.where(codes == image.info["transparency"], 0, codes)
    return ((codes.astype(np.int64) + 128) // 257).astype(np.uint8)


class _Loaded(NamedTuple):
    """A decoded image and what its file says of it."""

    image: Image.Image  # upright
    format: str  # of FORMATS
    kind: str  # Pillow's mode, and what the mode does not tell
    orientation: int  # as stored, 1 to 8

    @property
    def is_deep(self) -> bool:
        """Whether it is grey of more than 8 bits."""
        return self.image.mode in ("I", "F") or self.image.mode.startswith("I;")


@contextmanager
def _loaded(path: Path, data: bytes, *, what: str) -> Iterator[_Loaded]:
    """The image of a file; what goes wrong inside the block is an InputError."""
    with decoding(path, what=what), _opened(data) as image:
        _check_size(image)
        kind, name = _kind(image), str(image.format)
        if name == "PNG":  # `load` does not compare its checksums
            with _opened(data) as other:
                other.verify()
        # Pillow turns a TIFF when it loads it, and forgets the orientation.
        before = _orientation(image) if name == "TIFF" else 1
        image.load()
        after = _orientation(image)
        upright = image.transpose(_TURNS[after]) if after != 1 else image
        yield _Loaded(upright, name, kind, before if after == 1 else after)


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=FORMATS)


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise Image.DecompressionBombError


def _kind(image: Image.Image) -> str:
    """The mode of an image that is not loaded, with what Pillow drops from it."""
    tiles = getattr(image, "tile", None)  # what is to decode, and as which raw mode
    stored = tiles[0][3] if tiles else ""
    # 16 bits of a channel are read as 8, except of grey.
    deep = ";16" in str(stored) and not image.mode.startswith("I")
    if image.format == "PPM" and isinstance(stored, tuple):
        deep = stored[1] > 255
    if deep:
        image.info.pop("transparency", None)  # a colour of 16 bits
    clear = "transparency" in image.info
    return "16-bit " * deep + image.mode + " with transparency" * clear


def _orientation(image: Image.Image, *, decode: bool = True) -> int:
    """1 to 8 as in EXIF; 1 for whatever means that there is nothing to turn.

    Without `decode` only what is in the header.
    """
    try:
        # Pillow decodes a PNG for its EXIF, which may come last.
        exif = image.getexif() if decode else Image.Image.getexif(image)
        value = exif.get(_ORIENTATION)
        return int(value) if value in _TURNS else 1
    except Exception:  # decoders of EXIF raise as others do, see `decoding`
        return 1


def _require_upright(path: Path, found: _Loaded) -> None:
    wanted = (
        f"stored upright, got orientation {found.orientation} of EXIF; turn the pixels "
        "so that they fit image and depth, and remove the tag"
    )
    _require(found.orientation == 1, path, wanted)


def _require(good: bool, path: Path, wanted: str) -> None:
    if not good:
        raise InputError(f"'{path}' must be {wanted}")
