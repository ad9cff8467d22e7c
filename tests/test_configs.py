"""Every config and variant builds its run, and no script or text names a wrong key."""

import json
import re
import subprocess
import sys
from functools import partial

import jax
import pytest
from absl import flags
from ml_collections import config_flags

from amlr_jax.config import RULES, base, check, of_record
from amlr_jax.runtime import command as commands
from amlr_jax.train import build
from configs import (
    custom,
    custom_selfsup,
    demo,
    demo_gvo,
    demo_selfsup,
    kitti,
    kitti_gvo,
    kitti_selfsup,
    nyu,
)
from tests.conftest import REPOSITORY

MODULES = (custom, custom_selfsup, demo, demo_selfsup, kitti, kitti_selfsup, nyu)
MODULES += (demo_gvo, kitti_gvo)
CONFIGS = {
    f"{module.__name__.split('.')[-1]}:{variant}": partial(module.get_config, variant)
    for module in MODULES
    for variant in module.VARIANTS
}
ALONE = ("silog", "mim_depth")  # variants without the gradient loss
ONE_PHOTOMETRIC = ("ssim_m", "baseline", "monodepth2")


@pytest.mark.parametrize("name", CONFIGS)
def test_config_builds_its_state(name):
    config = CONFIGS[name]()
    check(config)
    assert of_record(json.loads(config.to_json())) == config
    made = build.components(config)
    state = jax.eval_shape(lambda: build.state_before_training(config, made))
    assert state.loss_weights.keys() == losses_of(name)
    assert config.to_dict().keys() == base().to_dict().keys()


def losses_of(name: str) -> set[str]:
    variant = name.split(":")[-1]
    if "gvo" in name:
        found = {"photometric", "smoothness"}
        return found if variant == "flow" else found | {"ba", "consistency"}
    if "selfsup" not in name:
        return {"silog"} | (set() if variant in ALONE else {"gradient"})
    parts = {"mae", "luminance", "contrast", "structure"}
    parts = {"photometric"} if variant in ONE_PHOTOMETRIC else parts
    return parts | {"smoothness"}


def test_rebalanced_components_leave_the_smoothness_alone():
    config = kitti_selfsup.get_config("amlr")
    made = build.components(config)
    weights = jax.jit(lambda: build.state_before_training(config, made).loss_weights)()
    assert float(weights["smoothness"]) == pytest.approx(1e-3)
    assert float(weights["mae"]) == pytest.approx(0.25)


def test_fixed_weights_may_leave_out_what_is_held():
    config = kitti_selfsup.get_config()
    del config.rebalance.weights["smoothness"]
    config.rebalance.held = {"smoothness": 0.5}
    made = build.components(config)
    start = jax.jit(lambda: build.state_before_training(config, made).loss_weights)()
    moved, _ = made.rebalancer.update(start, made.rebalancer.init(start), losses=start)
    assert {name: float(w) for name, w in start.items()} == {
        name: float(w) for name, w in moved.items()
    }
    assert float(start["smoothness"]) == 0.5


def test_selfsup_is_the_papers_run():
    config = kitti_selfsup.get_config()
    made = build.components(config)
    state = jax.eval_shape(lambda: build.state_before_training(config, made))
    assert state.params.keys() == {"encoder", "decoder", "pose"}
    assert config.steps == 20 * 4976  # 39,810 views in batches of 8
    assert float(made.schedule(0)) == pytest.approx(1e-7)  # a warm-up of 1000 steps
    assert float(made.schedule(999)) == float(made.schedule(74_639))
    assert float(made.schedule(74_639)) == pytest.approx(1e-4)
    assert float(made.schedule(74_640)) == pytest.approx(1e-5)
    weights = jax.jit(lambda: build.state_before_training(config, made).loss_weights)()
    assert {name: round(float(w), 6) for name, w in weights.items()} == {
        "mae": 0.4, "luminance": 0.5, "contrast": 0.5, "structure": 0.7,
        "smoothness": 1e-3,
    }  # fmt: skip


def test_kitti_is_the_papers_run():
    config = kitti.get_config()
    made = build.components(config)
    state = jax.eval_shape(lambda: build.state_before_training(config, made))
    sizes = (leaf.size for leaf in jax.tree.leaves(state.params))
    assert sum(sizes) == 202_064_821  # Swin-v2 large, decoder 768/384/192
    assert config.steps == 115_770
    assert float(made.schedule(0)) == pytest.approx(3.01e-5, rel=1e-2)
    assert float(made.schedule(57_884)) == pytest.approx(5e-4, rel=1e-4)


@pytest.mark.parametrize(
    "module", [custom, demo, demo_selfsup, kitti, kitti_gvo, kitti_selfsup, nyu]
)
def test_unknown_variant(module):
    with pytest.raises(ValueError, match="variants.*got 'colossal'"):
        module.get_config("colossal")


def test_commands_in_the_readme_name_known_keys():
    """Each `python -m amlr_jax.main` of the README, config file and overrides."""
    text = (REPOSITORY / "README.md").read_text().replace("\\\n", " ")
    lines = re.findall(r"python -m amlr_jax\.main .*", text)
    assert len(lines) >= 2
    for line in lines:
        commands.check_config_keys(line.split())


@pytest.mark.parametrize("script", sorted((REPOSITORY / "launch").glob("*.sh")))
def test_scripts_parse(script):
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text()
    assert "rm " not in text
    for line in re.findall(r"amlr_jax\.main .*", text):
        commands.check_config_keys(line.replace('"$@"', "").split())


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_can_be_configured(rule):
    config = demo.get_config()
    config.rebalance.rule = rule
    config.rebalance.every_k_steps = 2
    made = build.components(config)
    weights = {"silog": jax.numpy.float32(0.5), "gradient": jax.numpy.float32(0.5)}
    state = made.rebalancer.init(weights)
    gradients = {"gradient_norms": weights, "gradient_gram": jax.numpy.eye(2)}
    for step in range(6):
        losses = {"silog": 1.0 / (step + 1), "gradient": 0.3}
        weights, state = made.rebalancer.update(
            weights, state, losses=losses, **gradients
        )
    assert all(weight > 0 for weight in weights.values())


@pytest.mark.parametrize(
    ("option", "key", "want"),
    [
        ("--config.data.threads=3", "threads", 3),
        ("--config.data.threads=auto", "threads", "auto"),
        ("--config.data.decoded=False", "decoded", False),
        ("--config.data.decoded", "decoded", True),
        ("--noconfig.data.decoded", "decoded", False),
        ("--config.data.decoded=auto", "decoded", "auto"),
    ],
)
def test_a_number_or_auto_on_the_command_line(monkeypatch, option, key, want):
    values = flags.FlagValues()
    monkeypatch.setattr(sys, "argv", ["main", option])  # ml_collections reads it
    config_flags.DEFINE_config_dict("config", base(), flag_values=values)
    values(["main", option])
    check(values.config)
    assert values.config.data[key] == want
    assert type(values.config.data[key]) is type(want)
