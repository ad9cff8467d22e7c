"""Pixel storage of a prepared set: as the files, decoded, or resized.

Most of the loading time is PNG decompression: 8 ms for the image of a KITTI frame and
3 ms for its depth, of 12 ms in total. Depth is always stored decoded: the zstd
compression of array_record needs no more space than PNG and 0.5 ms. Images are decoded
on request, at 1.3 MB per frame instead of 1.1 MB; image and depth are then read in
1.7 ms. Uncompressed records take 0.5 ms and rows of a memory map 0.1 ms, but 2.3 MB per
frame: KITTI's 55 GB fit in the memory of fewer machines than 31 GB.
"""

from typing import Any, NamedTuple

import cv2
import numpy as np
import tensorflow_datasets as tfds

from amlr_jax.data.intrinsics import resize_intrinsics
from amlr_jax.runtime.errors import InputError

Size = tuple[int, int]


class Storage(NamedTuple):
    """How frames are stored.

    `decoded` stores the images' pixels instead of their files, without loss. `resize`
    stores every frame, test frames included, at this height and width; metrics of
    resized frames are not those of the published protocol. `skip_bad` leaves out
    training frames whose files are damaged; a damaged test frame stays an error.
    """

    decoded: bool = False
    resize: Size | None = None
    skip_bad: bool = False

    @property
    def tag(self) -> str:
        """Suffix of the folder's name: empty, or the differences from the files."""
        parts = [size_name(self.resize)] if self.resize else []
        parts += ["decoded"] if self.decoded else []
        parts += ["skipped"] if self.skip_bad else []
        return "".join(f"-{part}" for part in parts)


AS_THE_FILES = Storage()


def size_name(size: Size) -> str:
    """192x640 for height 192 and width 640."""
    return f"{size[0]}x{size[1]}"


def storage(*, decoded: bool, resize: tuple, skip_bad: bool) -> Storage:
    """The storage of these keys of `config.data`; InputError for a wrong size."""
    check_size("resize", resize)
    return Storage(decoded, tuple(resize) or None, skip_bad)


def check_size(key: str, size: tuple | None) -> None:
    """Raises InputError unless `data.<key>` is empty or (height, width)."""
    if size and (len(size) != 2 or min(size) < 1):
        raise InputError(
            f"data.{key} must be (height, width) in pixels, or (); got {size}"
        )


def image_feature(how: Storage) -> tfds.features.FeatureConnector:
    """The feature of an image, stored as its pixels or as a PNG or JPEG file."""
    if how.decoded:
        return array(3, np.uint8)
    shape = (None, None, 3)
    return tfds.features.Image(shape=shape, dtype=np.uint8, encoding_format="png")


def array(channels: int, dtype: type) -> tfds.features.FeatureConnector:
    """The feature of unencoded pixels, [H, W, `channels`]."""
    raw = tfds.features.Encoding.BYTES
    shape = (None, None, channels)
    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding=raw)


def stored(example: dict, how: Storage) -> dict:
    """An example in its stored form; `image` and `depth` are files or arrays."""
    depth = _decoded(example["depth"])
    kept = {"image": example["image"], "depth": depth}
    if how.decoded or how.resize:
        kept["image"] = _decoded(example["image"])
    if how.resize:
        kept = _resized(kept | {"intrinsics": example["intrinsics"]}, how.resize)
    if how.resize and not how.decoded:
        kept["image"] = _png(kept["image"])
    kept["depth"] = kept["depth"].reshape(*kept["depth"].shape[:2], 1)
    return example | kept


def _resized(example: dict, size: Size) -> dict:
    image, depth = example["image"], example["depth"]
    before = image.shape[:2]
    shrinks = size[0] <= before[0] and size[1] <= before[1]
    # The mean over the area of a pixel; linear interpolation where the image grows.
    smooth = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    camera = resize_intrinsics(example["intrinsics"], before=before, after=size)
    return {
        "image": cv2.resize(image, size[::-1], interpolation=smooth),
        "depth": cv2.resize(depth, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT),
        "intrinsics": camera.astype(np.float32),
    }


def _decoded(pixels: bytes | np.ndarray) -> np.ndarray:
    """Pixels as tensorflow-datasets decodes them: stored values, colours as RGB."""
    if isinstance(pixels, np.ndarray):
        return pixels
    array: Any = cv2.imdecode(np.frombuffer(pixels, np.uint8), cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(array, cv2.COLOR_BGR2RGB) if array.ndim == 3 else array


def _png(image: np.ndarray) -> bytes:
    """Lossless; the encoder of tensorflow-datasets needs TensorFlow."""
    image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", image)[1].tobytes()
