"""Frozen parameters: chosen by pattern, the same bit for bit, without moments."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from amlr_jax.models import layers
from amlr_jax.models.pose import PoseNetwork, variable_shapes
from amlr_jax.runtime.errors import InputError
from amlr_jax.train import build, freezing, optimizer
from amlr_jax.train.objectives import supervised
from amlr_jax.train.step import initial_state, train_step
from configs import demo
from tests.train import toy

PARAMS = {
    "encoder": {"stage1": {"kernel": 0, "bias": 0}, "stage12": {"kernel": 0}},
    "decoder": {"head": {"kernel": 0}},
}


@pytest.mark.parametrize(
    "patterns, want",
    [
        (["encoder"], {"encoder/stage1/kernel", "encoder/stage1/bias",
                       "encoder/stage12/kernel"}),
        (["encoder/stage1/"], {"encoder/stage1/kernel", "encoder/stage1/bias"}),
        (["encoder/stage1*/kernel"], {"encoder/stage1/kernel",
                                      "encoder/stage12/kernel"}),
        (["*/bias", "decoder"], {"encoder/stage1/bias", "decoder/head/kernel"}),
    ],
)  # fmt: skip
def test_patterns(patterns, want):
    found = flatten_dict(freezing.frozen(PARAMS, patterns), sep="/")
    assert {path for path, stays in found.items() if stays} == want


@pytest.mark.parametrize(
    "patterns, message",
    [
        (["encoder", "stage1"], "no parameter matches 'stage1'; there are encoder/sta"),
        (["encoder", "decoder"], "leaves none of 4 parameters to train"),
    ],
)
def test_patterns_that_are_refused(patterns, message):
    with pytest.raises(InputError, match=message) as caught:
        freezing.frozen(PARAMS, patterns)
    assert "\n" not in str(caught.value)


def test_a_config_with_a_wrong_pattern():
    config = demo.get_config()
    config.optimizer.freeze = ("encoder", "decoder/heads")
    with pytest.raises(InputError, match="'decoder/heads'; there are .*parameters.txt"):
        build.components(config)


class Normed(nn.Module):
    """Two convolutions with batch normalisation: depth in (0, 80)."""

    @nn.compact
    def __call__(self, image, *, train: bool):
        x = image
        for name in ("first", "second"):
            x = nn.Conv(4, (3, 3), name=f"{name}_conv")(x)
            norm = layers.batch_norm(train=train, dtype=x.dtype, name=f"{name}_norm")
            x = nn.silu(norm(x))
        return 80.0 * nn.sigmoid(nn.Conv(1, (3, 3))(x))[..., 0]


@pytest.fixture(scope="module")
def trained() -> tuple:
    """The states before and after three steps, the first layers frozen."""
    adam = optimizer.adamw(
        optax.constant_schedule(1e-2),
        layer_scale=lambda path: 1.0,
        has_weight_decay=lambda path, ndim: True,
        weight_decay=0.5,
        clip_norm=1.0,
    )
    image = jnp.zeros((1, 16, 24, 3))
    variables = Normed().init(jax.random.key(0), image, train=False)
    frozen = freezing.frozen(variables["params"], ["first_*"])
    losses = supervised.supervised(Normed(), {"l1": {}})
    made = toy.pieces(
        objective=freezing.without_gradient(losses, frozen),
        optimizer=optimizer.freezing(adam, frozen),
    )
    before = initial_state(
        variables,
        optimizer=made["optimizer"],
        rebalancer=made["rebalancer"],
        loss_weights={"l1": jnp.ones(())},
        key=jax.random.key(1),
    )
    step, state = jax.jit(lambda state, batch: train_step(state, batch, **made)), before
    for batch in toy.batches(3):
        state, metrics = step(state, batch)
    return before, state, metrics, losses


def test_frozen_parts_stay_bit_for_bit(trained):
    """Parameters and running statistics, in spite of the weight decay."""
    before, after, metrics, _ = trained
    for name in ("params", "batch_stats"):
        old, new = getattr(before, name), getattr(after, name)
        same = {
            part: jax.tree.map(np.array_equal, old[part], new[part]) for part in old
        }
        for part, leaves in same.items():
            assert set(jax.tree.leaves(leaves)) == {part.startswith("first_")}, part
    assert metrics["grad_norm"] > 0


def test_frozen_parameters_have_no_moments(trained):
    before, _, _, _ = trained
    paths = jax.tree_util.tree_leaves_with_path(before.opt_state)
    names = " ".join(jax.tree_util.keystr(path) for path, _ in paths)
    assert "second_conv" in names and "first_" not in names


def test_frozen_normalisation_computes_as_at_evaluation(trained):
    """And what is trained still with the statistics of its batch."""
    before, _, _, losses = trained
    frozen = freezing.frozen(before.params, ["first_*", "second_*"])
    batch = toy.batches(1)[0]
    rest = (before.params, before.batch_stats, batch, before.key, None)
    values, _ = freezing.without_gradient(losses, frozen)(*rest)
    variables = {"params": before.params, "batch_stats": before.batch_stats}
    depth = Normed().apply(variables, batch["image"] / 255.0, train=False)
    valid = batch["depth"] > 0
    want = np.abs(depth - batch["depth"])[valid].mean()
    np.testing.assert_allclose(values["l1"], want, rtol=1e-5)
    assert abs(losses(*rest)[0]["l1"] - want) > 1e-3


def test_the_pose_network_is_found_under_its_own_name():
    network, seen = PoseNetwork(), set()
    shapes = variable_shapes(network)

    def see(call, args, kwargs, context):
        if isinstance(context.module, nn.BatchNorm):
            seen.add(freezing._path(context.module))
        return call(*args, **kwargs)

    def forward(variables, image):
        with nn.intercept_methods(see):
            return network.apply(
                variables, image, image, train=True, mutable=["batch_stats"]
            )

    jax.eval_shape(forward, shapes, jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32))
    norms = {path[:-1] for path in flatten_dict({"pose": shapes["batch_stats"]})}
    assert seen == norms


@pytest.mark.parametrize("name", ["polynomial", "step_decay"])
def test_every_schedule_warms_up(name):
    config = demo.get_config()
    config.optimizer.schedule = name
    plain = build.schedule(config)
    config.optimizer.warmup = 8
    warmed = build.schedule(config)
    for count in (0, 3, 7, 8, 100, config.steps - 1):
        want = float(plain(count)) * min((count + 1) / 8, 1)
        np.testing.assert_allclose(warmed(count), want, rtol=1e-6)
