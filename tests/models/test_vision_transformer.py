"""Vision transformers and the DPT head: values of PyTorch, sizes, degenerate images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from amlr_jax.models import depth, vision_transformer, vision_transformer_blocks
from amlr_jax.models.decoders.dpt import MetricDPT, RelativeDPT
from amlr_jax.models.depth_network import DepthNetwork, has_scale
from amlr_jax.models.from_torch.tables import TABLES
from tests.models.from_torch import state_dicts

torch = pytest.importorskip("torch")
from tests.models import torch_mix_transformer as convert  # noqa: E402
from tests.models import torch_vision_transformer as peer  # noqa: E402

PATCH, WIDTH, HEADS = 4, 16, 2
# The attributes of the encoder, and the arguments of `state_dicts`, that differ.
KINDS = {
    "dinov2": ({}, {}),
    "dinov2 giant with registers": ({"registers": 3, "gated": True},) * 2,
    "dinov3": (
        {"positions": 0, "registers": 2, "key_bias": False, "norm_eps": 1e-5},
        {"positions": 0, "registers": 2},
    ),
}
HEAD = {"widths": (6, 8, 10, 12), "channels": 8}


def _encoder(kind="dinov2", **overrides):
    attributes = {"positions": 5, "norm_eps": 1e-6, **KINDS[kind][0], **overrides}
    return vision_transformer.VisionTransformer(
        embed_dim=WIDTH,
        depth=2,
        num_heads=HEADS,
        patch_size=PATCH,
        **{"levels": (0, 1), **attributes},
    )


def _tensors(kind="dinov2", head=False):
    """Random tensors by official names, near those of a trained network in size."""
    sizes = {"width": WIDTH, "depth": 2, "patch": PATCH, "positions": 5}
    made = state_dicts.vision_transformer(**sizes | KINDS[kind][1])
    made |= state_dicts.dpt(inputs=WIDTH, **HEAD) if head else {}
    for name, value in made.items():
        if value.ndim in (2, 4):
            made[name] = value / np.sqrt(value[0].size)
        elif name.endswith(("gamma", "norm.weight", "norm1.weight", "norm2.weight")):
            made[name] = 1 + 0.1 * value
        else:
            made[name] = 0.3 * value
    return {n: torch.tensor(value, dtype=torch.float32) for n, value in made.items()}


def _variables(tensors):
    return convert.to_variables(tensors, TABLES["depth_anything_v2"])


def _network(decoder=MetricDPT, **overrides):
    """A small Depth Anything, of all levels twice."""
    encoder = _encoder(levels=(0, 0, 1, 1), **overrides)
    dtype = overrides.get("dtype", jnp.float32)
    head = decoder(**HEAD, patch_size=PATCH, max_depth=10.0, dtype=dtype)
    relative = decoder is RelativeDPT
    sizes = {"multiple_of": PATCH, "decoder_resizes": relative}
    return DepthNetwork(encoder, head, **sizes)


def _peer_logits(tensors, image):
    eps = {"heads": HEADS, "eps": 1e-6}
    first, second = peer.levels(tensors, convert.to_torch(image), **eps)
    return peer.dpt(tensors, [first, first, second, second], patch=PATCH)


def _image(rows, columns, *, batch=2):
    rng = np.random.default_rng(0)
    size = (batch, PATCH * rows, PATCH * columns, 3)
    return jnp.asarray(rng.random(size, np.float32))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grid", [(5, 5), (3, 7)])
def test_every_level_is_that_of_torch(kind, grid, jit):
    tensors, net = _tensors(kind), _encoder(kind)
    image, eps = _image(*grid), net.norm_eps
    expected = peer.levels(tensors, convert.to_torch(image), heads=HEADS, eps=eps)
    variables = {"params": _variables(tensors)["params"]["encoder"]}
    found = jit(functools.partial(net.apply, train=False))(variables, image)
    for ours, wanted in zip(found, expected, strict=True):
        assert (ours.shape, ours.dtype) == ((2, *grid, WIDTH), jnp.float32)
        np.testing.assert_allclose(convert.to_torch(ours), wanted, atol=1e-4)


@pytest.fixture(scope="module")
def tensors():
    return _tensors(head=True)


@pytest.fixture(scope="module")
def variables(tensors):
    return _variables(tensors)


@pytest.fixture(scope="module")
def predict(jit, variables):
    """Compiles once per network and shape of the image."""

    @functools.cache
    def compiled(net):
        return jit(functools.partial(net.apply, train=False))

    return lambda net, image: compiled(net)(variables, image)


@pytest.mark.parametrize("grid", [(3, 5), (1, 1)])
def test_depth_is_that_of_torch(grid, predict, tensors):
    image = _image(*grid)
    logits = _peer_logits(tensors, image)
    assert (logits > 0).any() and (logits < 0).any()
    metric = predict(_network(), image)
    np.testing.assert_allclose(metric, 10 * logits.sigmoid(), rtol=1e-3)
    relative = predict(_network(RelativeDPT), image)
    np.testing.assert_allclose(relative, 1 / logits.relu().clip(0.1), rtol=1e-3)


def test_gradients_are_those_of_torch(jit, tensors, variables):
    image = _image(3, 5)
    leaves = {name: t.clone().requires_grad_() for name, t in tensors.items()}
    _peer_logits(leaves, image).sin().sum().backward()
    used = {name: t.grad for name, t in leaves.items() if t.grad is not None}
    # All but the mask token and the unit without use.
    assert len(leaves) - len(used) == 1 + 4
    expected = flatten_dict(_variables(used))

    def total(variables):
        net = _network(RelativeDPT)
        features = net.apply(variables, image, train=False, method="_features")
        decoder = {"params": variables["params"]["decoder"]}
        return jnp.sin(net.decoder.apply(decoder, features, method="logits")).sum()

    found = flatten_dict(jit(jax.grad(total))(variables))
    assert found.keys() == expected.keys()
    largest = max(np.abs(wanted).max() for wanted in expected.values())
    for path, wanted in expected.items():
        # The bias of a key has no influence: its gradient is noise about zero.
        bound = 1e-3 * np.abs(wanted).max() + 1e-6 * largest
        np.testing.assert_allclose(found[path], wanted, rtol=0, atol=bound)


@pytest.mark.slow
def test_jit_changes_nothing(predict, variables):
    net, image = _network(), _image(2, 3)
    plain = net.apply(variables, image, train=False)
    np.testing.assert_allclose(predict(net, image), plain, rtol=1e-4)


def test_bfloat16_is_close(predict):
    image = _image(3, 5)
    exact = predict(_network(), image)
    half = predict(_network(dtype=jnp.bfloat16), image)
    assert half.dtype == jnp.float32
    assert 0 < float(jnp.abs(jnp.log(half / exact)).mean()) < 0.05


@pytest.mark.slow
def test_images_of_one_value_are_finite_in_value_and_gradient(jit, variables):
    def total(variables, image):
        return jnp.log(_network(RelativeDPT).apply(variables, image, train=True)).sum()

    run = jit(jax.value_and_grad(total, argnums=(0, 1)))
    for given in (variables, jax.tree.map(jnp.zeros_like, variables)):
        leaves = jax.tree.leaves(run(given, jnp.zeros((1, 8, 8, 3))))
        assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_positions_of_one_value_stay_and_so_does_their_own_grid():
    ones = jnp.ones((9, 2))
    for antialias in (False, True):
        made = vision_transformer_blocks.interpolated(ones, (5, 2), antialias=antialias)
        np.testing.assert_allclose(made, np.ones((1, 10, 2)), atol=1e-6)
    rows = jnp.arange(9.0)[:, None]
    same = vision_transformer_blocks.interpolated(rows, (3, 3), antialias=False)
    np.testing.assert_array_equal(same[0], rows)


def test_rotation_keeps_lengths_and_depends_on_offsets():
    angles = vision_transformer_blocks.rotary_angles(1, (2, 3), 8)
    assert angles.shape == (7, 8) and not angles[0].any()
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((7, 1, 8)), jnp.float32)
    turned = vision_transformer_blocks.rotate(x, angles)
    np.testing.assert_allclose((turned**2).sum(-1), (x**2).sum(-1), rtol=1e-5)
    same = vision_transformer_blocks.rotate(jnp.broadcast_to(x[1], x.shape), angles)
    products = same[:, 0] @ same[:, 0].T
    # Patches 1 and 2, 2 and 3, and 4 and 5 have the same offset.
    np.testing.assert_allclose(products[1, 2], products[[2, 4], [3, 5]], rtol=1e-4)


COUNTS = {  # transformers' models without mask token and the unit without use
    "dinov2_small_dpt": (22_056_192, 2_654_657),
    "dinov2_base_dpt": (86_579_712, 10_595_137),
    "dinov2_large_dpt": (304_367_616, 29_766_849),
    "dinov3_small_dpt": (21_596_160, 2_654_657),
    "dinov3_base_dpt": (85_659_648, 10_595_137),
    "dinov3_large_dpt": (303_128_576, 29_766_849),
    "depth_anything_v2_small": (22_056_192, 2_654_657),
    "depth_anything_v2_small_metric_indoor": (22_056_192, 2_654_657),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_of_the_reference(name):
    params = depth.variable_shapes(depth.network(name, max_depth=80.0))["params"]
    parts = (params["encoder"], params["decoder"])
    counts = tuple(sum(x.size for x in jax.tree.leaves(part)) for part in parts)
    assert counts == COUNTS[name]


def test_layer_decay_rises_from_the_image_to_the_output():
    net = depth.network("dinov3_small_dpt", max_depth=80.0)
    scale = depth.layer_scale(net, 0.5)
    found = [
        scale(("encoder", name))
        for name in ("register_tokens", "block0", "block11", "norm")
    ]
    assert found == [0.5**13, 0.5**12, 0.5, 1.0]
    assert scale(("decoder", "head_depth", "kernel")) == 1.0


def test_weight_decay_spares_tokens_and_positions():
    spared = [("cls_token", 3), ("pos_embed", 3), ("register_tokens", 3), ("ls1", 1)]
    assert not any(depth.has_weight_decay(("encoder", *x[:1]), x[1]) for x in spared)
    assert depth.has_weight_decay(("encoder", "patch_embed", "kernel"), 4)


def test_the_input_is_of_whole_patches_and_of_the_shorter_side():
    net = depth.network("depth_anything_v2_small", max_depth=100.0, shorter_side=518)
    assert net.seen_size(375, 1242) == (518, 1722)
    assert net.seen_size(640, 480) == (686, 518)
    plain = depth.network("dinov3_small_dpt", max_depth=10.0)
    assert plain.seen_size(352, 1216) == (352, 1216)
    assert plain.seen_size(375, 1242) == (368, 1248)


def test_only_depth_anything_without_metric_is_relative():
    relative = {name for name in depth.NETWORKS if not has_scale(_built(name))}
    sizes = ("small", "base", "large")
    assert relative == {
        *(f"depth_anything_v2_{size}" for size in sizes),
        *("monodepth2", "five_level"),
    }


def _built(name):
    return depth.network(name, max_depth=10.0)


def test_unknown_sizes_are_refused():
    with pytest.raises(ValueError, match="one of small, base, large, got 'giant'"):
        vision_transformer.encoder("dinov3", "giant")
