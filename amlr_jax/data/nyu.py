"""NYUv2 in BTS's layout: colour and synchronised depth side by side.

    ROOT/<scene>/rgb_NNNNN.{jpg,png}  ROOT/<scene>/sync_depth_NNNNN.png     (training)
    ROOT/official_splits/test/<scene type>/rgb_NNNNN.{jpg,png} + sync_depth_NNNNN.png

Depth is uint16 millimetres with holes.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from amlr_jax.data import images, lists
from amlr_jax.data.frames import (
    Frame,
    Layout,
    Problem,
    Report,
    hold_out_last_fifth,
    refuse,
    report_missing,
)
from amlr_jax.runtime import paths
from amlr_jax.runtime.errors import InputError

DEPTH_SCALE = 1000.0
# Kinect colour camera of the labelled set's toolbox: fx, fy, cx, cy at 480x640.
INTRINSICS = (
    518.85790117450188,
    519.46961112127485,
    325.58244941119034,
    253.73616633400465,
)
OFFICIAL_TEST = "official_splits/test"
SPLITS = ("official", "folder")
SIZES = {"train": 24231, "test": 654}  # of "official"
_IMAGE, _DEPTH = "rgb_", "sync_depth_"


def read_layout(
    root: Path,
    *,
    split: str,
    train_list: str = "",
    test_list: str = "",
    report: Report = refuse,
) -> Layout:
    """The frames of `split` under `root`, or those of one or two lists.

    `official` trains on every scene and tests on official_splits/test, and requires the
    published 24,231 and 654 frames; `folder` is any partial copy, the last fifth of
    each scene held out. Lists: `lists.choose`; their paths are searched under `root`
    and under official_splits/test. Missing files are passed to `report`; InputError
    for a list that cannot be read, and a root without frames.
    """
    if split not in SPLITS:
        raise InputError(
            f"data.split must be one of {', '.join(SPLITS)}; got '{split}'"
        )
    notes: list[str] = []
    train, test = (_listed(root, p, notes, report) for p in (train_list, test_list))
    usual = partial(_usual, root, split)
    chosen = lists.choose(split, usual=usual, train=train, test=test, report=report)
    train, test, split, more = chosen
    return Layout("nyu", split, DEPTH_SCALE, train, test, notes=(*notes, *more))


def _usual(root: Path, split: str, report: Report) -> lists.Parts:
    frames = _frames(root, report)
    test = tuple(f for f in frames if f.key.startswith(f"{OFFICIAL_TEST}/"))
    train = tuple(f for f in frames if not f.key.startswith(f"{OFFICIAL_TEST}/"))
    if not train:
        raise InputError(
            f"no NYUv2 data at '{root}'; expected <scene>/rgb_NNNNN.jpg and "
            "<scene>/sync_depth_NNNNN.png under data.root, and the test set under "
            f"data.root/{OFFICIAL_TEST}"
        )
    wanted = train if split == "folder" else train + test
    report_missing(wanted, report, advice="restore them, or remove these frames")
    if split == "folder":
        return hold_out_last_fifth(train)
    found = {"train": len(train), "test": len(test)}
    if found != SIZES:
        text = "data.split=official needs {train:,} training and {test:,} test frames"
        text = f"{text.format(**SIZES)} under data.root='{root}', found "
        advice = "for a partial copy use --config.data.split=folder"
        report(Problem(f"{text}{len(train)} and {len(test)}", advice=advice))
    return train, test


def _frames(root: Path, report: Report) -> list[Frame]:
    """A frame for each number of a scene with an image or depth."""
    places: dict[tuple[Path, str], dict[str, Path]] = {}
    files, lost = paths.find(root, "**/*_*")
    if lost:
        report(Problem("files that cannot be found", tuple(lost), "restore them"))
    for path in files:
        start = next((s for s in (_DEPTH, _IMAGE) if path.name.startswith(s)), None)
        if start and path.suffix.lower() in images.READABLE:
            place = path.parent, path.stem.removeprefix(start)
            places.setdefault(place, {}).setdefault(start, path)
    pairs = [
        (
            found.get(_IMAGE, folder / f"{_IMAGE}{number}.jpg"),
            found.get(_DEPTH, folder / f"{_DEPTH}{number}.png"),
        )
        for (folder, number), found in places.items()
    ]
    return _named(root, sorted(pairs, key=lambda pair: paths.natural(pair[1])))


def _named(root: Path, pairs: Sequence[tuple[Path, Path]]) -> list[Frame]:
    """Frames of images and depth, named <scene>/<number>."""
    return [
        Frame(
            f"{depth.parent.relative_to(root)}/{depth.stem.removeprefix(_DEPTH)}",
            image,
            depth,
            INTRINSICS,
        )
        for image, depth in pairs
    ]


def _listed(
    root: Path, path: str, notes: list[str], report: Report
) -> tuple[Frame, ...] | None:
    """The frames of a list that have depth; `notes` names the others."""
    if not path:
        return None
    listing = lists.read_list(path)
    if listing.kind == "monodepth2":
        raise InputError(
            f"list '{path}' must have lines 'image depth' or 'image depth focal', got "
            f"the format of {listing.kind}"
        )
    made = tuple(
        _named(root, [_pair(root, r.image, r.depth) for r in listing.rows if r.depth])
    )
    report_missing(made, report, of=f"frames of list '{path}'", advice=lists.ADVICE)
    none = [row.image for row in listing.rows if row.depth is None]
    notes.extend(lists.without_depth(path, none, total=len(listing.rows)))
    return made


def _pair(root: Path, image: str, depth: str) -> tuple[Path, Path]:
    """The files of a line, under the root or official_splits/test."""
    pairs = (
        (_image(place, image), paths.on_disk(place, depth))
        for place in (root, root / OFFICIAL_TEST)
    )
    return max(pairs, key=lambda pair: sum(path.is_file() for path in pair))


def _image(place: Path, name: str) -> Path:
    """The image of that name, or the same name with the other ending, JPEG or PNG."""
    path = paths.on_disk(place, name)
    there = (path.with_suffix(ending) for ending in (path.suffix, ".jpg", ".png"))
    return next((path for path in there if path.is_file()), path)
