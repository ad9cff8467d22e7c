"""The depth and the points of a predicted frame, packed for the page."""

import base64
import math

import numpy as np

from amlr_jax.data.cameras import of_view
from amlr_jax.data.intrinsics import camera_of
from amlr_jax.report.keep import Kept

POINTS = 20_000
SAMPLES = 40_000  # of depth under the pointer
ASSUMED_VIEW = 60.0  # degrees across, where a camera is not known


def packed(frame: Kept, *, count: int = POINTS) -> dict:
    """At most `count` points of a frame for JSON, on a grid of even steps.

    `xyz` is base64 of int16 [N, 3], to be multiplied by `scale` metres: x right, y
    down, z forward; `rgb` base64 of uint8 [N, 3]; `camera` says whose intrinsics.
    Neighbours at depth z are z * `spacing` apart. Of pixel (u, v):

        X = depth * ((u - cx) / fx, (v - cy) / fy, 1)
    """
    (fx, fy, cx, cy), note = intrinsics(frame)
    rows, columns, step = _grid(frame.prediction.shape, count)
    v, u = (g.ravel() for g in np.meshgrid(rows, columns, indexing="ij"))
    z = frame.prediction[v, u].astype(np.float64)
    known = np.isfinite(z) & (z > 0)
    u, v, z = u[known], v[known], z[known]
    xyz = np.stack([(u - cx) / fx * z, (v - cy) / fy * z, z], axis=-1)
    scale = float(np.abs(xyz).max() / 32767) if len(xyz) else 1.0
    return {
        "xyz": _base64(np.rint(xyz / scale).astype("<i2")),
        "rgb": _base64(frame.image[v, u]),
        "scale": scale,
        "spacing": step / fx,
        "camera": note,
        "key": frame.key,
    }


def depth_map(name: str, frame: Kept, *, unit: str = "m", count: int = SAMPLES) -> dict:
    """At most `count` values of a frame's predicted depth for JSON, with its camera.

    `depth` is base64 of float32 [rows, columns], the very values of the pixels
    (floor(column * step + (step - 1) / 2), floor(row * step + (step - 1) / 2)).
    `name` is of the run; `note` says whose `camera`, fx, fy, cx, cy in pixels, it is.
    """
    camera, note = intrinsics(frame)
    height, width = frame.prediction.shape
    rows, columns, step = _grid((height, width), count)
    values = frame.prediction[np.ix_(rows, columns)].astype("<f4")
    sizes = {"height": height, "width": width, "rows": len(rows), "step": step}
    sizes |= {"columns": len(columns), "camera": camera, "note": note, "unit": unit}
    return {"name": name, "depth": _base64(np.nan_to_num(values)), **sizes}


def _grid(size: tuple[int, ...], count: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Rows and columns of at most `count` pixels, and the step between them."""
    step = max(math.sqrt(math.prod(size) / count), 1.0)
    rows, columns = (
        (np.arange(int(length / step)) * step + (step - 1) / 2).astype(int)
        for length in size
    )
    return rows, columns, step


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()


def intrinsics(frame: Kept) -> tuple[tuple[float, ...], str]:
    """fx, fy, cx, cy in pixels and a line about them; assumed where not known."""
    if camera := camera_of(frame.intrinsics):
        fx, fy, cx, cy = camera
        return camera, f"camera: f = {fx:.1f}, {fy:.1f}, c = {cx:.1f}, {cy:.1f} px"
    return of_view(ASSUMED_VIEW, frame.depth.shape), (
        f"camera not known: {ASSUMED_VIEW:.0f} degrees across are assumed, so the "
        "shape is right up to a stretch in depth"
    )
