"""Every key has a rule, and a value that no part can use is refused at the start."""

import jax
import pytest

from amlr_jax import config as keys
from amlr_jax import metrics
from amlr_jax.config import base, check
from amlr_jax.data import benchmarks, recordings, sources
from amlr_jax.evaluate import protocols, tiling
from amlr_jax.models import depth
from amlr_jax.runtime.command import override
from amlr_jax.runtime.errors import InputError, counted, did_you_mean
from amlr_jax.runtime.rules import (
    FLAG,
    each,
    named,
    number,
    one_of,
    optional,
    or_auto,
    whole,
)
from amlr_jax.train.objectives.supervised import DEPTH_LOSSES
from configs import demo, demo_selfsup
from tests.conftest import REPOSITORY

CHANGES = """
optimizer.clip_norm=-1.0 optimizer.peak=-0.001 optimizer.peak=nan
optimizer.start=-1.0 optimizer.start=1e-2 optimizer.b1=1.5 optimizer.b1=1.0
optimizer.b2=-1.0 optimizer.weight_decay=-1.0 optimizer.weight_decay=inf
optimizer.layer_decay=-1.0 optimizer.layer_decay=0 optimizer.layer_decay=1.5
optimizer.power=-1.0 optimizer.drop=-0.1 optimizer.drop_at=0.0 optimizer.warmup=-1
optimizer.schedule=cosine optimizer.accumulate=0 model.drop_path=5.0
model.max_depth=0.0 model.max_depth=nan model.input_scale=-1.0
model.input_size=(64,) model.window_size=(7,7) model.window_size=(7,7,7,0)
model.decoder_channels=(32,0,32) model.attention=flash
model.convention=timm model.upsampling=bilinear eval.at_once=-1 eval.windows=1
eval.windows=-2 eval.pictures=-1 eval.batch_size=0 eval.every_steps=-1
eval.max_depth=-3.0 eval.max_depth=nan data.workers=-1 data.threads=-1
data.threads=two data.threads=2.0 data.threads=True data.decoded=yes data.decoded=2
data.threads=0 data.crop=(64,) data.crop=(0,64) data.crop=(64.0,64.0) data.crop=()
data.crop=(400,400) data.resize=(64,64) data.resize=(64,) data.flip=1.5
data.flip=nan data.cut_depth=-0.1 data.depth_cap=nan data.invalid_values=(None,)
data.invalid_values=("a",) data.invalid_values=(1e999,) data.depth_scale=-1.0
data.name=kiti data.root= data.split= data.split=none data.min_speed=-1.0
data.offsets=(0,1) data.camera=mine data.street.drives=0
losses.silog.variance_focus=2.0 losses.silog.variance_focus=nan
checkpoint.best_by=abs_rell checkpoint.best=-1 checkpoint.keep=0
checkpoint.every_steps=0 checkpoint.every_hours=-1.0 rebalance.learning_rate=-1.0
rebalance.eps=0.0 rebalance.b1=1.0 rebalance.every_k_steps=0
rebalance.shares.silog=-0.5 rebalance.shares.silog=nan rebalance.rule=alr
selfsup.kind=ssim selfsup.ssim_weight=1.5 selfsup.alpha=-1.0
parallel.fsdp=0 parallel.heartbeat=0 parallel.patience=-5 log.every_steps=0
log.profile=(1,) log.profile=(0,3) log.profile=(4,3) log.profile=(1,2,3)
log.profile=(900,990) seed=-1 seed=4294967296 steps=0 batch_size=-2 max_skipped=0
objective=unsupervised optimizer.ema=1.0 optimizer.ema=-0.1 optimizer.freeze=('',)
optimizer.freeze=(1,) init_partly=1
"""
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "rule, good, bad",
    [
        (whole(1), [1, 10**9], [0, -1, 1.0, True, "1", None, NAN]),
        (whole(0, 3), [0, 3], [-1, 4, 2.5]),
        (number("[0, 1)"), [0, 0.0, 0.999], [1, 1.0, -1e-9, NAN, "0.5", False]),
        (number("(0, inf)"), [1e-30, 5], [0, 0.0, -1, INF, -INF, NAN, None, (1,)]),
        (one_of("a", "b"), ["a"], ["", "c", None, 1, ("a",)]),
        (one_of("a", empty=True), ["", "a"], ["b"]),
        (each(whole(1), 2), [(1, 2), [1, 2]], [(), (1,), (1, 2, 3), (0, 2), 5, "ab"]),
        (each(whole(1), 0, 2), [(), (3, 4)], [(3,), (1.0, 2.0), (True, 2)]),
        (each(FLAG), [(), (True,)], [(1,)]),
        (or_auto(whole(1)), ["auto", 1], ["Auto", "1", 0, 1.5, None, True]),
        (or_auto(FLAG), ["auto", True], [1, "", "True"]),
        (optional(whole(1)), [None, 1], [0]),
        (named(number("[0, 1]")), [{}, {"a": 0.5}], [{"a": -1}, {"a": NAN}, 3]),
    ],
)
def test_a_rule(rule, good, bad):
    assert [x for x in good if not rule.holds(x)] == []
    assert [x for x in bad if rule.holds(x)] == []


@pytest.mark.parametrize("change", CHANGES.split())
def test_a_value_that_no_part_can_use(change):
    """Each one is one line with the name of the key."""
    config = demo.get_config()
    key, _, value = change.partition("=")
    with pytest.raises(InputError, match=key.split(".")[-1]):
        override(config, key, value)
        check(config)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"data.name": "nyu"},
            "self-supervision needs data.name kitti, street, frames",
        ),
        ({"selfsup.neighbours": False}, "needs a source"),
        ({"data.offsets": ()}, "needs a source"),
        ({"data.offsets": (), "data.stereo": True}, "data.offsets must name"),
        ({"data.split": "none", "checkpoint.best": 1}, "needs test frames"),
        ({"data.size": (64,)}, r"data.size must be \(height, width\)"),
        (
            {"model.name": "depth_anything_v2_small"},
            "train depth_anything_v2_small_metric_indoor or _metric_outdoor",
        ),
    ],
)
def test_values_of_video_that_contradict_each_other(changes, message):
    config = demo_selfsup.get_config()
    config.update_from_flattened_dict(changes)
    with pytest.raises(InputError, match=message):
        check(config)


@pytest.mark.parametrize(
    "changes",
    [
        {"log.profile": (3, 9), "data.crop": [352, 1216]},
        {"data.kb_crop": False, "data.crop": (2000, 3000)},
        {"optimizer.schedule": "step_decay", "optimizer.peak": 1e-6},
        {"model.window_size": (8, 8, 8, 8), "model.drop_path": 0},
        {"eval.windows": 2, "eval.protocol": "kitti_eigen", "data.workers": 0},
    ],
)
def test_what_is_good_passes(changes):
    config = base()
    config.update_from_flattened_dict(changes)
    check(config)


def test_a_config_of_other_keys():
    config = base()
    with config.unlocked():
        config.optimizer.clip_nrom = 1.0
    with pytest.raises(InputError, match="key 'optimizer.clip_nrom'; did you mean"):
        check(config)
    config = base()
    with config.unlocked():
        del config.optimizer["clip_norm"]
    with pytest.raises(InputError, match="has no key optimizer.clip_norm"):
        check(config)


SMALL = ("swin_v2_nano", "glpdepth_b0", "monodepth2", "five_level")
OTHERS = sorted(keys.MODELS.keys() - set(SMALL))


@pytest.mark.parametrize(
    "name", [*SMALL, *(pytest.param(x, marks=pytest.mark.slow) for x in OTHERS)]
)
def test_the_sizes_of_the_networks(name):
    shapes = depth.variable_shapes(depth.network(name, max_depth=10.0))
    sizes = [leaf.size for leaf in jax.tree.leaves(shapes["params"])]
    assert sum(sizes) == keys.MODELS[name]


def test_the_sizes_are_in_the_docs():
    page = (REPOSITORY / "docs/api/models.md").read_text()
    rows = [f"| `{n}` | {size / 1e6:.1f} million |" for n, size in keys.MODELS.items()]
    assert all(row in page for row in rows)
    assert all(name in keys.networks() for name in keys.MODELS)


def test_the_names_are_those_of_the_rooms():
    assert keys.METRICS == metrics.METRIC_NAMES
    assert tuple(keys.MODELS) == depth.NETWORKS
    assert tuple(protocols.PRESETS) == keys.PROTOCOLS
    assert keys.TEST_MODES == tiling.MODES
    assert keys.LOSSES.keys() == DEPTH_LOSSES.keys()
    datasets = keys.KEYS["data"]["name"][1].known
    assert datasets == (*sources.LAYOUTS, sources.NYU_TFDS)
    assert tuple(benchmarks.SETS) == keys.BENCHMARKS
    assert recordings.NAME in sources.LAYOUTS


@pytest.mark.parametrize(
    "name, meant",
    [
        ("optimizer.batch_size", "batch_size or eval.batch_size"),
        ("data.rot", "data.root"),
        ("optimizer.every_k_steps", "rebalance.every_k_steps"),
        ("train.seed", "seed or data.street.seed"),
        ("batchsize", "batch_size"),
        ("loss.max_depth", "model.max_depth or eval.max_depth"),
        ("optimizer.momentum", ""),
        ("zzz", ""),
    ],
)
def test_the_key_that_is_meant(name, meant):
    def names(entries, prefix=""):
        for key, entry in entries.items():
            yield prefix + key
            if isinstance(entry, dict):
                yield from names(entry, f"{prefix}{key}.")

    hint = f"; did you mean {meant}?" if meant else ""
    assert did_you_mean(name, names(keys.KEYS)) == hint


@pytest.mark.parametrize(
    "number, words, text",
    [
        (1, "fault", "1 fault"),
        (0, "fault", "0 faults"),
        (2, "fault", "2 faults"),
        (1, "frame has|frames have", "1 frame has"),
        (23158, "frame has|frames have", "23,158 frames have"),
    ],
)
def test_one_and_several(number, words, text):
    assert counted(number, words) == text
