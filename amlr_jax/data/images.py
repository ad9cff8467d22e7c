"""Image files: reading, checking and decoding."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from amlr_jax.runtime.errors import InputError

_ORIENTATION = 0x0112  # the EXIF tag of the camera's orientation


class DamagedFile(InputError):
    """A file exists but cannot be decoded."""


def read(path: Path, *, what: str) -> bytes:
    """The bytes of a file; InputError with its role and name if it is missing."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{what} '{path}' cannot be read: {error.strerror}") from error


def check_image(path: Path, data: bytes) -> tuple[int, int]:
    """Height and width of an intact 8-bit RGB image (PNG or JPEG)."""
    with _opened(path, data, what="image") as image:
        _require(image.mode == "RGB", path, f"an 8-bit RGB image, got {image.mode}")
        # Pillow returns the pixels as stored, OpenCV rotates them: depth fits only one.
        if image.format == "JPEG":
            turned = _guarded(path, "image", image.getexif).get(_ORIENTATION, 1)
            wanted = f"upright as stored, got EXIF orientation {turned}; turn it"
            _require(turned == 1, path, wanted)
        size = image.height, image.width
        # verify() checks every PNG chunk's checksum without inflating it; for a
        # JPEG it checks nothing, so that one is decoded.
        _guarded(path, "image", image.load if image.format == "JPEG" else image.verify)
    return size


def decode_image(path: Path, data: bytes) -> Image.Image:
    """The pixels of an image that `check_image` has passed, for Pillow's filters."""
    with _opened(path, data, what="image") as image:
        _guarded(path, "image", image.load)
        return image


def decode_depth(path: Path, data: bytes) -> np.ndarray:
    """The uint16 codes [H, W] of a 16-bit grey PNG, 0 where nothing was measured."""
    with _opened(path, data, what="ground truth") as image:
        good = image.mode in ("I;16", "I")
        _require(good, path, f"a 16-bit grey PNG as ground truth, got {image.mode}")
        _guarded(path, "ground truth", image.load)
        return np.asarray(image).astype(np.uint16)


def _opened(path: Path, data: bytes, *, what: str) -> Image.Image:
    return _guarded(path, what, lambda: Image.open(io.BytesIO(data)))


def _guarded(path: Path, what: str, action):
    # Pillow reports a damaged file as OSError, SyntaxError or ValueError.
    try:
        return action()
    except (OSError, SyntaxError, ValueError) as error:
        text = f"{what} '{path}' is damaged or not an image ({error}); copy it again"
        raise DamagedFile(" ".join(text.split())) from error


def _require(good: bool, path: Path, wanted: str) -> None:
    if not good:
        raise InputError(f"'{path}' must be {wanted}")
