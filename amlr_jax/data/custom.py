"""Custom images and depth, in two folders with the same names.

    ROOT/rgb/<any folders>/<name>.{png,jpg,jpeg}
    ROOT/depth/<the same folders>/<name>.{png,npy,npz,exr}    one of these everywhere
    ROOT/train.txt, ROOT/test.txt    optional: a name a line, "<folders>/<name>"
    ROOT/intrinsics.json             optional: {"fx": .., "fy": .., "cx": .., "cy": ..}
                                     for all, or {"<folders>/<name>": {...}, ...}

Without lists the last fifth of each folder is held out. `depth_files` describes the
formats of depth.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amlr_jax.data import depth_files, images, lists
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
from amlr_jax.data.intrinsics import KEYS, camera_of
from amlr_jax.runtime.errors import InputError

IMAGES = (".png", ".jpg", ".jpeg")
DEPTHS = tuple(ending for ending in depth_files.FORMATS if ending != ".bin")
MILLIMETRES = 1000.0  # stored values of a metre in a 16-bit PNG, unless depth_scale


def read_layout(
    root: Path,
    *,
    depth_scale: float = 0.0,
    depth_cap: float = 0.0,
    depth_key: str = "",
    invalid_values: tuple[float, ...] = (),
    train_list: str = "",
    test_list: str = "",
    report: Report = refuse,
) -> Layout:
    """The frames under `root`.

    `depth_scale` is the stored value of a metre; 0: 1000 in PNGs, 1 elsewhere. Depth
    beyond `depth_cap` metres is no measurement; 0: no cap. `depth_key` names the array
    or channel of files with several. `invalid_values` are stored values of pixels that
    were not measured, beside 0. Lists replace ROOT/train.txt and ROOT/test.txt.
    Missing, duplicate or mixed files are passed to `report`; InputError for a folder
    without files.
    """
    frames = _frames(root, report)
    endings = {frame.depth.suffix.lower() for frame in frames.values()}
    if len(endings) > 1:
        text = f"'{root / 'depth'}' mixes {', '.join(sorted(endings))}"
        report(Problem(text, advice="keep the ground truth in one format"))
    whole = endings == {".png"}
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
        depth_scale or (MILLIMETRES if whole else 1.0),
        chosen.train,
        chosen.test,
        in_metres=not whole,
        depth_cap=depth_cap,
        depth_key=depth_key,
        invalid_values=tuple(invalid_values),
        notes=chosen.notes,
    )


def _frames(root: Path, report: Report) -> dict[str, Frame]:
    """Name -> frame, for each name with an image or depth."""
    colour = _files(root, "rgb", IMAGES, report)
    depth = _files(root, "depth", DEPTHS, report)
    ending = min(path.suffix for path in depth.values())
    names = sorted({*colour, *depth})
    cameras = _cameras(root / "intrinsics.json", names, report)
    frames = {
        name: Frame(
            name,
            colour.get(name, root / "rgb" / f"{name}.png"),
            depth.get(name, root / "depth" / f"{name}{ending}"),
            cameras[name],
        )
        for name in names
    }
    advice = "rgb/ and depth/ must hold the same names"
    report_missing(list(frames.values()), report, advice=advice)
    return frames


def _files(
    root: Path, folder: str, endings: tuple[str, ...], report: Report
) -> dict[str, Path]:
    """Name without ending -> file; hidden files and other endings do not count."""
    found: dict[str, Path] = {}
    twice = []
    for path in sorted((root / folder).rglob("*")):
        if path.suffix.lower() in endings and not path.name.startswith("."):
            name = path.relative_to(root / folder).with_suffix("").as_posix()
            if name in found:
                twice.append(f"'{found[name]}' and '{path}'")
            found[name] = path
    if not found:
        raise InputError(
            f"no {folder} files at data.root='{root}'; expected "
            f"{root}/rgb/<name>{{{','.join(IMAGES)}}} and "
            f"{root}/depth/<name>{{{','.join(DEPTHS)}}}"
        )
    if twice:
        report(Problem("two files of one name", tuple(twice), "keep one of them"))
    return found


def _listed(
    root: Path, frames: dict[str, Frame], part: str, path: str, report: Report
) -> tuple[Frame, ...] | None:
    """The frames of `path` or else of ROOT/<part>.txt; None if there is neither."""
    usual = root / f"{part}.txt"
    if not path and not usual.is_file():
        return None
    place = Path(path) if path else usual
    names = [(number, _bare_name(text)) for number, text in lists.lines(place)]
    lost = [f"'{name}' (line {n})" for n, name in names if name not in frames]
    lists.report_lost(place, lost, total=len(names), report=report)
    return tuple(frames[name] for _, name in names if name in frames)


def _bare_name(text: str) -> str:
    """The name of a frame: without a leading rgb/ and without an ending."""
    name = text.strip("/").replace("\\", "/").removeprefix("rgb/")
    ending = next((e for e in IMAGES if name.lower().endswith(e)), "")
    return name[: len(name) - len(ending)]


def _cameras(path: Path, names: Sequence[str], report: Report) -> dict[str, Camera]:
    """The camera of each name, NaN throughout where none is given."""
    cameras = dict.fromkeys(names, UNKNOWN_CAMERA)
    if not path.is_file():
        return cameras
    try:
        given = json.loads(images.read(path, what="intrinsics"))
    except ValueError as error:
        report(Problem(f"'{path}' is not JSON: {error}"))
        return cameras
    if not isinstance(given, dict) or "fx" in given:
        given = dict.fromkeys(names, given)
    lost = tuple(name for name in names if name not in given)
    if lost:
        advice = (
            'give every "<folders>/<name>", or one {"fx", "fy", "cx", "cy"} for all'
        )
        text = f"'{path}' lacks {len(lost)} of {len(names)} files"
        report(Problem(text, lost, advice))
    found = {name: _camera(given[name]) for name in names if name in given}
    bad = tuple(name for name, camera in found.items() if camera is None)
    if bad:
        text = (
            f"'{path}' must give fx, fy, cx, cy in pixels, the first two positive; got "
            f"{json.dumps(given[bad[0]])[:80]} for {len(bad)} of {len(names)} files"
        )
        report(Problem(text, bad))
    return cameras | {name: camera for name, camera in found.items() if camera}


def _camera(given: Any) -> Camera | None:
    """The camera in a part of the JSON; None if there is none."""
    return camera_of(map(given.get, KEYS)) if isinstance(given, dict) else None
