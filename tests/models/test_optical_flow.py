"""GVO's flow network: its equations in NumPy, symmetry, and its names in PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from amlr_jax.models import depth, optical_flow
from amlr_jax.models.from_torch import assign
from amlr_jax.models.from_torch.tables import TABLES
from tests.models.from_torch import state_dicts

torch = pytest.importorskip("torch")


def test_position_weighted_is_the_mean_of_displacements():
    scores = np.random.default_rng(0).normal(size=(3, 81)).astype(np.float32)
    expected = np.zeros((3, 2))
    for k in range(81):
        expected += scores[:, k, None] * [k % 9 - 4, k // 9 - 4] / 81
    found = optical_flow.position_weighted(scores)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_unit_features_have_length_one_and_no_mean_and_are_known_by_their_gain():
    features = np.random.default_rng(0).normal(3, 2, (2, 4, 5, 6)).astype(np.float32)
    features[1] = 7.0
    found = optical_flow.unit_features(features)
    expected = features[0] - features[0].mean((0, 1))
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    assert not found[1].any()
    for unit in (False, True):
        network = optical_flow.FlowNetwork(unit_features=unit)
        params = {"flow": optical_flow.variable_shapes(network)["params"]}
        assert optical_flow.network_of(params, None) == network


@pytest.mark.slow
@pytest.mark.parametrize("unit", [False, True])
def test_both_ways_are_the_same_network(unit):
    network = optical_flow.FlowNetwork(unit_features=unit)
    images = jax.random.uniform(jax.random.key(0), (3, 1, 40, 72, 3))
    images = images.at[2].set(0.0)  # black
    first, second = jnp.concatenate([images[0], images[2]]), images[[1, 2], 0]
    run = jax.jit(network.apply)
    rng = np.random.default_rng(0)  # initial values would give no flow
    variables = jax.tree.map(
        lambda x: np.float32(rng.normal(0, 0.04, x.shape)),
        optical_flow.variable_shapes(network),
    )
    forward, backward = run(variables, first, second)
    sizes = [(10, 18), (5, 9), (3, 5), (2, 3)]
    assert [f.shape for f in forward] == [(2, *size, 2) for size in sizes]
    swapped = run(variables, second, first)
    assert all(jnp.ptp(f) > 0.01 for f in forward)
    for x, y in zip(sum(swapped, []), backward + forward, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)
    assert all(jnp.isfinite(f).all() for f in jax.tree.leaves((forward, backward)))


def gvo() -> dict[str, np.ndarray]:
    """The tensors of a depth stage, from the layer list of its code."""
    build = state_dicts.Builder()
    flow = "flow_model.flow_net."
    inputs, channels = 3, (16, 32, 64, 96, 128, 196)
    for level, width in enumerate(channels, start=1):
        for place in range(3):
            name = f"{flow}netExtractor.feature{level}.{place}.0"
            build.affine(name, width, inputs, 3, 3)
            inputs = width
    above = None
    for level, word in ((6, "Six"), (5, "Fiv"), (4, "Fou"), (3, "Thr"), (2, "Two")):
        name = f"{flow}net{word}."
        inputs = 81 if above is None else 81 + channels[level - 1] + 4
        if above is not None:
            build.affine(name + "netfeat", 2, above, 1, 1)
        for conv, width in zip(
            ("One", "Two", "Thr", "Fou", "Fiv"), (96, 96, 64, 64, 32), strict=True
        ):
            build.affine(f"{name}net{conv}.0", width, inputs, 3, 3)
            inputs += width
        build.affine(name + "netFLow", 81, inputs, 3, 3)
        above = inputs
    for place, width in enumerate((128, 128, 128, 96, 64, 32, 2)):
        build.affine(f"{flow}netRefiner.netMain.{2 * place}", width, inputs, 3, 3)
        inputs = width
    above = 0
    for number, into, width in reversed(
        [(0, 64, 64), (1, 64, 96), (2, 128, 128), (3, 256, 128), (4, 512, 256)]
    ):
        name = "depth_net.decoder."
        build.affine(f"{name}pre{number}.0.1", width, into, 3, 3)
        build.affine(f"{name}iconv{number}.0.1", width, width + above, 3, 3)
        above = width
        if number < 4:
            build.affine(f"depth_net.get_disp.med{number}.0", 48, width, 1, 1)
            name = f"depth_net.get_disp.reduce{number + 1}.0"
            build.affine(name, 48, width, 1, 1, bias=False)
    return build.tensors | state_dicts.resnet18("depth_net.encoder.encoder.")


def test_the_table_names_every_tensor_and_fills_every_variable():
    network = depth.network("five_level", max_depth=100.0, planes=48)
    shapes = depth.variable_shapes(network)
    flow = optical_flow.variable_shapes(optical_flow.FlowNetwork())["params"]
    sizes = (leaf.size for leaf in jax.tree.leaves(flow))
    assert sum(sizes) == 9_029_192  # 9.03 million in the release
    shapes["params"] = {**shapes["params"], "flow": flow}
    parts = "flow", "encoder", "decoder"
    filled, report = assign.assign(gvo(), TABLES["gvo"], shapes, parts=parts)
    assert not report.missing
    assert flatten_dict(filled).keys() == flatten_dict(shapes).keys()
    assert all("fc" in name or "reduce" in name for name in report.unused)
    alone = {k.removeprefix("flow_model."): v for k, v in gvo().items() if "flow" in k}
    filled, _ = assign.assign(alone, TABLES["gvo"], shapes, parts=("flow",))
    assert filled["params"].keys() == {"flow"}
