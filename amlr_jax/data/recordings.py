"""Your own recordings for self-supervised training: frames or videos of one camera.

    ROOT/<recording>/<name>.jpg     frames in the order of their names, or
    ROOT/<recording>.mp4            a video (`video.VIDEOS`)
    ROOT/intrinsics.json            the camera, or data.intrinsics (`cameras.reader`)
    ROOT/rgb, ROOT/depth            frames and videos are below rgb/ where depth of the
                                    same names, as in `custom`, is for the test

The frames of a video are stored under the cache as JPEGs of quality 95. With depth and
data.split=folder the last fifth of a recording is its test. Frames that show little
motion are left out: g is a frame's grey levels (0..255), reduced to 64 x 64 by means
over areas, and the first frame is kept, then each with

    mean |g - g of the frame kept before| >= data.min_change

data.offsets count the frames that are kept, so they adapt to the speed of the camera.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from ml_collections import ConfigDict

from amlr_jax.data import cameras, custom, images, video
from amlr_jax.data.frames import (
    Camera,
    Frame,
    Layout,
    Problem,
    Report,
    Sequences,
    View,
    hold_out_last_fifth,
    refuse,
)
from amlr_jax.data.prepared import cache_folder
from amlr_jax.data.storage import Size, size_name
from amlr_jax.runtime import files, paths
from amlr_jax.runtime.cluster import cores
from amlr_jax.runtime.console import bar, show
from amlr_jax.runtime.errors import InputError, counted, preview
from amlr_jax.runtime.locking import only_one

NAME = "frames"
SIDE = 64  # pixels of the reduced frames that are compared
QUALITY = 95  # of the JPEGs of a video's frames


class Image(NamedTuple):
    """A frame of a recording."""

    key: str  # recording/name
    path: Path


class Recordings(NamedTuple):
    """The images of each recording in the order of time, and the depth of some."""

    images: dict[str, tuple[Image, ...]]
    depth: dict[str, Path]  # by the key of the image
    notes: tuple[str, ...]

    def parts(self, name: str) -> tuple[tuple[Image, ...], tuple[Image, ...]]:
        """The images of a recording to train on, and those of the test, with depth."""
        kept, held_out = hold_out_last_fifth(self.images[name])
        test = tuple(image for image in held_out if image.key in self.depth)
        return (kept, test) if test else (self.images[name], ())


def find(config: ConfigDict, *, report: Report = refuse) -> Recordings:
    """The recordings of `config.data`; depth only with data.split=folder.

    Videos that were not read before are read. InputError for a folder without frames.
    """
    if config.split not in ("folder", "none"):
        raise InputError(
            "data.split must be none, or folder for a test on the last fifth of each "
            f"recording, of which there is depth; got '{config.split}'"
        )
    root, notes = paths.expanded(config.root).absolute(), list[str]()
    frames, depth = custom.find_files(
        root, report, notes, needs_depth=False, beside=video.VIDEOS
    )
    found: dict[str, list[Image]] = {}
    for key in sorted(frames, key=paths.natural):
        found.setdefault(key.rpartition("/")[0], []).append(Image(key, frames[key]))
    images_folder, _ = custom.folders(root)
    place = images_folder if images_folder.is_dir() else root
    for path in paths.find(place).files:
        if path.suffix.lower() in video.VIDEOS:
            name = paths.plain(path.relative_to(place).with_suffix("").as_posix())
            if name in found:
                report(Problem("two recordings of one name", (name,), "rename one"))
            stored = frames_of(path, cache_folder(config.cache))
            found[name] = [Image(f"{name}/{frame.stem}", frame) for frame in stored]
    if not found:
        raise InputError(
            f"no frames at data.root='{root}'; expected {root}/<recording>/<name>.jpg, "
            "or a video as <recording>.mp4"
        )
    lost = tuple(sorted(depth.keys() - frames.keys()))
    if lost and config.split == "folder":
        report(Problem(f"{len(lost)} files of depth have no frame", lost))
    images_of = {name: tuple(found[name]) for name in sorted(found, key=paths.natural)}
    depth = depth if config.split == "folder" else {}
    return Recordings(images_of, depth, tuple(notes))


def _camera_of(config: ConfigDict) -> Callable[[Image], Camera]:
    """The camera of an image, from data.intrinsics or ROOT/intrinsics.json."""
    usual = paths.expanded(config.root).absolute() / "intrinsics.json"
    given = config.intrinsics or (str(usual) if usual.is_file() else "")
    read = cameras.reader(given, option="data.intrinsics")
    if read is None:
        raise InputError(
            "self-supervision needs the camera: give fx,fy,cx,cy in pixels of the "
            f"frames as --config.data.intrinsics='...', or in '{usual}'"
        )
    return lambda image: read(image.path, image.key, images.read_size(image.path))


def read_layout(config: ConfigDict, *, report: Report = refuse) -> Layout:
    """The test frames; InputError if there is none, as without depth."""
    camera, found = _camera_of(config), find(config, report=report)
    test = tuple(
        Frame(image.key, image.path, found.depth[image.key], camera(image))
        for name in found.images
        for image in found.parts(name)[1]
    )
    if not test:
        raise InputError(
            f"no test frame: none of the last fifth of a recording under data.root="
            f"'{config.root}' has depth in depth/ (same folders and names as in rgb/)"
        )
    given = {key: config[key] for key in custom.UNITS}
    units = custom.units([frame.depth for frame in test], report, **given)
    options = {"test_only": True, "notes": found.notes, **units}
    return Layout(NAME, config.split, train=(), test=test, **options)


def read_sequences(config: ConfigDict) -> Sequences:
    """The views to train on: each frame with those at data.offsets among the kept ones.

    InputError without any, for recordings of frames of several sizes, and without the
    camera of a frame.
    """
    camera, offsets = _camera_of(config), tuple(config.offsets)
    found = find(config)
    train = {name: found.parts(name)[0] for name in found.images}
    total = sum(map(len, train.values()))
    views: list[View] = []
    counts = [0]  # kept frames of each recording
    with bar("Comparing frames", total) as shown:
        for name, every in train.items():
            _require_one_size(name, every)
            kept = moving(every, config, shown.advance)
            counts.append(len(kept))
            views += _neighbours(kept, offsets, camera)
    still = total - sum(counts)
    text = f"{counted(still, 'frame')} of {total} left out: less than data.min_change="
    text += f"{config.min_change:g} grey levels from the frame kept before"
    if not views:
        needed = max(0, *offsets) - min(0, *offsets) + 1
        raise InputError(
            f"no view: data.offsets={offsets} needs {needed} frames of one recording, "
            f"the longest of {len(train)} has {max(counts)}"
            + (f" ({text}; lower it)" if still else "")
        )
    notes = found.notes + ((text,) if still else ())
    return Sequences(NAME, config.split, offsets, tuple(views), (), notes)


def _require_one_size(name: str, every: Sequence[Image]) -> None:
    first: dict[Size, str] = {}
    for image in every:
        first.setdefault(images.read_size(image.path), image.key)
    if len(first) > 1:
        sizes = preview(f"{size_name(size)} ({key})" for size, key in first.items())
        raise InputError(
            f"the frames of a recording must have one size; '{name}' has {sizes}"
        )


def moving(
    every: Sequence[Image], config: ConfigDict, advance: Callable
) -> list[Image]:
    """The images that differ by data.min_change from the one kept before.

    Their numbers are stored under the cache, by the sizes and times of the files.
    """
    least = config.min_change
    if not least:
        return list(every)
    stats = [(str(image.path), image.path.stat()) for image in every]
    facts = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    mark = hashlib.sha256(repr((least, facts)).encode()).hexdigest()[:16]
    path = cache_folder(config.cache) / "motion" / f"{mark}.json"
    if not path.is_file():
        kept = list(_moving(every, least, advance))
        with files.refused(f"the cache '{path.parent}'"):
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_json(path, kept)
    return [every[number] for number in json.loads(path.read_text())]


def _moving(every: Sequence[Image], least: float, advance: Callable) -> Iterator[int]:
    before = None
    with ThreadPoolExecutor(cores()) as pool:
        for number, grey in enumerate(pool.map(_reduced, every)):
            advance()
            if before is None or change(before, grey) >= least:
                before = grey
                yield number


def _reduced(image: Image) -> np.ndarray:
    return reduced(images.read_rgb(image.path))


def reduced(pixels: np.ndarray) -> np.ndarray:
    """The grey levels float32 [64, 64] of an image uint8 [H, W, 3]."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def change(one: np.ndarray, other: np.ndarray) -> float:
    """The mean absolute difference of two reduced frames, in grey levels."""
    return float(np.abs(one - other).mean())


def _neighbours(
    kept: Sequence[Image], offsets: Sequence[int], camera: Callable[[Image], Camera]
) -> Iterator[View]:
    camera = cache(camera)
    for place, image in enumerate(kept):
        around = [place + offset for offset in offsets]
        if all(0 <= other < len(kept) for other in around):
            sources = tuple(kept[other].path for other in around)
            yield View(image.key, image.path, sources, camera(image))


def frames_of(path: Path, cache: Path) -> list[Path]:
    """The frames of a video as images under `cache`, which are made on first use.

    InputError for a video that is damaged or cannot be read, and for a full disk.
    """
    stat = path.stat()
    mark = hashlib.sha256(repr((stat.st_size, stat.st_mtime_ns)).encode()).hexdigest()
    folder = cache / "videos" / f"{path.stem}-{mark[:12]}"
    lock = folder.with_name(f"{folder.name}.lock")
    with only_one(lock, doing=f"read {path.name}", key="data.cache"):
        if not folder.is_dir():
            _store(path, folder)
    return paths.find(folder, "*.jpg").files


def _store(path: Path, folder: Path) -> None:
    about, reading = video.facts(path), video.Reading([], [])
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    try:
        with files.replacing(folder) as unfinished:
            unfinished.mkdir()
            with bar(f"Reading {path.name}", about.frames) as shown:
                for number, (_, frame) in enumerate(video.frames(path, about, reading)):
                    _, data = cv2.imencode(".jpg", frame[..., ::-1], options)
                    (unfinished / f"{number:06d}.jpg").write_bytes(data.tobytes())
                    shown.advance()
            for line in reading.damage:
                raise InputError(f"{line}; repair it or take it out of data.root")
    except OSError as error:
        raise InputError(
            f"the frames of '{path}' cannot be stored in '{folder}': {error.strerror}; "
            "choose another folder with --config.data.cache=DIR"
        ) from error
    for line in reading.notes:
        show(line)
    show(f"The frames of '{path}' are stored in '{folder}'")
