"""Lists of frames in the formats of the literature, recognised from their lines.

    image depth focal     BTS; depth may be None
    image depth           GLPDepth and MIM-Depth
    folder frame side     monodepth2; side l or r

Windows line ends, back slashes, leading slashes, empty lines and UTF-16 are accepted;
all lines must have the format of the first. The layout's reader resolves the paths.
"""

import codecs
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from amlr_jax.data import images
from amlr_jax.data.frames import Frame, Problem, Report, hold_out_last_fifth, refuse
from amlr_jax.runtime import paths
from amlr_jax.runtime.errors import InputError, counted, preview


class Pair(NamedTuple):
    """A line that names an image and its depth; `depth` is None for "None"."""

    line: int
    image: str
    depth: str | None


class Numbered(NamedTuple):
    """A line that names a frame of a drive or sequence, and the side of the camera."""

    line: int
    folder: str
    frame: int
    side: str  # "l" or "r"


class Listing(NamedTuple):
    """A whole list."""

    kind: str  # a key of FORMATS
    rows: tuple[Any, ...]  # of Numbered for monodepth2, else of Pair


Parts = tuple[tuple[Frame, ...], tuple[Frame, ...]]  # training and test frames
ADVICE = "complete data.root, or take these lines out of the list"


class Chosen(NamedTuple):
    """Training and test frames, the name of the choice, and notes for the user."""

    train: tuple[Frame, ...]
    test: tuple[Frame, ...]
    split: str
    notes: tuple[str, ...]


# Tried in this order; the names are for messages.
FORMATS = {
    "monodepth2": re.compile(r"(\S+)\s+(\d+)\s+([lr])"),
    "bts": re.compile(r"(\S+)\s+(\S+)\s+[\d.]+"),
    "glp": re.compile(r"(\S+)\s+(\S+)"),
}
_KNOWN = (
    "'image depth focal' (BTS), 'image depth' (GLPDepth, MIM-Depth), "
    "'date/drive frame l|r' (monodepth2)"
)


def read_list(path: str | Path) -> Listing:
    """The rows of a list; InputError with the line that does not fit."""
    kind, rows = "", list[Any]()
    for number, text in lines(path):
        found = _row(number, text)
        if not found:
            raise InputError(
                f"list '{path}' line {number}: '{text[:60]}' is in no known format; "
                f"known: {_KNOWN}"
            )
        if kind and found[0] != kind:
            raise InputError(
                f"list '{path}' mixes formats: line {rows[0].line} is in that of "
                f"{kind}, line {number} in that of {found[0]}: '{text[:60]}'"
            )
        kind, row = found
        rows.append(row)
    return Listing(kind, tuple(rows))


def lines(path: str | Path) -> list[tuple[int, str]]:
    """Line numbers from 1 and stripped lines of a text file, empty ones left out."""
    data = images.read(paths.expanded(path), what="list")
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"list '{path}' must be a text file in UTF-8: byte {error.start} is not; "
            f"convert it: iconv -f WINDOWS-1252 -t UTF-8 '{path}'"
        ) from error
    stripped = ((n, line.strip()) for n, line in enumerate(text.splitlines(), 1))
    found = [(number, line) for number, line in stripped if line]
    if not found:
        raise InputError(f"list '{path}' is empty; it must name at least one frame")
    return found


def file_name(text: str) -> str:
    """The name in a list as names on disk are compared: "a/0001" of "\\\\a\\\\0001"."""
    name = paths.plain(text.replace("\\", "/")).strip("/")
    return name.removeprefix("./")


def _row(number: int, text: str) -> tuple[str, Pair | Numbered] | None:
    """The format of a line and its row; None if it is in no known format."""
    for kind, form in FORMATS.items():
        found = form.fullmatch(text)
        if found and kind == "monodepth2":
            folder, frame, side = found.groups()
            return kind, Numbered(number, file_name(folder), int(frame), side)
        if found:
            image, depth = map(file_name, found.groups())
            return kind, Pair(number, image, None if depth == "None" else depth)
    return None


def report_lost(
    path: str | Path, lost: Sequence[str], *, total: int, report: Report = refuse
) -> None:
    """Reports the frames of a list with missing files, of `total`."""
    if lost:
        text = f"{len(lost)} of {total} frames that list '{path}' names are missing"
        report(Problem(text, tuple(lost), ADVICE))


def without_depth(path: str | Path, names: Sequence[str], *, total: int) -> list[str]:
    """The note that counts and names frames that have no ground truth."""
    text = f"{len(names)} of {total} frames of list '{path}' have no depth and are left"
    return [f"{text} out: {preview(names)}"] if names else []


def choose(
    split: str,
    *,
    usual: Callable[[Report], Parts],
    train: tuple[Frame, ...] | None,
    test: tuple[Frame, ...] | None,
    report: Report = refuse,
) -> Chosen:
    """Training and test frames where none, one or both are given by lists.

    `usual` reads the split by name. Without a list of test frames, they are those of
    the split; where it cannot be read in full, or is `folder`, the last fifth of each
    drive or scene of the training list. Without a list of training frames, they are
    those of the split that are not listed. Frames in both parts are a problem.
    """
    if train is None and test is None:
        return Chosen(*usual(report), split, ())
    if train is None:
        return _remaining(split, usual(report), test or ())
    name, reason = "list", "data.split=folder"
    if test is None and split != "folder":
        try:
            test, name = usual(refuse)[1], f"list-{split}"
        except InputError as error:
            reason = f"data.split={split} is not complete ({str(error)[:120]}...)"
    if test is not None:
        tested = {frame.image for frame in test}
        shared = tuple(frame.key for frame in train if frame.image in tested)
        if shared:
            text = f"{counted(len(shared), 'frame')} of data.list also in the test"
            report(Problem(text, shared, "take them out of one of the two"))
        return Chosen(train, test, name, ())
    kept, test = hold_out_last_fifth(dict.fromkeys(train))
    note = (
        f"the last fifth of each drive or scene of data.list is the test set, since "
        f"{reason}; name another with --config.data.test_list=FILE"
    )
    return Chosen(kept, test, "list-folder", (note,))


def _remaining(split: str, usual: Parts, test: tuple[Frame, ...]) -> Chosen:
    train, rest = usual
    listed = {frame.image for frame in test}
    frames = train + rest if split == "folder" else train
    kept = tuple(frame for frame in frames if frame.image not in listed)
    return Chosen(kept, test, f"{split}-list", ())
