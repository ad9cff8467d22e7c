"""The pinhole camera: pixels and depth to points, and points to pixels.

Notation: (u, v) is a pixel, (x, y, z) a point of the camera frame in metres, depth = z.
Conventions of frames, pixels, intrinsics and batch axes are those of
`amlr_jax.geometry`. Sums over the three coordinates are written as elementwise
operations, which run in full float32 on a GPU and which XLA fuses.
"""

import jax
import jax.numpy as jnp

from amlr_jax.inputs import as_floats, check_map, check_unit

NEAR = 1e-3  # metres; a point nearer than this to the camera's plane has no pixel
# The pixel coordinate of a point without one: finite, and far outside every image.
NOWHERE = -1e6


def backproject(depth: jax.Array, intrinsics: jax.Array) -> jax.Array:
    """The point in the camera frame at the depth of each pixel.

        x = (u - cx) / fx z,   y = (v - cy) / fy z,   z = depth[v, u]

    Depth is along the optical axis, not along the ray. A depth of 0 (no measurement)
    gives the point (0, 0, 0). A NaN or infinite depth gives a point of three NaN, which
    `transform` returns and `project` marks invalid, with gradient 0.

    Args:
      depth: [..., H, W] metres.
      intrinsics: [..., 4] (fx, fy, cx, cy) or [..., 3, 3], pixels of `depth`; its batch
        axes are the first axes of `depth`.

    Returns:
      [..., H, W, 3] metres: x right, y down, z forward.

    Raises:
      ValueError: `depth` is not [..., H, W], or `intrinsics` does not fit.
      TypeError: `depth` is unsigned integers, a file's unit and not metres.

    >>> import jax.numpy as jnp
    >>> points = backproject(jnp.full((3, 5), 2.0), jnp.array([1.0, 1.0, 2.0, 1.0]))
    >>> points[0, 4].tolist()
    [4.0, -2.0, 2.0]
    """
    check_map("depth", depth)
    check_unit(depth=depth)
    depth, intrinsics = as_floats(depth, intrinsics)
    entries = _entries(intrinsics)
    _check_prefix("intrinsics", entries[0].shape, "depth", depth.shape[:-2])
    fx, fy, cx, cy = _spread(entries, axes=depth.ndim)
    height, width = depth.shape[-2:]
    u = jnp.arange(width, dtype=depth.dtype)
    v = jnp.arange(height, dtype=depth.dtype)[:, None]
    seen = jnp.isfinite(depth)
    z = jnp.where(seen, depth, 0.0)
    points = jnp.stack([(u - cx) / fx * z, (v - cy) / fy * z, z], axis=-1)
    return jnp.where(seen[..., None], points, jnp.nan)


def transform(points: jax.Array, pose: jax.Array) -> jax.Array:
    """The points in another frame, R p + t.

    A point with a NaN or infinite coordinate becomes three NaN, with gradient 0.

    Args:
      points: p in frame b, [..., 3] metres.
      pose: a_from_b, [..., 4, 4]; its batch axes are the first axes of `points`.

    Returns:
      The points in frame a, shape of `points`.

    Raises:
      ValueError: the last axis of `points` is not 3, or `pose` does not fit.

    >>> import jax.numpy as jnp
    >>> pose = jnp.eye(4).at[:3, 3].set(jnp.array([0.0, 0.0, 5.0]))
    >>> transform(jnp.ones((2, 3)), pose).tolist()
    [[1.0, 1.0, 6.0], [1.0, 1.0, 6.0]]
    """
    points, pose = as_floats(points, pose)
    _check_points(points)
    if pose.shape[-2:] != (4, 4):
        raise ValueError(f"`pose` must be [..., 4, 4], got shape {pose.shape}.")
    _check_prefix("pose", pose.shape[:-2], "points", points.shape[:-1])
    finite = jnp.all(jnp.isfinite(points), axis=-1, keepdims=True)
    x, y, z = _coordinates(jnp.where(finite, points, 0.0))
    rows = []
    for i in range(3):
        entries = tuple(pose[..., i, j] for j in range(4))
        a, b, c, t = _spread(entries, axes=points.ndim - 1)
        rows.append(a * x + b * y + c * z + t)
    return jnp.where(finite, jnp.stack(rows, axis=-1), jnp.nan)


def project(
    points: jax.Array, intrinsics: jax.Array, *, near: float = NEAR
) -> tuple[jax.Array, jax.Array]:
    """The pixel coordinates of each point, and the mask of valid points.

        u = fx x / z + cx,   v = fy y / z + cy      where z > near

    A point at, behind or too near the camera's plane, and one that is not finite, has
    no pixel: its coordinates are (NOWHERE, NOWHERE), outside every image, and its
    gradient is 0. (monodepth2 divides by z + 1e-7 and mirrors points from behind.)
    `in_image` tests whether the pixel is inside the image.

    Args:
      points: [..., 3] metres in the camera frame.
      intrinsics: [..., 4] (fx, fy, cx, cy) or [..., 3, 3]; its batch axes are the first
        axes of `points`.
      near: metres.

    Returns:
      Pixel coordinates (u, v), [..., 2], and a boolean mask [...], True in
      front of the camera.

    Raises:
      ValueError: the last axis of `points` is not 3, or `intrinsics` does not fit.

    >>> import jax.numpy as jnp
    >>> points = jnp.array([[2.0, 1.0, 4.0], [2.0, 1.0, -4.0]])
    >>> pixels, valid = project(points, jnp.array([10.0, 10.0, 5.0, 5.0]))
    >>> pixels[0].tolist(), valid.tolist()
    ([10.0, 7.5], [True, False])
    """
    points, intrinsics = as_floats(points, intrinsics)
    _check_points(points)
    entries = _entries(intrinsics)
    _check_prefix("intrinsics", entries[0].shape, "points", points.shape[:-1])
    fx, fy, cx, cy = _spread(entries, axes=points.ndim - 1)
    valid = jnp.all(jnp.isfinite(points), axis=-1) & (points[..., 2] > near)
    x, y, z = _coordinates(jnp.where(valid[..., None], points, 1.0))
    pixels = jnp.stack([fx * (x / z) + cx, fy * (y / z) + cy], axis=-1)
    return jnp.where(valid[..., None], pixels, NOWHERE), valid


def _entries(k: jax.Array) -> tuple[jax.Array, ...]:
    """fx, fy, cx, cy, each [...]."""
    if k.shape[-2:] == (3, 3):
        return k[..., 0, 0], k[..., 1, 1], k[..., 0, 2], k[..., 1, 2]
    if k.shape[-1:] == (4,):
        return tuple(k[..., i] for i in range(4))
    raise ValueError(
        "`intrinsics` must be [..., 4] (fx, fy, cx, cy) or [..., 3, 3], got shape "
        f"{k.shape}."
    )


def _spread(entries: tuple[jax.Array, ...], *, axes: int) -> tuple[jax.Array, ...]:
    """Each entry [...] with ones behind its batch axes, to `axes` axes."""
    return tuple(e.reshape(*e.shape, *(1,) * (axes - e.ndim)) for e in entries)


def _check_prefix(
    name: str, batch: tuple[int, ...], other: str, allowed: tuple[int, ...]
) -> None:
    """Raises ValueError unless `allowed` begins with the batch axes of `name`."""
    if batch != allowed[: len(batch)]:
        raise ValueError(
            f"The batch axes of `{name}` must be the first axes of `{other}`, got "
            f"{batch} and {allowed}."
        )


def _check_points(points: jax.Array) -> None:
    if points.shape[-1:] != (3,):
        raise ValueError(f"`points` must be [..., 3], got shape {points.shape}.")


def _coordinates(points: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    return points[..., 0], points[..., 1], points[..., 2]
