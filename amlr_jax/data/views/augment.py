"""Flip and colour jitter of a view, as in monodepth2.

A flip mirrors all images of the view, its camera and the place of its stereo partner.
The jitter is one draw for the view's images; the networks see them jittered, the loss
sees them clean. monodepth2 flips the image of the file and resizes it then; we flip the
resized one: a symmetric filter gives the same but for rounding of one level.
"""

from typing import NamedTuple

import cv2
import numpy as np

from amlr_jax.data.augment import check_chances
from amlr_jax.data.intrinsics import flip_intrinsics
from amlr_jax.data.views import jitter


class ViewAugmentation(NamedTuple):
    """The probability of each random change."""

    flip: float = 0.5
    jitter: float = 0.5


def check(setting: ViewAugmentation) -> None:
    """InputError for what is no probability."""
    check_chances(setting._asdict())


def augment_view(
    view: dict, setting: ViewAugmentation, rng: np.random.Generator
) -> dict:
    """A random change of a view (`index.Views`).

    `image`, `sources` and `partner` stay clean, for the loss. `network_image` and
    `network_sources`, of the same shapes, are for the networks; the partner is seen
    by the loss alone.
    """
    if rng.random() < setting.flip:
        view = flip_view(view)
    drawn = jitter.draw(rng, probability=setting.jitter)
    sources = [jitter.apply(source, drawn) for source in view["sources"]]
    return {
        **view,
        "network_image": jitter.apply(view["image"], drawn),
        "network_sources": np.stack(sources),
    }


def flip_view(view: dict) -> dict:
    """The view in a mirror: x of the world, of the camera and of the partner turns.

        u' = W - 1 - u,   cx' = W - 1 - cx,   x' = -x

    A motion between two frames (R, t) becomes (F R F, F t) with F = diag(-1, 1, 1).
    """
    width = view["image"].shape[1]
    camera = flip_intrinsics(view["intrinsics"], width=width)
    flipped = {"intrinsics": camera.astype(np.float32)}
    flipped["image"] = _mirrored(view["image"])
    flipped["sources"] = np.stack([_mirrored(source) for source in view["sources"]])
    if "partner" in view:
        flipped["partner"] = _mirrored(view["partner"])
        mirror = np.array([-1, 1, 1], np.float32)
        flipped["partner_from_target"] = view["partner_from_target"] * mirror
    return {**view, **flipped}


def _mirrored(image: np.ndarray) -> np.ndarray:
    return cv2.flip(image, 1)  # ten times as fast as a copy of [:, ::-1]
