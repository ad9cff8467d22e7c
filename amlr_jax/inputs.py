"""What the losses, metrics and geometry ask of their arrays: precision, masks, layouts.

A layout that is certainly wrong is refused when the function is traced, by shape and
dtype alone. What neither tells is not checked: float images in 0..255 with a
`data_range` of 1, or channels-first images of at most four columns.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

CHANNELS = 4  # of an image, at most; a larger last axis is W or a stack of maps


def float_type(*arrays: ArrayLike) -> DTypeLike:
    """float64 if one of the arrays is, else float32.

    Python numbers, which have no precision of their own, count only if there is
    nothing else. float64 exists where `jax_enable_x64` is set.
    """
    types = [jax.typeof(jnp.asarray(array)) for array in arrays]
    decisive = [t for t in types if not t.weak_type] or types
    wide = any(t.dtype == jnp.float64 for t in decisive)
    return jnp.float64 if wide else jnp.float32


def as_floats(*arrays: ArrayLike) -> tuple[jax.Array, ...]:
    """The arrays in their `float_type`, whatever dtypes they mix."""
    dtype = float_type(*arrays)
    return tuple(jnp.asarray(array).astype(dtype) for array in arrays)


def as_float(array: ArrayLike) -> jax.Array:
    """The array as float64 if it is that, else as float32."""
    return as_floats(array)[0]


def check_same_shape(**arrays: Any) -> None:
    """Raises ValueError unless all named arrays have the shape of the first.

    Broadcasting is refused: [B, H, W] against [B, H, W, 1] would silently give an
    array like [B, B, H, W].
    """
    (first, reference), *others = arrays.items()
    for name, array in others:
        if jnp.shape(array) != jnp.shape(reference):
            raise ValueError(
                f"`{name}` must have the shape of `{first}`, got {name} "
                f"{jnp.shape(array)} and {first} {jnp.shape(reference)}."
            )


def resolve_where(where: jax.Array | None, shape: tuple[int, ...]) -> jax.Array:
    """The boolean mask of `shape`; all True for None.

    Raises:
      TypeError: `where` is not boolean.
      ValueError: `where` has another shape.
    """
    if where is None:
        return jnp.ones(shape, bool)
    where = jnp.asarray(where)
    if where.dtype != jnp.bool_:
        raise TypeError(f"`where` must be boolean, got dtype {where.dtype}.")
    if where.shape != shape:
        raise ValueError(
            f"`where` must have the shape of the data, got where {where.shape} "
            f"and data {shape}."
        )
    return where


def check_map(name: str, array: ArrayLike) -> None:
    """Raises ValueError unless the array is [..., H, W].

    A last axis of 1 behind two others is a channel axis, [..., H, W, 1]: W would be
    taken for H.
    """
    shape = jnp.shape(array)
    if len(shape) < 2:
        raise ValueError(f"`{name}` must be [..., H, W], got shape {shape}.")
    if len(shape) > 2 and shape[-1] == 1:
        raise ValueError(
            f"`{name}` must be [..., H, W] without a channel axis, got shape {shape}; "
            f"pass {name}[..., 0]."
        )


def check_unit(**arrays: ArrayLike) -> None:
    """Raises TypeError for unsigned integers, which hold a file's or sensor's unit."""
    for name, array in arrays.items():
        dtype = jnp.result_type(array)
        if jnp.issubdtype(dtype, jnp.unsignedinteger):
            raise TypeError(
                f"`{name}` is {dtype}, the values of a file and not metres; divide by "
                "its scale first, such as 256 (KITTI) or 1000 (millimetres)."
            )


def check_image(name: str, image: ArrayLike, *, data_range: Any = 1.0) -> None:
    """Raises ValueError or TypeError unless `image` is [..., H, W, C] in [0, R].

    Integers in a `data_range` R of 1 could only be 0 and 1, so they are images in
    0..255 that were not divided. More than four channels are another layout.
    """
    shape, dtype = jnp.shape(image), jnp.result_type(image)
    if len(shape) < 3 or shape[-1] > CHANNELS:
        raise ValueError(
            f"Images must be [..., H, W, C] with at most {CHANNELS} channels, got "
            f"{name} of shape {shape}; of channels-first images pass jnp.moveaxis("
            f"{name}, -3, -1), of grey images or feature maps {name}[..., None]."
        )
    whole = jnp.issubdtype(dtype, jnp.integer)
    if whole and not isinstance(data_range, jax.core.Tracer) and data_range == 1:
        raise TypeError(
            f"`{name}` is {dtype} and must be floating point in [0, 1]; divide it by "
            "255, or where a function takes it pass data_range=255."
        )


def depth_mask(
    prediction: jax.Array, target: jax.Array, where: jax.Array | None
) -> jax.Array:
    """The mask of two depth maps, which must be of one shape and in metres.

    Raises ValueError and TypeError as `check_same_shape`, `check_unit` and
    `resolve_where`.
    """
    check_same_shape(prediction=prediction, target=target)
    check_unit(prediction=prediction, target=target)
    if where is not None:
        check_same_shape(prediction=prediction, where=where)
    return resolve_where(where, jnp.shape(prediction))
