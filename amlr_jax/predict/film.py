"""A video through a network: frame by frame, and back into a video."""

from collections.abc import Iterator
from functools import partial
from itertools import islice

import numpy as np
from rich.markup import escape

from amlr_jax.data import colors
from amlr_jax.evaluate import depth_stream
from amlr_jax.predict import outputs, video
from amlr_jax.predict.image_files import AHEAD, Work, size_of
from amlr_jax.predict.inputs import Source
from amlr_jax.predict.outputs import Result
from amlr_jax.predict.prediction_record import numbers
from amlr_jax.runtime.console import Bar, show
from amlr_jax.runtime.errors import InputError

COMPLETE = 0.98  # of the frames that a container claims; some count generously


def moving(work: Work) -> dict[str, str]:
    """What is appended to the name of a video, of each kind that becomes a video."""
    return {kind: f"_{kind}.mp4" for kind in work.kinds if kind in outputs.PICTURES}


def film(work: Work, source: Source, facts: video.Facts, report: Bar) -> list[str]:
    """Predicts the frames of a video; a line if it fails or ends too early.

    Pictures become a video, the other kinds a file for each frame. InputError only if a
    result cannot be written.
    """
    writers = {
        kind: video.Writer(work.target / (source.stem + ending), rate=facts.rate)
        for kind, ending in moving(work).items()
    }
    try:
        row = _frames(work, source, writers, report)
        for writer in writers.values():
            writer.close()
    except outputs.CannotWriteError:
        raise
    except InputError as error:
        return _told("skipped", str(error))
    finally:
        for writer in writers.values():
            writer.abandon()
    row["outputs"] = [source.stem + e for e in moving(work).values()] + row["outputs"]
    expected = min(facts.frames, work.limit or facts.frames)
    whole = row["frames"] >= COMPLETE * expected
    # One that ended early is not called done, so that it is predicted again.
    work.record.add(source, row | {"kinds": work.kinds if whole else ()})
    if whole:
        return []
    ends = f"'{source.path}' ends after {row['frames']} of {expected} frames"
    return _told("damaged", ends)


def _told(what: str, line: str) -> list[str]:
    show(f"[red]{what}[/red] {escape(line)}")
    return [line]


def _frames(work: Work, source: Source, writers: dict, report: Bar) -> dict:
    found = depth_stream.in_order(
        work.pool,
        partial(_of_frame, work, source, tuple(writers)),
        enumerate(_film_results(work, source)),
        ahead=AHEAD,
    )
    names, rows, size = [], [], {}
    for size, row, files, pictures in found:  # noqa: B007
        for kind, picture in pictures.items():
            writers[kind].write(picture)
        names += files
        rows.append(row)
        report.advance(note=escape(source.path.name))
    values = {name: [row[name] for row in rows] for name in rows[0]}
    return {
        "frames": len(rows),
        **size,
        "min": min(values["min"]),
        "median": float(np.median(values["median"])),
        "max": max(values["max"]),
        "outputs": names,
    }


def _film_results(work: Work, source: Source) -> Iterator[Result]:
    """Results of the frames in turn, all with the scale of colours of the first."""
    near = camera = None
    frames = islice(video.frames(source.path), work.limit or None)
    for chunk in depth_stream.chunks(frames, work.batch_size):
        if work.camera and camera is None:
            camera = work.camera(source, chunk[0].shape[:2])
        for image, depth in zip(
            chunk,
            depth_stream.depths(work.predict, chunk, batch=work.batch_size),
            strict=True,
        ):
            # A scale for each frame would flicker.
            near = near or colors.nearest(depth, far=work.style.far)
            yield Result(depth, image, camera, near)


def _of_frame(work: Work, source: Source, pictures: tuple, numbered: tuple) -> tuple:
    number, result = numbered
    kinds = [kind for kind in work.kinds if kind not in pictures]
    stem = f"{source.stem}/{number:06d}"
    names = outputs.write(result, stem, work.target, kinds=kinds, style=work.style)
    shown = {kind: outputs.picture(kind, result, work.style) for kind in pictures}
    return size_of(result.depth), numbers([result.depth]), names, shown
