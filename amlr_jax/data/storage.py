"""In which form a prepared set keeps its pixels: as the files, decoded, or resized.

Most of the loading time goes into inflating PNGs: 8 ms for the image of a KITTI frame
and 3 ms for its depth, of 12 ms in all. Depth is always kept decoded: array_record's
zstd takes no more room than the PNG and 0.5 ms. Images are kept so on request, at
1.3 MB a frame instead of 1.1 MB, image and depth being read in 1.7 ms. Uncompressed
records take 0.5 ms and rows of a memory map 0.1 ms, but 2.3 MB a frame: KITTI's 55 GB
stay in the memory of fewer machines than its 31 GB.
"""

from typing import NamedTuple

import cv2
import numpy as np
import tensorflow_datasets as tfds

from amlr_jax.data.intrinsics import resize_intrinsics
from amlr_jax.runtime.errors import InputError

Size = tuple[int, int]


class Storage(NamedTuple):
    """How the frames of a layout are kept.

    `decoded` keeps the images' pixels and not their files, without loss. `resize` keeps
    every frame, test frames included, at this height and width: what is measured is
    then no figure of the published protocol. `skip_bad` leaves out training frames
    whose files are damaged; a damaged test frame stays an error.
    """

    decoded: bool = False
    resize: Size | None = None
    skip_bad: bool = False

    @property
    def tag(self) -> str:
        """For the name of the folder: nothing, or what differs from the files."""
        parts = [size_name(self.resize)] if self.resize else []
        parts += ["decoded"] if self.decoded else []
        parts += ["skipped"] if self.skip_bad else []
        return "".join(f"-{part}" for part in parts)


AS_THE_FILES = Storage()


def size_name(size: Size) -> str:
    """192x640 for height 192 and width 640."""
    return f"{size[0]}x{size[1]}"


def storage(*, decoded: bool, resize: tuple, skip_bad: bool) -> Storage:
    """The storage that the keys of `config.data` describe; InputError if none."""
    if resize and (len(resize) != 2 or min(resize) < 1):
        raise InputError(
            f"data.resize must be (height, width) in pixels, or (); got {resize}"
        )
    return Storage(decoded, tuple(resize) or None, skip_bad)


def image_feature(how: Storage) -> tfds.features.FeatureConnector:
    """The feature of an image, kept as its pixels or as a PNG or JPEG file."""
    if how.decoded:
        return array(3, np.uint8)
    shape = (None, None, 3)
    return tfds.features.Image(shape=shape, dtype=np.uint8, encoding_format="png")


def array(channels: int, dtype) -> tfds.features.FeatureConnector:
    """The feature of pixels kept as they are, [H, W, `channels`]."""
    raw = tfds.features.Encoding.BYTES
    shape = (None, None, channels)
    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding=raw)


def stored(example: dict, how: Storage) -> dict:
    """An example as it is kept; `image` and `depth` come as files or arrays."""
    kept = {"depth": _array(example["depth"])}
    if how.decoded or how.resize:
        kept["image"] = _array(example["image"])
    if how.resize:
        kept = _all_resized(kept, example["intrinsics"], how.resize)
    if how.resize and not how.decoded:
        kept["image"] = encode_png(kept["image"])
    kept["depth"] = kept["depth"].reshape(*kept["depth"].shape[:2], 1)
    return example | kept


def _all_resized(kept: dict, camera: np.ndarray, size: Size) -> dict:
    image, depth = kept["image"], kept["depth"]
    before = image.shape[:2]
    shrinks = size[0] <= before[0] and size[1] <= before[1]
    # The mean of what a pixel covers; between pixels when the image grows.
    smooth = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    camera = resize_intrinsics(camera, before=before, after=size)
    return {
        "image": cv2.resize(image, size[::-1], interpolation=smooth),
        "depth": cv2.resize(depth, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT),
        "intrinsics": camera.astype(np.float32),
    }


def _array(pixels: bytes | np.ndarray) -> np.ndarray:
    """As tensorflow-datasets decodes: pixels as they are, colours as RGB."""
    if isinstance(pixels, np.ndarray):
        return pixels
    array = cv2.imdecode(np.frombuffer(pixels, np.uint8), cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(array, cv2.COLOR_BGR2RGB) if array.ndim == 3 else array


def encode_png(image: np.ndarray) -> bytes:
    """Without loss; tensorflow-datasets encodes with TensorFlow alone."""
    image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", image)[1].tobytes()
