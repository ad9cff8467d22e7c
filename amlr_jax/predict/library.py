"""A trained network as a function from an image to depth: `amlr_jax.load`."""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from amlr_jax.data.images import read_as_rgb
from amlr_jax.evaluate import tiling
from amlr_jax.evaluate.predictor import with_weights
from amlr_jax.models import depth, pretrained
from amlr_jax.models.depth_network import has_scale
from amlr_jax.runtime import paths
from amlr_jax.runtime.errors import InputError, require


class ImageToDepth:
    """A network that `load` gives; call it with an image.

    Attributes:
      unit: of the depth: "m", or "relative" for a network that was trained on the
        video of one camera, or on relative depth, and is not calibrated: metres up to
        one unknown factor.
      max_depth: the largest depth in that unit.
      parameters: their number.
      network, variables: the flax module and its {"params", "batch_stats"}.
    """

    def __init__(self, weights: str | Path, test_mode: str) -> None:
        require("test_mode", test_mode, tiling.MODES)
        self._weights = str(weights)
        loaded = pretrained.load_network(paths.expanded(weights))
        self.network, self.variables, self.max_depth = loaded[:3]
        self.unit = "m" if has_scale(self.network) else "relative"
        self.parameters = depth.parameter_count(self.variables["params"])
        mode = tiling.Mode(test_mode)
        self._predict = with_weights(self.network, self.variables, mode=mode)

    def __call__(self, image: ArrayLike | str | Path) -> np.ndarray:
        """The depth of an image of any size; each new size is compiled once.

        Args:
          image: RGB [H, W, 3] or [B, H, W, 3], uint8 or float in [0, 1], which is
            rounded to 8 bits; or the path of an image file.

        Returns:
          float32 [H, W] or [B, H, W] in `unit`, larger than 0: the depth along the
          optical axis.

        Raises:
          InputError: for another shape, type or range, and for a file that is no image.
        """
        if isinstance(image, str | Path):
            image = read_as_rgb(paths.expanded(image))
        pixels = _as_uint8(np.asarray(image))
        if pixels.ndim == 4:
            return self._predict(pixels)
        return self._predict(pixels[None])[0]

    def __repr__(self) -> str:
        return (
            f"<depth network of {self._weights}: {self.parameters:,} parameters, depth "
            f"up to {self.max_depth:g} {self.unit}>"
        )


def load(weights: str | Path, *, test_mode: str = "none") -> ImageToDepth:
    """A trained network as a function from an image to depth.

    Args:
      weights: the workdir of a run, its checkpoint as "DIR@STEP" or "DIR@best", or a
        folder that `amlr_jax.convert` wrote.
      test_mode: test-time augmentation, one of `evaluate.tiling.MODES`.

    Raises:
      InputError: there are no weights of a whole depth network, or they are damaged.
    """
    return ImageToDepth(weights, test_mode)


def _as_uint8(image: np.ndarray) -> np.ndarray:
    """8-bit codes of a valid image; InputError for any other array."""
    rule = "`image` must be RGB [H, W, 3] or [B, H, W, 3], uint8 or float in [0, 1]"
    if image.ndim not in (3, 4) or image.shape[-1] != 3 or not image.size:
        raise InputError(f"{rule}; got the shape {list(image.shape)}")
    if image.dtype == np.uint8:
        return image
    if not np.issubdtype(image.dtype, np.floating):
        raise InputError(f"{rule}; got {image.dtype}")
    if not (image.min() >= 0 and image.max() <= 1):  # NaN fails too
        raise InputError(f"{rule}; got values {image.min():g} to {image.max():g}")
    return np.rint(255 * image).astype(np.uint8)
