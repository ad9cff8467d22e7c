"""Frames of NYUv2 and of your own folders by name, whether their files are there."""

import json
from collections.abc import Iterable
from pathlib import Path

from amlr_jax.data import custom, images, lists, nyu
from amlr_jax.data.check.findings import FAULT, NOTE, Finding
from amlr_jax.data.frames import (
    UNKNOWN_CAMERA,
    Camera,
    Frame,
    Layout,
    by_group,
    hold_out_last_fifth,
)
from amlr_jax.runtime.errors import InputError

_NYU_DEPTH, _NYU_IMAGE = "sync_depth_", "rgb_"


def nyu_layout(data, findings: list[Finding]) -> Layout:
    """The frames of `data.split` or of its lists."""
    root = Path(data.root)
    frames = _nyu_frames(root)
    tested = tuple(f for f in frames if f.key.startswith(f"{nyu.OFFICIAL_TEST}/"))
    rest = tuple(f for f in frames if not f.key.startswith(f"{nyu.OFFICIAL_TEST}/"))
    usual = (rest, tested)
    if data.split == "folder":
        usual = hold_out_last_fifth(by_group(rest))
    train, test = (_nyu_listed(root, path) for path in (data.list, data.test_list))
    sizes = {"train": len(rest), "test": len(tested)}
    partial = data.split == "official" and sizes != nyu.SIZES
    chosen = _choose(data.split, usual, train, test, findings, partial=partial)
    return Layout("nyu", chosen.split, nyu.DEPTH_SCALE, chosen.train, chosen.test)


def _nyu_frames(root: Path) -> list[Frame]:
    """A frame for each number of which there is an image or depth."""
    places: dict[tuple[Path, str], dict[str, Path]] = {}
    for start in (_NYU_DEPTH, _NYU_IMAGE):
        for path in sorted(root.glob(f"**/{start}*")):
            if path.suffix in (".png", ".jpg"):
                number = path.stem.removeprefix(start)
                places.setdefault((path.parent, number), {})[start] = path
    return [
        nyu.frame_of(
            root,
            found.get(_NYU_IMAGE, folder / f"{_NYU_IMAGE}{number}.jpg"),
            found.get(_NYU_DEPTH, folder / f"{_NYU_DEPTH}{number}.png"),
        )
        for (folder, number), found in sorted(places.items())
    ]


def _nyu_listed(root: Path, path: str) -> tuple[Frame, ...] | None:
    if not path:
        return None
    rows = lists.read_list(path).rows
    return tuple(
        _nyu_row(root, row) for row in rows if getattr(row, "depth", None) is not None
    )


def _nyu_row(root: Path, row: lists.Pair) -> Frame:
    folders = (root, root / nyu.OFFICIAL_TEST)
    folder = next((f for f in folders if (f / row.depth).is_file()), root)
    image = nyu.find_image(folder / row.image) or folder / row.image
    return nyu.frame_of(root, image, folder / row.depth)


def _choose(
    split: str, usual, train, test, findings: list[Finding], *, partial: bool = False
) -> lists.Chosen:
    """`lists.choose`, also where frames are of both parts."""

    def read():
        if partial and test is None:
            raise InputError("not the published numbers")
        return usual

    if train is None and test is None:
        return lists.Chosen(*usual, split, ())
    try:
        chosen = lists.choose(split, usual=read, train=train, test=test)
    except InputError:  # the rule on leaks names them
        return lists.Chosen(train, usual[1] if test is None else test, "list", ())
    findings += [Finding("layout", NOTE, note) for note in chosen.notes]
    return chosen


def custom_layout(data, findings: list[Finding]) -> Layout:
    """The frames of rgb/ and depth/, those with one file included."""
    root = Path(data.root)
    colour = _files(root / "rgb", custom.IMAGES, findings)
    depth = _files(root / "depth", custom.DEPTHS, findings)
    names = sorted({*colour, *depth})
    cameras = _cameras(root / "intrinsics.json", names, findings)
    endings = {path.suffix.lower() for path in depth.values()}
    ending = min(endings, default=".png")
    frames = {
        name: Frame(
            name,
            colour.get(name, root / "rgb" / f"{name}.png"),
            depth.get(name, root / "depth" / f"{name}{ending}"),
            cameras[name],
        )
        for name in names
    }
    chosen = _custom_choice(data, root, frames, findings)
    whole = endings <= {".png"}
    return Layout(
        "custom",
        chosen.split,
        data.depth_scale or (custom.MILLIMETRES if whole else 1.0),
        chosen.train,
        chosen.test,
        in_metres=not whole,
        depth_cap=data.depth_cap,
        depth_key=data.depth_key,
    )


def _custom_choice(data, root: Path, frames: dict[str, Frame], findings):
    usual = hold_out_last_fifth(by_group(frames.values()))
    train, test = (
        _custom_listed(frames, path or root / f"{part}.txt", findings, given=path)
        for part, path in (("train", data.list), ("test", data.test_list))
    )
    return _choose("folder", usual, train, test, findings)


def _custom_listed(frames, path, findings: list[Finding], *, given: str):
    """The listed frames of which there is a file; the others are a fault."""
    if not given and not Path(path).is_file():
        return None
    names = [custom.bare_name(text) for _, text in lists.lines(path)]
    lost = tuple(name for name in names if name not in frames)
    if lost:
        text = f"{len(lost)} of {len(names)} names of list '{path}' have no file"
        findings.append(Finding("files", FAULT, text, lost))
    return tuple(frames[name] for name in names if name in frames)


def _files(place: Path, endings: tuple[str, ...], findings) -> dict[str, Path]:
    found = custom.files_by_name(place, endings)
    twice = tuple(name for name, paths in found.items() if len(paths) > 1)
    if twice:
        text = f"{len(twice)} names in '{place}' with more than one file"
        findings.append(Finding("files", FAULT, text, twice))
    return {name: paths[-1] for name, paths in found.items()}


def _cameras(path: Path, names: Iterable[str], findings) -> dict[str, Camera]:
    """The camera of each name as far as it is given."""
    try:
        given = json.loads(images.read(path, what="intrinsics"))
    except (InputError, ValueError):  # the reader has said so if the file is there
        given = {}
    if not isinstance(given, dict):
        given = {}
    cameras = {
        n: custom.camera_of(given if "fx" in given else given.get(n)) for n in names
    }
    bad = tuple(n for n, camera in cameras.items() if given and camera is None)
    if bad:
        text = f"'{path}' gives no fx, fy > 0, cx, cy for {len(bad)} frames"
        findings.append(Finding("intrinsics", FAULT, text, bad))
    return {name: camera or UNKNOWN_CAMERA for name, camera in cameras.items()}
