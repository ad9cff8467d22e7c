"""Layouts prepared once as a tensorflow-datasets data set, without TensorFlow.

Every file is checked while it is copied into array_record shards, so that a fault is
found in the first minutes and not in the middle of a run. A prepared set is named by
the fingerprint of its files and reused until one of them changes.
"""

import contextlib
import dataclasses
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from amlr_jax.data import images
from amlr_jax.data.frames import Frame, Layout, fingerprint
from amlr_jax.errors import InputError

CODES = 2**16  # of a uint16 depth map


def default_cache() -> Path:
    """$AMLR_JAX_CACHE, or amlr_jax in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("AMLR_JAX_CACHE") or Path(home) / "amlr_jax")


@dataclasses.dataclass(kw_only=True)
class LayoutConfig(tfds.core.BuilderConfig):
    """Names a prepared set by its layout and the fingerprint of its files."""

    # Not shown: tfds logs the whole configuration.
    layout: Layout | None = dataclasses.field(default=None, repr=False)
    advance: Callable[[], None] | None = dataclasses.field(default=None, repr=False)


class DepthFrames(tfds.core.GeneratorBasedBuilder):
    """Image, depth code, camera and name of each frame, in the layout's order."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, **kwargs) -> None:
        self._counts = np.zeros(CODES, np.int64)
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Image(shape=(None, None, 3), encoding_format="png")
        depth = tfds.features.Image(
            shape=(None, None, 1), dtype=np.uint16, encoding_format="png"
        )
        features = {
            "image": image,
            "depth": depth,
            "intrinsics": tfds.features.Tensor(shape=(4,), dtype=np.float32),
            "key": tfds.features.Text(),
            "index": np.int64,
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            # The index is the key: examples stay in the layout's order.
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        layout = self.builder_config.layout
        return {
            "train": self._examples(layout.train, count=True),
            "test": self._examples(layout.test, count=False),
        }

    def _generate_examples(self):
        raise RuntimeError("tfds calls _split_generators only")

    def _examples(self, frames: tuple[Frame, ...], *, count: bool) -> Iterator:
        for index, frame in enumerate(frames):
            example, codes = _checked_example(frame, index)
            if count:
                self._counts += np.bincount(codes.ravel(), minlength=CODES)
            self.builder_config.advance()
            yield index, example
        if count:
            self.info.metadata.update(_depth_facts(self._counts))


def _checked_example(frame: Frame, index: int) -> tuple[dict, np.ndarray]:
    image = images.read(frame.image, what="image")
    depth = images.read(frame.depth, what="ground truth")
    size = images.check_image(frame.image, image)
    codes = images.decode_depth(frame.depth, depth)
    if codes.shape != size:
        raise InputError(
            "image and ground truth differ in size: "
            f"'{frame.image}' is {size[0]}x{size[1]}, "
            f"'{frame.depth}' is {codes.shape[0]}x{codes.shape[1]}"
        )
    example = {
        "image": image,
        "depth": depth,
        "intrinsics": np.asarray(frame.intrinsics, np.float32),
        "key": frame.key,
        "index": index,
    }
    return example, codes


def _depth_facts(counts: np.ndarray) -> dict[str, float]:
    """The median code and the valid share, from a histogram of codes (0 = none)."""
    valid = np.cumsum(counts[1:])
    if not len(valid) or valid[-1] == 0:
        raise InputError("the training split holds no valid ground-truth pixel")
    median = 1 + int(np.searchsorted(valid, (valid[-1] + 1) // 2))
    return {"median_code": median, "valid_share": float(valid[-1] / counts.sum())}


class Prepared:
    """A prepared layout: random access to its decoded examples.

    `train` and `test` are sequences of dicts of numpy arrays: `image` uint8
    [H, W, 3], `depth` uint16 codes [H, W, 1], `intrinsics` [4], `key`, `index`.
    """

    def __init__(self, builder: DepthFrames, layout: Layout) -> None:
        facts = builder.info.metadata
        self.name = layout.name
        self.split = layout.split
        self.depth_scale = layout.depth_scale
        self.median_depth = facts["median_code"] / layout.depth_scale  # metres
        self.valid_share = facts["valid_share"]
        self.folder = Path(builder.data_dir)
        self.train = builder.as_data_source(split="train")
        self.test = builder.as_data_source(split="test")


def prepare(layout: Layout, *, cache: Path, bar) -> Prepared:
    """Prepares `layout` under `cache`, or reuses what is there.

    `bar(title, total)` is a context manager that yields something with `advance()`.
    """
    for name, frames in (("training", layout.train), ("test", layout.test)):
        if not frames:
            raise InputError(
                f"data.split={layout.split} leaves no {name} frame; "
                "a drive or scene needs at least two frames to hold one out"
            )
    builder = _builder(layout, cache)
    if not builder.is_prepared():
        total = len(layout.train) + len(layout.test)
        with bar(f"Preparing {layout.name}", total) as progress:
            builder.builder_config.advance = progress.advance
            _download_and_prepare(builder, cache)
    return Prepared(builder, layout)


def _builder(layout: Layout, cache: Path) -> DepthFrames:
    # tfds warns that the configuration is not one of its catalogue's.
    logging.set_verbosity(logging.ERROR)
    name = f"{layout.name}-{layout.split}-{fingerprint(layout)}"
    config = LayoutConfig(name=name, layout=layout)
    return DepthFrames(data_dir=cache, config=config, file_format="array_record")


def _download_and_prepare(builder: DepthFrames, cache: Path) -> None:
    # Our bar replaces tfds's bars and its announcements on stdout.
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()
    except InputError:
        raise
    except OSError as error:
        raise InputError(
            f"cannot prepare the data under '{cache}': {error}; "
            "choose another folder with --config.data.cache=DIR"
        ) from error
