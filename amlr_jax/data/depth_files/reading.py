"""The ground truth of a frame, by the ending of its file.

    .png   16-bit grey, 0 = none          .npy   one array
    .npz   the array `depth_key`, or the only one
    .exr   the channel `depth_key`, or the only one, or Z (`exr`)
    .bin   a lidar scan, with `Frame.projection` (`velodyne`)

Metres are stored value / `depth_scale`. What is 0, negative, NaN, infinite or beyond
`depth_cap` is no measurement. A layout of PNGs keeps its 16-bit codes; any other is
kept as float32 metres, so that nothing is rounded.
"""

import io
import zipfile
import zlib
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from amlr_jax.data import images
from amlr_jax.data.depth_files import exr, velodyne
from amlr_jax.data.frames import Frame, Layout
from amlr_jax.data.storage import size_name
from amlr_jax.runtime.errors import InputError

# Codes of the histogram of a layout in metres that has no cap: up to 256 m.
CODES_A_METRE = 256.0


class SizeMismatch(InputError):
    """A ground truth is of another size than its image."""


class Depth(NamedTuple):
    """The ground truth of one frame.

    `stored` goes into the prepared set: the bytes of a PNG, or float32 metres
    [H, W, 1]. `codes` uint16 [H, W] are for counting, `count_scale` of them a metre.
    """

    stored: bytes | np.ndarray
    codes: np.ndarray


def read(frame: Frame, layout: Layout, size: tuple[int, int]) -> Depth:
    """The ground truth of a frame whose image has `size`, (height, width).

    Raises InputError for a file that is missing, `images.DamagedFile` for one that is
    damaged, and SizeMismatch for one of another size.
    """
    data = images.read(frame.depth, what="ground truth")
    values = _decoded(frame, layout, data, size)
    if values.shape != size:
        raise SizeMismatch(
            "image and ground truth differ in size: "
            f"'{frame.image}' is {size_name(size)}, "
            f"'{frame.depth}' is {size_name(values.shape)}"
        )
    if layout.in_metres:
        # A scan is in metres whatever the unit of the layout's PNGs.
        scale = 1.0 if frame.projection else layout.depth_scale
        metres = _metres(values, scale=scale, cap=layout.depth_cap)
        codes = np.rint(metres.astype(np.float64) * count_scale(layout))
        low = (metres > 0).astype(np.uint16)  # what is measured has a code, at least 1
        return Depth(metres[..., None], np.clip(codes, low, 65535).astype(np.uint16))
    beyond = _beyond(values, layout)
    if beyond.any():
        values = np.where(beyond, np.uint16(0), values)
        data = cv2.imencode(".png", values)[1].tobytes()
    return Depth(data, values)


def count_scale(layout: Layout) -> float:
    """Codes for counting in a metre."""
    if not layout.in_metres:
        return layout.depth_scale
    return 65535 / layout.depth_cap if layout.depth_cap else CODES_A_METRE


def stored_scale(layout: Layout) -> float:
    """What the prepared depth is to be divided by to give metres."""
    return 1.0 if layout.in_metres else layout.depth_scale


def _beyond(codes: np.ndarray, layout: Layout) -> np.ndarray:
    if not layout.depth_cap:
        return np.zeros(codes.shape, bool)
    return codes > layout.depth_cap * layout.depth_scale


def _metres(values: np.ndarray, *, scale: float, cap: float) -> np.ndarray:
    """float32 metres, 0 where nothing was measured."""
    metres = values.astype(np.float32) / np.float32(scale)
    with np.errstate(invalid="ignore"):
        good = np.isfinite(metres) & (metres > 0)
        good &= (metres <= cap) if cap else True
    return np.where(good, metres, np.float32(0))


def _decoded(frame: Frame, layout: Layout, data: bytes, size) -> np.ndarray:
    """The values of the file [H, W], in its own unit."""
    ending = frame.depth.suffix.lower()
    if ending not in FORMATS:
        raise InputError(
            f"ground truth '{frame.depth}' must end in one of {', '.join(FORMATS)}"
        )
    try:
        values = FORMATS[ending](frame, layout, data, size)
    # What np.load, zlib and our readers raise on damaged or unfit files.
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        text = f"ground truth '{frame.depth}' is damaged or not as it must be: {error}"
        raise images.DamagedFile(" ".join(text.split())) from error
    return _plane(frame, values)


def _plane(frame: Frame, values: np.ndarray) -> np.ndarray:
    """[H, W] from [H, W], [H, W, 1] or [1, H, W]."""
    shape = values.shape
    if values.ndim == 3 and 1 in (shape[0], shape[2]):
        values = values[0] if shape[0] == 1 else values[..., 0]
    if values.ndim != 2 or values.dtype.kind not in "uif":
        raise InputError(
            f"ground truth '{frame.depth}' must be an array [H, W] of numbers, got "
            f"{values.dtype} {list(shape)}"
        )
    return values


def _png(frame: Frame, layout: Layout, data: bytes, size) -> np.ndarray:
    del layout, size
    return images.decode_depth(frame.depth, data)


def _npy(frame: Frame, layout: Layout, data: bytes, size) -> np.ndarray:
    del size
    return _unit_known(frame, layout, np.load(io.BytesIO(data), allow_pickle=False))


def _npz(frame: Frame, layout: Layout, data: bytes, size) -> np.ndarray:
    del size
    # np.load takes bytes of an .npy or of a pickle as well.
    if not zipfile.is_zipfile(io.BytesIO(data)):
        raise ValueError("not an npz")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        names = arrays.files
        name = layout.depth_key or (names[0] if len(names) == 1 else "")
        if name not in names:
            raise InputError(
                f"'{frame.depth}' holds {', '.join(names) or 'no array'}; name the "
                f"depth with --config.data.depth_key=NAME, got '{layout.depth_key}'"
            )
        return _unit_known(frame, layout, arrays[name])


def _exr(frame: Frame, layout: Layout, data: bytes, size) -> np.ndarray:
    del frame, size
    return exr.read_channel(data, name=layout.depth_key)


def _bin(frame: Frame, layout: Layout, data: bytes, size) -> np.ndarray:
    del layout
    if frame.projection is None:
        raise ValueError("a lidar scan needs the calibration of its camera")
    matrix = np.reshape(frame.projection, (3, 4))
    return velodyne.lidar_depth(velodyne.read_scan(data), matrix, size)


def _unit_known(frame: Frame, layout: Layout, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind in "ui" and layout.depth_scale == 1:
        raise InputError(
            f"'{frame.depth}' holds whole numbers ({values.dtype}); say how many are a "
            "metre with --config.data.depth_scale=N, 1000 for millimetres"
        )
    return values


FORMATS: dict[str, Callable] = {
    ".png": _png,
    ".npy": _npy,
    ".npz": _npz,
    ".exr": _exr,
    ".bin": _bin,
}
