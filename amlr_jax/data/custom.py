"""Custom images and depth, in two folders with the same names.

    ROOT/rgb/<any folders>/<name>.png, or another of `images.READABLE`
    ROOT/depth/<the same folders>/<name>.{png,npy,npz,exr}    one of these everywhere
    ROOT/train.txt, ROOT/test.txt    optional: a name a line, "<folders>/<name>"
    ROOT/intrinsics.json             optional: {"fx": .., "fy": .., "cx": .., "cy": ..}
                                     for all, or {"<folders>/<name>": {...}, ...}

The folders may have similar names, as RGB/, images/, color/ and Depth/, gt/.
Names may tell what the file is, as <name>.color.jpg and <name>.depth.png do; a <name>
is then without it, and where there is no rgb/ and depth/ such files may stand side by
side. Without lists the last fifth of each folder is held out. `depth_files` describes
the formats of depth.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from amlr_jax.data import cameras, depth_files, images, lists
from amlr_jax.data.frames import (
    UNKNOWN_CAMERA,
    Camera,
    Frame,
    Layout,
    Problem,
    Report,
    hold_out_last_fifth,
    refuse,
    report_missing,
)
from amlr_jax.runtime import paths
from amlr_jax.runtime.errors import InputError, preview

DEPTHS = tuple(x for x in depth_files.FORMATS if x not in (".bin", ".dpt", ".jpg"))
# What a name says of its file, at its end and at its start.
_MARKS = {
    "rgb": ("rgb", "color", "colour", "image", "img"),
    "depth": ("sync_depth", "depth", "depthmap", "gt"),
    "disparity": ("disparity", "disp"),
}
_OTHERS = ("train.txt", "test.txt", "intrinsics.json")
UNITS = ("depth_scale", "depth_cap", "depth_key", "invalid_values")  # of config.data
ALL = "all"  # data.split of which every frame is a test frame
Files = dict[str, Path]
MILLIMETRES = 1000.0  # stored values of a metre in a 16-bit PNG, unless depth_scale


def read_layout(
    root: Path,
    *,
    train_list: str = "",
    test_list: str = "",
    all_tested: bool = False,
    report: Report = refuse,
    **unit: Any,
) -> Layout:
    """The frames under `root`; with `all_tested` all for the test, none for training.

    `depth_scale` is the stored value of a metre; 0: 1000 in PNGs, 1 elsewhere. Depth
    beyond `depth_cap` metres is no measurement; 0: no cap. `depth_key` names the array
    or channel of files with several. `invalid_values` are stored values of pixels that
    were not measured, beside 0. Lists replace ROOT/train.txt and ROOT/test.txt.
    Missing, duplicate or mixed files are passed to `report`; InputError for a folder
    without files.
    """
    notes: list[str] = []
    frames = _frames(root, report, notes)
    if all_tested:
        chosen = lists.Chosen((), tuple(frames.values()), ALL, ())
    else:
        train, test = (
            _listed(root, frames, part, path, report)
            for part, path in (("train", train_list), ("test", test_list))
        )
        chosen = lists.choose(
            "folder",
            usual=lambda _: hold_out_last_fifth(frames.values()),
            train=train,
            test=test,
            report=report,
        )
    return Layout(
        "custom",
        chosen.split,
        train=chosen.train,
        test=chosen.test,
        notes=(*notes, *chosen.notes),
        test_only=all_tested,
        **units([frame.depth for frame in frames.values()], report, **unit),
    )


def units(
    depth: Sequence[Path], report: Report, *, depth_scale: float = 0.0, **others: Any
) -> dict[str, Any]:
    """What the files of ground truth mean, as fields of a `Layout`; `read_layout`.

    `others` are its depth_cap, depth_key and invalid_values.
    """
    endings = {path.suffix.lower() for path in depth}
    if len(endings) > 1:
        text = f"the ground truth mixes {', '.join(sorted(endings))}"
        report(Problem(text, advice="keep it in one format"))
    whole = endings == {".png"}
    scale = depth_scale or (MILLIMETRES if whole else 1.0)
    return {"depth_scale": scale, "in_metres": not whole, **others}


def pairs(images_folder: Path, depth_folder: Path) -> list[Frame]:
    """The frames of images and depth in two folders, matched as those of a root.

    Names in one of them alone are left out; InputError if none is in both.
    """
    both = []
    for folder, role in ((images_folder, "rgb"), (depth_folder, "depth")):
        found = paths.find(folder).all() if folder.is_dir() else []
        both.append(_by_name(folder.parent, folder, found, role, refuse))
        if not both[-1]:
            raise InputError(f"'{folder}' is no folder with {role} files")
    colour, depth = _paired(*both)
    names = sorted(colour.keys() & depth.keys(), key=paths.natural)
    if not names:
        raise InputError(
            f"no name is both in '{images_folder}' ({preview(colour)}) and in "
            f"'{depth_folder}' ({preview(depth)})"
        )
    return [Frame(name, colour[name], depth[name], UNKNOWN_CAMERA) for name in names]


def _frames(root: Path, report: Report, notes: list[str]) -> dict[str, Frame]:
    """Name -> frame, for each name with an image or depth."""
    colour, depth = find_files(root, report, notes)
    ending = min(path.suffix for path in depth.values())
    names = sorted({*colour, *depth}, key=paths.natural)
    of_images, of_depth = folders(root)
    paths_of = {name: colour.get(name, of_images / f"{name}.png") for name in names}
    camera = _cameras(root / "intrinsics.json", paths_of, report)
    frames = {
        name: Frame(
            name,
            paths_of[name],
            depth.get(name, of_depth / f"{name}{ending}"),
            camera[name],
        )
        for name in names
    }
    advice = "rgb/ and depth/ must hold the same names"
    report_missing(list(frames.values()), report, advice=advice)
    return frames


def find_files(
    root: Path,
    report: Report,
    notes: list[str],
    *,
    needs_depth: bool = True,
    beside: Collection[str] = (),
) -> tuple[Files, Files]:
    """Images and depth by name; files that are neither are counted in `notes`.

    Without `needs_depth` images may have none. Files with the endings `beside` are read
    elsewhere.
    """
    both = folders(root)
    apart = both[0] != both[1]
    found = {folder: paths.find(folder) for folder in both}
    lost = tuple(line for _, lines in found.values() for line in lines)
    if lost:
        report(Problem("files that cannot be found", lost, "restore them"))
    colour, depth = (
        _by_name(root, folder, found[folder].files, role, report)
        for role, folder in zip(("rgb", "depth"), both, strict=True)
    )
    if not apart:
        depth = _without_marks(depth, "depth")
        colour = {name: p for name, p in colour.items() if not bare(name, "depth")}
    colour, depth = _paired(colour, depth)
    if not apart and needs_depth:  # without a mark and depth it is another picture
        colour = {n: p for n, p in colour.items() if n in depth or bare(p.stem, "rgb")}
    for role, files in (("rgb", colour), ("depth", depth)):
        if not files and needs_depth:
            raise InputError(
                f"no {role} files at data.root='{root}'; expected "
                f"{root}/rgb/<name>.{{png,jpg,...}} and "
                f"{root}/depth/<name>{{{','.join(DEPTHS)}}}"
            )
    used = {*colour.values(), *depth.values(), *(root / name for name in _OTHERS)}
    for folder, (every, _) in found.items():
        others = {path for path in every if path.suffix.lower() not in beside}
        notes += paths.passed_over(folder, others - used)
    return colour, depth


def folders(root: Path) -> tuple[Path, Path]:
    """Those of images and of depth; `root` twice where files stand side by side."""
    usual = root / "rgb", root / "depth"
    if any(folder.is_dir() for folder in usual):
        return usual
    inside = [path for path in root.glob("*") if path.is_dir()]
    colour, depth = (
        [path for path in inside if _is_folder(path.name, role)]
        for role in ("rgb", "depth")
    )
    one_each = len(colour) == len(depth) == 1
    return (colour[0], depth[0]) if one_each else (root, root)


def _is_folder(name: str, role: str) -> bool:
    """Whether a folder is named like those of a role: Images/, RGB/, depths/."""
    return name.lower().removesuffix("s") in _MARKS[role]


def _by_name(
    root: Path, folder: Path, files: list[Path], role: str, report: Report
) -> Files:
    """Name without ending -> file, of those with the endings of a role."""
    endings: Collection[str] = images.READABLE if role == "rgb" else DEPTHS
    named: dict[str, list[Path]] = {}
    for path in files:
        if path.suffix.lower() in endings:
            name = path.relative_to(folder).as_posix()[: -len(path.suffix)]
            named.setdefault(paths.plain(name), []).append(path)
    twice = [same for same in named.values() if len(same) > 1]
    if twice and folder != root:
        names = tuple(" and ".join(f"'{path}'" for path in same) for same in twice)
        report(Problem("two files of one name", names, "keep one of them"))
    return {name: same[-1] for name, same in named.items()}


def _paired(colour: Files, depth: Files) -> tuple[Files, Files]:
    """Both by names as they are, or without marks where only that makes pairs."""
    forms = [
        (one, other)
        for one in (colour, _without_marks(colour, "rgb"))
        for other in (depth, _without_marks(depth, "depth"))
    ]
    return max(forms, key=lambda both: len(both[0].keys() & both[1].keys()))


def _without_marks(files: Files, role: str) -> Files:
    """The files that have a mark, by their names without it."""
    plain = ((bare(name, role), path) for name, path in files.items())
    return {name: path for name, path in plain if name is not None}


def bare(name: str, role: str) -> str | None:
    """A name without its mark, "a/7" of "a/7.color" and "a/color_7"; None without.

    `role` is rgb, depth or disparity.
    """
    folder, slash, leaf = name.rpartition("/")
    marks = "|".join(_MARKS[role])
    found = re.fullmatch(f"(.+)[._-](?:{marks})|(?:{marks})[._-](.+)", leaf, re.I)
    return f"{folder}{slash}{found[1] or found[2]}" if found else None


def _listed(
    root: Path, frames: dict[str, Frame], part: str, path: str, report: Report
) -> tuple[Frame, ...] | None:
    """The frames of `path` or else of ROOT/<part>.txt; None if there is neither."""
    usual = root / f"{part}.txt"
    if not path and not usual.is_file():
        return None
    place = paths.expanded(path) if path else usual
    names = [(number, _name(text, frames)) for number, text in lists.lines(place)]
    lost = [f"'{name}' (line {n})" for n, name in names if name not in frames]
    lists.report_lost(place, lost, total=len(names), report=report)
    return tuple(frames[name] for _, name in names if name in frames)


def _name(text: str, frames: Collection[str]) -> str:
    """The name of a frame, in a list with or without rgb/, ending and mark."""
    name = lists.file_name(text)
    folder, _, rest = name.partition("/")
    name = rest if _is_folder(folder, "rgb") else name
    ending = Path(name).suffix
    if name not in frames and ending.lower() in images.READABLE:
        name = name[: -len(ending)]
    plain = bare(name, "rgb")
    return plain if name not in frames and plain in frames else name  # type: ignore


def _cameras(
    path: Path, colour: Mapping[str, Path], report: Report
) -> dict[str, Camera]:
    """The camera of each image, NaN throughout where none is given."""
    found = dict.fromkeys(colour, UNKNOWN_CAMERA)
    if not path.is_file():
        return found
    bad: dict[str, str] = {}
    try:
        camera = cameras.of_json(path, "intrinsics")
    except InputError as error:
        report(Problem(str(error)))
        return found
    for name, file in colour.items():
        try:
            found[name] = camera(file, name).camera
        except InputError as error:
            bad[name] = str(error)
    if bad:
        text = f"{next(iter(bad.values()))} ({len(bad)} of {len(colour)} files)"
        report(Problem(text, tuple(bad)))
    return found
