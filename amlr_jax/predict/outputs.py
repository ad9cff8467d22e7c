"""What a predicted depth map is written as: 16-bit PNG, arrays, pictures, points."""

import io
import os
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from amlr_jax.data import colors
from amlr_jax.models.decoders.disparity import disparity_from_depth
from amlr_jax.predict import kitti_server, point_cloud
from amlr_jax.predict.cameras import Camera
from amlr_jax.runtime.errors import InputError

CODE_LIMIT = 2**16 - 1
# Kind -> what is appended to the name of the image.
ENDINGS = {
    "png16": "_depth.png",
    "npy": "_depth.npy",
    "npz": "_depth.npz",
    "disparity": "_disparity.npy",
    "color": "_color.png",
    "side_by_side": "_side_by_side.png",
    "ply": "_points.ply",
}
KITTI = "kitti"  # 16-bit PNGs in a folder of their own
KINDS = (*ENDINGS, KITTI)
PICTURES = ("color", "side_by_side")


class CannotWriteError(InputError):
    """A result cannot be written, so that going on makes no sense."""


class Style(NamedTuple):
    """What all results of a run share."""

    far: float  # metres: the darkest colour
    scale: int  # codes a metre of 16-bit PNGs
    unit: str = "m"  # "": true up to one factor
    stride: int = 1  # pixels from point to point
    # Smallest and largest depth of the network's disparity; None: it has none
    disparity_depths: tuple[float, float] | None = None


class Result(NamedTuple):
    """A depth map and what it was made from."""

    depth: np.ndarray  # [H, W], metres
    image: np.ndarray  # uint8 RGB [H, W, 3]
    camera: Camera | None = None
    near: float | None = None  # metres: the brightest colour; None: of this map


def png_scale(max_depth: float) -> int:
    """Code per metre of a 16-bit PNG: NYUv2's 1000 where it reaches, else KITTI's 256.

    ValueError beyond 255 m, which neither can hold.
    """
    for scale in (1000, 256):
        if max_depth * scale <= CODE_LIMIT:
            return scale
    raise ValueError(
        f"`max_depth` must be at most {CODE_LIMIT / 256:.0f} m for a 16-bit PNG, "
        f"got {max_depth:g}."
    )


def codes(depth: np.ndarray, *, scale: int) -> np.ndarray:
    """Metres [H, W] as uint16 codes, rounded; at least 1, since 0 means nothing."""
    return np.clip(np.rint(depth * scale), 1, CODE_LIMIT).astype(np.uint16)


def disparity(depth: np.ndarray, near: float, far: float) -> np.ndarray:
    """The sigmoid disparity s in (0, 1) of which a network made this depth, float32.

        1 / depth = 1 / far + (1 / near - 1 / far) s

    It is monodepth2's: inverse depth up to scale, no shift of pixels.
    """
    made = disparity_from_depth(depth.astype(np.float64), min_depth=near, max_depth=far)
    return made.astype(np.float32)


def picture(kind: str, result: Result, style: Style) -> np.ndarray:
    """The picture "color", or "side_by_side" with the image left of it; uint8 RGB."""
    near = result.near or colors.nearest(result.depth, far=style.far)
    limits = {"near": min(near, 0.999 * style.far), "far": style.far}
    shown = colors.colorize(result.depth, **limits)
    if kind == "side_by_side":
        shown = np.concatenate([result.image, shown], axis=1)
    return colors.with_scale(shown, unit=style.unit, **limits)


def encoded(kind: str, result: Result, style: Style) -> bytes:
    """The bytes of the file of that kind."""
    metres = result.depth.astype(np.float32)
    if kind in ("png16", "kitti"):
        scale = kitti_server.SCALE if kind == "kitti" else style.scale
        return _png(codes(metres, scale=scale))
    if kind in PICTURES:
        return _png(picture(kind, result, style)[..., ::-1])
    if kind == "ply":
        vertices = point_cloud.points(
            metres, result.image, result.camera, stride=style.stride
        )
        unit = "metres" if style.unit else "true up to one factor"
        return point_cloud.as_ply(vertices, unit=unit)
    buffer = io.BytesIO()
    if kind == "disparity":
        np.save(buffer, disparity(result.depth, *style.disparity_depths))
    elif kind == "npy":
        np.save(buffer, metres)
    else:
        np.savez_compressed(buffer, depth=metres)
    return buffer.getvalue()


def file_of(kind: str, stem: str) -> str:
    """Where a kind of result of "kitchen/0001" lies in the folder of results.

    >>> file_of("npy", "kitchen/0001")
    'kitchen/0001_depth.npy'
    >>> file_of("kitti", "image/0000000007")
    'kitti/0000000007.png'
    """
    if kind == "kitti":
        return f"{kitti_server.FOLDER}/{kitti_server.file_name(stem)}"
    return stem + ENDINGS[kind]


def write(result: Result, stem: str, target: Path, *, kinds, style: Style) -> list[str]:
    """Writes the kinds of result of one image; their names below `target`.

    Each file is whole or absent. CannotWriteError if one cannot be.
    """
    names = [file_of(kind, stem) for kind in kinds]
    for kind, name in zip(kinds, names, strict=True):
        write_whole(target / name, encoded(kind, result, style))
    return names


def write_whole(path: Path, data: bytes) -> None:
    """The file, whole or not at all; CannotWriteError if it cannot be written."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        if temporary.parent.is_dir():
            temporary.unlink(missing_ok=True)
        why = error.strerror
        raise CannotWriteError(f"'{path}' cannot be written: {why}") from error


def _png(array: np.ndarray) -> bytes:
    good, data = cv2.imencode(".png", array)
    if not good:
        raise ValueError(f"OpenCV cannot encode {array.dtype} {array.shape} as a PNG.")
    return data.tobytes()
