"""Optical flow: warping, matching costs, occlusion and consistency.

Notation: a flow [..., H, W, 2] holds (du, dv) in pixels, so that pixel (u, v) of the
first image is at (u + du, v + dv) in the second. Leading axes are batch axes, the same
in all arguments.
"""

import jax
import jax.numpy as jnp

from amlr_jax.geometry.sampling import in_image, sampled
from amlr_jax.geometry.warping import Warped
from amlr_jax.inputs import as_float, as_floats

LEAST = 3.0  # pixels^2: an inconsistency below it is tolerated at any flow
SHARE = 0.01  # of the squared lengths, which is tolerated in addition to CONSTANT
CONSTANT = 0.5  # pixels^2


def flow_matches(flow: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Each pixel's place in the second image, and whether it lies within that image.

    Args:
      flow: [..., H, W, 2] pixels.

    Returns:
      (u, v), [..., H, W, 2], and boolean [..., H, W].

    Raises:
      ValueError: `flow` is not [..., H, W, 2].

    >>> import jax.numpy as jnp
    >>> places, inside = flow_matches(jnp.ones((2, 2, 2)))
    >>> places[1, 0].tolist(), inside.tolist()
    ([1.0, 2.0], [[True, False], [False, False]])
    """
    flow = as_float(flow)
    if flow.ndim < 3 or flow.shape[-1] != 2:
        raise ValueError(f"`flow` must be [..., H, W, 2], got shape {flow.shape}.")
    height, width = flow.shape[-3:-1]
    v, u = jnp.mgrid[:height, :width].astype(flow.dtype)
    places = flow + jnp.stack([u, v], axis=-1)
    return places, in_image(places, height=height, width=width)


def flow_warp(image: jax.Array, flow: jax.Array) -> Warped:
    """The second image sampled at the matches of the first one's pixels.

        image(u + du, v + dv)      bilinear, 0 outside of the image

    Args:
      image: the second one or its features, [..., H, W, C].
      flow: from the first to the second image, [..., H, W, 2] pixels.

    Returns:
      `image` [..., H, W, C], and where the match lies within it, [..., H, W].

    Raises:
      ValueError: `image` and `flow` differ in their axes before the last.

    >>> import jax.numpy as jnp
    >>> left = jnp.array([[-1.0, 0.0]] * 3)[None]
    >>> flow_warp(jnp.array([[[1.0], [2.0], [3.0]]]), left).image[0, :, 0].tolist()
    [0.0, 1.0, 2.0]
    """
    image, flow = as_floats(image, flow)
    if image.shape[:-1] != flow.shape[:-1]:
        raise ValueError(
            "`flow` must be [..., H, W, 2] with the axes of `image` [..., H, W, C], "
            f"got flow {flow.shape} and image {image.shape}."
        )
    places, inside = flow_matches(flow)
    return Warped(sampled(image, places, padding="zeros"), inside)


def correlation(first: jax.Array, second: jax.Array, *, radius: int = 4) -> jax.Array:
    """Matching costs: products of each pixel with a window of the second image.

        c[v, u, (dv + r) n + du + r] = sum_k first[v, u, k] second[v + dv, u + du, k]

    with n = 2 r + 1 and zeros outside of the image (Sun et al., "PWC-Net", CVPR 2018,
    Eq. 3, as a sum instead of a mean). Sums are in float32.

    Args:
      first, second: features, [..., H, W, C].
      radius: r, pixels.

    Returns:
      [..., H, W, n^2], float32 or float64.

    Raises:
      ValueError: the shapes differ or the radius is negative.

    >>> import jax.numpy as jnp
    >>> correlation(jnp.ones((1, 1, 2)), jnp.full((1, 1, 2), 3.0), radius=1)[0, 0, 4]
    Array(6., dtype=float32)
    """
    if jnp.shape(first) != jnp.shape(second) or jnp.ndim(first) < 3 or radius < 0:
        raise ValueError(
            "`first` and `second` must both be [..., H, W, C] and `radius` at least 0, "
            f"got {jnp.shape(first)}, {jnp.shape(second)} and {radius}."
        )
    first, second = as_floats(first, second)
    height, width = first.shape[-3:-1]
    frame = [(0, 0)] * (first.ndim - 3) + [(radius, radius)] * 2 + [(0, 0)]
    padded = jnp.pad(second, frame)
    window = range(2 * radius + 1)

    def of_row(i: jax.Array) -> jax.Array:
        rows = jax.lax.dynamic_slice_in_dim(padded, i, height, axis=-3)
        costs = [(first * rows[..., j : j + width, :]).sum(-1) for j in window]
        return jnp.stack(costs, axis=-1)

    # A loop over the rows: 81 products at five levels take minutes to compile.
    costs = jnp.moveaxis(jax.lax.map(of_row, jnp.arange(len(window))), 0, -2)
    return costs.reshape(*costs.shape[:-2], len(window) ** 2)


def flow_visibility(backward: jax.Array) -> jax.Array:
    """How much of the second image arrives at each pixel of the first, in [0, 1].

    Each pixel of the second image gives 1 to the four pixels around its match, with
    bilinear weights. A pixel that nothing arrives at is occluded in the second image
    (Wang et al., "Occlusion Aware Unsupervised Learning of Optical Flow", CVPR 2018).
    A flow that is not finite gives nothing. No gradient flows through it.

    Args:
      backward: flow from the second to the first image, [..., H, W, 2] pixels.

    Returns:
      [..., H, W].

    >>> import jax.numpy as jnp
    >>> flow_visibility(jnp.array([[[1.0, 0.0], [1.0, 0.0]]])).tolist()
    [[0.0, 1.0]]
    """
    places, _ = flow_matches(jax.lax.stop_gradient(backward))
    splat = _splat
    for _ in places.shape[:-3]:
        splat = jax.vmap(splat)
    return jnp.clip(splat(places), 0.0, 1.0)


def _splat(places: jax.Array) -> jax.Array:
    """Sum of the bilinear weights that arrive at each pixel: [H, W, 2] -> [H, W]."""
    height, width = places.shape[:2]
    known = jnp.isfinite(places).all(-1)
    u, v = jnp.moveaxis(jnp.where(known[..., None], places, -2.0), -1, 0)
    # Beyond -2 and the size there is no pixel to give to, and int32 is exact.
    u, v = jnp.clip(u, -2.0, width), jnp.clip(v, -2.0, height)
    column, row = jnp.floor(u), jnp.floor(v)
    total = jnp.zeros((height + 3, width + 3), places.dtype)  # a frame of 2, and 1
    for i in (0, 1):
        for j in (0, 1):
            share = (1 - jnp.abs(v - row - i)) * (1 - jnp.abs(u - column - j))
            at = (row + i + 2).astype(jnp.int32), (column + j + 2).astype(jnp.int32)
            total = total.at[at].add(share, mode="drop")
    return total[2 : 2 + height, 2 : 2 + width]


def flow_consistency(
    forward: jax.Array, backward: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Where the way to the second image and back ends, and whether that is near.

        b' = backward at the match,   e = |f + b'|^2
        consistent where e < max(3, 0.01 (|f|^2 + |b'|^2) + 0.5)         pixels^2

    The bound is that of Meister et al. ("UnFlow", AAAI 2018) with the least one of Zhao
    et al. ("Towards Better Generalization", CVPR 2020). No gradient flows through it.

    Args:
      forward, backward: flows between two images, [..., H, W, 2] pixels.

    Returns:
      e, [..., H, W] pixels^2, and a boolean mask [..., H, W].

    >>> import jax.numpy as jnp
    >>> error, near = flow_consistency(jnp.ones((2, 2, 2)), -jnp.ones((2, 2, 2)))
    >>> float(error[0, 0]), bool(near.all())
    (0.0, True)
    """
    forward, backward = map(jax.lax.stop_gradient, (forward, backward))
    back = flow_warp(backward, forward).image
    error = jnp.sum(jnp.square(forward + back), axis=-1)
    squares = jnp.sum(jnp.square(forward) + jnp.square(back), axis=-1)
    return error, error < jnp.maximum(LEAST, SHARE * squares + CONSTANT)
