"""NYUv2 in BTS's layout: colour and synchronised depth side by side.

    ROOT/<scene>/rgb_NNNNN.{jpg,png}  ROOT/<scene>/sync_depth_NNNNN.png     (training)
    ROOT/official_splits/test/<scene type>/rgb_NNNNN.{jpg,png} + sync_depth_NNNNN.png

Depth is uint16 millimetres and keeps its holes.
"""

from functools import partial
from pathlib import Path

from amlr_jax.data import lists
from amlr_jax.data.frames import Frame, Layout, by_group, hold_out_last_fifth
from amlr_jax.runtime.errors import InputError, preview

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


def read_layout(
    root: Path, *, split: str, train_list: str = "", test_list: str = ""
) -> Layout:
    """The frames of `split` under `root`, or those of one or two lists.

    `official` trains on every scene and tests on official_splits/test, and wants the
    published 24,231 and 654 frames; `folder` is any partial copy, the last fifth of
    each scene held out. Lists: `lists.choose`; their paths are looked for under `root`
    and under official_splits/test. Raises InputError naming what is missing.
    """
    if split not in SPLITS:
        raise InputError(
            f"data.split must be one of {', '.join(SPLITS)}; got '{split}'"
        )
    usual = partial(_usual, root, split)
    if not (train_list or test_list):
        return Layout("nyu", split, DEPTH_SCALE, *usual())
    notes: list[str] = []
    train, test = (_listed(root, path, notes) for path in (train_list, test_list))
    chosen = lists.choose(split, usual=usual, train=train, test=test)
    return Layout(
        "nyu",
        chosen.split,
        DEPTH_SCALE,
        chosen.train,
        chosen.test,
        notes=(*notes, *chosen.notes),
    )


def _usual(root: Path, split: str) -> tuple[tuple[Frame, ...], tuple[Frame, ...]]:
    scenes = _scenes(root, skip=OFFICIAL_TEST)
    if split == "folder":
        return hold_out_last_fifth(scenes)
    test_scenes = _scenes(root / OFFICIAL_TEST)
    train, test = (_sorted(part) for part in (scenes, test_scenes))
    _check_sizes(root, train, test)
    return train, test


def _listed(root: Path, path: str, notes: list[str]) -> tuple[Frame, ...] | None:
    """The frames of a list that have depth; says in `notes` what was left out."""
    if not path:
        return None
    listing = lists.read_list(path)
    if listing.kind in ("monodepth2", "odometry"):
        raise InputError(
            f"list '{path}' must have lines 'image depth' or 'image depth focal', got "
            f"the format of {listing.kind}"
        )
    made, none, lost = [], [], []
    for row in listing.rows:
        if row.depth is None:
            none.append(row.image)
            continue
        frame = _found(root, row)
        (lost if frame is None else made).append(frame or row.image)
    lists.require_found(listing.path, lost, total=len(listing.rows))
    notes.extend(lists.without_depth(listing.path, none, total=len(listing.rows)))
    return tuple(made)


def _found(root: Path, row: lists.Pair) -> Frame | None:
    """The frame of a line, under the root or the official test; None if not there."""
    for folder in (root, root / OFFICIAL_TEST):
        image, depth = find_image(folder / row.image), folder / row.depth
        if image and depth.is_file():
            return frame_of(root, image, depth)
    return None


def find_image(path: Path) -> Path | None:
    """The image of that name or, with the other ending, as JPEG or PNG."""
    there = (path.with_suffix(ending) for ending in (path.suffix, ".jpg", ".png"))
    return next((path for path in there if path.is_file()), None)


def frame_of(root: Path, image: Path, depth: Path) -> Frame:
    """The frame of two files, named by the folder and number of its depth."""
    scene = depth.parent.relative_to(root)
    return Frame(f"{scene}/{depth.stem[-5:]}", image, depth, INTRINSICS)


def _scenes(root: Path, *, skip: str | None = None) -> dict[str, list[Frame]]:
    depths = sorted(root.glob("**/sync_depth_*.png"))
    if skip is not None:
        depths = [p for p in depths if not p.relative_to(root).is_relative_to(skip)]
    if not depths:
        raise InputError(
            f"no NYUv2 data at '{root}'; expected <scene>/rgb_NNNNN.jpg and "
            "<scene>/sync_depth_NNNNN.png under data.root, and the test set under "
            f"data.root/{OFFICIAL_TEST}"
        )
    pairs = [(path, _image_of(path)) for path in depths]
    _check_pairs(root, pairs)
    return by_group(frame_of(root, image, depth) for depth, image in pairs)


def _image_of(depth: Path) -> Path | None:
    number = depth.stem.removeprefix("sync_depth_")
    return find_image(depth.with_name(f"rgb_{number}.jpg"))


def _check_pairs(root: Path, pairs: list[tuple[Path, Path | None]]) -> None:
    lost = [depth for depth, image in pairs if image is None]
    if lost:
        raise InputError(f"missing image of {len(lost)} frames: {preview(lost)}")
    images = set(root.glob("**/rgb_*.*"))
    known = {image for _, image in pairs}
    extra = {p for p in images - known if not p.is_relative_to(root / OFFICIAL_TEST)}
    if extra:
        raise InputError(
            f"missing ground truth of {len(extra)} images: {preview(sorted(extra))}; "
            "restore it, or remove those images"
        )


def _sorted(scenes: dict[str, list[Frame]]) -> tuple[Frame, ...]:
    return tuple(frame for scene in sorted(scenes) for frame in sorted(scenes[scene]))


def _check_sizes(root: Path, train: tuple, test: tuple) -> None:
    found = {"train": len(train), "test": len(test)}
    if found != SIZES:
        raise InputError(
            f"data.split=official needs {SIZES} frames under data.root='{root}', "
            f"found {found}; for a partial copy use --config.data.split=folder"
        )
