"""What a reader of a layout hands on: frames by split, and the unit of their depth."""

import hashlib
from pathlib import Path
from typing import NamedTuple


class Frame(NamedTuple):
    """One image with its ground truth.

    `intrinsics` is fx, fy, cx, cy in pixels of the stored image.
    """

    key: str
    image: Path
    depth: Path
    intrinsics: tuple[float, float, float, float]


class Layout(NamedTuple):
    """The frames that a split of a data set consists of."""

    name: str
    split: str
    depth_scale: float  # stored code per metre: 256 for KITTI, 1000 for NYUv2
    train: tuple[Frame, ...]
    test: tuple[Frame, ...]


def fingerprint(layout: Layout) -> str:
    """Twelve hex digits that change whenever a frame's file or camera does."""
    digest = hashlib.sha256(repr(layout[:3]).encode())
    for part in (layout.train, layout.test):
        for frame in part:
            stats = [path.stat() for path in (frame.image, frame.depth)]
            sizes = [(s.st_size, s.st_mtime_ns) for s in stats]
            digest.update(repr((frame.key, sizes, frame.intrinsics)).encode())
        digest.update(b"|")
    return digest.hexdigest()[:12]


def hold_out_last_fifth(groups: dict[str, list[Frame]]) -> tuple[tuple, tuple]:
    """Train and test frames: the last fifth of each drive or scene is test.

    The last frames and not random ones, since neighbours look alike. Of two to four
    frames the last one is held out, a single frame is for training.
    """
    train, test = [], []
    for name in sorted(groups):
        frames = sorted(groups[name])
        held_out = max(len(frames) // 5, 1) if len(frames) > 1 else 0
        cut = len(frames) - held_out
        train += frames[:cut]
        test += frames[cut:]
    return tuple(train), tuple(test)
