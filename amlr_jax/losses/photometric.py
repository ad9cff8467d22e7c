"""Photometric errors between an image and its syntheses, and their minimum.

Notation, as in Cao, Luo & Li (section 3): I is the target image, I' one synthesised
from a source frame, both [..., H, W, C] in [0, 1]; r(I, I') is a map [..., H, W], the
mean over the channels. Windows, masks and dtypes as in `amlr_jax.losses.ssim`.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from amlr_jax.inputs import as_floats, float_type, resolve_where
from amlr_jax.losses.pointwise import LARGEST, absolute
from amlr_jax.losses.ssim import (
    additive_ssim_error,
    check_images,
    multiplicative_ssim_error,
    ssim_components,
    ssim_error,
    valid_pixels,
)

Maps = Mapping[str, jax.Array]
Mask = jax.Array | None
Shape = tuple[int, ...]

NOISE = 1e-5  # what a key adds to the identity errors, as Monodepth2 does


class Reprojection(NamedTuple):
    """`error` [..., H, W] and `mask` [..., H, W], True where a source won."""

    error: jax.Array
    mask: jax.Array


def photometric_error(
    x: jax.Array,
    y: jax.Array,
    *,
    kind: str = "monodepth2",
    where: jax.Array | None = None,
    **options: Any,
) -> jax.Array:
    """The error r(I, I') of every pixel.

        "monodepth2"  Eq. 6:   k (1 - SSIM) / 2 + (1 - k) |I - I'|
        "ssim_m"      Eq. 10:  k SSIM_m + (1 - k) MAE,  SSIM_m of Eq. 8
        "ssim_a"      Eq. 11:  w_1 MAE + SSIM_a,        SSIM_a of Eq. 9

    "ssim_m" with exponents 1 is not "monodepth2"; see `multiplicative_ssim_error`.

    Args:
      x, y: I' and I, [..., H, W, C] of one shape, in [0, data_range].
      kind: one of the above.
      where: [..., H, W] boolean, True = valid; None = every pixel.
      **options: `ssim_weight` k (0.85) for the first two; `alpha`, `beta`, `gamma` (1)
        for "ssim_m"; `mae`, `luminance`, `contrast`, `structure` (0.4, 0.5, 0.5, 0.7)
        for "ssim_a"; and the window options of `ssim_components`.

    Returns:
      [..., H, W] >= 0; of a "valid" window's size if that is the padding.

    Raises:
      ValueError: `kind` is unknown, or as `ssim_components`.
      TypeError: an option that `kind` does not have, or `where` is not boolean.

    >>> import jax.numpy as jnp
    >>> x = jnp.linspace(0.0, 1.0, 48).reshape(4, 4, 3)
    >>> error = photometric_error(x, 0.5 * x, kind="ssim_a", mae=0.3)
    >>> error.shape, round(float(error.mean()), 3)
    ((4, 4), 0.272)
    """
    if kind not in _KINDS:
        raise ValueError(f"`kind` must be one of {tuple(_KINDS)}, got {kind!r}.")
    return _KINDS[kind](x, y, where=where, **options)


def photometric_components(
    x: jax.Array, y: jax.Array, *, where: jax.Array | None = None, **window: Any
) -> dict[str, jax.Array]:
    """The unweighted parts of Eq. 11, each an error of 0 for equal images.

    Args, Raises: as `ssim_components`.

    Returns:
      `mae` mean |I - I'|, `luminance` 1 - L, `contrast` 1 - C, `structure` (1 - S) / 2:
      each [..., H, W]. Weighted and added they are
      `photometric_error(kind="ssim_a")`.

    >>> import jax.numpy as jnp
    >>> x = jnp.linspace(0.0, 1.0, 48).reshape(4, 4, 3)
    >>> {k: round(float(v.mean()), 3) for k, v in photometric_components(x, x).items()}
    {'mae': 0.0, 'luminance': 0.0, 'contrast': 0.0, 'structure': 0.0}
    """
    maps = ssim_components(x, y, where=where, **window)
    luminance, contrast, structure = (1.0 - jnp.mean(part, axis=-1) for part in maps)
    return {
        "mae": _mean_absolute_error(x, y, where, **window),
        "luminance": luminance,
        "contrast": contrast,
        "structure": 0.5 * structure,
    }


def minimum_reprojection(
    errors: jax.Array,
    identity_errors: jax.Array | None = None,
    *,
    where: jax.Array | None = None,
    key: jax.Array | None = None,
) -> Reprojection:
    """The minimum over the sources of Eq. 4, and Monodepth2's automatic mask.

    Args:
      errors: [S, ..., H, W], r(I, I') for each of S sources.
      identity_errors: [T, ..., H, W], r(I, source) of the unwarped sources. A pixel
        at which one of them is smaller than all errors is taken to move with the
        camera: it is masked, and its value is that smallest identity error, which has
        no gradient with respect to depth.
      where: [S, ..., H, W] boolean, False where a source is not visible; it cannot win.
      key: adds noise of 1e-5 to the identity errors, as Monodepth2 does; None = none.

    A tie selects the identity, then the first source; the gradient flows to that one
    only. Equal frames are thus masked and not chosen at random.

    Returns:
      `error`, 0 at a pixel without a visible source or identity error; `mask`.
      `error.mean()` is Monodepth2's loss, over all pixels N as in Eq. 4;
      `masked_mean(error, where=mask)` divides by the pixels kept.

    Raises:
      ValueError: fewer than three axes, or shapes that differ.
      TypeError: `where` is not boolean.

    >>> import jax.numpy as jnp
    >>> errors = jnp.array([[[0.1, 0.4]], [[0.3, 0.2]]])
    >>> result = minimum_reprojection(errors, jnp.array([[[0.5, 0.2]]]))
    >>> [round(float(e), 2) for e in result.error[0]], result.mask[0].tolist()
    ([0.1, 0.2], [True, False])
    """
    identity = {} if identity_errors is None else {"error": identity_errors}
    result, mask = select_components(
        {"error": errors}, {"error": 1.0}, identity or None, where=where, key=key
    )
    return Reprojection(result["error"], mask)


def select_components(
    components: Mapping[str, jax.Array],
    weights: Mapping[str, jax.Array | float],
    identity_components: Mapping[str, jax.Array] | None = None,
    *,
    where: jax.Array | None = None,
    key: jax.Array | None = None,
) -> tuple[dict[str, jax.Array], jax.Array]:
    """`minimum_reprojection` of a weighted sum, each component returned unweighted.

    The source is chosen by sum_i weights_i components_i; no gradient flows into the
    weights. So the parts of Eq. 11 stay separate losses that can be rebalanced.

    Args:
      components: maps [S, ..., H, W] by name, such as stacked `photometric_components`.
      weights: a scalar for each of these names.
      identity_components: maps [T, ..., H, W] by the same names.
      where, key: as `minimum_reprojection`.

    Returns:
      The components of the chosen source, [..., H, W] by name, and the mask.

    Raises:
      ValueError: the names or shapes differ, or as `minimum_reprojection`.
      TypeError: `where` is not boolean.

    >>> import jax.numpy as jnp
    >>> near, far = jnp.array([[[1.0]], [[2.0]]]), jnp.array([[[5.0]], [[1.0]]])
    >>> parts = {"mae": near, "ssim": far}
    >>> chosen, mask = select_components(parts, {"mae": 1.0, "ssim": 2.0})
    >>> {name: float(part[0, 0]) for name, part in chosen.items()}
    {'mae': 2.0, 'ssim': 1.0}
    """
    shape = _check_components(components, weights, identity_components)
    parts, where = _stacked(components, identity_components, where, shape)
    dtype = float_type(*parts.values())
    weighted = [
        jnp.asarray(weights[name]).astype(dtype) * parts[name] for name in sorted(parts)
    ]
    total = jax.lax.stop_gradient(sum(weighted[1:], weighted[0]))
    identities = total.shape[0] - shape[0]
    if key is not None and identities:
        noise = NOISE * jax.random.normal(key, (identities, *shape[1:]), dtype)
        total = total.at[:identities].add(noise)
    winner = jnp.argmin(jnp.where(where, total, jnp.inf), axis=0)
    sources = jnp.arange(total.shape[0]).reshape(-1, *[1] * (total.ndim - 1))
    chosen = (sources == winner) & where
    selected = {
        name: jnp.sum(jnp.where(chosen, part, 0.0), axis=0)
        for name, part in parts.items()
    }
    return selected, (winner >= identities) & jnp.any(where, axis=0)


def _stacked(
    components: Maps, identity_components: Maps | None, where: Mask, shape: Shape
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Identity maps before sources, 0 under the mask, in one dtype, and the mask."""
    where = resolve_where(where, shape)
    identity = identity_components or {}
    dtype = float_type(*components.values(), *identity.values())
    parts = {
        name: jnp.where(where, jnp.asarray(part).astype(dtype), 0.0)
        for name, part in components.items()
    }
    if not identity:
        return parts, where
    first = {name: jnp.asarray(part).astype(dtype) for name, part in identity.items()}
    parts = {name: jnp.concatenate([first[name], parts[name]]) for name in parts}
    count = next(iter(parts.values())).shape[0] - shape[0]
    return parts, jnp.concatenate([jnp.ones((count, *shape[1:]), bool), where])


def _check_components(
    components: Maps, weights: Mapping[str, Any], identity: Maps | None
) -> Shape:
    """The shape of the components, after a check of names and shapes."""
    for name, others in {"weights": weights, "identity_components": identity}.items():
        if others is not None and set(others) != set(components):
            raise ValueError(
                f"`{name}` must have the names of the components "
                f"{sorted(components)}, got {sorted(others)}."
            )
    shapes = {jnp.shape(part) for part in components.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) < 3:
        raise ValueError(f"Errors must be [S, ..., H, W], one shape, got {shapes}.")
    shape = shapes.pop()
    identities = {jnp.shape(part) for part in (identity or {}).values()}
    if len(identities) > 1 or any(other[1:] != shape[1:] for other in identities):
        raise ValueError(
            f"Identity errors must be [T, ...] with the other axes of the errors "
            f"{shape}, got {identities}."
        )
    return shape


def _blended(
    error: Callable[..., jax.Array],
    x: jax.Array,
    y: jax.Array,
    *,
    where: Mask,
    ssim_weight: float = 0.85,
    **options: Any,
) -> jax.Array:
    """k `error` + (1 - k) MAE."""
    similarity = error(x, y, where=where, **options)
    mae = _mean_absolute_error(x, y, where, **options)
    return ssim_weight * similarity + (1.0 - ssim_weight) * mae


def _additive(
    x: jax.Array, y: jax.Array, *, where: Mask, mae: float = 0.4, **options: Any
) -> jax.Array:
    similarity = additive_ssim_error(x, y, where=where, **options)
    return similarity + mae * _mean_absolute_error(x, y, where, **options)


def _mean_absolute_error(
    x: jax.Array, y: jax.Array, where: Mask, **window: Any
) -> jax.Array:
    """mean_c |x - y| / data_range at the pixels of a map, 0 under the mask."""
    scale = window.get("data_range", 1.0)
    check_images(x, y, where, scale)
    x, y = (jnp.clip(image / scale, -LARGEST, LARGEST) for image in as_floats(x, y))
    difference = x - y
    if where is not None:
        visible = jnp.asarray(where)[..., None]
        difference = jnp.where(visible, x, 0.0) - jnp.where(visible, y, 0.0)
    error = jnp.mean(absolute(difference), axis=-1)
    names = inspect.signature(valid_pixels).parameters
    cut = {name: window[name] for name in names if name in window}
    return jnp.asarray(valid_pixels(error, **cut))


_KINDS: dict[str, Callable[..., jax.Array]] = {
    "monodepth2": partial(_blended, ssim_error),
    "ssim_m": partial(_blended, multiplicative_ssim_error),
    "ssim_a": _additive,
}
