"""Edge-aware smoothness of a disparity map."""

import jax
import jax.numpy as jnp

from amlr_jax.inputs import (
    as_floats,
    check_image,
    check_map,
    check_unit,
    resolve_where,
)
from amlr_jax.losses.depth import valid_pairs
from amlr_jax.losses.masked import Axis, masked_mean, reduced_axes
from amlr_jax.losses.pointwise import LARGEST, absolute

SMALLEST_MEAN = 1e-7  # added to the mean disparity, as in Monodepth2


def smoothness_loss(
    disparity: jax.Array,
    image: jax.Array,
    *,
    where: jax.Array | None = None,
    normalize: bool = True,
    per_image: bool = False,
) -> jax.Array:
    """Edge-aware smoothness of Cao, Luo & Li, Eq. 5.

        mean(|d_x D| exp(-|d_x I|)) + mean(|d_y D| exp(-|d_y I|))

    with forward differences; |d I| is the mean over the channels, and each mean is over
    its own valid pairs of neighbours. By default D is the disparity over its mean in
    the image plus 1e-7, as in Monodepth2: unnormalised, the loss falls when the
    whole disparity shrinks. `normalize=False` is Eq. 5 as printed. The gradient of
    a flat disparity is 0.

    Args:
      disparity: [..., H, W], inverse depth, >= 0.
      image: [..., H, W, C] in [0, 1].
      where: [..., H, W] boolean, True = valid; None = every pixel.
      normalize: divide by the mean over the valid pixels of each image.
      per_image: one loss for each image, over the last two axes.

    Returns:
      Scalar >= 0 (or [...]); 0 for an empty mask.

    Raises:
      ValueError: `image` is not [..., H, W, C] of the disparity's [..., H, W].
      TypeError: `where` is not boolean, `image` is integers, or `disparity` unsigned
        ones.

    >>> import jax.numpy as jnp
    >>> disparity, flat = jnp.array([[1.0, 3.0]]), jnp.zeros((1, 2, 3))
    >>> float(smoothness_loss(disparity, flat, normalize=False))
    2.0
    >>> round(float(smoothness_loss(disparity, flat)), 4)
    1.0
    """
    shape = jnp.shape(disparity)
    if len(shape) < 2 or jnp.shape(image)[:-1] != shape:
        raise ValueError(
            f"`image` must be [..., H, W, C] for a disparity [..., H, W], got image "
            f"{jnp.shape(image)} and disparity {shape}."
        )
    check_map("disparity", disparity)
    check_unit(disparity=disparity)
    where = resolve_where(where, shape)
    check_image("image", image)
    disparity, image = as_floats(disparity, image)
    disparity = _finite(disparity, where)
    if normalize:
        mean = masked_mean(disparity, where=where, axis=(-2, -1), keepdims=True)
        disparity = disparity / (jnp.maximum(mean, 0.0) + SMALLEST_MEAN)
    image = _finite(image, where[..., None])
    axes = reduced_axes(per_image, disparity)
    along_x, along_y = (_step(disparity, image, where, a, axes) for a in (-1, -2))
    return along_x + along_y


def _step(
    disparity: jax.Array, image: jax.Array, where: jax.Array, axis: int, axes: Axis
) -> jax.Array:
    """The mean over valid neighbour pairs along one axis."""
    edge = jnp.mean(absolute(jnp.diff(image, axis=axis - 1)), axis=-1)
    step = absolute(jnp.diff(disparity, axis=axis)) * jnp.exp(-edge)
    return masked_mean(step, where=valid_pairs(where, axis=axis), axis=axes)


def _finite(x: jax.Array, where: jax.Array) -> jax.Array:
    """Clamped, 0 under the mask."""
    return jnp.clip(jnp.where(where, x, 0.0), -LARGEST, LARGEST)
