"""Folders of weights: written whole or not at all, and trained from."""

import errno
import functools
import json
import os
import re
import resource
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from amlr_jax import pipeline, rebalance
from amlr_jax.checkpoints import disk
from amlr_jax.checkpoints.manager import Checkpoints
from amlr_jax.models import depth, fitting, optical_flow, pretrained
from amlr_jax.models.depth_network import has_scale
from amlr_jax.runtime import files
from amlr_jax.runtime import mesh as parallel
from amlr_jax.runtime.errors import InputError
from amlr_jax.train import build
from amlr_jax.train.step import initial_state
from tests import tiny_kitti

# A failing thread of orbax speaks after its event loop is closed.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)

NANO = {"source": "simmim", "name": "swin_v2_nano", "options": {}, "complete": False}
NANO |= {"parts": ["encoder"]}


def randomised(shapes: dict) -> dict:
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: 0.1 * rng.standard_normal(leaf.shape, np.float32), shapes
    )


@pytest.fixture(scope="module")
def encoder() -> dict:
    """An encoder of nano with random values."""
    shapes = depth.variable_shapes(depth.network("swin_v2_nano", max_depth=80.0))
    return randomised({"params": {"encoder": shapes["params"]["encoder"]}})


@pytest.fixture
def folder(tmp_path, encoder):
    pretrained.save(tmp_path / "weights", encoder, NANO)
    return tmp_path / "weights"


def assert_equal(got, want):
    jax.tree.map(np.testing.assert_array_equal, got, want)


def test_what_is_saved_is_loaded(tmp_path):
    variables = {
        "params": {"encoder": {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}},
        "batch_stats": {"encoder": {"n": {"mean": np.ones(3, np.float32)}}},
    }
    model = {**NANO, "options": {"window_size": (8, 8, 8, 8)}}
    target = tmp_path / "new" / "weights"
    pretrained.save(target, variables, model)
    found = pretrained.load(target)
    assert_equal(found.variables, variables)
    assert isinstance(found.variables["params"]["encoder"]["a"], np.ndarray)
    assert found.model == json.loads(json.dumps(model))
    assert sorted(p.name for p in target.parent.iterdir()) == ["weights"]
    assert sorted(p.name for p in target.iterdir()) == ["model.json", "variables"]


def test_paths_may_be_relative(tmp_path, monkeypatch):
    """As the README's are; orbax by itself takes absolute ones alone."""
    monkeypatch.chdir(tmp_path)
    variables = {"params": {"encoder": {"a": np.ones(3, np.float32)}}}
    pretrained.save(Path("weights"), variables, NANO)
    assert_equal(pretrained.load(Path("weights")).variables, variables)


def test_an_empty_folder_may_be_filled(tmp_path, encoder):
    (tmp_path / "weights").mkdir()
    pretrained.save(tmp_path / "weights", encoder, NANO)
    assert_equal(pretrained.load(tmp_path / "weights").variables, encoder)


def test_nothing_is_overwritten(tmp_path, encoder):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "mine").touch()
    (tmp_path / "file").touch()
    for name, message in (
        ("weights", "is not empty; choose another"),
        ("file", "is a file; choose another"),
        ("file/weights", "cannot be made: .* is a file"),
    ):
        with pytest.raises(InputError, match=message):
            pretrained.save(tmp_path / name, encoder, NANO)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "mine", "weights"]


def test_a_file_system_that_does_not_take_it(encoder):
    with pytest.raises(InputError, match="'/proc/nowhere/w' cannot be written"):
        pretrained.save(Path("/proc/nowhere/w"), encoder, NANO)


def test_a_limit_of_the_disk_leaves_nothing(tmp_path, encoder):
    """The array store fails in a thread of its own, and with its own exception."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(InputError, match="cannot be written: File too large$"):
            pretrained.save(tmp_path / "new" / "weights", encoder, NANO)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_at_the_last_file_leaves_nothing(tmp_path, encoder, monkeypatch):
    def full(path, value):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write_json", full)
    with pytest.raises(InputError, match="No space left on device"):
        pretrained.save(tmp_path / "weights", encoder, NANO)
    assert not list(tmp_path.iterdir())


def test_a_part_of_a_run(tmp_path):
    with pytest.raises(InputError, match="'.*' does not exist, it is in a run; give"):
        pretrained.load(tmp_path / "checkpoints" / "00000060")


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: shutil.rmtree(f), "does not exist; give a folder"),
        (lambda f: (f / "model.json").unlink(), "has no model.json; give a folder"),
        (lambda f: (f / "model.json").write_text("{"), "is damaged"),
        (lambda f: (f / "model.json").write_text("{}"), "has no source, name, options"),
        (lambda f: shutil.rmtree(f / "variables"), "cannot be read"),
        (lambda f: shutil.rmtree(f / "variables" / "d"), "cannot be read"),
    ],
)
def test_damaged_folders(folder, damage, message):
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        pretrained.load(folder)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- merging

VARIABLES = {
    "params": {
        "encoder": {"a": np.zeros((2, 3)), "b": np.zeros(4)},
        "decoder": {"c": np.zeros(5)},
    },
    "batch_stats": {"decoder": {"mean": np.zeros(5)}},
}


def weights(tmp_path, **collections) -> pretrained.Pretrained:
    return pretrained.Pretrained(tmp_path, collections, dict(NANO))


def test_merging_takes_what_is_there(tmp_path):
    given = weights(
        tmp_path,
        params={"encoder": {"a": np.ones((2, 3))}, "pose": {"x": np.ones(1)}},
        batch_stats={"decoder": {"mean": np.ones(5)}},
    )
    merged, report = pretrained.merge(VARIABLES, given)
    want = {
        "params": {
            "encoder": {"a": np.ones((2, 3)), "b": np.zeros(4)},
            "decoder": {"c": np.zeros(5)},
        },
        "batch_stats": {"decoder": {"mean": np.ones(5)}},
    }
    assert_equal(merged, want)
    assert report.taken == {"encoder": 1, "decoder": 1}
    assert report.initial == {"decoder": 1, "encoder": 1}
    assert report.left == ("pose",)
    line = pretrained.summary(given, report)
    assert "encoder: 1 tensors" in line
    assert "not used: pose" in line


@pytest.mark.parametrize(
    "params, message",
    [
        ({"encoder": {"a": np.ones((3, 2))}}, r"encoder/a has shape \(3, 2\), this "
         r"network shape \(2, 3\); change model.name"),
        ({"encoder": {"x": np.ones(1)}}, "encoder/x .* no such parameter"),
        ({"decoder": {"c": np.ones(6)}}, "model.decoder_channels or model.name"),
    ],
)  # fmt: skip
def test_merging_refuses_what_does_not_fit(tmp_path, params, message):
    with pytest.raises(InputError, match=message):
        pretrained.merge(VARIABLES, weights(tmp_path, params=params))


# ---------------------------------------------------------------- fitting a network


def fit(folder, options: dict, **network) -> None:
    """Weights that were trained with `options`, for nano with `network`."""
    path = folder / "model.json"
    path.write_text(json.dumps({**NANO, "options": options}))
    name = network.pop("name", "swin_v2_nano")
    made = depth.network(name, max_depth=80.0, **network)
    fitting.what_fits(made, pretrained.load(folder), partly=False)


def test_other_windows_fit(folder):
    """No tensor depends on them; training may look through larger ones."""
    fit(folder, {}, window_size=(7, 9, 5, 3))


def test_a_pretraining_window_of_0_is_the_window(folder):
    options = {"convention": "official", "pretrained_window_size": (8, 8, 8, 8)}
    fit(folder, options, convention="official", window_size=(8, 8, 8, 8))


@pytest.mark.parametrize(
    "options, network, message",
    [
        ({"pretrained_window_size": (12, 12, 12, 6)}, {},
         r"--config.model.pretrained_window_size='\(12,12,12,6\)'"),
        ({"convention": "official", "pretrained_window_size": (11, 11, 6, 6)}, {},
         "--config.model.convention=official"),
        ({}, {"name": "swin_v2_tiny"}, "--config.model.name=swin_v2_nano"),
        ({}, {"name": "glpdepth_b1"}, "--config.model.name=swin_v2_nano"),
        ({"colour": 1}, {}, "`?colour`?"),
    ],
)  # fmt: skip
def test_another_network_names_the_key(folder, options, network, message):
    with pytest.raises(InputError, match=message):
        fit(folder, options, **network)


def test_a_decoder_with_other_channels_or_activation(tmp_path, encoder):
    model = NANO | {"complete": True, "parts": ["encoder", "decoder"]}
    model["options"] = {"decoder_channels": (32, 24, 16), "decoder_activation": "relu"}
    given = pretrained.Pretrained(tmp_path, encoder, model)
    for options, message in (
        ({}, r"--config.model.decoder_channels='\(32,24,16\)'"),
        ({"decoder_channels": (32, 24, 16)}, "--config.model.decoder_activation=relu"),
    ):
        network = depth.network("swin_v2_nano", max_depth=80.0, **options)
        with pytest.raises(InputError, match=message):
            fitting.what_fits(network, given, partly=False)


def other(tmp_path, name="swin_v2_nano", **options) -> pretrained.Pretrained:
    """Random weights of a whole network with these options."""
    shapes = depth.variable_shapes(depth.network(name, max_depth=80.0, **options))
    model = {"name": name, "parts": ["encoder", "decoder"], "options": options}
    return pretrained.Pretrained(tmp_path, randomised(shapes), NANO | model)


def test_another_head_takes_what_fits_if_permitted(tmp_path, capsys):
    given = other(tmp_path, decoder_channels=(128, 48, 32), decoder_activation="relu")
    network = depth.network("swin_v2_nano", max_depth=10.0)
    with pytest.raises(InputError, match=r"or --config.init_partly=True for what fits"):
        fitting.what_fits(network, given, partly=False)
    found = fitting.what_fits(network, given, partly=True)
    said = " ".join(capsys.readouterr().out.split())
    assert "its channels is (128, 48, 32), this network's" in said
    assert "its activation is relu, this network's silu" in said
    names = said.partition("not taken: ")[2].split(", ")
    ours, theirs = depth.variable_shapes(network), given.variables
    merged, report = pretrained.merge(ours, found)
    assert_equal(merged["params"]["encoder"], theirs["params"]["encoder"])
    flat, kept = (flatten_dict(x, sep="/") for x in (theirs, found.variables))
    same = {path.split("/", 1)[1] for path in flat.keys() - kept.keys()}
    assert same and {path.rpartition("/")[0] for path in same} == set(names)
    assert report.initial.keys() == {"decoder"} and report.taken["decoder"]


def test_a_decoder_of_another_kind_starts_anew(tmp_path, capsys):
    given = other(tmp_path, "monodepth2")
    network = depth.network("five_level", max_depth=80.0)
    found = fitting.what_fits(network, given, partly=True)
    assert found.variables["params"].keys() == {"encoder"}
    assert "is for monodepth2, another network" in capsys.readouterr().out
    for name in ("swin_v2_nano", "glpdepth_b0"):
        with pytest.raises(InputError, match="is for monodepth2, another network"):
            fitting.what_fits(depth.network(name, max_depth=80.0), given, partly=True)


def test_larger_windows_keep_those_of_pretraining_or_say_so(tmp_path, capsys):
    given = other(tmp_path, window_size=(8, 8, 8, 4))
    windows, before = (16, 16, 16, 8), (11, 11, 6, 6)
    make = functools.partial(depth.network, "swin_v2_nano", max_depth=80.0)
    tuned = make(window_size=windows, pretrained_window_size=before)
    fitting.what_fits(tuned, given, partly=False)
    anew = make(window_size=windows, pretrained_window_size=windows)
    message = r"pretrained_window_size='\(.*, or --config.init_partly=True"
    with pytest.raises(InputError, match=message):
        fitting.what_fits(anew, given, partly=False)
    assert_equal(fitting.what_fits(anew, given, partly=True).variables, given.variables)
    assert "its pretrained_window_size is" in capsys.readouterr().out


def test_another_convention_is_never_taken(folder):
    other = depth.network("swin_v2_nano", max_depth=80.0, convention="official")
    with pytest.raises(InputError, match="--config.model.convention=mim_depth"):
        fitting.what_fits(other, pretrained.load(folder), partly=True)


def test_a_decoder_that_upsamples_otherwise(tmp_path):
    model = NANO | {"name": "five_level", "parts": ["encoder", "decoder"]}
    given = pretrained.Pretrained(tmp_path, {}, model)
    options = {"upsampling": "subpixel_head", "max_depth": 100.0}
    with pytest.raises(InputError, match="--config.model.upsampling=nearest"):
        fitting.what_fits(depth.network("five_level", **options), given, partly=False)


@pytest.mark.parametrize("images", [1, 2, 3])
def test_a_stack_of_equal_images_gives_what_one_gave(images):
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((7, 7, 3, 4)).astype(np.float32)
    image = rng.random((1, 16, 16, 3), np.float32)
    stacked = fitting.stack_conv1(kernel, images=images)
    assert stacked.shape == (7, 7, 3 * images, 4)
    assert stacked.dtype == np.float32
    layout = ("NHWC", "HWIO", "NHWC")
    conv = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="VALID",
        dimension_numbers=layout,
    )
    many = conv(np.tile(image, (1, 1, 1, images)), stacked)
    np.testing.assert_allclose(many, conv(image, kernel), atol=1e-4)


# ---------------------------------------------------------------- training


@pytest.fixture(scope="module")
def initial() -> tuple:
    """A config and a state before its first step; random values save compiling."""
    config = tiny_kitti.config(Path("none"), cache=Path("none"))
    made = build.components(config)
    before = initial_state(
        randomised(depth.variable_shapes(made.network)),
        optimizer=made.optimizer,
        rebalancer=made.rebalancer,
        loss_weights=rebalance.equal_weights(config.losses),
        key=jax.random.key(0),
    )
    return config, made, before


def test_the_state_that_weights_make(initial, folder, encoder, tmp_path, capsys):
    _, made, before = initial
    found = fitting.starting_weights(str(folder), made.network, tmp_path / "run")
    sharding = parallel.replicated(parallel.make_mesh())
    state = fitting.start_from(before, found, sharding=sharding)
    assert_equal(state.params["encoder"], encoder["params"]["encoder"])
    assert_equal(state.params["decoder"], before.params["decoder"])
    for name in ("step", "opt_state", "loss_weights", "rebalance_state", "key"):
        assert getattr(state, name) is getattr(before, name)
    assert all(leaf.sharding == sharding for leaf in jax.tree.leaves(state.params))
    out = " ".join(capsys.readouterr().out.split())
    assert "encoder: 151 tensors; initial: decoder (25)" in out


def test_a_run_that_goes_on_does_not_read_them(tmp_path):
    (tmp_path / "checkpoints" / "00000001.orbax-checkpoint-tmp").mkdir(parents=True)
    with pytest.raises(InputError, match="'nowhere' does not exist"):
        fitting.starting_weights("nowhere", None, tmp_path)
    (tmp_path / "checkpoints" / "00000001").mkdir()
    assert fitting.starting_weights("nowhere", None, tmp_path) is None


def test_a_network_that_is_not_trained_must_be_among_the_weights(folder, tmp_path):
    for given in ("", str(folder)):
        with pytest.raises(InputError, match=f"a flow network .* init_from '{given}'"):
            fitting.starting_weights(given, None, tmp_path, needs=("flow",))


def test_flow_starts_from_weights_with_the_same_features(initial, folder):
    _, _, before = initial
    shapes = [
        optical_flow.variable_shapes(optical_flow.FlowNetwork(unit_features=unit))
        for unit in (False, True)
    ]
    for ours, theirs, key in zip(shapes, shapes[::-1], (True, False), strict=True):
        state = before._replace(params={"flow": ours["params"]})
        variables = {"params": {"flow": theirs["params"]}}
        found = pretrained.load(folder)._replace(variables=variables)
        with pytest.raises(InputError, match=f"selfsup.unit_features={key}"):
            fitting.start_from(state, found, sharding=None)


def test_a_run_is_weights_too(initial, tmp_path):
    """The newest checkpoint of a workdir, without its optimizer."""
    config, made, state = initial
    files.write_json(tmp_path / "config.json", config.to_dict())
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    checkpoints.save(state._replace(params=None), step=9)
    checkpoints.save(state, step=10)
    checkpoints.close()
    run = pretrained.load(tmp_path)
    assert run.model["step"] == 10
    assert run.model["parts"] == ["decoder", "encoder"]
    assert run.variables.keys() == {"params", "batch_stats"}
    fitting.what_fits(made.network, run, partly=False)
    network, variables, max_depth, *_ = pretrained.load_network(tmp_path)
    assert_equal(variables["params"], state.params)
    assert_equal(variables["batch_stats"], state.batch_stats)
    assert (max_depth, network.input_scale) == (80.0, config.model.input_scale)


@pytest.mark.parametrize(
    "changes, metric, size",
    [
        ({}, True, (64, 96)),
        ({"data": {"mix": [{"crop": [32, 64]}], "crop": [64, 96]}}, True, (32, 64)),
        ({"objective": "self_supervised"}, False, (192, 640)),
        ({"objective": "self_supervised", "data": {"size": [], "stereo": True}},
         True, None),
    ],
)  # fmt: skip
def test_a_run_tells_its_scale_and_size(initial, tmp_path, changes, metric, size):
    """Whether depth from disparity is in metres, and the size of its images."""
    config, _, state = initial
    saved = config.to_dict() | {"model": {"name": "monodepth2", "max_depth": 100.0}}
    saved["data"] |= {"crop": [64, 96]} | changes.pop("data", {})
    files.write_json(tmp_path / "config.json", saved | changes)
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    checkpoints.save(state, step=9)
    checkpoints.close()
    found = pretrained.load(tmp_path)
    assert has_scale(pretrained.network_of(found)) == metric
    assert tuple(found.model["size"] or ()) == (size or ())


@pytest.mark.parametrize(
    "change, message",
    [
        ({"init_from": "nowhere"}, "'nowhere' does not exist"),
        ({"model.name": "swin_v2_tiny"}, "--config.model.name=swin_v2_nano"),
        ({"model.pretrained_window_size": (12, 12, 12, 6)},
         "--config.model.pretrained_window_size"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_leave_nothing(
    tiny_config, tmp_path, folder, change, message
):
    tiny_config.init_from = str(folder)
    tiny_config.update_from_flattened_dict(change)
    with pytest.raises(InputError, match=message):
        pipeline.train(tiny_config, tmp_path / "new" / "run")
    assert not (tmp_path / "new").exists()


def test_an_encoder_is_no_network(folder):
    with pytest.raises(InputError, match="no whole depth network, only encoder"):
        pretrained.load_network(folder)


def test_a_run_without_a_checkpoint(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="has no checkpoint yet"):
        pretrained.load(tmp_path)


@pytest.fixture
def run_of_two(initial, tmp_path):
    """A workdir with checkpoints of steps 9 and 10, and its config."""
    config, _, state = initial
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2, config=config.to_dict())
    checkpoints.save(state, step=9)
    checkpoints.save(state, step=10)
    checkpoints.close()
    files.write_json(tmp_path / "config.json", config.to_dict())
    return tmp_path, config, state


def test_a_checkpoint_is_chosen(run_of_two):
    folder, _, _ = run_of_two
    steps = {
        str(choice): pretrained.load(Path(f"{folder}{choice}")).model["step"]
        for choice in ("", "@9", "@0000010", "/@9")
    }
    assert steps == {"": 10, "@9": 9, "@0000010": 10, "/@9": 9}
    assert pretrained.load(Path(f"{folder}@9")).folder == folder
    marks = {pretrained.fingerprint(Path(f"{folder}{c}")) for c in ("@9", "@10")}
    assert len(marks) == 2 and pretrained.fingerprint(folder) in marks
    with pytest.raises(InputError, match="no checkpoint of step 741, only 9, 10"):
        pretrained.load(Path(f"{folder}@741"))
    largest(folder / "checkpoints" / "00000009").unlink()
    with pytest.raises(InputError, match=r"@9' is good \(00000009: .* is missing"):
        pretrained.load(Path(f"{folder}@9"))


def test_the_best_checkpoint_by_the_metric_of_the_run(run_of_two):
    folder, config, _ = run_of_two
    with pytest.raises(InputError, match="was measured, .*checkpoint.best=1, or .*@10"):
        pretrained.load(Path(f"{folder}@best"))
    values = {9: {"abs_rel": 0.1, "d1": 0.8}, 10: {"abs_rel": 0.2, "d1": 0.9}}
    for step, metrics in values.items():
        path = folder / "checkpoints" / f"{step:08d}"
        files.write_json(path / "metrics.json", metrics)
    assert pretrained.load(Path(f"{folder}@best")).model["step"] == 9
    for path in (folder / "checkpoints").glob("*/data/metadata"):
        text = path.read_text()
        assert '"best_by": "abs_rel"' in text
        path.write_text(text.replace('"best_by": "abs_rel"', '"best_by": "d1"'))
        disk.write_checksums(path.parents[1])
    assert pretrained.load(Path(f"{folder}@best")).model["step"] == 10


def test_a_choice_of_what_is_no_run(folder):
    with pytest.raises(InputError, match="has no checkpoints to choose 7 of"):
        pretrained.load(Path(f"{folder}@7"))
    named = folder.with_name("weights@7")  # a folder may be called so
    folder.rename(named)
    assert pretrained.load(named).model["name"] == "swin_v2_nano"


def largest(path: Path) -> Path:
    files = (p for p in path.rglob("*") if p.is_file())
    return max(files, key=lambda p: p.stat().st_size)


def test_a_damaged_checkpoint_is_passed_over(run_of_two, capsys):
    folder, _, state = run_of_two
    os.truncate(largest(folder / "checkpoints" / "00000010"), 1000)
    for _ in range(2):
        assert pretrained.load(folder).model["step"] == 9
        assert pretrained.good_checkpoint(folder).name == "00000009"
    assert_equal(pretrained.load_network(folder)[1]["params"], state.params)
    out = capsys.readouterr().out
    assert out.count("is bad") == 1
    assert re.search(r"10' is bad: state/.* has 1000 bytes of .* '00000009'", out)
    assert pretrained.newest_step(folder).name == "00000010"  # nothing was moved
    largest(folder / "checkpoints" / "00000009").unlink()
    with pytest.raises(InputError, match=r"is good \(00000010: .*; 00000009: .*miss"):
        pretrained.load(folder)


def test_the_config_travels_with_the_checkpoints(run_of_two):
    folder, config, _ = run_of_two
    with_config = pretrained.load(folder)
    (folder / "config.json").unlink()
    assert pretrained.load(folder).model == with_config.model
    path = folder / "checkpoints" / "00000010" / "data" / "metadata"
    assert json.loads(path.read_text())["config"]["model"]["name"] == config.model.name
