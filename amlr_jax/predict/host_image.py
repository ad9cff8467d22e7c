"""Image files of any kind as 8-bit RGB, upright."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from amlr_jax.runtime.errors import InputError

PIXELS = 89_478_485  # at most; what Pillow warns of as a "decompression bomb"
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # 16-bit grey
_ORIENTATION, _QUARTER_TURNS = 0x0112, (5, 6, 7, 8)
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def read_size(path: Path) -> tuple[int, int]:
    """Height and width from the header; InputError if it is no image."""

    def size(image: Image.Image) -> tuple[int, int]:
        # A PNG is turned too, but tells so only after it was inflated.
        turned = image.format == "JPEG" and image.getexif().get(_ORIENTATION)
        width, height = image.size
        return (width, height) if turned in _QUARTER_TURNS else (height, width)

    return _guarded(path, size)


def read_image(path: Path) -> np.ndarray:
    """uint8 RGB [H, W, 3], turned upright as EXIF says.

    Of an animation the first frame. 16-bit grey: value / 257, rounded, so that 65535 is
    white. Transparent pixels are laid over black. Palettes, grey and CMYK are turned
    into RGB without colour profiles. InputError if it is no image, is damaged, has more
    than PIXELS pixels or holds floats.
    """
    return _guarded(path, lambda image: _rgb(path, ImageOps.exif_transpose(image)))


def _rgb(path: Path, image: Image.Image) -> np.ndarray:
    if image.mode in _DEEP:
        grey = _eight_bits(path, np.asarray(image))
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.mode == "F":
        raise InputError(f"'{path}' holds floats; give an image of 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, "black")
        image = Image.alpha_composite(black, image)
    return np.array(image.convert("RGB"))


def _eight_bits(path: Path, codes: np.ndarray) -> np.ndarray:
    codes = codes.astype(np.int64)
    if codes.min() < 0 or codes.max() > 65535:
        raise InputError(
            f"'{path}' holds codes from {codes.min()} to {codes.max()}; give an image "
            "of 8 or 16 bits"
        )
    return ((codes + 128) // 257).astype(np.uint8)


def _guarded(path: Path, action: Callable):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return action(image)
    except InputError:
        raise
    except _BOMB as error:
        count = re.search(r"\d+", str(error))[0]
        raise InputError(
            f"'{path}' claims {int(count) / 1e6:.0f} million pixels; at most "
            f"{PIXELS / 1e6:.0f} million are read, so make it smaller"
        ) from error
    except UnidentifiedImageError as error:
        raise InputError(f"'{path}' is no image of a known format") from error
    except OSError as error:
        reason = error.strerror or _one_line(error)
        raise InputError(f"'{path}' cannot be read as an image: {reason}") from error
    # What Pillow's decoders raise on damaged files.
    except (SyntaxError, ValueError, EOFError, MemoryError, TypeError) as error:
        raise InputError(
            f"'{path}' cannot be read as an image: {_one_line(error)}"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
