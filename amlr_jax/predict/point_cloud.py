"""Depth and image as coloured points in a PLY file."""

import numpy as np
from numpy.typing import ArrayLike

_VERTEX = np.dtype(
    [(axis, "<f4") for axis in "xyz"]
    + [(colour, "u1") for colour in ("red", "green", "blue")]
)
_TYPES = {"<f4": "float", "|u1": "uchar"}


def points(
    depth: np.ndarray, image: np.ndarray, intrinsics: ArrayLike, *, stride: int = 1
) -> np.ndarray:
    """The points that every `stride`-th pixel of every `stride`-th row sees.

        x = (u - cx) / fx z,   y = (v - cy) / fy z,   z = depth[v, u]

    Args:
      depth: [H, W] metres; where it is 0, negative or not finite there is no point.
      image: uint8 RGB [H, W, 3].
      intrinsics: fx, fy, cx, cy in pixels of the image, the centre of the first at 0.

    Returns:
      [N] with fields x, y, z (float32 metres: x right, y down, z forward) and red,
      green, blue (uint8).
    """
    fx, fy, cx, cy = (float(value) for value in intrinsics)
    v, u = np.mgrid[: depth.shape[0] : stride, : depth.shape[1] : stride]
    z = depth[::stride, ::stride].astype(np.float64)
    seen = np.isfinite(z) & (z > 0)
    u, v, z = u[seen], v[seen], z[seen]
    found = np.empty(z.size, _VERTEX)
    found["x"], found["y"], found["z"] = (u - cx) / fx * z, (v - cy) / fy * z, z
    colours = image[::stride, ::stride][seen]
    for channel, name in enumerate(("red", "green", "blue")):
        found[name] = colours[:, channel]
    return found


def as_ply(vertices: np.ndarray, *, unit: str = "metres") -> bytes:
    """The bytes of a PLY file, binary little endian, of what `points` gives."""
    properties = [
        f"property {_TYPES[_VERTEX[name].str]} {name}" for name in _VERTEX.names
    ]
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment camera frame, x right, y down, z forward, {unit}",
        f"element vertex {len(vertices)}",
        *properties,
        "end_header",
        "",
    ]
    return "\n".join(header).encode("ascii") + vertices.astype(_VERTEX).tobytes()
