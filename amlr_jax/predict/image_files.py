"""Images through a network and into files; a bad file does not stop the others."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.markup import escape

from amlr_jax.evaluate import depth_stream
from amlr_jax.predict import host_image, outputs
from amlr_jax.predict.cameras import Camera, Reader
from amlr_jax.predict.inputs import Source
from amlr_jax.predict.outputs import Result
from amlr_jax.predict.prediction_record import Record, numbers
from amlr_jax.runtime.console import Bar, show
from amlr_jax.runtime.errors import InputError

AHEAD = 4  # images read, or results written, while the network computes


class Loaded(NamedTuple):
    """An image in memory."""

    source: Source
    image: np.ndarray  # uint8 [H, W, 3]
    camera: Camera | None


class Failed(NamedTuple):
    """A file that cannot be predicted, and why."""

    source: Source
    line: str


class Work(NamedTuple):
    """What predicting needs, whatever the file."""

    predict: Callable[[np.ndarray], np.ndarray]  # uint8 [B, H, W, 3] -> [B, H, W]
    pool: Executor
    record: Record
    target: Path
    kinds: tuple[str, ...]
    style: outputs.Style
    camera: Reader | None = None
    batch_size: int = 1
    limit: int = 0  # frames of a video, 0 for all


def images(work: Work, groups: list[list[Source]], report: Bar) -> list[str]:
    """Predicts images, each group of one size; a line for each that fails.

    InputError only if a result cannot be written.
    """
    failed = []
    found = depth_stream.in_order(
        work.pool, partial(_written, work), _predicted(work, groups), ahead=AHEAD
    )
    for source, row in found:
        if isinstance(row, str):
            failed.append(row)
            show(f"[red]skipped[/red] {escape(row)}")
        else:
            work.record.add(source, row)
        report.advance(note=escape(source.path.name))
    return failed


def _predicted(work: Work, groups: list[list[Source]]) -> Iterator:
    """(Loaded, depth [H, W]) or Failed of each source."""
    size = work.batch_size
    batches = [
        (chunk, min(size, len(members)))
        for members in groups
        for chunk in depth_stream.chunks(members, size)
    ]
    sources = [source for chunk, _ in batches for source in chunk]
    read = depth_stream.in_order(
        work.pool, partial(_read, work), sources, ahead=size + AHEAD
    )
    for chunk, full in batches:
        items = list(islice(read, len(chunk)))
        yield from (item for item in items if isinstance(item, Failed))
        loaded = [item for item in items if isinstance(item, Loaded)]
        # The header may have promised another size.
        for same in depth_stream.group(loaded, key=lambda item: item.image.shape):
            yield from _of_one_size(work, same, full)


def _of_one_size(work: Work, items: list[Loaded], full: int) -> Iterator:
    try:
        depths = depth_stream.depths(
            work.predict, [item.image for item in items], batch=full
        )
    except InputError as error:
        for item in items:
            yield Failed(item.source, f"'{item.source.path}': {error}")
    else:
        yield from zip(items, depths, strict=True)


def _read(work: Work, source: Source) -> Loaded | Failed:
    try:
        image = host_image.read_image(source.path)
        camera = work.camera and work.camera(source, image.shape[:2])
        return Loaded(source, image, camera)
    except InputError as error:
        return Failed(source, str(error))


def _written(work: Work, item) -> tuple[Source, dict | str]:
    """Writes the results of one image; its row of the record, or why it failed."""
    if isinstance(item, Failed):
        return item
    loaded, depth = item
    result = Result(depth, loaded.image, loaded.camera)
    names = outputs.write(
        result, loaded.source.stem, work.target, kinds=work.kinds, style=work.style
    )
    row = {"kinds": work.kinds, **size_of(depth), **numbers([depth]), "outputs": names}
    return loaded.source, row


def size_of(depth: np.ndarray) -> dict[str, int]:
    """Height and width of a map [H, W], for the record."""
    return {"height": depth.shape[0], "width": depth.shape[1]}
