"""A data set with the features of tfds's `nyu_depth_v2` is read without TensorFlow."""

import json
import pickle
import sys

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from amlr_jax.config import base
from amlr_jax.data import loader, sources
from amlr_jax.data.augment import metric_example
from amlr_jax.data.nyu_tfds import TfdsPrepared
from amlr_jax.runtime.errors import InputError

SIZE = (480, 640)
COUNTS = {"train": 3, "validation": 2}


class NyuDepthV2(tfds.core.GeneratorBasedBuilder):
    """The features and splits of the published builder, with frames of our own."""

    VERSION = tfds.core.Version("0.0.1")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(*SIZE, 3)),
            "depth": tfds.features.Tensor(shape=SIZE, dtype=np.float16),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {name: self._generate_examples(name) for name in COUNTS}

    def _generate_examples(self, name):
        for index in range(COUNTS[name]):
            image, depth = frame(name, index)
            png = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
            yield index, {"image": png, "depth": depth}


def frame(name, index):
    rng = np.random.default_rng([len(name), index])
    image = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), SIZE[::-1])
    depth = cv2.resize(rng.uniform(0.7, 9.9, (6, 8)), SIZE[::-1]).astype(np.float16)
    depth[:9], depth[9, :3] = 0, (np.nan, np.inf, -1)
    return image, depth


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    builder = NyuDepthV2(data_dir=folder, file_format="array_record")
    tfds.disable_progress_bar()
    builder.download_and_prepare()
    return folder


def test_frames_are_exact_and_holes_stay(root):
    data = TfdsPrepared(root)
    assert (len(data.train), len(data.test)) == (3, 2)
    example = data.test[1]
    image, depth = frame("validation", 1)
    np.testing.assert_array_equal(example["image"], image)
    assert example["depth"].dtype == np.float32
    np.testing.assert_array_equal(example["depth"][10:, :, 0], depth[10:])
    assert not example["depth"][:9].any() and not example["depth"][9, :3].any()
    assert example["key"] == b"validation/00001"
    assert "tensorflow" not in sys.modules
    metric = metric_example(example, depth_scale=data.depth_scale, kb_crop=False)
    np.testing.assert_array_equal(metric["depth"], example["depth"][..., 0])


def test_facts_of_the_depth(root):
    data = TfdsPrepared(root)
    depth = np.stack([example["depth"] for example in data.train])
    assert data.valid_share == pytest.approx(np.mean(depth > 0))
    assert data.median_depth == pytest.approx(np.median(depth[depth > 0]), abs=2e-3)


def test_by_config_and_through_the_loader(root):
    config = base().data
    config.update(name="nyu_tfds", root=str(root), split="tfds")
    data = sources.load(config)
    batches = list(loader.evaluation_batches(data, batch_size=2, kb_crop=False))
    assert batches[0]["image"].shape == (2, *SIZE, 3)
    assert batches[0]["depth"].max() < 10
    again = pickle.loads(pickle.dumps(data.train))  # as for reading processes
    np.testing.assert_array_equal(again[2]["image"], data.train[2]["image"])


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match="tfds build nyu_depth_v2 --data_dir="):
        TfdsPrepared(tmp_path)


@pytest.mark.parametrize(
    "fault, words",
    [
        ("format", "must be in array_record, .* got tfrecord"),
        ("json", "cannot be read"),
        ("features", "must have splits train, validation, image uint8 and depth"),
        ("shard", "lacks 1 files: nyu_depth_v2-train"),
    ],
)
def test_what_cannot_be_used(root, tmp_path, fault, words):
    folder = tmp_path / "nyu_depth_v2" / "0.0.1"
    folder.mkdir(parents=True)
    for path in (root / "nyu_depth_v2" / "0.0.1").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    info, features = folder / "dataset_info.json", folder / "features.json"
    if fault == "format":
        facts = json.loads(info.read_text())
        info.write_text(json.dumps(facts | {"fileFormat": "tfrecord"}))
    if fault == "json":
        info.write_text("{")
    if fault == "features":
        features.write_text(features.read_text().replace('"depth"', '"height"'))
    if fault == "shard":
        next(folder.glob("*train*")).unlink()
    with pytest.raises(InputError, match=words):
        TfdsPrepared(tmp_path)
