"""What `predict` reads: which files an option stands for, and images as 8-bit RGB."""

import glob
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from amlr_jax.runtime.errors import InputError, preview

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"}
VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".m4v", ".webm", ".mpg", ".mpeg"}
MOST_PIXELS = 89_478_485  # more is what Pillow calls a decompression bomb
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")  # grey of more than 8 bits
_ORIENTATION, _QUARTER_TURNS = 0x0112, (5, 6, 7, 8)  # of EXIF


class InputFile(NamedTuple):
    """A file to predict."""

    path: Path
    name: str  # relative to the folder of all, "kitchen/0001.jpg"

    @property
    def stem(self) -> str:
        """The name without its suffix, with which the names of its results start."""
        return Path(self.name).with_suffix("").as_posix()

    @property
    def is_video(self) -> bool:
        """Whether it is read as a video; anything else is an image."""
        return self.path.suffix.lower() in VIDEOS


def find(source: Path, *, target: Path, limit: int = 0) -> list[InputFile]:
    """The files that `source` stands for, in the order of their names.

    A file stands for itself whatever its suffix, a folder for all images and videos in
    and below it, a pattern with * ? [ ] or ** for those that it matches. Files in
    `target`, hidden files and other suffixes do not count. `limit` is how many at most,
    0 for all. InputError if there is none, if two would have results of the same name,
    or if `target` is the folder of the images.
    """
    root, files = _matches(source)
    place = target.resolve()
    if place == root.resolve():
        raise InputError(
            f"--output must not be the folder of the images, '{root}'; choose another"
        )
    inside = root.resolve() in place.parents
    found = [
        InputFile(path, path.relative_to(root).as_posix())
        for path in sorted(files)
        if not inside or place not in path.resolve().parents
    ]
    if not found:
        known = ", ".join(sorted(IMAGES | VIDEOS))
        raise InputError(f"--input '{source}' holds no image and no video ({known})")
    found = found[:limit] if limit else found
    require_unique(found, key=lambda s: s.stem, what="differ in their suffix only")
    return found


def require_unique(
    sources: list[InputFile], *, key: Callable[[InputFile], str], what: str
) -> None:
    """Raises InputError naming the files of which two have the same `key`."""
    count = Counter(map(key, sources))
    twice = [source.path for source in sources if count[key(source)] > 1]
    if twice:
        raise InputError(f"images that {what}: {preview(twice)}; rename or move one")


def _matches(source: Path) -> tuple[Path, list[Path]]:
    """The folder that names are relative to, and the files."""
    if source.is_file():
        return source.parent, [source]
    root, pattern = source, []
    while not root.is_dir() and glob.has_magic(str(root)):
        pattern.insert(0, root.name)
        root = root.parent
    if not root.is_dir():
        raise InputError(f"--input '{source}' does not exist")
    found = glob.iglob("/".join(pattern), root_dir=root, recursive=True)
    files = map(root.joinpath, found) if pattern else root.rglob("*")
    return root, [path for path in files if _counts(path, root)]


def _counts(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return path.suffix.lower() in IMAGES | VIDEOS and not hidden and path.is_file()


# ---------------------------------------------------------------- images


def read_size(path: Path) -> tuple[int, int]:
    """Height and width from the header; InputError if it is no image."""
    with _opened(path) as image:
        # The EXIF block of a PNG may come after its pixels, which are not read here.
        turned = image.format == "JPEG" and image.getexif().get(_ORIENTATION)
        width, height = image.size
        return (width, height) if turned in _QUARTER_TURNS else (height, width)


def read_image(path: Path) -> np.ndarray:
    """uint8 RGB [H, W, 3], turned upright by its EXIF orientation.

    Of an animation the first frame. 16-bit grey: value / 257, rounded, so that 65535 is
    white. Transparent pixels are laid over black. Palettes, grey and CMYK are converted
    to RGB without colour profiles. InputError if it is no image, is damaged, has more
    than MOST_PIXELS pixels or holds floats.
    """
    with _opened(path) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode in _DEEP:
            codes = np.asarray(image)
            if codes.dtype.kind == "f" or codes.min() < 0 or codes.max() > 65535:
                raise InputError(
                    f"'{path}' holds floats or codes beyond 16 bits; give an image of "
                    "8 or 16 bits"
                )
            grey = ((codes.astype(np.int64) + 128) // 257).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=-1)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            black = Image.new("RGBA", image.size, "black")
            image = Image.alpha_composite(black, image)
        return np.array(image.convert("RGB"))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image; what goes wrong with it inside the block is an InputError."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            yield image
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(
            f"'{path}' claims more than {MOST_PIXELS / 1e6:.0f} million pixels; make "
            "it smaller"
        ) from error
    except UnidentifiedImageError as error:
        raise InputError(f"'{path}' is no image of a known format") from error
    # What Pillow's decoders raise on damaged files.
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError, TypeError) as bad:
        why = getattr(bad, "strerror", None) or str(bad) or type(bad).__name__
        why = " ".join(why.split())
        raise InputError(f"'{path}' cannot be read as an image: {why}") from bad
