"""The camera of each image, from what the user knows of it."""

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from amlr_jax.data import calibration
from amlr_jax.data.intrinsics import KEYS, camera_of
from amlr_jax.predict.inputs import InputFile
from amlr_jax.runtime import paths
from amlr_jax.runtime.errors import InputError

Camera = tuple[float, float, float, float]  # fx, fy, cx, cy, pixels
Reader = Callable[[InputFile, tuple[int, int]], Camera]
_FORM = '{"fx": .., "fy": .., "cx": .., "cy": ..} in pixels, the first two positive'


def reader(intrinsics: str, fov: float | None) -> Reader | None:
    """From a source and its (height, width) to its camera; None if nothing is known.

    `intrinsics` is "fx,fy,cx,cy"; or a .json file with one such camera, or one for each
    name without its suffix ("kitchen/0001"); or KITTI's calib_cam_to_cam.txt, of which
    it is camera 02, or 03 for images below a folder image_03. `fov` is the horizontal
    field of view in degrees, of square pixels around the middle of the image.
    """
    if intrinsics and fov is not None:
        raise InputError("give --intrinsics or --fov, not both")
    if fov is not None:
        return _of_view(fov)
    if not intrinsics:
        return None
    path = paths.expanded(intrinsics)
    kinds = {".json": _of_json, ".txt": _of_kitti}
    of_file = kinds.get(path.suffix.lower())
    find = of_file(path, _text(path)) if of_file else _of_numbers(intrinsics)
    return lambda source, size: _inside(find(source), source, size)


def _of_view(fov: float) -> Reader:
    """fx = fy = (width / 2) / tan(fov / 2), the centre in the middle."""
    if not 0 < fov < 180:
        raise InputError(
            f"--fov is an angle between 0 and 180 degrees, got {fov:g}; that of a "
            "phone is about 65"
        )
    half = math.tan(math.radians(fov) / 2)

    def camera(_: InputFile, size: tuple[int, int]) -> Camera:
        height, width = size
        focal = width / 2 / half
        return focal, focal, (width - 1) / 2, (height - 1) / 2

    return camera


def _of_numbers(text: str) -> Callable[[InputFile], Camera]:
    rule = (
        "must be fx,fy,cx,cy in pixels, the first two positive, or a .json or KITTI's "
        f".txt file; got '{text}'"
    )
    camera = _camera(text.split(","), f"--intrinsics {rule}")
    return lambda source: camera


def _of_json(path: Path, text: str) -> Callable[[InputFile], Camera]:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise InputError(f"--intrinsics '{path}' is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise InputError(f"--intrinsics '{path}' must hold {_FORM}")

    given = {paths.plain(name): values for name, values in given.items()}

    def entry(values: Any) -> Camera:
        rule = f"must hold {_FORM}; got {json.dumps(values)[:80]}"
        numbers = map(values.get, KEYS) if isinstance(values, dict) else ()
        return _camera(numbers, f"--intrinsics '{path}' {rule}")

    def camera(source: InputFile) -> Camera:
        if source.stem not in given:
            raise InputError(
                f"'{source.path}' has no camera: --intrinsics '{path}' lacks "
                f"'{source.stem}'"
            )
        return entry(given[source.stem])

    if "fx" not in given:
        return camera
    one = entry(given)
    return lambda source: one


def _of_kitti(path: Path, text: str) -> Callable[[InputFile], Camera]:
    rows = {
        number: calibration.intrinsics_of(
            calibration.read_projection(path, f"P_rect_{number}")
        )
        for number in ("00", "01", "02", "03")
        if f"P_rect_{number}:" in text
    }
    if "02" not in rows:
        raise InputError(f"--intrinsics '{path}' has no line 'P_rect_02:'")

    def camera(source: InputFile) -> Camera:
        numbers = [part[-2:] for part in source.path.parts if part[:-2] == "image_"]
        return rows.get(numbers[-1] if numbers else "02", rows["02"])

    return camera


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        raise InputError(f"--intrinsics '{path}': {error.strerror}") from error


def _camera(values: Iterable, complaint: str) -> Camera:
    """The four numbers; InputError with `complaint` if they are no camera."""
    camera = camera_of(values)
    if camera is None:
        raise InputError(complaint)
    return camera


def _inside(camera: Camera, source: InputFile, size: tuple[int, int]) -> Camera:
    height, width = size
    if not (0 <= camera[2] < width and 0 <= camera[3] < height):
        raise InputError(
            f"'{source.path}' is {width} x {height}, but --intrinsics has its centre "
            f"at ({camera[2]:g}, {camera[3]:g}); give those of this size of image"
        )
    return camera
