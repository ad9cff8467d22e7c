"""Bilinear sampling of an image at real-valued pixel coordinates.

Notation: an image is [H, W, C], (u, v) a coordinate with 0 at the centre of the first
pixel and W - 1 (H - 1) at that of the last, the convention of PyTorch's `grid_sample`
with align_corners=True. The derivative is written by hand: it is one-sided at a pixel.
Automatic differentiation would also sum over the channels by a reduction, which XLA
does slowly for three.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from amlr_jax.inputs import CHANNELS, as_float, as_floats

Padding = Literal["border", "zeros"]

_UNROLLED = 16  # channels; up to here a sum of slices is faster than a reduction


def bilinear_sample(
    image: jax.Array, coordinates: jax.Array, *, padding: Padding = "border"
) -> jax.Array:
    """The image at real-valued coordinates, from the four pixels around each.

        I(u, v) = sum over the 2 x 2 cell of (1 - |u - i|) (1 - |v - j|) image[j, i]

    Outside the image:
      "border"  the nearest point of the border; no gradient to the coordinate that
                lies outside or on the border.
      "zeros"   pixels outside are 0, so the image fades out over one pixel, with its
                gradient, and is 0 with gradient 0 beyond.
    Infinite coordinates are outside. A sample with a NaN coordinate is 0 and has
    gradient 0, under either rule; other samples do not change. At an integer
    coordinate the derivative is the one to the right and below, as in PyTorch. For
    the mask of samples within the image see `in_image`.

    Args:
      image: [..., H, W, C], any dtype.
      coordinates: [..., h, w, 2] pixels, (u, v) = (column, row), the batch axes of
        `image`.
      padding: "border" or "zeros".

    Returns:
      [..., h, w, C].

    Raises:
      ValueError: the shapes do not fit, `image` has no pixel or is [..., 3, H, W] or
        [..., 1, H, W] of more than four columns, or `padding` is unknown.

    >>> import jax.numpy as jnp
    >>> image = jnp.array([[0.0, 1.0], [2.0, 3.0]])[..., None]
    >>> where = jnp.array([[[0.5, 0.5], [1.5, 0.0]]])
    >>> bilinear_sample(image, where)[..., 0].tolist()
    [[1.5, 1.0]]
    >>> bilinear_sample(image, where, padding="zeros")[..., 0].tolist()
    [[1.5, 0.5]]
    """
    image, coordinates = as_floats(image, coordinates)
    _check(image.shape, coordinates.shape, padding)
    return sampled(image, coordinates, padding=padding)


def sampled(image: jax.Array, coordinates: jax.Array, *, padding: Padding) -> jax.Array:
    """`bilinear_sample` without its checks, also of feature maps of few rows."""
    if padding == "zeros":  # the border of an image framed in zeros
        frame = [(0, 0)] * (image.ndim - 3) + [(1, 1), (1, 1), (0, 0)]
        image, coordinates = jnp.pad(image, frame), coordinates + 1.0
    # vmap, not a reshape: a batch sharded over devices keeps its sharding.
    sample = _interpolate
    for _ in image.shape[:-3]:
        sample = jax.vmap(sample)
    return sample(image, coordinates)


def in_image(
    coordinates: jax.Array, *, height: int, width: int, margin: float = 0.0
) -> jax.Array:
    """Where 0 <= u <= W - 1 and 0 <= v <= H - 1: between pixel centres, nothing padded.

    Args:
      coordinates: [..., 2] pixels, (u, v).
      height: of the image, pixels.
      width: of the image, pixels.
      margin: pixels by which the bounds are widened (negative: narrowed).

    Returns:
      Boolean [...]; False for NaN.

    Raises:
      ValueError: the last axis is not 2.

    >>> import jax.numpy as jnp
    >>> where = jnp.array([[0.0, 3.0], [4.1, 0.0], [jnp.nan, 1.0]])
    >>> in_image(where, height=4, width=5).tolist()
    [True, False, False]
    """
    coordinates = as_float(coordinates)
    if coordinates.shape[-1:] != (2,):
        raise ValueError(
            f"`coordinates` must be [..., 2], got shape {coordinates.shape}."
        )
    u, v = coordinates[..., 0], coordinates[..., 1]
    columns = (u >= -margin) & (u <= width - 1 + margin)
    return columns & (v >= -margin) & (v <= height - 1 + margin)


class _Cell(NamedTuple):
    """The cell of four pixels around each sample, and the position in it."""

    corners: tuple[jax.Array, ...]  # int32 [h, w]: flat indices, row by row
    x: jax.Array  # [h, w, 1] in [0, 1], from the left pixels to the right ones
    y: jax.Array  # [h, w, 1], from the upper pixels to the lower ones
    moves_x: jax.Array  # boolean [h, w]: u is free, not held at the border
    moves_y: jax.Array
    known: jax.Array  # boolean [h, w, 1]: no coordinate is NaN


@jax.custom_jvp
def _interpolate(image: jax.Array, coordinates: jax.Array) -> jax.Array:
    """One image [H, W, C] at [h, w, 2] -> [h, w, C], held at the border."""
    cell = _cell(coordinates, image.shape)
    return _mix(_corners(image, cell), cell)


@_interpolate.defjvp
def _interpolate_tangent(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """I + dI/du du + dI/dv dv; XLA drops what is not used."""
    image, coordinates = primals
    d_image, d_coordinates = tangents
    cell = _cell(coordinates, image.shape)
    a, b, c, d = _corners(image, cell)
    along_x = (b - a) * (1.0 - cell.y) + (d - c) * cell.y
    along_y = (c - a) * (1.0 - cell.x) + (d - b) * cell.x
    moved = _times(jnp.where(cell.moves_x, d_coordinates[..., 0], 0.0), along_x)
    moved += _times(jnp.where(cell.moves_y, d_coordinates[..., 1], 0.0), along_y)
    sample = _interpolate(image, coordinates)
    return sample, _mix(_corners(d_image, cell), cell) + moved


def _mix(corners: list[jax.Array], cell: _Cell) -> jax.Array:
    a, b, c, d = corners
    upper = a * (1.0 - cell.x) + b * cell.x
    lower = c * (1.0 - cell.x) + d * cell.x
    sample = upper * (1.0 - cell.y) + lower * cell.y
    return jnp.where(cell.known, sample, 0.0)


def _times(step: jax.Array, slope: jax.Array) -> jax.Array:
    """[h, w] times [h, w, C]; its transpose adds slices up, which is fast for few."""
    if slope.shape[-1] > _UNROLLED:
        return step[..., None] * slope
    channels = jax.lax.split(slope, (1,) * slope.shape[-1], axis=-1)
    return jnp.concatenate([step[..., None] * channel for channel in channels], -1)


def _cell(coordinates: jax.Array, shape: tuple[int, ...]) -> _Cell:
    height, width, _ = shape
    u, v = coordinates[..., 0], coordinates[..., 1]
    known = ~(jnp.isnan(u) | jnp.isnan(v))
    column, x, moves_x = _place(u, known, width)
    row, y, moves_y = _place(v, known, height)
    here = row * width + column
    right, down = min(1, width - 1), width * min(1, height - 1)
    corners = here, here + right, here + down, here + right + down
    return _Cell(corners, x, y, moves_x, moves_y, known[..., None])


def _place(
    u: jax.Array, known: jax.Array, size: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The first pixel of the cell, the position in it, and whether u is free."""
    held = jnp.clip(jnp.where(known, u, 0.0), 0.0, size - 1.0)
    first = jnp.clip(jnp.floor(held), 0.0, max(size - 2.0, 0.0))
    free = known & (u > 0.0) & (u < size - 1.0)
    return first.astype(jnp.int32), (held - first)[..., None], free


def _corners(image: jax.Array, cell: _Cell) -> list[jax.Array]:
    """The four pixels of each sample, by one gather, so that its transpose is one."""
    pixels, where = image.reshape(-1, image.shape[-1]), jnp.stack(cell.corners)
    found = jax.lax.split(pixels.at[where].get(mode="promise_in_bounds"), (1,) * 4)
    return [corner[0] for corner in found]


def _check(image: tuple[int, ...], coordinates: tuple[int, ...], padding: str) -> None:
    if len(image) < 3 or 0 in image[-3:-1]:
        raise ValueError(f"`image` must be [..., H, W, C], got shape {image}.")
    if image[-3] in (1, 3) and image[-1] > CHANNELS:
        raise ValueError(
            f"`image` must be [..., H, W, C], got shape {image}, channels first; pass "
            "jnp.moveaxis(image, -3, -1)."
        )
    fits = len(coordinates) == len(image) and coordinates[-1] == 2
    if not fits or coordinates[:-3] != image[:-3]:
        raise ValueError(
            "`coordinates` must be [..., h, w, 2] with the batch axes of `image`, got "
            f"coordinates {coordinates} and image {image}."
        )
    if padding not in ("border", "zeros"):
        raise ValueError(f"`padding` must be 'border' or 'zeros', got {padding!r}.")
