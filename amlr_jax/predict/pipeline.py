"""Images and videos through a network and into files.

Reading, computing and writing overlap. A file that cannot be predicted does not stop
the others; a result that cannot be written does.
"""

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.markup import escape

from amlr_jax.data import colors
from amlr_jax.evaluate import depth_stream
from amlr_jax.predict import inputs, outputs, record, video
from amlr_jax.predict.cameras import Camera, Reader
from amlr_jax.predict.inputs import Source
from amlr_jax.predict.outputs import Result, Style
from amlr_jax.runtime.console import Bar, show
from amlr_jax.runtime.errors import InputError

AHEAD = 4  # images read, or results written, while the network computes
# A source, the start of the names of its results, and the result or why there is none.
Item = tuple[Source, str, Result | InputError]
Loaded = tuple[np.ndarray, Camera | None]


class Work(NamedTuple):
    """What predicting needs, whatever the file."""

    predict: Callable[[np.ndarray], np.ndarray]  # uint8 [B, H, W, 3] -> [B, H, W]
    pool: Executor
    record: record.Record
    target: Path
    style: Style
    camera: Reader | None = None
    batch_size: int = 1
    limit: int = 0  # frames of a video, 0 for all


def told(what: str, problem: InputError | str) -> str:
    """The line of a problem, after it was shown."""
    show(f"[red]{what}[/red] {escape(str(problem))}")
    return str(problem)


def images(work: Work, sizes: dict[Source, tuple[int, int]], report: Bar) -> list[str]:
    """Predicts images, those of one size together; a line for each that fails.

    `sizes` are (height, width). CannotWriteError if a result cannot be written.
    """
    failed = []
    write = partial(_written, work, ())
    items = _predicted(work, sizes)
    for source, row, _ in depth_stream.in_order(work.pool, write, items, ahead=AHEAD):
        if isinstance(row, InputError):
            failed.append(told("skipped", row))
        else:
            work.record.add(source, {"kinds": work.style.kinds, **row})
        report.advance(note=escape(source.path.name))
    return failed


def _predicted(work: Work, sizes: dict[Source, tuple[int, int]]) -> Iterator[Item]:
    batches = [
        (chunk, min(work.batch_size, len(members)))
        for members in depth_stream.group(sizes, key=sizes.get)
        for chunk in depth_stream.chunks(members, work.batch_size)
    ]
    sources = chain.from_iterable(chunk for chunk, _ in batches)
    ahead = work.batch_size + AHEAD
    read = depth_stream.in_order(work.pool, partial(_read, work), sources, ahead=ahead)
    for chunk, full in batches:
        loaded = dict(zip(chunk, read, strict=False))
        for source in chunk:
            if isinstance(loaded[source], InputError):
                yield source, source.stem, loaded.pop(source)
        # The header of a PNG does not tell that it is turned.
        for same in depth_stream.group(loaded, key=lambda s: loaded[s][0].shape):
            yield from _of_one_size(work, {s: loaded[s] for s in same}, full)


def _read(work: Work, source: Source) -> Loaded | InputError:
    try:
        image = inputs.read_image(source.path)
        return image, work.camera and work.camera(source, image.shape[:2])
    except InputError as error:
        return error


def _of_one_size(work: Work, loaded: dict[Source, Loaded], full: int) -> Iterator[Item]:
    pixels = [image for image, _ in loaded.values()]
    try:
        depths = depth_stream.depths(work.predict, pixels, batch=full)
    except InputError as error:
        for source in loaded:
            yield source, source.stem, InputError(f"'{source.path}': {error}")
        return
    for source, depth in zip(loaded, depths, strict=True):
        yield source, source.stem, Result(depth, *loaded[source])


def _written(
    work: Work, moving: Collection[str], item: Item
) -> tuple[Source, dict | InputError, dict[str, np.ndarray]]:
    """Writes the results of an image or frame, but for the kinds that are `moving`.

    Returns what the record says of it, or why it failed; and the pictures of `moving`.
    """
    source, stem, result = item
    if isinstance(result, InputError):
        return source, result, {}
    kinds = [kind for kind in work.style.kinds if kind not in moving]
    names = outputs.write(result, stem, work.target, kinds=kinds, style=work.style)
    pictures = {kind: outputs.picture(kind, result, work.style) for kind in moving}
    return source, {**record.about(result.depth), "outputs": names}, pictures


def film(work: Work, source: Source, facts: video.Facts, report: Bar) -> list[str]:
    """Predicts the frames of a video; a line if it fails or is damaged.

    Pictures become a video, the other kinds a file for each frame. The frames before a
    damage are kept, but are not recorded as done. CannotWriteError if a result cannot
    be written.
    """
    moving = [kind for kind in work.style.kinds if kind in outputs.PICTURES]
    names = [f"{source.stem}_{kind}.mp4" for kind in moving]
    rows, damage = [], []
    write = partial(_written, work, moving)
    frames = _frames(work, source, facts, damage)
    try:
        with ExitStack() as stack:
            films = (video.writing(work.target / n, rate=facts.rate) for n in names)
            append = dict(zip(moving, map(stack.enter_context, films), strict=True))
            found = depth_stream.in_order(work.pool, write, frames, ahead=AHEAD)
            for _, row, pictures in found:
                for kind, picture in pictures.items():
                    append[kind](picture)
                rows.append(row)
                report.advance(note=escape(source.path.name))
            if not rows:
                raise InputError(damage[0])
    except outputs.CannotWriteError:
        raise
    except InputError as error:
        return [told("skipped", error)]
    expected = min(facts.frames, work.limit or facts.frames)
    if not damage and len(rows) < video.COMPLETE * expected:
        line = f"'{source.path}' has {len(rows)} frames; its header promises {expected}"
        show(f"[yellow]note[/yellow] {escape(line)}")
    kinds = () if damage else work.style.kinds
    made = [*names, *chain.from_iterable(row["outputs"] for row in rows)]
    row = {"kinds": kinds, **record.about_all(rows), "outputs": made}
    work.record.add(source, row)
    return [told("damaged", line) for line in damage]


def _frames(
    work: Work, source: Source, facts: video.Facts, damage: list[str]
) -> Iterator[Item]:
    """Results of the frames in turn, all with the scale of colours of the first."""
    near, number = None, 0
    camera = work.camera and work.camera(source, facts.size)
    frames = islice(video.frames(source.path, facts, damage), work.limit or None)
    for chunk in depth_stream.chunks(frames, work.batch_size):
        depths = depth_stream.depths(work.predict, chunk, batch=work.batch_size)
        for image, depth in zip(chunk, depths, strict=True):
            # A scale for each frame would flicker.
            near = near or colors.nearest(depth, far=work.style.far)
            stem = f"{source.stem}/{number:06d}"
            yield source, stem, Result(depth, image, camera, near)
            number += 1
