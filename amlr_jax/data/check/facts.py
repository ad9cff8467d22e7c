"""Reads one frame and keeps the few figures that the rules need of it.

A frame that is faulty in one file is examined in the other.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from amlr_jax.data import depth_files, images
from amlr_jax.data.check.measures import Measured, measure
from amlr_jax.data.frames import Camera, Frame, Layout
from amlr_jax.data.storage import size_name
from amlr_jax.runtime.errors import InputError

# A picture of 17x16 grey values gives 256 signs of differences of neighbours.
_LOOK = (17, 16)
_FLAT = 2.0  # grey values; below this spread all such pictures look alike

MISSING, EMPTY, PAGE, POINTER = "missing", "empty", "web page", "Git LFS pointer"
DAMAGED, MODE, SIZE = "damaged", "wrong kind", "size"


class Problem(NamedTuple):
    """What is wrong with a file: its kind, its role and the reader's message."""

    kind: str
    role: str  # "image" or "ground truth"
    file: str
    text: str


class Facts(NamedTuple):
    """What is known of one frame."""

    key: str
    part: str  # "train" or "test"
    camera: Camera
    problems: tuple[Problem, ...] = ()
    size: tuple[int, int] | None = None  # height, width of the image
    measured: Measured | None = None
    digest: bytes = b""  # of the image file's bytes
    look: np.ndarray | None = None  # uint64 [4], alike for images that look alike

    @property
    def group(self) -> str:
        """The drive or scene."""
        return self.key.rpartition("/")[0]

    def lacks(self, role: str) -> bool:
        """Whether the file of a role is not there."""
        return any(p.kind == MISSING and p.role == role for p in self.problems)


def examine(frame: Frame, part: str, layout: Layout) -> Facts:
    """Reads and decodes both files of a frame."""
    problems: list[Problem] = []
    size, digest, look = _image(frame.image, problems)
    metres = _metres(frame, layout, size, problems)
    return Facts(
        frame.key,
        part,
        frame.intrinsics,
        tuple(problems),
        size,
        None if metres is None else measure(metres, layout, frame.intrinsics),
        digest,
        look,
    )


def examine_example(example: dict, part: str, layout: Layout) -> Facts:
    """The same for a frame that comes as arrays."""
    image, camera = example["image"], tuple(map(float, example["intrinsics"]))
    return Facts(
        example["key"].decode(),
        part,
        camera,
        size=image.shape[:2],
        measured=measure(example["depth"][..., 0], layout, camera),
        digest=hashlib.blake2b(image.tobytes(), digest_size=16).digest(),
        look=_look(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)),
    )


def _image(path: Path, problems: list[Problem]):
    """Size, digest and look of an image; (None, b"", None) if it cannot be read."""
    if not path.is_file():
        problems.append(_missing(path, "image"))
        return None, b"", None
    try:
        data = images.read(path, what="image")
        size = images.check_image(path, data)
    except InputError as error:
        problems.append(_problem(path, "image", error))
        return None, b"", None
    # Inflates a PNG, of which check_image has seen the checksums alone.
    grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_4)
    if grey is None:
        text = f"image '{path}' is damaged: it does not decode; copy it anew"
        problems.append(Problem(DAMAGED, "image", str(path), text))
        return size, b"", None
    return size, hashlib.blake2b(data, digest_size=16).digest(), _look(grey)


def _look(grey: np.ndarray) -> np.ndarray | None:
    small = cv2.resize(grey, _LOOK, interpolation=cv2.INTER_AREA).astype(np.int16)
    if small.std() < _FLAT:
        return None
    return np.packbits(small[:, 1:] > small[:, :-1]).view(np.uint64)


def _metres(frame, layout, size, problems: list[Problem]) -> np.ndarray | None:
    """The depth [H, W], uncapped; None if it cannot be read."""
    path, ending = frame.depth, frame.depth.suffix.lower()
    if not path.is_file():
        problems.append(_missing(path, "ground truth"))
        return None
    # Only a PNG tells its size, and a scan needs a camera: faults told elsewhere.
    if ending != ".png" and size is None or ending == ".bin" and not frame.projection:
        return None
    own = _png_size(path) if ending == ".png" else None
    if size and own and size != own:
        text = f"'{frame.image}' is {size_name(size)}, '{path}' is {size_name(own)}"
        problems.append(Problem(SIZE, "ground truth", str(path), text))
    try:
        return read_metres(frame, layout, own or size or (1, 1))
    except InputError as error:
        problems.append(_problem(path, "ground truth", error))
        return None


def read_metres(frame: Frame, layout: Layout, size: tuple[int, int]) -> np.ndarray:
    """float32 metres [H, W] of a frame without the layout's cap, 0 = none."""
    layout = layout._replace(depth_cap=0.0)
    depth = depth_files.read(frame, layout, size)
    if layout.in_metres:
        return depth.stored[..., 0]
    return depth.codes.astype(np.float32) / np.float32(layout.depth_scale)


def _png_size(path: Path) -> tuple[int, int] | None:
    """Height and width in the head of a PNG, whatever comes after it."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def _missing(path: Path, role: str) -> Problem:
    return Problem(MISSING, role, str(path), f"{role} '{path}' is missing")


def _problem(path: Path, role: str, error: InputError) -> Problem:
    return Problem(_kind(path, error), role, str(path), str(error))


def _kind(path: Path, error: InputError) -> str:
    """What a file that cannot be read is instead."""
    try:
        with open(path, "rb") as file:
            head = file.read(64).lstrip().lower()
    except OSError:
        return DAMAGED
    if path.stat().st_size == 0:
        return EMPTY
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return PAGE
    if head.startswith(b"version https://git-lfs"):
        return POINTER
    if isinstance(error, depth_files.SizeMismatch):
        return SIZE
    return DAMAGED if isinstance(error, images.DamagedFile) else MODE
