"""View synthesis: the image of one camera, sampled from the image of another."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from amlr_jax.geometry.camera import NOWHERE, backproject, project, transform
from amlr_jax.geometry.sampling import Padding, bilinear_sample, in_image
from amlr_jax.inputs import as_float

_ROUNDING = 1e-2  # pixels; float32 puts the identity this far outside, at most


class Warped(NamedTuple):
    """A synthesised view and the mask of its valid pixels."""

    image: jax.Array  # [..., H, W, C]
    valid: jax.Array  # boolean [..., H, W]


def reproject(
    depth: jax.Array,
    pose: jax.Array,
    intrinsics: jax.Array,
    *,
    source_intrinsics: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The pixel in the source view that corresponds to each pixel of the target.

        (u, v) of  K_s (R K_t^-1 (i, j, 1) depth[j, i] + t)

    Args:
      depth: of the target view, [..., H, W] metres.
      pose: source_from_target, [..., 4, 4].
      intrinsics: of the target camera, [..., 4] or [..., 3, 3].
      source_intrinsics: of the source camera; None = the same.

    Returns:
      Pixel coordinates in the source, [..., H, W, 2], and a boolean mask
      [..., H, W]: the depth is finite and > 0, and the point is in front of the source
      camera. Elsewhere the coordinates lie outside every image and have gradient 0.

    Raises:
      ValueError: the shapes do not fit; batch axes as in `amlr_jax.geometry`.

    >>> import jax.numpy as jnp
    >>> camera = jnp.array([100.0, 100.0, 2.0, 1.0])
    >>> sideways = jnp.eye(4).at[0, 3].set(0.5)  # metres
    >>> pixels, valid = reproject(jnp.full((3, 5), 10.0), sideways, camera)
    >>> pixels[1, 2].tolist()  # 100 * 0.5 / 10 pixels to the right
    [7.0, 1.0]
    """
    if source_intrinsics is None:
        source_intrinsics = intrinsics
    points = transform(backproject(depth, intrinsics), pose)
    pixels, in_front = project(points, source_intrinsics)
    valid = in_front & (as_float(depth) > 0)
    return jnp.where(valid[..., None], pixels, NOWHERE), valid


def warp(
    image: jax.Array,
    depth: jax.Array,
    pose: jax.Array,
    intrinsics: jax.Array,
    *,
    source_intrinsics: jax.Array | None = None,
    padding: Padding = "border",
) -> Warped:
    """The source image warped into the target view with the target's depth.

    View synthesis of monodepth2 (inverse warping) in the pixel convention under
    which the identity pose returns the image itself. Differentiable in depth, pose and
    image. monodepth2 has no such `valid` mask: it keeps all pixels and relies on the
    photometric minimum over sources. With "border", an invalid pixel has the value of
    the corner or border of the source, with "zeros", 0.

    Args:
      image: the source, [..., h, w, C]; may differ in size from the target.
      depth: of the target view, [..., H, W] metres, the batch axes of `image`.
      pose: source_from_target, [..., 4, 4].
      intrinsics: of the target camera, [..., 4] or [..., 3, 3].
      source_intrinsics: of the source camera; None = the same.
      padding: "border" or "zeros", see `bilinear_sample`.

    Returns:
      `image` [..., H, W, C] and `valid`, boolean [..., H, W]: the depth is
      finite and > 0, and its point in front of the source camera, within its image.

    Raises:
      ValueError: the shapes do not fit, or `padding` is unknown.

    >>> import jax.numpy as jnp
    >>> image, depth = jnp.arange(12.0).reshape(3, 4, 1), jnp.full((3, 4), 7.0)
    >>> same = warp(image, depth, jnp.eye(4), jnp.array([5.0, 5.0, 1.5, 1.0]))
    >>> bool(jnp.allclose(same.image, image, atol=1e-5)), bool(same.valid.all())
    (True, True)
    """
    pixels, seen = reproject(
        depth, pose, intrinsics, source_intrinsics=source_intrinsics
    )
    sampled = bilinear_sample(image, pixels, padding=padding)
    height, width = jnp.shape(image)[-3:-1]
    inside = in_image(pixels, height=height, width=width, margin=_ROUNDING)
    return Warped(sampled, seen & inside)
