"""The Mix Transformer: values of PyTorch, sizes, drop path, degenerate images."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.models import mix_transformer
from amlr_jax.models.from_torch.tables import TABLES

torch = pytest.importorskip("torch")
from tests.models import torch_mix_transformer as peer  # noqa: E402

# Two stages have all there is and compile in half the time of four; the whole
# network is in from_torch/test_glpdepth.py.
SIZES = peer.Sizes((8, 12), (1, 1), (1, 2), (8, 1))


def _small(**overrides):
    return mix_transformer.MixTransformer(**{**SIZES._asdict(), **overrides})


def _image(height, width, *, batch=2, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.random((batch, height, width, 3), np.float32))


@pytest.fixture(scope="module")
def reference():
    return peer.randomize(peer.MixTransformer(SIZES))


def _convert(tensors):
    converted = peer.to_variables(tensors, TABLES["mit"])
    return {"params": converted["params"]["encoder"]}


@pytest.fixture(scope="module")
def variables(reference):
    return _convert(reference.state_dict())


@pytest.fixture(scope="module")
def encode(jit, variables):
    """Compiles once per encoder and shape of the image."""

    @functools.cache
    def compiled(net):
        return jit(functools.partial(net.apply, train=False))

    return lambda net, image, given=variables: compiled(net)(given, image)


@pytest.mark.parametrize("size", [(64, 96), (61, 77), (29, 40)])
def test_features_are_those_of_torch(encode, reference, size):
    image = _image(*size)
    with torch.no_grad():
        expected = reference(peer.to_torch(image))
    features = encode(_small(), image)
    for stage, (found, wanted) in enumerate(zip(features, expected, strict=True)):
        factor = 4 * 2**stage
        height, width = (-(-length // factor) for length in size)
        assert found.shape == (2, height, width, SIZES.embed_dims[stage])
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(peer.to_torch(found), wanted, atol=1e-4)


def test_each_norm_has_its_own_eps(encode):
    small = peer.randomize(peer.MixTransformer(SIZES))
    closing = r"patch_embed\d\.(proj|norm)|attn\.(sr|proj)|mlp\.fc2"
    with torch.no_grad():
        for name, parameter in small.named_parameters():
            if re.search(closing, name):
                parameter.mul_(2e-3)  # variances near 1e-6, where eps decides
        expected = small(peer.to_torch(_image(64, 96)))
    features = encode(_small(), _image(64, 96), _convert(small.state_dict()))
    for found, wanted in zip(features, expected, strict=True):
        np.testing.assert_allclose(peer.to_torch(found), wanted, atol=1e-4)


@pytest.mark.slow
def test_recomputed_gradients_are_those_of_torch(jit, reference, variables):
    image = _image(40, 56)
    reference.zero_grad()
    sum(feature.sin().sum() for feature in reference(peer.to_torch(image))).backward()
    expected = _convert(peer.gradients(reference))

    def total(variables):
        features = _small(remat=True).apply(variables, image, train=False)
        return sum(jnp.sin(feature).sum() for feature in features)

    found = jit(jax.grad(total))(variables)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(found))

    def compare(leaf, wanted):
        # The bias of a key has no influence: its gradient is noise about zero.
        bound = 1e-3 * np.abs(wanted).max() + 1e-6 * largest
        np.testing.assert_allclose(leaf, wanted, rtol=0, atol=bound)

    jax.tree.map(compare, found, expected)


def _block(drop_path, *, num_heads=2):
    return mix_transformer.MixBlock(
        num_heads=num_heads,
        reduction=1,
        drop_path=drop_path,
        norm_eps=1e-6,
        dtype=jnp.float32,
    )


def test_jit_changes_nothing(jit, variables):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((1, 4, 6, 12)), jnp.float32)
    given = {"params": variables["params"]["stage1_block0"]}
    run = _block(0.0).apply
    np.testing.assert_allclose(jit(run)(given, x), run(given, x), atol=1e-5)


def test_bfloat16_is_close(encode):
    image = _image(64, 96)
    exact = encode(_small(), image)
    for found, wanted in zip(
        encode(_small(dtype=jnp.bfloat16), image), exact, strict=True
    ):
        assert found.dtype == jnp.float32
        assert 0 < np.abs(found - wanted).max() < 0.15  # features have variance 1


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (1, 4)])
def test_depthwise_convolution_is_a_grouped_convolution(size):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, *size, 6)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((3, 3, 1, 6)), jnp.float32)
    bias = jnp.asarray(rng.standard_normal(6), jnp.float32)
    layer = mix_transformer.DepthwiseConv3x3(jnp.float32)
    found = layer.apply({"params": {"kernel": kernel, "bias": bias}}, x)
    grouped = jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=6,
    )
    np.testing.assert_allclose(found, grouped + bias, atol=1e-5)


def test_drop_path_takes_whole_branches_of_samples_and_only_in_training(jit):
    rng = np.random.default_rng(0)
    one = jnp.asarray(rng.standard_normal((1, 4, 6, 8)), jnp.float32)
    x = jnp.repeat(one, 4, axis=0)
    block = _block(0.5)
    variables = jit(block.init)(jax.random.key(0), one)
    keeps = jnp.array([[False, False, True, True], [False, True, False, True]])
    trained = np.asarray(jit(block.apply)(variables, x, keeps))
    assert len(np.unique(trained.round(5), axis=0)) == 4
    np.testing.assert_array_equal(trained[0], x[0])
    never = jit(_block(0.0).apply)(variables, x, keeps)
    np.testing.assert_array_equal(jit(block.apply)(variables, x), never)


def test_drop_path_rises_to_the_last_block(jit, variables):
    rngs = {"drop_path": jax.random.key(0)}
    apply = jit(functools.partial(_small(drop_path=1.0).apply, train=True, rngs=rngs))
    before = apply(variables, _image(32, 32))[-1]
    params = variables["params"]
    for block, matters in (("stage0_block0", True), ("stage1_block0", False)):
        doubled = jax.tree.map(lambda leaf: 2 * leaf, params[block])
        changed = {"params": {**params, block: doubled}}
        assert np.any(apply(changed, _image(32, 32))[-1] != before) == matters


@pytest.mark.slow
def test_images_of_one_value_are_finite_in_value_and_gradient(jit, variables):
    def total(variables, image):
        maps = _small().apply(variables, image, train=False)
        return sum(feature.sum() for feature in maps)

    run = jit(jax.value_and_grad(total, argnums=(0, 1)))
    zeros = jax.tree.map(jnp.zeros_like, variables)
    for given in (variables, zeros):
        value, grads = run(given, jnp.zeros((1, 32, 32, 3)))
        leaves = [value, *jax.tree.leaves(grads)]
        assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_initial_values(jit):
    init = jit(functools.partial(_small().init, train=False))
    params = init(jax.random.key(0), _image(32, 32))["params"]
    block = params["stage0_block0"]
    assert block["attn"]["sr"]["kernel"].shape == (8, 8, 8, 8)
    for name, kernel, std in (
        ("linear", block["mlp"]["fc1"]["kernel"], 0.02),
        ("depthwise", block["mlp"]["dwconv"]["kernel"], (2 / 9) ** 0.5),
        ("reduction", block["attn"]["sr"]["kernel"], (2 / (64 * 8)) ** 0.5),
        ("embed", params["stage0_patch_embed"]["proj"]["kernel"], (2 / 392) ** 0.5),
    ):
        assert 0.85 < np.std(kernel) / std < 1.15, name
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if path[-1].key != "kernel":
            assert np.all(leaf == float(path[-1].key == "scale")), path


@pytest.mark.parametrize(
    ("name", "count"),  # as transformers' SegformerModel has them
    [
        ("b0", 3_319_392),
        ("b1", 13_151_424),
        ("b2", 24_196_288),
        ("b3", 44_072_128),
        ("b4", 60_842_688),
        ("b5", 81_443_008),
    ],
)
def test_presets_have_segformers_parameters(name, count):
    net = mix_transformer.encoder(name, remat=None)
    init = functools.partial(net.init_with_output, train=False)
    image = jax.ShapeDtypeStruct((1, 352, 1216, 3), jnp.float32)
    features, shapes = jax.eval_shape(init, jax.random.key(0), image)
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == count
    sizes = [(88, 304), (44, 152), (22, 76), (11, 38)]
    assert [f.shape for f in features] == [
        (1, *size, dim) for size, dim in zip(sizes, net.embed_dims, strict=True)
    ]


@pytest.mark.parametrize(
    ("overrides", "shape", "message"),
    [
        ({}, (1, 28, 64, 3), r"must be at least 29 x 29, .* got 28 x 64"),
        ({"reductions": (1, 5)}, (1, 32, 32, 3), "at least 33 x 33"),
    ],
)
def test_what_does_not_fit_is_refused(overrides, shape, message):
    init = functools.partial(_small(**overrides).init, train=False)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(init, jax.random.key(0), jnp.zeros(shape))


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="one of b0, b1, .* got 'b6'"):
        mix_transformer.encoder("b6")
