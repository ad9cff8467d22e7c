"""Frames with depth, prepared: every file of a layout checked and stored."""

import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from amlr_jax.data import depth_files, images, storage
from amlr_jax.data.frames import Contents, Frame, Layout, contents, fingerprint
from amlr_jax.data.prepared import shards
from amlr_jax.data.storage import Size, Storage, size_name
from amlr_jax.runtime.errors import InputError
from amlr_jax.runtime.rules import AUTO

CODES = 2**16  # of a uint16 depth map
SAMPLED = 32  # images whose size is read
SPARE = 10 * 2**30  # bytes of the disk


class Prepared:
    """A prepared layout: random access to its decoded examples.

    `train` and `test` are sequences of dicts of NumPy arrays: `image` uint8 [H, W, 3],
    `depth` [H, W, 1] in uint16 codes, or in float32 metres where the layout's files are
    not all PNGs; `intrinsics` [4], `key`, `index`. `median_depth` (metres) and
    `valid_share` are those of the training frames, or of the test frames where the
    layout has no others (`Layout.test_only`). `skipped` names the training frames that
    were left out because their files are damaged. `train_sizes` and `test_sizes` have
    a frame's name for each (height, width). Reading a damaged record raises InputError.
    """

    def __init__(self, builder: "DepthFrames", layout: Layout) -> None:
        facts = builder.info.metadata
        if not {"median_code", "valid_share", "sizes", "skipped"} <= set(facts):
            raise shards.damaged(builder.data_dir, "metadata.json is not whole")
        resize = builder.builder_config.storage.resize
        # Metrics of resized frames carry the size in the data set's name.
        self.name = layout.name + (f"@{size_name(resize)}" if resize else "")
        self.split = layout.split
        self.depth_scale = depth_files.stored_scale(layout)
        self.median_depth = facts["median_code"] / depth_files.count_scale(layout)
        self.valid_share = facts["valid_share"]
        self.skipped = tuple(facts["skipped"])
        self.train_sizes, self.test_sizes = (
            {(height, width): key for height, width, key in facts["sizes"][part]}
            for part in ("train", "test")
        )
        self.folder = Path(builder.data_dir)
        self.train = shards.Records(builder, "train")
        self.test = shards.Records(builder, "test")
        self._layout = layout

    def contents(self, part: str) -> Contents:
        """The frames of "train" or "test", without those that were left out."""
        skipped = set(self.skipped) if part == "train" else ()
        frames = getattr(self._layout, part)
        return contents([frame for frame in frames if frame.key not in skipped])


def prepare(
    layout: Layout, *, cache: Path, how: Storage = storage.AS_THE_FILES
) -> Prepared:
    """Prepares `layout` under `cache`, or reuses an existing set.

    With several processes one prepares and the others wait. With `decoded` "auto" an
    existing set of either form is used, the decoded one first. Raises InputError for a
    damaged file, a full disk, and a damaged prepared set.
    """
    for part, frames in (("training", layout.train), ("test", layout.test)):
        asked = part == "test" or not layout.test_only
        if asked and not frames:
            raise InputError(
                f"data.split={layout.split} leaves no {part} frame; "
                "a drive or scene needs at least two frames to hold one out"
            )
    name = f"{layout.name}-{layout.split}-{fingerprint(layout)}"

    def config(how: Storage) -> shards.SetConfig:
        return shards.SetConfig(name=name + how.tag, source=layout, storage=how)

    if how.decoded == AUTO:
        forms = [how._replace(decoded=decoded) for decoded in (True, False)]
        found = [f for f in forms if shards.is_prepared(DepthFrames, config(f), cache)]
        how = found[0] if found else forms[0 if _has_room(layout, cache) else 1]
    title, total = f"Preparing {layout.name}", len(layout.train) + len(layout.test)
    made = shards.prepared_builder(DepthFrames, config(how), cache, title, total)
    return Prepared(made, layout)


def _has_room(layout: Layout, cache: Path) -> bool:
    """Whether the disk of `cache` can take all pixels, by the sizes of some images."""
    frames = (*layout.train, *layout.test)
    some = frames[:: -(-len(frames) // SAMPLED)]
    sizes = []
    for frame in some:
        with suppress(InputError):  # preparing reports a damaged file, or skips it
            sizes.append(math.prod(images.read_size(frame.image)))
    of_a_pixel = 3 + (4 if layout.in_metres else 2)  # bytes of image and depth
    needed = sum(sizes) / max(len(sizes), 1) * of_a_pixel * len(frames)
    folder = next(path for path in (cache, *cache.parents) if path.exists())
    return needed + SPARE <= shutil.disk_usage(folder).free


class DepthFrames(shards.SetBuilder):
    """Image, depth, camera and name of each frame, in the layout's order."""

    VERSION = tfds.core.Version("1.1.0")

    def _info(self) -> tfds.core.DatasetInfo:
        metres = self.builder_config.source.in_metres
        features = {
            "image": storage.image_feature(self.builder_config.storage),
            "depth": storage.array(1, np.float32 if metres else np.uint16),
            "intrinsics": tfds.features.Tensor(shape=(4,), dtype=np.float32),
            "key": tfds.features.Text(),
            "index": np.int64,
        }
        return self.set_info(features)

    def fill(self) -> None:
        """Writes "train" and "test"."""
        layout, splits, skipped = self.builder_config.source, [], []
        sizes: dict[str, dict[Size, str]] = {"train": {}, "test": {}}
        counts = np.zeros(CODES, np.int64)
        for name, frames in (("train", layout.train), ("test", layout.test)):
            counted = counts if name == "train" or layout.test_only else None
            may_skip = name == "train" and self.builder_config.storage.skip_bad
            skips = skipped if may_skip else None
            records = self._records(frames, counted, skips, sizes[name])
            paths = (path for f in frames for path in (f.image, f.depth))
            size = sum(path.stat().st_size for path in paths)
            splits.append(self.write_split(name, records, count=len(frames), size=size))
        self.info.set_splits(tfds.core.splits.SplitDict(splits))
        median, valid_share = depth_facts(counts)
        facts = {"median_code": median, "valid_share": valid_share}
        named = {
            part: [[*size, key] for size, key in found.items()]
            for part, found in sizes.items()
        }
        self.info.metadata.update(facts, skipped=skipped, sizes=named)

    def _records(
        self,
        frames: Sequence[Frame],
        counts: np.ndarray | None,
        skipped: list[str] | None,
        sizes: dict[Size, str],
    ) -> Iterator[bytes]:
        """The frames as records; adds their depth codes to `counts`, and to `sizes`.

        A damaged frame is an error; with `skipped` it is named there and left out.
        """
        made = self.read_in_threads(self._made, enumerate(frames))
        for frame, found in zip(frames, made, strict=True):
            if isinstance(found, InputError):
                if skipped is None:
                    raise found
                skipped.append(frame.key)
                continue
            if counts is not None:
                counts += np.bincount(found.codes.ravel(), minlength=CODES)
            sizes.setdefault(found.size, frame.key)
            yield found.record

    def _made(self, place: tuple[int, Frame]) -> "_Made | InputError":
        """The record of a frame, or what is wrong with its files."""
        (index, frame), config = place, self.builder_config
        try:
            file = images.read(frame.image, what="image")
            image = images.decode_rgb(frame.image, file)
            depth, codes = depth_files.read(frame, config.source, image.shape[:2])
        except InputError as error:
            return error
        example = {
            "image": image,
            "depth": depth,
            "intrinsics": np.asarray(frame.intrinsics, np.float32),
            "key": frame.key,
            "index": index,
        }
        kept = storage.stored(example, file, config.storage)
        record = self.info.features.serialize_example(kept)
        return _Made(record, kept["depth"].shape[:2], codes)


class _Made(NamedTuple):
    """A record, height and width in it, and the codes of the depth file."""

    record: bytes
    size: Size
    codes: np.ndarray


def depth_facts(counts: np.ndarray) -> tuple[int, float]:
    """The median code and the valid share, from a histogram of codes (0 = none)."""
    valid = np.cumsum(counts[1:])
    if not len(valid) or valid[-1] == 0:
        raise InputError(
            "the training split holds no valid ground-truth pixel; for custom "
            "data set data.depth_scale and data.depth_cap"
        )
    median = 1 + int(np.searchsorted(valid, (valid[-1] + 1) // 2))
    return median, float(valid[-1] / counts.sum())
