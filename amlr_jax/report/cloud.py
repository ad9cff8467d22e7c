"""The points of a predicted frame, packed for the page."""

import base64
import math

import numpy as np

from amlr_jax.report.keep import Kept

POINTS = 20_000
ASSUMED_VIEW = 60.0  # degrees across, where a camera is not known


def packed(frame: Kept, *, count: int = POINTS) -> dict:
    """About `count` points of a frame for JSON.

    `xyz` is base64 of int16 [N, 3], to be multiplied by `scale` metres: x right, y
    down, z forward; `rgb` base64 of uint8 [N, 3]; `camera` says whose intrinsics.
    Neighbours at depth z are z * `spacing` apart.
    """
    camera, note = intrinsics(frame)
    step = grid_step(frame.prediction.size, count)
    xyz, rgb = points(frame.prediction, frame.image, camera, count=count)
    scale = float(np.abs(xyz).max() / 32767) if len(xyz) else 1.0
    codes = np.rint(xyz / scale).astype("<i2")
    return {
        "xyz": base64.b64encode(codes.tobytes()).decode(),
        "rgb": base64.b64encode(rgb.tobytes()).decode(),
        "scale": scale,
        "spacing": step / float(camera[0]),
        "camera": note,
        "key": frame.key,
    }


def intrinsics(frame: Kept) -> tuple[np.ndarray, str]:
    """fx, fy, cx, cy in pixels and a line about them; assumed where not known."""
    camera = np.asarray(frame.intrinsics, np.float64)
    if camera.shape == (4,) and np.isfinite(camera).all() and (camera[:2] > 0).all():
        fx, fy, cx, cy = camera
        line = f"camera of the data: f = {fx:.1f}, {fy:.1f}, c = {cx:.1f}, {cy:.1f} px"
        return camera, line
    height, width = frame.depth.shape
    focal = width / 2 / math.tan(math.radians(ASSUMED_VIEW / 2))
    assumed = np.array([focal, focal, (width - 1) / 2, (height - 1) / 2])
    return assumed, (
        f"camera not known: {ASSUMED_VIEW:.0f} degrees across are assumed, so the "
        "shape is right up to a stretch in depth"
    )


def grid_step(pixels: int, count: int) -> float:
    """Pixels between the points of a grid of `count` over so many pixels."""
    return max(math.sqrt(pixels / count), 1.0)


def points(
    depth: np.ndarray, image: np.ndarray, camera: np.ndarray, *, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Points [N, 3] in metres and their colours [N, 3], on a grid of even steps.

    X = depth * ((u - cx) / fx, (v - cy) / fy, 1) of pixel (u, v); N is at most `count`.
    """
    step = grid_step(depth.size, count)
    rows, columns = (
        np.arange(int(size / step)) * step + (step - 1) / 2 for size in depth.shape
    )
    v, u = (
        g.ravel()
        for g in np.meshgrid(rows.astype(int), columns.astype(int), indexing="ij")
    )
    z = depth[v, u].astype(np.float64)
    there = np.isfinite(z) & (z > 0)
    u, v, z = u[there], v[there], z[there]
    fx, fy, cx, cy = camera
    xyz = np.stack([(u - cx) / fx * z, (v - cy) / fy * z, z], axis=-1)
    return xyz, np.ascontiguousarray(image[v, u])
