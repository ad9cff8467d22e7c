"""Known distances: a list of points, or depth maps that may be sparse."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from amlr_jax.data import custom, depth_files, images
from amlr_jax.data.cameras import Reader
from amlr_jax.data.frames import Camera, Layout, refuse
from amlr_jax.runtime import paths
from amlr_jax.runtime.errors import InputError

T = TypeVar("T")

HEADER = ("image", "x", "y", "metres")
MOST_IMAGES = 200
PIXELS = 100  # of each depth map


class Known(NamedTuple):
    """An image and the distances that are known in it."""

    name: str
    image: np.ndarray  # uint8 [H, W, 3]
    row: np.ndarray  # [N] of pixels
    column: np.ndarray
    metres: np.ndarray  # [N] > 0
    camera: Camera | None = None  # given: `metres` is its height over the road
    listed: bool = False  # by the user, and so worth a line each


class Point(NamedTuple):
    """A line of the list."""

    line: int
    image: str
    x: float
    y: float
    metres: float


def of_camera(folder: Path, height: float, camera: Reader) -> Iterator[Known]:
    """Images of a camera whose height over the road is known, in metres.

    At most `MOST_IMAGES` of those in `folder`, evenly spaced. InputError if there is
    none, or for one without a camera.
    """
    every = paths.find(folder).all() if folder.is_dir() else []
    every = [path for path in every if path.suffix.lower() in images.READABLE]
    if not every:
        raise InputError(f"--images '{folder}' is no folder with images")
    nowhere = np.zeros(1, int)
    for path in _spaced(every):
        name = path.relative_to(folder).as_posix()
        image = images.read_as_rgb(path)
        found = camera(path, name.removesuffix(path.suffix), image.shape[:2])
        yield Known(name, image, nowhere, nowhere, np.full(1, height), found)


def of_points(path: Path, folder: Path | None) -> Iterator[Known]:
    """The images and points of a CSV file: image, x, y, metres; a header is optional.

    x and y are in pixels of the upright image, the centre of the first at 0, 0. Images
    are relative to `folder`, or to the list's own. InputError names the line.
    """
    points = _points(path)
    for name in dict.fromkeys(point.image for point in points):
        own = [point for point in points if point.image == name]
        file = (folder or path.parent) / paths.expanded(name)
        if not file.is_file():
            raise InputError(
                f"'{path}' line {own[0].line}: no image '{file}'; names are relative "
                "to the folder of the list, or to --images=DIR"
            )
        image = images.read_as_rgb(file)
        height, width = image.shape[:2]
        for point in own:
            if not (-0.5 <= point.x < width - 0.5 and -0.5 <= point.y < height - 0.5):
                raise InputError(
                    f"'{path}' line {point.line}: ({point.x:g}, {point.y:g}) is "
                    f"outside of '{name}', which is {width} x {height} pixels"
                )
        x, y, metres = np.array([point[2:] for point in own]).T
        row, column = (np.floor(v + 0.5).astype(int) for v in (y, x))
        yield Known(name, image, row, column, metres, listed=True)


def _points(path: Path) -> list[Point]:
    try:
        text = images.read(path, what="--points").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"--points '{path}' is no text in UTF-8") from error
    rows = enumerate(csv.reader(io.StringIO(text), skipinitialspace=True), 1)
    found = [
        _point(path, number, row)
        for number, row in rows
        if any(cell.strip() for cell in row)
        and not (number == 1 and [cell.strip() for cell in row] == [*HEADER])
    ]
    if not found:
        raise InputError(f"--points '{path}' holds no point: image,x,y,metres")
    return found


def _point(path: Path, number: int, row: list[str]) -> Point:
    try:
        name, *numbers = row
        x, y, metres = map(float, numbers)
        good = all(map(math.isfinite, (x, y, metres))) and metres > 0
    except ValueError:
        good = False
    if not good:
        raise InputError(
            f"'{path}' line {number} must be image,x,y,metres, x and y in pixels and "
            f"metres above 0; got '{','.join(row)}'"
        )
    return Point(number, name.strip(), x, y, metres)


def of_folders(folder: Path, truth: Path, *, depth_scale: float) -> Iterator[Known]:
    """Measured pixels of depth maps, matched to images by name as own folders are.

    At most `MOST_IMAGES`, evenly spaced, and `PIXELS` of each, at random with a fixed
    seed. `depth_scale` is the stored value of a metre; 0: 1000 in PNGs, 1 elsewhere.
    InputError if no name is in both, and for files that do not fit.
    """
    frames = custom.pairs(folder, truth)
    unit = custom.units([f.depth for f in frames], refuse, depth_scale=depth_scale)
    layout = Layout("custom", "folder", train=(), test=(), **unit)
    rng = np.random.default_rng(0)
    for frame in _spaced(frames):
        image = images.read_as_rgb(frame.image)
        stored = depth_files.read(frame, layout, image.shape[:2]).stored[..., 0]
        metres = stored.astype(float) / depth_files.stored_scale(layout)
        rows, columns = np.nonzero(metres)
        some = rng.permutation(rows.size)[:PIXELS]
        rows, columns = rows[some], columns[some]
        yield Known(frame.key, image, rows, columns, metres[rows, columns])


def _spaced(every: Sequence[T]) -> Iterator[T]:
    """At most `MOST_IMAGES`, evenly spaced."""
    count = min(len(every), MOST_IMAGES)
    for index in np.linspace(0, len(every) - 1, count).round().astype(int):
        yield every[index]
