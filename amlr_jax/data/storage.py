"""Pixel storage of a prepared set: as the files, decoded, or resized.

Most of the loading time is PNG decompression: 8 ms for the image of a KITTI frame and
3 ms for its depth, of 12 ms in total. Depth is always stored decoded: beside files of
images, the zstd compression of array_record needs no more space than PNG and 0.5 ms.
Images are decoded where the disk has room, at 2.3 MB per frame instead of 1.1 MB, 55 GB
for KITTI's Eigen split; image and depth are then not compressed, and their record is
read in a fifth of the time of a compressed one of 1.4 MB.
"""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import tensorflow_datasets as tfds

from amlr_jax.data import images
from amlr_jax.data.intrinsics import resize_intrinsics

Size = tuple[int, int]


class Storage(NamedTuple):
    """How frames are stored.

    `decoded` stores the images' pixels instead of their files, without loss; "auto"
    does so if the disk has room for them uncompressed, with 10 GiB to spare. `resize`
    stores every frame, test frames included, at this height and width; metrics of
    resized frames are not those of the published protocol. `skip_bad` leaves out
    training frames whose files are damaged; a damaged test frame stays an error.
    """

    decoded: bool | str = False
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


class ImageFile(tfds.features.Image):
    """An image stored as its file, with the pixels it had when it was checked."""

    def decode_example_np(self, example: bytes) -> np.ndarray:
        """uint8 [H, W, 3]; InputError for a file that was damaged since."""
        return images.decode_checked_rgb(Path("image"), example)


def image_feature(how: Storage) -> tfds.features.FeatureConnector:
    """The feature of an image, stored as its pixels or as its file."""
    if how.decoded:
        return array(3, np.uint8)
    shape = (None, None, 3)
    return ImageFile(shape=shape, dtype=np.uint8, encoding_format="png")


def array(channels: int, dtype: type) -> tfds.features.FeatureConnector:
    """The feature of unencoded pixels, [H, W, `channels`]."""
    raw = tfds.features.Encoding.BYTES
    shape = (None, None, channels)
    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding=raw)


def stored(example: dict, file: bytes, how: Storage) -> dict:
    """An example of pixels `image` and `depth` in its stored form.

    `file` is the file of the image.
    """
    kept = _resized(example, how.resize) if how.resize else {}
    if not how.decoded:
        file = images.without_extras(file)
        kept["image"] = _png(kept["image"]) if how.resize else file
    return example | kept


def _resized(example: dict, size: Size) -> dict:
    image, depth = example["image"], example["depth"][..., 0]
    before = image.shape[:2]
    shrinks = size[0] <= before[0] and size[1] <= before[1]
    # The mean over the area of a pixel; linear interpolation where the image grows.
    smooth = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    camera = resize_intrinsics(example["intrinsics"], before=before, after=size)
    nearest = cv2.INTER_NEAREST_EXACT
    return {
        "image": cv2.resize(image, size[::-1], interpolation=smooth),
        "depth": cv2.resize(depth, size[::-1], interpolation=nearest)[..., None],
        "intrinsics": camera.astype(np.float32),
    }


def _png(image: np.ndarray) -> bytes:
    """Lossless; the encoder of tensorflow-datasets needs TensorFlow."""
    image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", image)[1].tobytes()
