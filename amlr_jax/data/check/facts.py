"""Reads both files of a frame and keeps the facts that the rules need."""

import hashlib
import math
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from ml_collections import ConfigDict

from amlr_jax.data import depth_files, images
from amlr_jax.data.frames import UNKNOWN_CAMERA, Camera, Frame, Layout, by_group
from amlr_jax.data.sources import NO_TEST
from amlr_jax.runtime.errors import InputError

# Kinds of a fault, as reported.
MISSING, DAMAGED, SIZE = "missing", "damaged", "of another size"
KIND = "of the wrong kind"

# Edges of the bins of depth, fine enough for quantiles of many frames.
_BORDERS = np.geomspace(1e-3, 3e4, 512)  # metres

Read = TypeVar("Read")


class FileFault(NamedTuple):
    """A fault of a file: its kind, the role of the file and the reader's message."""

    kind: str
    role: str  # "image" or "ground truth"
    file: str
    text: str


class DepthSummary(NamedTuple):
    """The depth of one frame, in metres, before a cap is applied."""

    share: float  # of all pixels that have depth, up to the cap
    beyond: float  # share of the measured pixels that the cap removes
    counts: np.ndarray  # uint32: pixels per bin
    spikes: tuple[tuple[float, int], ...] = ()  # see `_spikes`


class Example(NamedTuple):
    """A frame of a prepared data set, as arrays."""

    key: str
    examples: Any  # dicts by number
    number: int


class Pixels(NamedTuple):
    """What the files of a frame hold, None where one is missing or has a fault."""

    image: np.ndarray | None  # uint8 [H, W, 3]
    metres: np.ndarray | None  # [H, W], 0 = none, without the layout's cap
    camera: Camera = UNKNOWN_CAMERA
    digest: bytes = b""  # of the image
    faults: tuple[FileFault, ...] = ()


class Facts(NamedTuple):
    """The facts of one frame."""

    key: str
    part: str  # "train" or "test"
    camera: Camera
    faults: tuple[FileFault, ...] = ()
    size: tuple[int, int] | None = None  # height, width of the image
    depth: DepthSummary | None = None
    digest: bytes = b""  # of the image file's bytes

    @property
    def group(self) -> str:
        """The drive or scene."""
        return self.key.rpartition("/")[0]

    def lacks(self, role: str) -> bool:
        """Whether the file of a role is missing."""
        return any(f.kind == MISSING and f.role == role for f in self.faults)


class Examined(NamedTuple):
    """A data set after every file was read."""

    layout: Layout  # its frames may be missing on disk
    facts: tuple[Facts, ...]  # of the training frames, then of the test frames
    data: ConfigDict  # config.data
    max_depth: float  # metres, of the network

    @property
    def parts(self) -> tuple[str, ...]:
        """The required parts: training views of video need no depth."""
        if self.layout.test_only:
            return () if self.layout.split == NO_TEST else ("test",)
        return "train", "test"

    def part(self, name: str) -> list[Facts]:
        """The facts of "train" or "test"."""
        return [fact for fact in self.facts if fact.part == name]

    def groups(self) -> dict[str, list[Facts]]:
        """The facts of each drive or scene."""
        return by_group(self.facts)


def examine(part: str, frame: Frame | Example, layout: Layout) -> Facts:
    """The facts of a frame; never raises."""
    found = read(frame, layout)
    size = None if found.image is None else found.image.shape[:2]
    depth = None
    if found.metres is not None:
        depth = summarize(found.metres, cap=layout.depth_cap)
    known = found.faults, size, depth, found.digest
    return Facts(frame.key, part, found.camera, *known)


def read(frame: Frame | Example, layout: Layout) -> Pixels:
    """Reads and decodes a frame; a fault in one file does not stop the other.

    Never raises: any exception of a decoder is a fault of the frame.
    """
    try:
        if isinstance(frame, Example):
            example = frame.examples[frame.number]
            image, (fx, fy, cx, cy) = example["image"], example["intrinsics"].tolist()
            metres = example["depth"][..., 0]
            return Pixels(image, metres, (fx, fy, cx, cy), _digest(image.tobytes()))
        faults: list[FileFault] = []
        found = _tried(frame.image, "image", faults, partial(_image, frame.image))
        image, digest = found or (None, b"")
        size = None if image is None else image.shape[:2]
        of_frame = partial(_metres, frame, layout, size)
        metres = _tried(frame.depth, "ground truth", faults, of_frame)
        return Pixels(image, metres, frame.intrinsics, digest, tuple(faults))
    except Exception as error:  # decoders raise anything on damaged data
        text = f"{frame.key} cannot be read: {' '.join(str(error).split())}"
        return Pixels(
            None, None, faults=(FileFault(DAMAGED, "image", frame.key, text),)
        )


def _tried(
    path: Path, role: str, faults: list[FileFault], read: Callable[[], Read]
) -> Read | None:
    """What `read` gives; None, and a fault more, if the file cannot be read."""
    if not path.is_file():
        faults.append(FileFault(MISSING, role, str(path), ""))
        return None
    try:
        return read()
    except InputError as error:
        kind = DAMAGED if isinstance(error, images.DamagedFile) else KIND
        kind = SIZE if isinstance(error, depth_files.SizeMismatch) else kind
        faults.append(FileFault(kind, role, str(path), str(error)))
        return None


def _image(path: Path) -> tuple[np.ndarray, bytes]:
    """Pixels and digest of an image."""
    data = images.read(path, what="image")
    return images.decode_rgb(path, data), _digest(data)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _metres(
    frame: Frame, layout: Layout, size: tuple[int, int] | None
) -> np.ndarray | None:
    """float32 metres [H, W] without the layout's cap; None if it cannot be read alone.

    A scan needs a camera, and all but a PNG an image; other rules report these.
    """
    ending = frame.depth.suffix.lower()
    if size is None and ending != ".png" or ending == ".bin" and not frame.projection:
        return None
    stored = depth_files.read(frame, layout._replace(depth_cap=0.0), size).stored
    scale = depth_files.stored_scale(layout)
    return stored[..., 0].astype(np.float32) / np.float32(scale)


def summarize(metres: np.ndarray, *, cap: float) -> DepthSummary:
    """The summary of a depth map [H, W] in metres, 0 where nothing was measured.

    `cap` in metres; 0: none.
    """
    values = np.sort(metres[metres > 0])
    total = len(values)
    kept = int(np.searchsorted(values, cap or np.inf, side="right"))
    counts = np.diff(np.searchsorted(values, _BORDERS), prepend=0, append=total)
    beyond = 1 - kept / total if total else 0.0
    share = kept / metres.size
    return DepthSummary(share, beyond, counts.astype(np.uint32), _spikes(values))


def _spikes(values: np.ndarray) -> tuple[tuple[float, int], ...]:
    """Extreme values that many pixels share, (metres, pixels), of ascending `values`.

    The largest or smallest value is one if it has a hundredth of the pixels and ten
    times as many as the value next to it: measurements end gradually.
    """
    found = []
    for ordered in (values, -values[::-1]):
        count = np.searchsorted(ordered, ordered[:1], side="right").sum()
        beside = np.searchsorted(ordered, ordered[count : count + 1], side="right")
        if beside.size and count >= max(0.01 * len(values), 10 * (beside[0] - count)):
            found.append((abs(float(ordered[0])), int(count)))
    return tuple(found)


def _counts(summaries: Iterable[DepthSummary]) -> np.ndarray:
    return sum((s.counts for s in summaries), np.zeros(len(_BORDERS) + 1, np.int64))


def quantile(summaries: Iterable[DepthSummary], q: float) -> float:
    """Of all pixels of several frames, in metres, to 1 % or so; NaN without any."""
    counts = _counts(summaries)
    if not counts.any():
        return math.nan
    wanted, up_to = max(q * counts.sum(), 1), np.cumsum(counts)
    index = int(np.searchsorted(up_to, wanted))
    low, high = (_BORDERS[np.clip(k, 0, len(_BORDERS) - 1)] for k in (index - 1, index))
    beyond = (up_to[index] - wanted) / counts[index]
    return float(high * (low / high) ** beyond)
