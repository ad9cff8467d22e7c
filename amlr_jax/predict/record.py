"""predictions.json: what a folder of results was made with, and what is in it.

    network, weights, weights_crc32    the checkpoint
    computed_in   dtype and attention of the network
    settings      what all results share; another value makes other results. With
                  `calibration`, the factor and shift of the weights, if they have one
    unit          "m", or "relative": true up to one factor
    png16_codes_per_unit               depth = code / this
    disparity_depths                   near, far of networks that predict disparity s:
                                       1 / depth = 1 / far + (1 / near - 1 / far) s
    failed        what could not be predicted, a line each
    images        for each image or video: file, of (size in bytes and time of change of
                  the file), kinds, height, width, min, median, max depth, outputs; of a
                  video frames, flicker and flicker_smoothed (`temporal.Flicker`)

A later run in the same folder skips what is done. It must have the same weights and
settings.
"""

import json
import os
import time
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from amlr_jax.predict import outputs
from amlr_jax.predict.inputs import InputFile
from amlr_jax.runtime import workdir
from amlr_jax.runtime.errors import InputError, preview
from amlr_jax.runtime.files import changed, differences
from amlr_jax.runtime.paths import natural

SECONDS = 10.0  # between two writes of the record
_SAME = ("weights_crc32", "settings")
_OF_POINTS = ("settings.intrinsics", "settings.fov", "settings.ply_stride")


class PredictionRecord:
    """The record of one run in the folder `target`."""

    def __init__(
        self, target: Path, head: dict, *, limit: int = 0, overwrite: bool = False
    ) -> None:
        """Raises InputError if the folder holds results of other weights or settings.

        `limit` is how many frames a video has at most, 0 for all. `overwrite` replaces
        what is there.
        """
        self._path = target / workdir.PREDICTIONS
        self._limit = limit
        self._head = json.loads(json.dumps(head))
        self._rows: dict[str, dict] = {}
        self._written = time.monotonic()
        if not overwrite and self._path.is_file():
            self._rows = self._earlier()

    @property
    def is_new(self) -> bool:
        """Whether the folder has no record yet."""
        return not self._path.is_file()

    def done(self, source: InputFile, kinds: tuple[str, ...]) -> bool:
        """Whether these kinds of result are there, of the file as it is now."""
        row = self._rows.get(source.name)
        if row is None or row["of"] != self._stamp(source):
            return False
        there = (self._path.parent / name for name in row["outputs"])
        return set(kinds) <= set(row["kinds"]) and all(p.is_file() for p in there)

    def add(self, source: InputFile, row: dict) -> None:
        """Adds what was made of a source, and writes the record now and then."""
        row = {"file": source.name, "of": self._stamp(source), **row}
        old = self._rows.get(source.name)
        if old is not None and old["of"] == row["of"]:
            for key in ("kinds", "outputs"):
                row[key] = [*dict.fromkeys([*old[key], *row[key]])]
        self._rows[source.name] = row
        if time.monotonic() - self._written > SECONDS:
            self.write([])

    def write(self, failed: list[str]) -> None:
        """Writes predictions.json, in the order of the names."""
        rows = [self._rows[name] for name in sorted(self._rows, key=natural)]
        value = {**self._head, "failed": failed, "images": rows}
        data = json.dumps(value, indent=1) + "\n"
        outputs.write_whole(self._path, data.encode())
        self._written = time.monotonic()

    def _stamp(self, source: InputFile) -> list[int]:
        """Tells whether a file is still the one that was predicted."""
        status = os.stat(source.path)
        limit = [self._limit] if source.is_video else []
        return [status.st_size, status.st_mtime_ns, *limit]

    def _earlier(self) -> dict[str, dict]:
        """The rows of the record in the folder, by name."""
        try:
            found = json.loads(self._path.read_text())
            rows = {row["file"]: row for row in found["images"]}
            theirs = {key: found[key] for key in _SAME}
            complete = all(
                {"of", "kinds", "outputs"} <= r.keys() for r in rows.values()
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            complete = False
        if not complete:
            raise InputError(
                f"'{self._path}' is damaged; choose another --output or give "
                "--overwrite"
            )
        changes = differences(theirs, {key: self._head[key] for key in _SAME})
        if not any("ply" in row["kinds"] for row in rows.values()):
            changes = {k: v for k, v in changes.items() if k not in _OF_POINTS}
        if changes:
            words = ["other weights"] if changes.pop("weights_crc32", None) else []
            for key, (old, new) in changes.items():
                words.append(changed(key.rpartition(".")[2], old, new))
            raise InputError(
                f"--output '{self._path.parent}' holds results of another run "
                f"({preview(words)}); choose another folder or give --overwrite"
            )
        return rows


def weights_crc32(variables: dict) -> int:
    """A number that other weights do not have, most likely."""
    total = 0
    for leaf in jax.tree.leaves(variables):
        total = zlib.crc32(np.asarray(leaf).tobytes(), total)
    return total


def about(depth: np.ndarray) -> dict[str, Any]:
    """Size and range of a depth map [H, W]."""
    height, width = depth.shape
    return {
        "height": height,
        "width": width,
        "min": float(depth.min()),
        "median": float(np.median(depth)),
        "max": float(depth.max()),
    }


def about_all(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The same of several maps of one size, the median being that of their medians."""
    return {
        "frames": len(rows),
        **rows[-1],
        "min": min(row["min"] for row in rows),
        "median": float(np.median([row["median"] for row in rows])),
        "max": max(row["max"] for row in rows),
    }
