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

# Metres between the bars of the histogram; the last bar is open.
EDGES = (0, 0.5, 1, 2, 3, 4, 5, 7.5, 10, 15, 20, 30, 40, 60, 80, 120, 1000)
# Bin edges of the counts, fine enough for quantiles of many frames.
_BORDERS = np.union1d(np.geomspace(1e-3, 3e4, 512), EDGES[1:])

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

    def may_be_damaged(self, fact: Facts) -> bool:
        """Whether training leaves the frame out if it is damaged."""
        return self.data.skip_bad and fact.part == "train"


def examine(frame: Frame | Example, part: str, layout: Layout) -> Facts:
    """Reads and decodes a frame; a fault in one file does not stop the other.

    Never raises: any exception of a decoder is a fault of the frame.
    """
    try:
        if isinstance(frame, Example):
            return _examine_example(frame, part, layout)
        faults: list[FileFault] = []
        image = _tried(frame.image, "image", faults, lambda: _image(frame.image))
        size, digest = image or (None, b"")
        read = partial(_depth, frame, layout, size)
        depth = _tried(frame.depth, "ground truth", faults, read)
        known = frame.key, part, frame.intrinsics
        return Facts(*known, tuple(faults), size, depth, digest)
    except Exception as error:  # decoders raise anything on damaged data
        text = f"{frame.key} cannot be read: {' '.join(str(error).split())}"
        fault = FileFault(DAMAGED, "image", frame.key, text)
        return Facts(frame.key, part, UNKNOWN_CAMERA, (fault,))


def pixels(
    frame: Frame | Example, layout: Layout, facts: Facts
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Image uint8 [H, W, 3] and metres [H, W], each None where it has a fault."""
    bad = {fault.role for fault in facts.faults}
    if isinstance(frame, Example):
        example = frame.examples[frame.number] if not bad else None
        return (example["image"], example["depth"][..., 0]) if example else (None, None)
    image = metres = None
    if "image" not in bad:
        data = images.read(frame.image, what="image")
        image = images.decode_rgb(frame.image, data)
    if facts.depth and facts.size and not bad:
        metres = _metres(frame, layout, facts.size)
    return image, metres


def _examine_example(frame: Example, part: str, layout: Layout) -> Facts:
    example = frame.examples[frame.number]
    image, (fx, fy, cx, cy) = example["image"], map(float, example["intrinsics"])
    return Facts(
        frame.key,
        part,
        (fx, fy, cx, cy),
        size=image.shape[:2],
        depth=summarize(example["depth"][..., 0], cap=layout.depth_cap),
        digest=hashlib.blake2b(image.tobytes(), digest_size=16).digest(),
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


def _image(path: Path) -> tuple[tuple[int, int], bytes]:
    """Size and digest of an image."""
    data = images.read(path, what="image")
    height, width, _ = images.decode_rgb(path, data).shape
    return (height, width), hashlib.blake2b(data, digest_size=16).digest()


def _depth(
    frame: Frame, layout: Layout, size: tuple[int, int] | None
) -> DepthSummary | None:
    """The summary of the ground truth; None if it cannot be read alone."""
    ending = frame.depth.suffix.lower()
    # A scan needs a camera, and all but a PNG an image; other rules report these.
    if size is None and ending != ".png" or ending == ".bin" and not frame.projection:
        return None
    if size is None:
        data = images.read(frame.depth, what="ground truth")
        size = images.decode_grey(frame.depth, data).shape
    return summarize(_metres(frame, layout, size), cap=layout.depth_cap)


def _metres(frame: Frame, layout: Layout, size: tuple[int, int]) -> np.ndarray:
    """float32 metres [H, W] of a frame without the layout's cap, 0 = none."""
    depth = depth_files.read(frame, layout._replace(depth_cap=0.0), size)
    if layout.in_metres:
        return np.asarray(depth.stored)[..., 0]
    return depth.codes.astype(np.float32) / np.float32(layout.depth_scale)


def summarize(metres: np.ndarray, *, cap: float) -> DepthSummary:
    """The summary of a depth map [H, W] in metres, 0 where nothing was measured.

    `cap` in metres; 0: none.
    """
    values = np.sort(metres[metres > 0])
    total = len(values)
    kept = np.searchsorted(values, cap or np.inf, side="right")
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


def histogram(summaries: Iterable[DepthSummary]) -> list[tuple[str, int]]:
    """Metres as text, and the pixels measured there, of all frames."""
    bars = np.searchsorted(EDGES[1:], _BORDERS)  # the bar below each border
    bars = np.append(bars, len(EDGES) - 1)
    counts = np.bincount(bars, _counts(summaries), minlength=len(EDGES)).astype(int)
    names = (f"{low:g} - {high:g}" for low, high in zip(EDGES, EDGES[1:], strict=False))
    return list(zip((*names, f"{EDGES[-1]:g} - ..."), counts.tolist(), strict=True))
