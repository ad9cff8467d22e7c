"""The tensorflow-datasets builder of depth frames: checks every file and writes it."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds

from amlr_jax.data import depth_files, images
from amlr_jax.data.frames import Frame, Layout
from amlr_jax.data.prepared.builder import SetBuilder, SetConfig
from amlr_jax.data.prepared.shards import write_split
from amlr_jax.data.storage import array, image_feature, stored
from amlr_jax.runtime.errors import InputError

CODES = 2**16  # of a uint16 depth map


@dataclasses.dataclass(kw_only=True)
class LayoutConfig(SetConfig):
    """Names a prepared set by its layout and the fingerprint of its files."""

    layout: Layout | None = dataclasses.field(default=None, repr=False)


class DepthFrames(SetBuilder):
    """Image, depth code, camera and name of each frame, in the layout's order."""

    VERSION = tfds.core.Version("1.1.0")

    def __init__(self, **kwargs) -> None:
        self._counts = np.zeros(CODES, np.int64)
        self._skipped: list[str] = []
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        metres = self.builder_config.layout.in_metres
        features = {
            "image": image_feature(self.builder_config.storage),
            "depth": array(1, np.float32 if metres else np.uint16),
            "intrinsics": tfds.features.Tensor(shape=(4,), dtype=np.float32),
            "key": tfds.features.Text(),
            "index": np.int64,
        }
        return self.set_info(features)

    def _download_and_prepare(self, dl_manager, download_config=None) -> None:
        """What tfds calls to fill a folder that it renames when all is written."""
        del dl_manager, download_config
        layout = self.builder_config.layout
        splits = [
            write_split(
                self._get_filename_template(name),
                self._records(frames, training=name == "train"),
                count=len(frames),
                size=_bytes_of(frames),
            )
            for name, frames in (("train", layout.train), ("test", layout.test))
        ]
        self.info.set_splits(tfds.core.splits.SplitDict(splits))
        median, valid_share = depth_facts(self._counts)
        facts = {"median_code": median, "valid_share": valid_share}
        self.info.metadata.update(facts, skipped=self._skipped)

    def _records(
        self, frames: tuple[Frame, ...], *, training: bool
    ) -> Iterator[bytes | None]:
        """The frames as records; None for a damaged one that may be left out."""
        storage, layout = self.builder_config.storage, self.builder_config.layout
        for index, frame in enumerate(frames):
            self.builder_config.advance()
            try:
                example, codes = _checked_example(frame, index, layout)
            except InputError:
                if not (storage.skip_bad and training):
                    raise
                self._skipped.append(frame.key)
                yield None
                continue
            if training or layout.test_only:
                self._counts += np.bincount(codes.ravel(), minlength=CODES)
            yield self.info.features.serialize_example(stored(example, storage))


def _bytes_of(frames: tuple[Frame, ...]) -> int:
    return sum(f.image.stat().st_size + f.depth.stat().st_size for f in frames)


def _checked_example(
    frame: Frame, index: int, layout: Layout
) -> tuple[dict, np.ndarray]:
    image = images.read(frame.image, what="image")
    size = images.check_image(frame.image, image)
    depth, codes = depth_files.read(frame, layout, size)
    example = {
        "image": image,
        "depth": depth,
        "intrinsics": np.asarray(frame.intrinsics, np.float32),
        "key": frame.key,
        "index": index,
    }
    return example, codes


def depth_facts(counts: np.ndarray) -> tuple[int, float]:
    """The median code and the valid share, from a histogram of codes (0 = none)."""
    valid = np.cumsum(counts[1:])
    if not len(valid) or valid[-1] == 0:
        raise InputError(
            "the training split holds no valid ground-truth pixel; for depth of your "
            "own see data.depth_scale and data.depth_cap"
        )
    median = 1 + int(np.searchsorted(valid, (valid[-1] + 1) // 2))
    return median, float(valid[-1] / counts.sum())
