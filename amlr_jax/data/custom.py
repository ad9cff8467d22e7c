"""Your own images and depth, in two folders with the same names.

    ROOT/rgb/<any folders>/<name>.{png,jpg,jpeg}
    ROOT/depth/<the same folders>/<name>.{png,npy,npz,exr}    one of these everywhere
    ROOT/train.txt, ROOT/test.txt    optional: a name a line, "<folders>/<name>"
    ROOT/intrinsics.json             optional: {"fx": .., "fy": .., "cx": .., "cy": ..}
                                     for all, or {"<folders>/<name>": {...}, ...}

Without lists the last fifth of each folder is held out. `depth_files` says what the
formats of depth are.
"""

import json
import math
from functools import partial
from pathlib import Path

from amlr_jax.data import depth_files, images, lists
from amlr_jax.data.frames import (
    UNKNOWN_CAMERA,
    Camera,
    Frame,
    Layout,
    by_group,
    hold_out_last_fifth,
)
from amlr_jax.runtime.errors import InputError, preview

IMAGES = (".png", ".jpg", ".jpeg")
DEPTHS = tuple(ending for ending in depth_files.FORMATS if ending != ".bin")
MILLIMETRES = 1000.0  # what a 16-bit PNG holds unless depth_scale says otherwise


def read_layout(
    root: Path,
    *,
    depth_scale: float = 0.0,
    depth_cap: float = 0.0,
    depth_key: str = "",
    train_list: str = "",
    test_list: str = "",
) -> Layout:
    """The frames under `root`.

    `depth_scale` is the stored value of a metre; 0: 1000 in PNGs, 1 elsewhere. Depth
    beyond `depth_cap` metres is no measurement; 0: no cap. `depth_key` names the array
    or channel of files with several. Lists stand for ROOT/train.txt and ROOT/test.txt.
    Raises InputError naming what is missing, doubled or mixed.
    """
    _check_numbers(depth_scale=depth_scale, depth_cap=depth_cap)
    frames = _frames(root)
    endings = {frame.depth.suffix.lower() for frame in frames.values()}
    if len(endings) > 1:
        raise InputError(
            f"'{root / 'depth'}' mixes {', '.join(sorted(endings))}; keep the ground "
            "truth in one format"
        )
    whole = endings == {".png"}
    files = {"train": train_list, "test": test_list}
    train, test = (_listed(root, frames, name, files[name]) for name in files)
    usual = partial(hold_out_last_fifth, by_group(frames.values()))
    if train or test:
        chosen = lists.choose("folder", usual=usual, train=train, test=test)
    else:
        chosen = lists.Chosen(*usual(), "folder", ())
    return Layout(
        "custom",
        chosen.split,
        depth_scale or (MILLIMETRES if whole else 1.0),
        chosen.train,
        chosen.test,
        in_metres=not whole,
        depth_cap=depth_cap,
        depth_key=depth_key,
        notes=chosen.notes,
    )


def _check_numbers(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"data.{name} must be a number of at least 0, got {value}")


def _frames(root: Path) -> dict[str, Frame]:
    """Name -> frame; every image has depth and every depth an image."""
    colour, depth = (
        _files(root, folder, endings)
        for folder, endings in (("rgb", IMAGES), ("depth", DEPTHS))
    )
    for have, want, what in (
        (colour, depth, "ground truth"),
        (depth, colour, "image"),
    ):
        lost = [path for name, path in have.items() if name not in want]
        if lost:
            raise InputError(
                f"missing {what} for {len(lost)} of {len(have)} files: "
                f"{preview(lost)}; rgb/ and depth/ must hold the same names"
            )
    cameras = _cameras(root / "intrinsics.json", colour)
    return {
        name: Frame(name, path, depth[name], cameras[name])
        for name, path in colour.items()
    }


def _files(root: Path, folder: str, endings: tuple[str, ...]) -> dict[str, Path]:
    """Name without ending -> the one file of that name."""
    found = files_by_name(root / folder, endings)
    for paths in found.values():
        if len(paths) > 1:
            raise InputError(f"two files of one name: '{paths[0]}' and '{paths[1]}'")
    if not found:
        raise InputError(
            f"no {folder} files at data.root='{root}'; expected "
            f"{root}/rgb/<name>{{{','.join(IMAGES)}}} and "
            f"{root}/depth/<name>{{{','.join(DEPTHS)}}}"
        )
    return {name: path for name, (path,) in found.items()}


def files_by_name(place: Path, endings: tuple[str, ...]) -> dict[str, list[Path]]:
    """Name without ending -> files; hidden files and other endings do not count."""
    found: dict[str, list[Path]] = {}
    for path in sorted(place.rglob("*")):
        if path.suffix.lower() in endings and not path.name.startswith("."):
            name = path.relative_to(place).with_suffix("").as_posix()
            found.setdefault(name, []).append(path)
    return found


def _listed(
    root: Path, frames: dict[str, Frame], part: str, path: str
) -> tuple[Frame, ...] | None:
    """The frames of `path` or else of ROOT/<part>.txt; None if there is neither."""
    usual = root / f"{part}.txt"
    if not path and not usual.is_file():
        return None
    place = Path(path) if path else usual
    names = [(number, bare_name(text)) for number, text in lists.lines(place)]
    lost = [f"'{name}' (line {n})" for n, name in names if name not in frames]
    lists.require_found(place, lost, total=len(names))
    return tuple(frames[name] for _, name in names)


def bare_name(text: str) -> str:
    """A name as the frames have it: without rgb/ before it and an ending behind."""
    name = text.strip("/").replace("\\", "/").removeprefix("rgb/")
    ending = next((e for e in IMAGES if name.lower().endswith(e)), "")
    return name.removesuffix(name[len(name) - len(ending) :]) if ending else name


def _cameras(path: Path, names) -> dict[str, Camera]:
    """The camera of each name, NaN throughout without a file."""
    if not path.is_file():
        return dict.fromkeys(names, UNKNOWN_CAMERA)
    try:
        given = json.loads(images.read(path, what="intrinsics"))
    except ValueError as error:
        raise InputError(f"'{path}' is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise _camera_error(path, given)
    if "fx" in given:
        return dict.fromkeys(names, _camera(path, given))
    lost = [name for name in names if name not in given]
    if lost:
        raise InputError(
            f"'{path}' lacks {len(lost)} of {len(names)} files: {preview(lost)}; give "
            'every "<folders>/<name>", or one {"fx", "fy", "cx", "cy"} for all'
        )
    return {name: _camera(path, given[name]) for name in names}


def _camera(path: Path, given) -> Camera:
    camera = camera_of(given)
    if camera is None:
        raise _camera_error(path, given)
    return camera


def camera_of(given) -> Camera | None:
    """The camera that a part of the JSON gives, None if it gives none."""
    try:
        camera = tuple(float(given[key]) for key in ("fx", "fy", "cx", "cy"))
    except (KeyError, TypeError, ValueError):
        return None
    return camera if all(map(math.isfinite, camera)) and min(camera[:2]) > 0 else None


def _camera_error(path: Path, given) -> InputError:
    return InputError(
        f"'{path}' must give fx, fy, cx, cy in pixels, the first two positive; got "
        f"{json.dumps(given)[:80]}"
    )
