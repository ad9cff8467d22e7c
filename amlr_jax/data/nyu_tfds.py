"""`nyu_depth_v2` as prepared by tensorflow-datasets, read without TensorFlow.

    ROOT/nyu_depth_v2/<version>/     ROOT is the data_dir of tensorflow-datasets

Images uint8 and depth float16 metres of 480x640, splits train (47,584) and validation
(654). To prepare it, once and with TensorFlow: `tfds build nyu_depth_v2
--data_dir=ROOT --file_format=array_record`. It is read in place, without a copy.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from amlr_jax.data import images
from amlr_jax.data.frames import Contents
from amlr_jax.data.nyu import INTRINSICS
from amlr_jax.data.prepared.depth_frames import CODES, depth_facts
from amlr_jax.runtime.errors import InputError

NAME = "nyu_depth_v2"
SPLITS = {"train": "train", "test": "validation"}
SAMPLED = 256  # frames for the median depth; reading all would take an hour
_CODES_PER_METRE = 1000  # of the histogram for the median


class Examples:
    """One split, with examples like those of `prepared.Prepared.train`."""

    def __init__(self, source: Sequence[dict], name: str) -> None:
        self._source, self._name = source, name

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < len(self):
            raise IndexError(index)
        key = f"{self._name}/{index:05d}"
        with images.decoding(Path(NAME, key), what="example"):
            example = self._source[index]
            image = images.judged_rgb(np.asarray(example["image"]), key)
            depth = np.asarray(example["depth"], np.float32).reshape(image.shape[:2])
        good = np.isfinite(depth) & (depth > 0)
        return {
            "image": image,
            "depth": np.where(good, depth, np.float32(0))[..., None],
            "intrinsics": np.asarray(INTRINSICS, np.float32),
            "key": key.encode(),
            "index": index,
        }


class TfdsPrepared:
    """Has the attributes of `prepared.Prepared`, for a set prepared by tfds.

    Median depth and valid share are those of 256 evenly spaced training frames.
    """

    def __init__(self, root: Path) -> None:
        builder = _builder(root)
        self.name, self.split = "nyu_tfds", "tfds"
        self.depth_scale = 1.0  # depth is in metres
        self.train_sizes, self.test_sizes = {}, {}  # not recorded
        self.skipped: tuple[str, ...] = ()
        self.folder = Path(builder.data_dir)
        self.train, self.test = (
            Examples(builder.as_data_source(split=name), name)
            for name in SPLITS.values()
        )
        self.median_depth, self.valid_share = _depth_facts(self.train)

    def contents(self, part: str) -> Contents:
        """The examples have no names; the version and their number stand for them."""
        return Contents(
            (), f"{self.folder.name} with {len(getattr(self, part))} examples"
        )


def _builder(root: Path) -> tfds.core.DatasetBuilder:
    """The newest version under `root`, with format, features and files checked."""
    versions = sorted((root / NAME).glob("*/dataset_info.json"))
    if not versions:
        raise InputError(
            f"no prepared {NAME} at data.root='{root}'; expected {root / NAME}/"
            f"<version>/dataset_info.json. Prepare it where TensorFlow is installed: "
            f"tfds build {NAME} --data_dir={root} --file_format=array_record"
        )
    folder = versions[-1].parent
    try:
        builder = tfds.builder_from_directory(folder)
    # tfds has no specific exception for unreadable metadata.
    except Exception as error:
        text = " ".join(str(error).split())
        raise InputError(f"'{folder}' cannot be read: {text}") from error
    _check(builder, folder)
    return builder


def _check(builder: tfds.core.DatasetBuilder, folder: Path) -> None:
    info = builder.info
    kind = info.file_format
    if kind is not tfds.core.FileFormat.ARRAY_RECORD:
        raise InputError(
            f"'{folder}' must be in array_record, which needs no TensorFlow to read, "
            f"got {kind.value if kind else kind}; build it with "
            "--file_format=array_record, or tfds convert_format"
        )
    lost = set(SPLITS.values()) - set(info.splits)
    features = dict(info.features)
    kinds = {n: features[n].np_dtype for n in ("image", "depth") if n in features}
    good = len(kinds) == 2 and kinds["image"] == np.uint8 and kinds["depth"].kind == "f"
    if lost or not good:
        raise InputError(
            f"'{folder}' must have splits {', '.join(SPLITS.values())}, image uint8 "
            f"and depth float in metres; got {', '.join(info.splits)} and "
            f"{', '.join(sorted(features))}"
        )
    every = (p for split in SPLITS.values() for p in info.splits[split].filepaths)
    if missing := [path for path in every if not path.exists()]:
        raise InputError(f"'{folder}' lacks {len(missing)} files: {missing[0].name}")


def _depth_facts(examples: Examples) -> tuple[float, float]:
    """The median in metres and the share of valid pixels, of some frames."""
    chosen = np.linspace(0, len(examples) - 1, min(SAMPLED, len(examples)))
    counts = np.zeros(CODES, np.int64)
    for index in np.unique(chosen.astype(int)):
        depth = examples[int(index)]["depth"]
        codes = np.clip(np.rint(depth * _CODES_PER_METRE), depth > 0, CODES - 1)
        counts += np.bincount(codes.astype(np.int64).ravel(), minlength=CODES)
    median, valid_share = depth_facts(counts)
    return median / _CODES_PER_METRE, valid_share
