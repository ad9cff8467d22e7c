"""Several data sets in one batch: shares, order, names and rules of each set."""

import json
import shutil
from contextlib import closing

import numpy as np
import pytest

from amlr_jax import pipeline
from amlr_jax.config import base, check, of_each_set
from amlr_jax.data import loader, sources
from amlr_jax.data.frames import Contents
from amlr_jax.data.sources import Joined
from amlr_jax.evaluate.of_predictions import evaluate_predictions
from amlr_jax.runtime.errors import InputError
from tests import tiny_kitti
from tests.data import test_custom


class Numbers:
    """The numbers from 0, each an example with an offset."""

    def __init__(self, count, offset=0):
        self.count, self.offset = count, offset

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {"index": np.int32(index), "value": self.offset + index}


def drawn(parts, count, **options):
    options = {"batch_size": 4, "seed": 5, "threads": 2} | options
    with closing(loader.endless(parts, **options)) as batches:
        return [next(batches) for _ in range(count)]


def flat(batches):
    return np.concatenate([batch["index"] for batch in batches])


def part(count, weight, start, offset=0):
    return loader.Part(
        Numbers(count, offset), lambda example, rng: example, weight, start
    )


@pytest.mark.parametrize("weights", [(3.0, 1.0), (0.5, 0.5), (0.2, 0.7), (1, 2, 5)])
def test_the_shares_are_the_weights(weights):
    parts = [part(10, weight, 10 * k) for k, weight in enumerate(weights)]
    sets = flat(drawn(parts, 125)) // 10
    shares = np.bincount(sets, minlength=len(weights)) / len(sets)
    np.testing.assert_allclose(shares, np.array(weights) / sum(weights), atol=4e-3)
    for stretch in np.split(sets, 10):  # as near in every fifty examples
        found = np.bincount(stretch, minlength=len(weights)) / len(stretch)
        np.testing.assert_allclose(found, np.array(weights) / sum(weights), atol=0.05)


def test_a_batch_depends_on_seed_and_position_alone():
    parts = [part(7, 2.0, 0), part(5, 1.0, 7, offset=100)]
    whole = drawn(parts, 12)
    np.testing.assert_array_equal(flat(drawn(parts, 4, start=8)), flat(whole[8:]))
    np.testing.assert_array_equal(flat(drawn(parts, 12, threads=4)), flat(whole))
    assert (flat(drawn(parts, 12, seed=6)) != flat(whole)).any()
    halves = [drawn(parts, 6, batch_size=2, process=(k, 2)) for k in (0, 1)]
    both = [
        np.concatenate([a["index"], b["index"]]) for a, b in zip(*halves, strict=True)
    ]
    np.testing.assert_array_equal(np.concatenate(both), flat(whole[:6]))
    values = np.concatenate([batch["value"] for batch in whole])
    np.testing.assert_array_equal(values % 100 + 7 * (values >= 100), flat(whole))


def test_a_mix_of_one_is_the_set_itself():
    (one,) = parts = [part(9, 4.0, 0)]
    alone = drawn([one._replace(weight=1.0)], 9)
    np.testing.assert_array_equal(flat(drawn(parts, 9)), flat(alone))
    for epoch in np.split(flat(alone), 4):
        assert sorted(epoch) == list(range(9))


def test_names_tell_the_set():
    class Set:
        def __init__(self, *keys):
            self.train = [{"key": key} for key in keys]

        def contents(self, part):
            del part
            return Contents(tuple(f"{one['key']}" for one in self.train), "hash")

    joined = Joined({"kitti": Set("a", "b"), "nyu": Set("a")})
    assert joined.starts() == [0, 2, 3]
    assert [joined.key(k) for k in range(3)] == ["kitti:a", "kitti:b", "nyu:a"]
    assert joined.contents("train").names == ("kitti:a", "kitti:b", "nyu:a")
    assert Joined({"kitti": Set("a")}).contents("train") == Contents(("a",), "hash")


@pytest.fixture
def config(kitti_root, tmp_path):
    """Six KITTI frames a drive, and eight own frames, three of four from KITTI."""
    test_custom.write(
        tmp_path / "mine", [f"room/{n}" for n in range(10)], size=(70, 110)
    )
    made = tiny_kitti.config(kitti_root, cache=tmp_path / "cache")
    own = {"name": "custom", "root": str(tmp_path / "mine"), "depth_cap": 8.0}
    made.data.mix = ({"weight": 3.0}, own)
    made.batch_size = 4
    return made


def test_each_set_keeps_its_rules(config):
    assert list(of_each_set(config)) == ["kitti", "custom"]
    first, second = of_each_set(config).values()
    assert (first.data.depth_cap, second.data.depth_cap) == (0.0, 8.0)
    assert (first.data.weight, second.data.weight) == (3.0, None)
    assert second.data.crop == config.data.crop
    assert of_each_set(first) == {"kitti": first}
    config.data.mix = (config.data.mix[1],) * 3
    assert list(of_each_set(config)) == ["custom", "custom_2", "custom_3"]


def test_a_set_takes_no_key_that_is_of_another(config):
    """The cap of own images, which KITTI does not use."""
    kitti = {"name": "kitti", "root": config.data.root}
    config.data.update(config.data.mix[1])
    config.data.mix = (kitti, {"invalid_values": (65535,)})
    check(config)
    first, second = of_each_set(config).values()
    assert (first.data.depth_cap, second.data.depth_cap) == (0.0, 8.0)
    sources.check_keys(first.data)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"depht_cap": 8.0},
            r"mix\[0\] has the key 'depht_cap'.*did you mean depth_cap",
        ),
        ({"cache": "x"}, r"mix\[0\] has the key 'cache', which is not one of"),
        (
            {"weight": 0.0},
            r"mix\[0\].weight must be a number in \(0, inf\), or None",
        ),
        ({"name": "kity"}, r"data.mix\[0\].name must be one of .*got 'kity'"),
        ({"crop": (32, 32)}, r"size: data.crop differs in data.mix: \(32, 32\) of"),
        ({"split": "none"}, "data.split=none"),
    ],
)
def test_a_set_that_cannot_be(config, changes, message):
    config.data.mix = (changes, config.data.mix[1])
    with pytest.raises(InputError, match=message):
        check(config)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("data.mix", ("kitti",), "data.mix must be a tuple of dicts"),
        ("eval.protocol", "kitti_eigen", "each set of data.mix has its own"),
        ("objective", "self_supervised", "data.mix is for supervised training"),
    ],
)
def test_a_config_that_cannot_be_mixed(config, key, value, message):
    config.update_from_flattened_dict({key: value})
    with pytest.raises(InputError, match=message):
        check(config)


def test_predictions_are_of_one_set(config, tmp_path):
    with pytest.raises(InputError, match="of one data set, and data.mix has 2; choose"):
        evaluate_predictions(config, tmp_path)


def test_a_run_measures_each_set_and_resumes(config, tmp_path, capsys):
    config.steps = 4
    pipeline.train(config, tmp_path / "whole")
    told = capsys.readouterr().out
    assert "kitti folder: 10 training and 2 test frames" in told
    assert "custom folder: 8 training and 2 test frames" in told
    found = json.loads((tmp_path / "whole/evaluation.json").read_text())
    assert found["protocol"]["name"] == "kitti_eigen"
    assert found["sets"]["custom"]["protocol"]["name"] == "custom"
    assert found["sets"]["custom"]["frames"] == 2
    inputs = json.loads((tmp_path / "whole/inputs.json").read_text())
    assert len(inputs["train"]["names"]) == 18
    assert "custom:room/9" in inputs["test"]["names"]
    facts = json.loads((tmp_path / "whole/run.json").read_text())
    assert facts["data"] == facts["sets"]["kitti"]
    counts = {name: (d["train"], d["test"]) for name, d in facts["sets"].items()}
    assert counts == {"kitti": (10, 2), "custom": (8, 2)}
    page = (tmp_path / "whole/report.html").read_text()
    assert "<td>kitti folder, custom folder</td>" in page and "<td>10, 8</td>" in page
    assert ">whole on custom <small>after step 4" in page  # its own table

    lines = (tmp_path / "whole/metrics.jsonl").read_text()
    shutil.rmtree(tmp_path / "whole/checkpoints/00000004")
    pipeline.train(config, tmp_path / "whole")
    assert "Resuming from step 2 of 4" in capsys.readouterr().out
    assert (tmp_path / "whole/metrics.jsonl").read_text() == lines


def test_runs_of_before_go_on():
    """Keys that a workdir lacks must be off by default."""
    data = base().data
    assert not data.mix and not data.weight and not data.intrinsics
