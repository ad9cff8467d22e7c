"""The ground truth of a frame, by the ending of its file.

    .png   16-bit grey, 0 = none          .npy   one array
    .tif, .tiff   grey of 16 bits, int32 or float32
    .npz   the array `depth_key`, or the only one
    .exr   the channel `depth_key`, or the only one, or Z (`exr`)
    .bin   a lidar scan, with `Frame.projection` (`lidar_depth`)
    .npz   with `Frame.projection`: a scan of DDAD, its points in `data`
    .dpt   of Sintel: the tag 202021.25, width, height, float32 values
    .jpg   of ETH3D: float32 values alone

Metres are stored value / `depth_scale`. A value of 0, negative, NaN, infinite, beyond
`depth_cap` or one of `invalid_values` is no measurement. A layout of PNGs keeps its
16-bit codes; any other is stored as float32 metres, without rounding.

A lidar scan becomes depth by monodepth2's rule, the ground truth of KITTI's Eigen
split. All published values of "KITTI Eigen, raw" use this depth, so its known faults
are kept: pixels are shifted by one to the left and up (MATLAB counts from 1), and the
depth is along the scanner's forward axis and not the camera's (monodepth2, kitti_utils
and export_gt_depth; issue 274).
"""

import io
import math
import threading
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from amlr_jax.data import exr, images
from amlr_jax.data.frames import UNKNOWN_CAMERA, Frame, Layout
from amlr_jax.data.storage import size_name
from amlr_jax.runtime.errors import InputError

# Codes of the histogram of a layout in metres that has no cap: up to 256 m.
CODES_A_METRE = 256.0
SINTEL_TAG = 202021.25
FORMATS = (".png", ".tif", ".tiff", ".npy", ".npz", ".exr", ".bin", ".dpt", ".jpg")
BYTES_OF_A_POINT = 16  # of a scan: x, y, z, reflectance as float32

# NumPy parses the header of an npy file with `ast`, which in Python 3.11 raises
# SystemError at times when two threads use it (CPython issue 106905).
_NPY_HEADER = threading.Lock()


class SizeMismatch(InputError):
    """A ground truth is of another size than its image."""


class Depth(NamedTuple):
    """The ground truth of one frame.

    `stored` [H, W, 1] is written to the prepared set: the uint16 codes of a PNG, or
    float32 metres. `codes` uint16 [H, W] are for counting, `count_scale` per metre.
    """

    stored: np.ndarray
    codes: np.ndarray


def read(frame: Frame, layout: Layout, size: tuple[int, int] | None) -> Depth:
    """The ground truth of a frame whose image has `size`, (height, width).

    None: of any size, which only a lidar scan does not tell.

    Raises InputError for a file that is missing, `images.DamagedFile` for one that is
    damaged, and SizeMismatch for one of another size.
    """
    data = images.read(frame.depth, what="ground truth")
    values = _decoded(frame, layout, data, size)
    if size is not None and values.shape != size:
        raise SizeMismatch(
            "image and ground truth differ in size: "
            f"'{frame.image}' is {size_name(size)}, "
            f"'{frame.depth}' is {size_name(values.shape)}; resize one of them (depth "
            "by nearest neighbour) if both show the same view"
        )
    values = _without(values, layout.invalid_values)
    for mask in frame.masks:
        values = np.where(_mask(mask, values.shape), values, values.dtype.type(0))
    if layout.in_metres:
        # A scan is in metres for every unit of the layout's PNGs.
        scale = 1.0 if frame.projection else layout.depth_scale
        metres = _metres(values, scale=scale, cap=layout.depth_cap)
        codes = np.rint(metres.astype(np.float64) * count_scale(layout))
        low = (metres > 0).astype(np.uint16)  # what is measured has a code, at least 1
        return Depth(metres[..., None], np.clip(codes, low, 65535).astype(np.uint16))
    limit = layout.depth_cap * layout.depth_scale
    if limit and (values > limit).any():
        values = np.where(values > limit, np.uint16(0), values)
    return Depth(values[..., None], values)


def read_prediction(path: Path, *, scale: float) -> np.ndarray:
    """A predicted map, float32 [H, W]: stored values / `scale`, whatever they are.

    The formats of a ground truth. InputError for a file that is missing, damaged or no
    such map.
    """
    frame = Frame(path.stem, path, path, UNKNOWN_CAMERA)
    layout = Layout("predictions", "", scale, (), ())
    try:
        data = images.read(path, what="prediction")
        return _decoded(frame, layout, data, None).astype(np.float32) / np.float32(
            scale
        )
    except InputError as error:
        text = str(error).replace("ground truth", "prediction")
        key, unit = "--config.data.depth_key=NAME", "--config.data.depth_scale"
        text = text.replace(f"name the depth with {key}", "keep the depth alone")
        text = text.replace(unit, "--prediction_scale")
        raise type(error)(text) from error


def count_scale(layout: Layout) -> float:
    """Codes for counting, per metre."""
    if not layout.in_metres:
        return layout.depth_scale
    return 65535 / layout.depth_cap if layout.depth_cap else CODES_A_METRE


def stored_scale(layout: Layout) -> float:
    """The stored value of a metre in the prepared depth."""
    return 1.0 if layout.in_metres else layout.depth_scale


def read_scan(data: bytes) -> np.ndarray:
    """The points [N, 3] in metres: x forward, y left, z up. ValueError if cut."""
    if not data or len(data) % BYTES_OF_A_POINT:
        raise ValueError(
            f"{len(data)} bytes; a scan is a multiple of {BYTES_OF_A_POINT} and not 0"
        )
    return np.frombuffer(data, "<f4").reshape(-1, 4)[:, :3]


def lidar_depth(
    points: ArrayLike,
    calibration: ArrayLike,
    shape: tuple[int, int],
    *,
    forward: bool = True,
) -> np.ndarray:
    """The depth map of a scan: nearest point of each pixel, 0 where there is none.

        (a, b, c) = calibration (x, y, z, 1)
        u = round(a / c) - 1,   v = round(b / c) - 1

    Points behind the scanner (x < 0) are left out. Halves round to even.

    Args:
      points: [N, 3] metres, x forward.
      calibration: [3, 4], P_rect R_rect T_velo (`calibration.lidar_projection`).
      shape: height and width of the image.
      forward: the depth is the scanner's x, as in the published values; else the
        camera's z.

    Returns:
      float32 [H, W] metres.
    """
    points, matrix = np.asarray(points), np.asarray(calibration, np.float64)
    points = points[points[:, 0] >= 0].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = points @ matrix[:, :3].T + matrix[:, 3]
        pixels = np.round(seen[:, :2] / seen[:, 2:]) - 1
    return _nearest(pixels, points[:, 0] if forward else seen[:, 2], shape)


def nearest_depth(
    points: np.ndarray, projection: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """The camera's z of the nearest point [N, 3] in each pixel, 0 where there is none.

    `projection` [3, 4] maps points to (u z, v z, z), with u, v in pixels from the left
    upper corner. float32 [H, W] metres.
    """
    seen = points.astype(np.float64) @ projection[:, :3].T + projection[:, 3]
    seen = seen[seen[:, 2] > 0]
    return _nearest(np.floor(seen[:, :2] / seen[:, 2:]), seen[:, 2], size)


def _nearest(
    pixels: np.ndarray, depth: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """The least of `depth` [N] at each of `pixels` [N, 2], (column, row); else 0."""
    inside = (pixels >= 0).all(axis=1) & (pixels < np.array(size[::-1])).all(axis=1)
    columns, rows = pixels[inside].astype(np.int64).T
    nearest = np.full(size, np.inf, np.float32)
    np.minimum.at(nearest, (rows, columns), depth[inside].astype(np.float32))
    return np.where(np.isfinite(nearest), np.maximum(nearest, 0), np.float32(0))


def _mask(path: Path, size: tuple[int, ...]) -> np.ndarray:
    """Where a mask of the size of the image is not 0; an image or an npy file."""
    if path.suffix == ".npy":
        with images.decoding(path, what="mask"):
            values = _npy(images.read(path, what="mask"))
    else:
        values = images.read_as_rgb(path)[..., 0]
    if values.size != math.prod(size):
        raise SizeMismatch(
            f"mask '{path}' has {values.size} pixels, its ground truth "
            f"{math.prod(size)}; restore it"
        )
    return values.reshape(size) != 0


def _without(values: np.ndarray, invalid: tuple[float, ...]) -> np.ndarray:
    """The stored values, 0 where they are one of `invalid` in the file's type."""
    if not invalid:
        return values
    is_float = values.dtype.kind == "f"
    listed = np.array(invalid, values.dtype if is_float else np.float64)
    return np.where(np.isin(values, listed), values.dtype.type(0), values)


def _metres(values: np.ndarray, *, scale: float, cap: float) -> np.ndarray:
    """float32 metres, 0 where nothing was measured."""
    metres = values.astype(np.float32) / np.float32(scale)
    with np.errstate(invalid="ignore"):
        good = np.isfinite(metres) & (metres > 0)
        good &= (metres <= cap) if cap else True
    return np.where(good, metres, np.float32(0))


def _decoded(frame: Frame, layout: Layout, data: bytes, size) -> np.ndarray:
    """The values of the file [H, W], in the unit of the file.

    They are stored as [H, W], [H, W, 1] or [1, H, W].
    """
    if frame.depth.suffix.lower() not in FORMATS:
        raise InputError(
            f"ground truth '{frame.depth}' must end in one of {', '.join(FORMATS)}"
        )
    with images.decoding(frame.depth, what="ground truth"):
        values = _values(frame, layout, data, size)
        shape = values.shape
        if values.ndim == 3 and 1 in (shape[0], shape[2]):
            values = values[0] if shape[0] == 1 else values[..., 0]
        if values.ndim != 2 or values.dtype.kind not in "uif":
            raise InputError(
                f"ground truth '{frame.depth}' must be an array [H, W] of numbers, got "
                f"{values.dtype} {list(shape)}"
            )
        return values


def _values(frame: Frame, layout: Layout, data: bytes, size) -> np.ndarray:
    """The values that the file stores, of any shape."""
    match frame.depth.suffix.lower():
        case ".png":
            return images.decode_grey(frame.depth, data)
        case ".tif" | ".tiff":
            values = images.decode_grey(frame.depth, data)
            return _unit_known(frame, layout, values)
        case ".npy":
            return _unit_known(frame, layout, _npy(data))
        case ".npz":
            return _npz(frame, layout, data, size)
        case ".exr":
            return exr.read_channel(data, name=layout.depth_key)
        case ".dpt":
            return _dpt(data)
        case ".jpg":
            return np.frombuffer(data, "<f4").reshape(size)
        case _:  # .bin
            if frame.projection is None:
                raise ValueError("a lidar scan needs the calibration of its camera")
            matrix = np.reshape(frame.projection, (3, 4))
            return lidar_depth(read_scan(data), matrix, size)


def _npy(data: bytes) -> np.ndarray:
    with _NPY_HEADER:
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)


def _npz(frame: Frame, layout: Layout, data: bytes, size) -> np.ndarray:
    with zipfile.ZipFile(io.BytesIO(data)) as arrays:
        names = [name.removesuffix(".npy") for name in arrays.namelist()]
        if frame.projection is not None:
            points = _npy(arrays.read("data.npy"))[:, :3]
            return nearest_depth(points, np.reshape(frame.projection, (3, 4)), size)
        name = layout.depth_key or (names[0] if len(names) == 1 else "")
        if name not in names:
            raise InputError(
                f"'{frame.depth}' holds {', '.join(names) or 'no array'}; name the "
                f"depth with --config.data.depth_key=NAME, got '{layout.depth_key}'"
            )
        return _unit_known(frame, layout, _npy(arrays.read(f"{name}.npy")))


def _dpt(data: bytes) -> np.ndarray:
    width, height = np.frombuffer(data, "<i4", count=2, offset=4).tolist()
    if np.frombuffer(data, "<f4", count=1)[0] != np.float32(SINTEL_TAG):
        raise ValueError(f"it does not begin with {SINTEL_TAG}")
    return np.frombuffer(data, "<f4", offset=12).reshape(height, width)


def _unit_known(frame: Frame, layout: Layout, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind in "ui" and layout.depth_scale == 1:
        raise InputError(
            f"'{frame.depth}' holds whole numbers ({values.dtype}); set the number "
            "per metre with --config.data.depth_scale=N, 1000 for millimetres"
        )
    return values
