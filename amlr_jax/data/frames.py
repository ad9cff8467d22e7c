"""The result of a layout's reader: frames by split, and problems of their files.

A reader names the frames that a split should have and passes each problem of their
files to `report`. With `refuse`, the default, the first problem raises an InputError.
With the `append` of a list reading continues, and frames whose files are missing stay
in the layout.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from amlr_jax.runtime import paths
from amlr_jax.runtime.errors import InputError, preview

Camera = tuple[float, float, float, float]
UNKNOWN_CAMERA: Camera = (float("nan"),) * 4


class Frame(NamedTuple):
    """One image with its ground truth.

    `intrinsics` is fx, fy, cx, cy in pixels of the stored image, NaN where not known.
    `projection` is for depth that is a lidar scan: the row-major 3x4 matrix that maps
    the scan's points to the image (`depth_files.lidar_depth`). Where one of `masks` is
    0 the depth is no measurement.
    """

    key: str  # group/name: a drive or scene, and the frame in it
    image: Path
    depth: Path
    intrinsics: Camera
    projection: tuple[float, ...] | None = None
    masks: tuple[Path, ...] = ()


class Layout(NamedTuple):
    """The frames that a split of a data set consists of.

    If every ground truth is a 16-bit PNG, the prepared set keeps its codes; otherwise
    `in_metres` is True, and it stores float32 metres, losslessly compressed.
    """

    name: str
    split: str
    depth_scale: float  # stored value per metre: 256 for KITTI, 1000 for NYUv2
    train: tuple[Frame, ...]
    test: tuple[Frame, ...]
    in_metres: bool = False
    depth_cap: float = 0.0  # metres; greater depth is no measurement; 0: no cap
    depth_key: str = ""  # the array of an npz, the channel of an EXR; "": the only one
    notes: tuple[str, ...] = ()  # messages for the user: omissions and decisions
    test_only: bool = False  # training frames were not requested
    invalid_values: tuple[float, ...] = ()  # as stored: not measured, as 0 is


class View(NamedTuple):
    """One image with the source images from which it is reconstructed.

    `partner` is the other camera's image of the same moment, None without stereo; a
    point X of this camera is X + `partner_from_target` (metres) in the partner's. The
    x of it is negative for a left camera, whose partner is on its right.
    """

    key: str
    image: Path
    sources: tuple[Path, ...]  # at the offsets of `Sequences`, in that order
    intrinsics: Camera
    partner: Path | None = None
    partner_from_target: tuple[float, float, float] | None = None


class Sequences(NamedTuple):
    """The views of a self-supervised data set."""

    name: str
    split: str
    offsets: tuple[int, ...]  # of the training sources, in frames
    train: tuple[View, ...]
    test: tuple[View, ...]
    notes: tuple[str, ...] = ()


class Problem(NamedTuple):
    """Something wrong with the files of a data set, which stops training."""

    text: str
    names: tuple[str, ...] = ()  # of all affected files or frames
    advice: str = ""
    missing: bool = False  # files of frames are missing, nothing else

    def __str__(self) -> str:
        names = f": {preview(self.names)}" if self.names else ""
        return f"{self.text}{names}" + (f"; {self.advice}" if self.advice else "")


Report = Callable[[Problem], None]


def refuse(problem: Problem) -> None:
    """Raises InputError with the problem."""
    raise InputError(str(problem))


def report_missing(
    frames: Sequence[Frame], report: Report, *, of: str = "frames", advice: str
) -> None:
    """Reports missing ground truth and missing images of `frames`."""
    scans = any(frame.depth.suffix == ".bin" for frame in frames)
    for what in ("lidar scans" if scans else "ground truth", "image"):
        wanted = (f.image if what == "image" else f.depth for f in frames)
        lost = tuple(str(path) for path in wanted if not path.is_file())
        if lost:
            text = f"missing {what} of {len(lost)} of {len(frames)} {of}"
            report(Problem(text, lost, advice, missing=True))


def fingerprint(layout: Layout) -> str:
    """A hash of the files and cameras of the frames, twelve hexadecimal digits."""
    rule = (*layout[:3], layout.in_metres, layout.depth_cap, layout.depth_key)
    # Where there are no such values it is the hash of earlier versions.
    digest = hashlib.sha256(repr((*rule, *layout.invalid_values)).encode())
    for part in (layout.train, layout.test):
        for frame in part:
            stats = [p.stat() for p in (frame.image, frame.depth, *frame.masks)]
            sizes = [(s.st_size, s.st_mtime_ns) for s in stats]
            camera = (frame.intrinsics, frame.projection)
            digest.update(repr((frame.key, sizes, camera)).encode())
        digest.update(b"|")
    return digest.hexdigest()[:12]


class Contents(NamedTuple):
    """What a run must find again when it continues."""

    names: tuple[str, ...]
    files: str  # a hash of the sizes in bytes


def contents(named: Sequence[Any]) -> Contents:
    """Of frames or views: `key`, and the sizes of the files, wherever they are."""
    digest = hashlib.sha256()
    for one in named:
        parts = (one.image, one.depth if isinstance(one, Frame) else one.partner)
        sizes = [path.stat().st_size for path in parts if path]
        digest.update(repr((one.key, sizes)).encode())
    return Contents(tuple(one.key for one in named), digest.hexdigest()[:16])


Named = TypeVar("Named", bound=Any)  # has a `key`, as a Frame does


def hold_out_last_fifth(
    named: Iterable[Named],
) -> tuple[tuple[Named, ...], tuple[Named, ...]]:
    """Train and test frames: the last fifth of each drive or scene is test.

    Random frames would have similar neighbours in training. Of two to four frames the
    last one is held out, a single frame is for training.
    """
    train: list[Named] = []
    test: list[Named] = []
    groups = by_group(named)
    for name in sorted(groups, key=paths.natural):
        group = in_time(groups[name])
        held_out = max(len(group) // 5, 1) if len(group) > 1 else 0
        cut = len(group) - held_out
        train += group[:cut]
        test += group[cut:]
    return tuple(train), tuple(test)


_SAME = 0.9  # share of equal numbers that makes sequences those of one time


def in_time(group: Sequence[Named]) -> list[Named]:
    """The frames of a drive or scene in the order of time, as their names tell it.

    That is natural order. Where the names are sequences of the same numbers, as left_1,
    left_2, ..., right_1, right_2, ..., frames of one number stand together, because
    they may show the same moment.
    """
    ordered = sorted(group, key=lambda frame: paths.natural(frame.key))
    numbers = [paths.last_number(frame.key) or (frame.key, -1) for frame in ordered]
    sequences: dict[str, set] = {}
    for form, number in numbers:
        sequences.setdefault(form, set()).add(number)
    common = set.intersection(*sequences.values()) if sequences else ()
    if len(common) < _SAME * len({number for _, number in numbers}):
        return ordered
    places = sorted(range(len(ordered)), key=lambda place: numbers[place][1])
    return [ordered[place] for place in places]


def by_group(named: Iterable[Named]) -> dict[str, list[Named]]:
    """The frames of each drive or scene."""
    groups: dict[str, list[Named]] = {}
    for frame in named:
        groups.setdefault(frame.key.rpartition("/")[0], []).append(frame)
    return groups
