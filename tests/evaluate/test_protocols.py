"""Protocols by name, what overrides them, and which published rows stand beside."""

import pytest

from amlr_jax.data.views.batches import Unmeasured
from amlr_jax.evaluate import protocols, published, tables
from amlr_jax.evaluate.measure import Evaluation
from amlr_jax.metrics import METRIC_NAMES
from amlr_jax.models import depth
from amlr_jax.runtime.errors import InputError
from configs import custom, demo, kitti, nyu

METRIC = depth.network("swin_v2_nano", max_depth=80.0)
NO_SCALE = depth.network("monodepth2", max_depth=100.0)


def config(module=kitti, **keys):
    made = module.get_config()
    made.update_from_flattened_dict({k.replace("__", "."): v for k, v in keys.items()})
    return made


def resolved(made, network=METRIC):
    made.data.split = protocols.split_of(made)
    data = Unmeasured(made.data.name, made.data.split)
    return protocols.protocol(made, network, data)


def test_the_default_is_the_data_sets():
    """KITTI as MIM-Depth measures it, NYU, the street as KITTI, one's own images."""
    names = [resolved(config(m)).name for m in (kitti, nyu, demo, custom)]
    assert names == ["kitti_eigen", "nyu", "kitti_eigen", "custom"]
    one = resolved(config())
    assert (one.crop, one.min_depth, one.max_depth) == ("garg", 1e-3, 80.0)
    assert one.kb_crop and one.crops_frames and not one.median_scaling
    assert (one.test_mode, one.windows) == ("none", 16)
    indoors = resolved(config(nyu))
    assert (indoors.crop, indoors.max_depth, indoors.windows) == ("nyu", 10.0, 2)
    assert not indoors.kb_crop
    assert resolved(config(custom)).max_depth == 10.0


@pytest.mark.parametrize(
    "name, split, facts",
    [
        ("kitti_eigen_bts", "eigen", {"paste_back": True, "clamp": True}),
        ("kitti_eigen_697", "eigen_697", {"median_scaling": True, "kb_crop": False}),
        ("kitti_eigen_benchmark", "eigen", {"crop": "none", "cap_target": False}),
    ],
)
def test_named(name, split, facts):
    made = config(eval__protocol=name)
    one = resolved(made)
    assert (made.data.split, one.split) == (split, split)
    assert facts.items() <= one._asdict().items()
    partial = config(eval__protocol=name, data__split="folder")
    assert resolved(partial).split == "folder"


@pytest.mark.parametrize("name", ["kitti_eigen", "kitti_eigen_bts"])
def test_every_size_of_the_test_is_checked_before_anything_runs(name):
    made = config(eval__protocol=name)
    sizes = {(375, 1242): "a/1", (376, 1241): "b/1"}
    data = Unmeasured("kitti", "eigen", test_sizes=sizes)
    assert protocols.protocol(made, METRIC, data).name == name
    data = data._replace(test_sizes=sizes | {(188, 621): "c/7"})
    with pytest.raises(InputError, match=f"c/7 does not fit .*protocol={name}"):
        protocols.protocol(made, METRIC, data)
    made.data.kb_crop = False
    assert not protocols.protocol(made, METRIC, data).kb_crop


def test_median_scaling_follows_the_network():
    """Where a network knows no scale, unless the protocol or the user says."""
    benchmark = config(eval__protocol="kitti_eigen_benchmark")
    assert not resolved(benchmark).median_scaling
    assert resolved(benchmark, NO_SCALE).median_scaling
    assert resolved(config(), NO_SCALE).median_scaling
    off = config(eval__protocol="kitti_eigen_697", eval__median_scaling="off")
    assert not resolved(off, NO_SCALE).median_scaling


def test_overrides():
    made = config(
        eval__protocol="kitti_eigen_benchmark",
        eval__crop="eigen",
        eval__max_depth=50.0,
        eval__windows=4,
        eval__test_mode="shifted_flip",
    )
    one = resolved(made)
    assert (one.crop, one.max_depth, one.cap_target) == ("eigen", 50.0, True)
    assert one.mode == ("shifted_flip", 4)


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"eval__protocol": "kitti_egien"}, "did you mean kitti_eigen?"),
        ({"eval__protocol": "nyu"}, "is for data.name nyu, nyu_tfds; got 'kitti'"),
        ({"eval__test_mode": "shited"}, "eval.test_mode .* did you mean shifted?"),
        ({"eval__crop": "grag"}, "eval.crop .* did you mean garg?"),
        ({"eval__median_scaling": "yes"}, "must be one of on, off"),
        ({"eval__windows": 1}, "eval.windows must be 0, or .* of at least 2; got 1"),
        ({"eval__min_depth": 90.0}, "below eval.max_depth, got 90 and 80 m"),
    ],
)
def test_mistakes(keys, message):
    made = config(**keys)
    with pytest.raises(InputError, match=message):
        protocols.check(made)
        resolved(made)


@pytest.mark.parametrize("module", [kitti, nyu])
def test_rows_beside_what_the_papers_measured(module):
    rows, nothing = published.rows_beside(resolved(config(module)))
    assert not nothing
    amlr = [row.metrics["abs_rel"] for row in rows if row.method == "AMLR"]
    assert amlr == ([0.053, 0.049] if module is kitti else [0.087])


@pytest.mark.parametrize(
    "keys, why",
    [
        ({"data__split": "folder"}, "here split folder"),
        ({"eval__crop": "eigen"}, "here crop eigen"),
        ({"eval__max_depth": 50.0}, "here max_depth 50"),
        ({"data__kb_crop": False}, "here kb_crop False"),
        ({"eval__protocol": "kitti_eigen_bts"}, "no published row of kitti_eigen_bts"),
    ],
)
def test_no_rows_beside_anything_else(keys, why):
    rows, nothing = published.rows_beside(resolved(config(**keys)))
    assert rows == () and why in nothing


def test_the_street_is_not_kitti():
    rows, nothing = published.rows_beside(resolved(config(demo)))
    assert rows == () and "street" in nothing


def test_frames_trained_on_a_list_are_measured_on_the_split():
    assert published.rows_beside(resolved(config())._replace(split="list-eigen"))[0]


def test_published_rows_are_metrics_of_ours():
    assert published.ROWS.keys() <= protocols.PRESETS.keys()
    for row in (row for rows in published.ROWS.values() for row in rows):
        assert row.metrics.keys() <= set(METRIC_NAMES)
        assert all(0 < value < 10 for value in row.metrics.values())
        shares = [row.metrics[d] for d in ("d1", "d2", "d3") if d in row.metrics]
        assert shares == sorted(shares) and shares[-1] <= 1


def table(protocol, **more):
    values = {name: float(k) for k, name in enumerate(METRIC_NAMES)}
    result = Evaluation(values, values, 7, 1, **more)
    return tables.metric_table(result, protocol=protocol, title="t")


def test_table_is_in_the_papers_order():
    made = table(resolved(config())._replace(median_depth=9.0))
    headings = [column.header for column in made.columns]
    assert headings[1:6] == ["Abs Rel ↓", "Sq Rel ↓", "RMSE ↓", "RMSE log ↓", "log10 ↓"]
    assert "7 frames, 1 without an evaluated pixel" in made.caption
    assert made.row_count == 2 + len(published.ROWS["kitti_eigen"])
    names = list(made.columns[0].cells)
    assert names[:3] == ["network", "constant 9.00 m", "AMLR \\[none]"]
    assert list(made.columns[1].cells)[2] == "0.053"
    assert list(made.columns[9].cells)[2] == "-"  # silog, which no paper prints


def test_table_says_what_was_done():
    folder = resolved(config(data__split="folder"))
    ratio = {"median": 31.2, "std": 0.07}
    made = table(folder._replace(median_scaling=True), ratio=ratio, narrow=3)
    assert made.row_count == 2
    for words in (
        "median ratio 31.200, std / median 0.070",
        "3 not wider than high",
        "here split folder",
    ):
        assert words in made.caption
