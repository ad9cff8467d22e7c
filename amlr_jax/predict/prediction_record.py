"""predictions.json: what a folder of results was made with, and what is in it.

    network, weights, weights_crc32    the checkpoint
    settings      what all results share; another value makes other results
    unit          "m", or "relative": true up to one factor
    png16_codes_per_unit               depth = code / this
    disparity_depths                   near, far of networks that predict disparity s:
                                       1 / depth = 1 / far + (1 / near - 1 / far) s
    failed        what could not be predicted, a line each
    images        for each image or video: file, of (size in bytes and time of change of
                  the file), kinds, height, width, min, median, max depth, outputs

A run that goes on in the folder takes over what is done. It must have the same weights
and settings.
"""

import json
import os
import time
import zlib
from pathlib import Path

import jax
import numpy as np

from amlr_jax.predict import outputs
from amlr_jax.predict.inputs import Source
from amlr_jax.runtime.errors import InputError, preview

FILE = "predictions.json"
SECONDS = 10.0  # between two writes of the record
_SAME = ("weights_crc32", "settings")


class Record:
    """The record of one run in the folder `target`."""

    def __init__(
        self, target: Path, head: dict, *, limit: int = 0, overwrite: bool = False
    ) -> None:
        """Raises InputError if the folder holds results of other weights or settings.

        `limit` is how many frames a video has at most, 0 for all. `overwrite` takes
        over nothing and replaces what is there.
        """
        self._path = target / FILE
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

    def done(self, source: Source, kinds: tuple[str, ...]) -> bool:
        """Whether these kinds of result are there, of the file as it is now."""
        row = self._rows.get(source.name)
        if row is None or row["of"] != self._stamp(source):
            return False
        there = (self._path.parent / name for name in row["outputs"])
        return set(kinds) <= set(row["kinds"]) and all(p.is_file() for p in there)

    def add(self, source: Source, row: dict) -> None:
        """Adds what was made of a source, and writes the record now and then."""
        row = {"file": source.name, "of": self._stamp(source), **row}
        old = self._rows.get(source.name)
        if old is not None and old["of"] == row["of"]:
            for key in ("kinds", "outputs"):
                row[key] = [*dict.fromkeys([*old[key], *row[key]])]
        self._rows[source.name] = row
        if time.monotonic() - self._written > SECONDS:
            self.write([])

    def sizes(self, sources: list[Source]) -> dict[Source, tuple[int, int]]:
        """Height and width of those that were predicted."""
        rows = {s: self._rows[s.name] for s in sources if s.name in self._rows}
        return {s: (row["height"], row["width"]) for s, row in rows.items()}

    def write(self, failed: list[str]) -> None:
        """Writes predictions.json, in the order of the names."""
        rows = [self._rows[name] for name in sorted(self._rows)]
        value = {**self._head, "failed": failed, "images": rows}
        data = json.dumps(value, indent=1) + "\n"
        outputs.write_whole(self._path, data.encode())
        self._written = time.monotonic()

    def _stamp(self, source: Source) -> list[int]:
        """Tells whether a file is still the one that was predicted."""
        status = os.stat(source.path)
        limit = [self._limit] if source.is_video else []
        return [status.st_size, status.st_mtime_ns, *limit]

    def _earlier(self) -> dict[str, dict]:
        try:
            found = json.loads(self._path.read_text())
            rows = {row["file"]: row for row in found["images"]}
            theirs = {key: found[key] for key in _SAME}
            complete = all(
                {"of", "kinds", "outputs"} <= row.keys() for row in rows.values()
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            complete = False
        if not complete:
            raise InputError(
                f"'{self._path}' is damaged; choose another --output or give "
                "--overwrite"
            )
        ours = {key: self._head[key] for key in _SAME}
        if theirs != ours:
            raise InputError(
                f"--output '{self._path.parent}' holds results of another run "
                f"({preview(_changes(theirs, ours))}); choose another folder or give "
                "--overwrite"
            )
        return rows


def weights_crc32(variables: dict) -> int:
    """A number that other weights do not have, most likely."""
    total = 0
    for leaf in jax.tree.leaves(variables):
        total = zlib.crc32(np.ascontiguousarray(leaf), total)
    return total


def numbers(depths: list[np.ndarray]) -> dict[str, float]:
    """Smallest, median and largest depth; of several maps the median of medians."""
    return {
        "min": float(min(depth.min() for depth in depths)),
        "median": float(np.median([np.median(depth) for depth in depths])),
        "max": float(max(depth.max() for depth in depths)),
    }


def _changes(theirs: dict, ours: dict) -> list[str]:
    changes = ["other weights"] * (theirs["weights_crc32"] != ours["weights_crc32"])
    old, new = theirs["settings"], ours["settings"]
    return changes + [
        f"{key} was {old.get(key)}, now {new.get(key)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
