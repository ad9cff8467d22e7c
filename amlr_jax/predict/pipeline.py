"""Images and videos through a network and into files.

Reading, computing and writing overlap. A file that cannot be predicted does not stop
the others; a result that cannot be written does.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.markup import escape

from amlr_jax.data import colors, video
from amlr_jax.data.cameras import Camera, Reader
from amlr_jax.data.images import read_as_rgb
from amlr_jax.evaluate import depth_stream
from amlr_jax.predict import mp4, outputs, record
from amlr_jax.predict.inputs import InputFile
from amlr_jax.predict.outputs import OutputStyle, Result
from amlr_jax.predict.temporal import Flicker, Smoothing
from amlr_jax.runtime.console import Bar, show
from amlr_jax.runtime.errors import InputError
from amlr_jax.runtime.threads import in_order

AHEAD = 4  # images read, or results written, while the network computes
# A source, the start of the names of its results, and the result or why there is none.
Item = tuple[InputFile, str, Result | InputError]
Loaded = tuple[np.ndarray, Camera | None]


class Pipeline(NamedTuple):
    """What predicting needs, whatever the file."""

    # uint8 [B, H, W, 3] -> [B, H, W], or [B, 2, H, W] with the spread
    predict: Callable[[np.ndarray], np.ndarray]
    pool: Executor
    record: record.PredictionRecord
    target: Path
    style: OutputStyle
    camera: Reader | None = None
    batch_size: int = 1
    limit: int = 0  # frames of a video, 0 for all
    smooth: float = 0.0  # seconds, of the pictures of a video; 0: as predicted


def show_problem(what: str, problem: InputError | str) -> str:
    """The line of a problem, after it was shown."""
    show(f"[red]{what}[/red] {escape(str(problem))}")
    return str(problem)


def images(
    job: Pipeline, sizes: dict[InputFile, tuple[int, int]], report: Bar
) -> list[str]:
    """Predicts images, those of one size together; a line for each that fails.

    `sizes` are (height, width). CannotWriteError if a result cannot be written.
    """
    failed = []
    write = partial(_written, job, ())
    items = _predicted(job, sizes)
    for source, row, _ in in_order(job.pool, write, items, ahead=AHEAD):
        if isinstance(row, InputError):
            failed.append(show_problem("skipped", row))
        else:
            job.record.add(source, {"kinds": job.style.kinds, **row})
        report.advance(note=escape(source.path.name))
    return failed


def _predicted(
    job: Pipeline, sizes: dict[InputFile, tuple[int, int]]
) -> Iterator[Item]:
    batches = [
        (chunk, min(job.batch_size, len(members)))
        for members in depth_stream.group(sizes, key=sizes.get)
        for chunk in depth_stream.chunks(members, job.batch_size)
    ]
    sources = chain.from_iterable(chunk for chunk, _ in batches)
    ahead = job.batch_size + AHEAD
    read = in_order(job.pool, partial(_read, job), sources, ahead=ahead)
    for chunk, full in batches:
        loaded = dict(zip(chunk, read, strict=False))
        for source in chunk:
            if isinstance(loaded[source], InputError):
                yield source, source.stem, loaded.pop(source)
        # The header of a PNG does not tell that it is turned.
        for same in depth_stream.group(loaded, key=lambda s: loaded[s][0].shape):
            yield from _of_one_size(job, {s: loaded[s] for s in same}, full)


def _read(job: Pipeline, source: InputFile) -> Loaded | InputError:
    try:
        image = read_as_rgb(source.path)
        size = image.shape[:2]
        return image, job.camera and job.camera(source.path, source.stem, size)
    except InputError as error:
        return error


def _of_one_size(
    job: Pipeline, loaded: dict[InputFile, Loaded], full: int
) -> Iterator[Item]:
    pixels = [image for image, _ in loaded.values()]
    try:
        depths = depth_stream.depths(job.predict, pixels, batch=full)
    except InputError as error:
        for source in loaded:
            yield source, source.stem, InputError(f"'{source.path}': {error}")
        return
    for source, depth in zip(loaded, depths, strict=True):
        depth, spread = _parts(depth)
        image, camera = loaded[source]
        yield source, source.stem, Result(depth, image, camera, spread=spread)


def _parts(found: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Depth and spread [H, W] of [2, H, W]; of [H, W] the depth alone."""
    return (found[0], found[1]) if found.ndim == 3 else (found, None)


def _written(
    job: Pipeline, in_video: Collection[str], item: Item
) -> tuple[InputFile, dict | InputError, dict[str, np.ndarray]]:
    """Writes the results of an image or frame, but for the kinds `in_video`.

    Returns its entry for the record, or why it failed; and the pictures `in_video`.
    """
    source, stem, result = item
    if isinstance(result, InputError):
        return source, result, {}
    kinds = [kind for kind in job.style.kinds if kind not in in_video]
    names = outputs.write(result, stem, job.target, kinds=kinds, style=job.style)
    pictures = {kind: outputs.picture(kind, result, job.style) for kind in in_video}
    return source, {**record.about(result.depth), "outputs": names}, pictures


def film(
    job: Pipeline, source: InputFile, facts: video.VideoFacts, report: Bar
) -> list[str]:
    """Predicts the frames of a video; a line if it fails or is damaged.

    Pictures become a video, the other kinds a file for each frame; `smooth` changes
    only the former. The record gets the flicker. The frames before a damage are kept,
    but are not recorded as done. CannotWriteError if a result cannot be written.
    """
    in_video = [kind for kind in job.style.kinds if kind in outputs.PICTURES]
    names = [outputs.video_of(kind, source.stem) for kind in in_video]
    rows, times, reading = [], deque[float](), video.Reading([], [])
    write = partial(_written, job, in_video)
    flicker = {"flicker": Flicker()}
    if job.smooth:
        flicker["flicker_smoothed"] = Flicker()
    frames = _frames(job, source, facts, reading, times, [*flicker.values()])
    try:
        with ExitStack() as stack:
            films = (mp4.writing(job.target / n, rate=facts.rate) for n in names)
            append = dict(zip(in_video, map(stack.enter_context, films), strict=True))
            found = in_order(job.pool, write, frames, ahead=AHEAD)
            for _, row, pictures in found:
                time = times.popleft()
                for kind, picture in pictures.items():
                    append[kind](picture, time)
                rows.append(row)
                report.advance(note=escape(source.path.name))
            if not rows:
                raise InputError(reading.damage[0])
    except outputs.CannotWriteError:
        raise
    except InputError as error:
        return [show_problem("skipped", error)]
    for line in reading.notes:
        show(f"[yellow]note[/yellow] {escape(line)}")
    kinds = () if reading.damage else job.style.kinds
    made = [*names, *chain.from_iterable(row["outputs"] for row in rows)]
    means = {name: one.mean for name, one in flicker.items()}
    row = {"kinds": kinds, **record.about_all(rows), **means, "outputs": made}
    if means["flicker"] is not None:
        text = f"{escape(source.path.name)}: depth of still pixels changes by "
        text += " and, smoothed, ".join(f"{mean:.2%}" for mean in means.values())
        show(f"{text} from frame to frame")
    job.record.add(source, row)
    return [show_problem("damaged", line) for line in reading.damage]


def _frames(
    job: Pipeline,
    source: InputFile,
    facts: video.VideoFacts,
    reading: video.Reading,
    times: deque[float],
    flicker: list[Flicker],
) -> Iterator[Item]:
    """Results of the frames in turn, all with the scale of colours of the first.

    Appends their times to `times`; `flicker` is of the depth as predicted and, if there
    are two, as shown.
    """
    near, number = None, 0
    smooth = Smoothing(job.smooth) if job.smooth else None
    camera = job.camera and job.camera(source.path, source.stem, facts.size)
    frames = islice(video.frames(source.path, facts, reading), job.limit or None)
    for chunk in depth_stream.chunks(frames, job.batch_size):
        pixels = [image for _, image in chunk]
        depths = depth_stream.depths(job.predict, pixels, batch=job.batch_size)
        for (time, image), depth in zip(chunk, depths, strict=True):
            depth, spread = _parts(depth)
            times.append(time)
            # A scale for each frame would flicker.
            near = near or colors.nearest(depth, far=job.style.far)
            stem = outputs.frame_of(source.stem, number)
            shown = smooth(depth, time) if smooth else depth
            for one, measured in zip(flicker, (depth, shown), strict=False):
                one.add(image, measured)
            yield source, stem, Result(depth, image, camera, near, spread, shown)
            number += 1
