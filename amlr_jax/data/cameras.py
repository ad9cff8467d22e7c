"""The camera of each image, from what the user knows of it."""

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from amlr_jax.data import calibration, images
from amlr_jax.data.frames import Camera
from amlr_jax.data.intrinsics import KEYS, camera_of
from amlr_jax.runtime import paths
from amlr_jax.runtime.errors import InputError


class Known(NamedTuple):
    """A camera, and the (height, width) for which it is, if that is told."""

    camera: Camera
    size: tuple[int, int] | None = None


# From the file of an image or a video, its name without suffix below the folder of all,
# as "kitchen/0001", and its (height, width).
Reader = Callable[[Path, str, tuple[int, int]], Camera]
Finder = Callable[[Path, str], Known]
# Of the principal point from the middle, as a share of the image; more means that the
# intrinsics are those of another size, unless they tell theirs.
OFF_CENTRE = 0.2
_FORM = '{"fx": .., "fy": .., "cx": .., "cy": ..} in pixels, the first two positive'


def reader(
    intrinsics: str, fov: float | None = None, *, option: str = "--intrinsics"
) -> Reader | None:
    """What gives the camera of an image; None if nothing is known.

    `intrinsics` is "fx,fy,cx,cy"; or a .json file with one such camera, maybe with the
    "width" and "height" of its images, or one for each name without its suffix
    ("kitchen/0001") or for each folder ("kitchen"); or KITTI's calib_cam_to_cam.txt, of
    which it is camera 02, or 03 for images below a folder image_03. `fov` is the
    horizontal field of view in degrees, of square pixels around the middle of the
    image. `option` is the name of `intrinsics` in messages.
    """
    if intrinsics and fov is not None:
        raise InputError("give --intrinsics or --fov, not both")
    if fov is not None:
        if not 0 < fov < 180:
            raise InputError(
                f"--fov is an angle between 0 and 180 degrees, got {fov:g}; that of a "
                "phone is about 65"
            )
        return lambda path, name, size: of_view(fov, size)
    if not intrinsics:
        return None
    path = paths.expanded(intrinsics)
    of_file = {".json": of_json, ".txt": _of_kitti}.get(path.suffix.lower())
    find = of_file(path, option) if of_file else _of_numbers(intrinsics, option)
    return lambda path, name, size: _checked(find(path, name), path, size, option)


def of_view(fov: float, size: tuple[int, int]) -> Camera:
    """fx = fy = (width / 2) / tan(fov / 2), the centre in the middle of the image."""
    height, width = size
    focal = width / 2 / math.tan(math.radians(fov) / 2)
    return focal, focal, (width - 1) / 2, (height - 1) / 2


def _of_numbers(text: str, option: str) -> Finder:
    rule = (
        "must be fx,fy,cx,cy in pixels, the first two positive, or a .json or KITTI's "
        f".txt file; got '{text}'"
    )
    camera = Known(_camera(text.split(","), f"{option} {rule}"))
    return lambda *_: camera


def of_json(path: Path, option: str) -> Finder:
    """The camera of an image in a .json file, as `reader` describes it.

    InputError, which names `option`, for a file or an entry that is none.
    """
    named, text = f"{option} '{path}'", images.read(path, what=option)
    try:
        given = json.loads(text)
    except ValueError as error:
        raise InputError(f"{named} is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise InputError(f"{named} must hold {_FORM}")
    given = {paths.plain(name): values for name, values in given.items()}

    def entry(values: Any) -> Known:
        rule = f"must hold {_FORM}; got {json.dumps(values)[:80]}"
        numbers = map(values.get, KEYS) if isinstance(values, dict) else ()
        camera = _camera(numbers, f"{named} {rule}")
        size = values.get("height"), values.get("width")
        return Known(camera, None if None in size else size)

    def camera(file: Path, name: str) -> Known:
        names = (name, *map(str, Path(name).parents))
        known = next((one for one in names if one in given), None)
        if known is None:
            raise InputError(f"'{file}' has no camera: {named} lacks '{name}'")
        return entry(given[known])

    if "fx" not in given:
        return camera
    one = entry(given)
    return lambda *_: one


def _of_kitti(path: Path, option: str) -> Finder:
    text = images.read(path, what=option)
    rows = {
        number: calibration.intrinsics_of(
            calibration.read_projection(path, f"P_rect_{number}")
        )
        for number in ("00", "01", "02", "03")
        if f"P_rect_{number}:".encode() in text
    }
    if "02" not in rows:
        raise InputError(f"{option} '{path}' has no line 'P_rect_02:'")

    def camera(file: Path, _: str) -> Known:
        numbers = [part[-2:] for part in file.parts if part[:-2] == "image_"]
        return Known(rows.get(numbers[-1] if numbers else "02", rows["02"]))

    return camera


def _camera(values: Iterable, complaint: str) -> Camera:
    """The four numbers; InputError with `complaint` if they are no camera."""
    camera = camera_of(values)
    if camera is None:
        raise InputError(complaint)
    return camera


def off_centre(camera: Camera, size: tuple[int, int]) -> float:
    """How far the principal point is from the middle of (height, width), as a share."""
    (height, width), (_, _, cx, cy) = size, camera
    return max(abs(cx / width - 0.5), abs(cy / height - 0.5))


def _checked(known: Known, path: Path, size: tuple[int, int], option: str) -> Camera:
    """The camera; InputError if it is that of another size of image."""
    (height, width), (_, _, cx, cy) = size, known.camera
    good = off_centre(known.camera, size) <= (OFF_CENTRE if known.size is None else 0.5)
    if not good or known.size not in (None, size):
        given = f" of {known.size[1]} x {known.size[0]}" if known.size else ""
        raise InputError(
            f"'{path}' is {width} x {height}, but {option} has the camera of "
            f"another size{given}, with its centre at ({cx:g}, {cy:g}); give that of "
            'this size, or name its "width" and "height" in the .json'
        )
    return known.camera
