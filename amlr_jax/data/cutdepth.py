"""Vertical CutDepth: a strip of the ground truth pasted over the image.

Kim et al. 2022 (GLPDepth, sec. 3.4), after Ishii and Yamashita 2021 (CutDepth).
"""

from typing import NamedTuple

import numpy as np

from amlr_jax.runtime.errors import InputError


class CutDepth(NamedTuple):
    """How often, and in which form, depth is pasted.

    `scaled` pastes 255 depth / max_depth, clipped. `wrapped` is what GLPDepth's and
    MIM-Depth's code does: it assigns the stored code to a uint8 image, which keeps the
    low byte, so that the strip shows depth modulo 1 m on KITTI (code: m * 256) and
    modulo 256 mm on NYUv2. Both are zero where depth is missing. Their code pastes
    into every fourth sample that a worker counts, ours at random.
    """

    probability: float = 0.25
    form: str = "scaled"
    max_depth: float = 80.0  # metres, of `scaled`
    code_per_metre: float = 256.0  # of `wrapped`


def _scaled(depth: np.ndarray, setting: CutDepth) -> np.ndarray:
    return np.clip(depth * (255 / setting.max_depth), 0, 255).astype(np.uint8)


def _wrapped(depth: np.ndarray, setting: CutDepth) -> np.ndarray:
    return (np.rint(depth * setting.code_per_metre).astype(np.int64) & 255).astype(
        np.uint8
    )


FORMS = {"scaled": _scaled, "wrapped": _wrapped}


def check(setting: CutDepth) -> None:
    """InputError for a form that there is not, or not of this depth."""
    if setting.form not in FORMS:
        raise InputError(
            f"data.cut_depth_form must be one of {', '.join(FORMS)}; "
            f"got '{setting.form}'"
        )
    if setting.form == "wrapped" and setting.code_per_metre == 1.0:
        raise InputError(
            "data.cut_depth_form=wrapped is for depth that is stored in codes, as of "
            "KITTI and NYUv2; these data have metres: use scaled"
        )


class Strip(NamedTuple):
    """Columns from `left` up to `right`, of an image that may be cropped."""

    left: int
    right: int

    def mirrored(self, width: int) -> "Strip":
        """Where it is once the image is mirrored."""
        return Strip(width - self.right, width - self.left)

    def cropped(self, columns: slice) -> "Strip":
        """Where it is in those columns; empty if it is not."""
        ends = (min(max(c, columns.start), columns.stop) for c in self)
        return Strip(*(c - columns.start for c in ends))


def draw_strip(width: int, rng: np.random.Generator) -> Strip:
    """The columns l up to l + w, l = int(a W), w = int(max((W - a W) b 0.75, 1)).

    a and b are U(0, 1): a strip of up to three quarters of what is right of l.
    """
    start, share = rng.random() * width, rng.random()
    left = int(start)
    return Strip(left, left + int(max((width - start) * share * 0.75, 1)))


def paste(
    image: np.ndarray, depth: np.ndarray, strip: Strip, setting: CutDepth
) -> None:
    """Writes the strip of `depth` [H, W] metres into `image` uint8 [H, W, 3]."""
    columns = slice(*strip)
    image[:, columns] = FORMS[setting.form](depth[:, columns], setting)[..., None]
