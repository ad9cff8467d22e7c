"""Checks of what callers give to networks; each raises ValueError with the name."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax


def one_of(name: str, value: Any, known: Iterable) -> None:
    """`value` is one of those `known`."""
    known = tuple(known)
    if value not in known:
        raise ValueError(f"`{name}` must be one of {', '.join(known)}, got {value!r}.")


def image_shape(image_BHWC: jax.Array) -> None:
    """A batch of images with three channels."""
    if image_BHWC.ndim != 4 or image_BHWC.shape[-1] != 3:
        raise ValueError(
            f"`image_BHWC` must have shape (B, H, W, 3), got {image_BHWC.shape}."
        )


def one_per_stage(network: Any, *names: str) -> None:
    """The attributes have as many entries as `network.depths`."""
    for name in names:
        if len(getattr(network, name)) != len(network.depths):
            raise ValueError(
                f"`{name}` must have one entry for each of {len(network.depths)} "
                f"stages, got {getattr(network, name)}."
            )


def heads_divide(channels: Sequence[int], num_heads: Sequence[int]) -> None:
    """The channels of each stage are shared evenly by its heads."""
    for stage, (width, heads) in enumerate(zip(channels, num_heads, strict=True)):
        if width % heads:
            raise ValueError(
                "`num_heads` must divide the channels of its stage: stage "
                f"{stage} has {width}, got {heads}."
            )


def feature_size(
    features: Sequence[jax.Array], place: int, size: tuple[int, int], factor: int
) -> None:
    """`features[place]` is at 1/`factor` of an image of `size`, rounded up."""
    expected = tuple(-(-length // factor) for length in size)
    found = features[place].shape[1:3]
    if found != expected:
        raise ValueError(
            f"`features[{place}]` must be {expected[0]} x {expected[1]} for an image "
            f"of {size[0]} x {size[1]} (1/{factor}, rounded up), got {found[0]} x "
            f"{found[1]}."
        )
