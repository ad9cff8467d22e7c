"""Whole networks: presets, parameter counts, any size, gradients, precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.models import depth, swin_v2
from amlr_jax.models.decoders.depth import GradualDecoder


def _small(**overrides):
    """A network of two stages that downsamples by eight."""
    encoder = swin_v2.SwinV2(
        embed_dim=8,
        depths=(2, 1),
        num_heads=(2, 4),
        window_size=(3, 2),
        pretrained_window_size=(3, 2),
        use_shift=(True, False),
        residual_init=1.0,
        dtype=overrides.get("dtype", jnp.float32),
        remat=overrides.get("remat", False),
    )
    decoder = GradualDecoder(
        channels=(8,),
        head_channels=8,
        max_depth=10.0,
        kernel_init="he",
        dtype=overrides.get("dtype", jnp.float32),
    )
    return depth.DepthNetwork(
        encoder, decoder, input_scale=overrides.get("input_scale", 1.0)
    )


def _image(height, width, *, batch=2):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.random((batch, height, width, 3), np.float32))


@pytest.fixture(scope="module")
def variables(random_variables):
    return random_variables(_small())


@pytest.fixture(scope="module")
def predict(jit, variables):
    """Compiles once per network and shape of the image."""

    @functools.cache
    def compiled(net):
        return jit(functools.partial(net.apply, train=False))

    return lambda net, image: compiled(net)(variables, image)


def _abstract_parameters(net):
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    init = functools.partial(net.init, train=False)
    return jax.eval_shape(init, jax.random.key(0), image)["params"]


@pytest.mark.parametrize(
    ("name", "channels", "count"),
    [
        ("swin_v2_large", None, 202_064_821),
        ("swin_v2_large", (768, 384, 192), 202_064_821),
        ("swin_v2_large", (32, 32, 32), 195_797_493),
        ("swin_v2_base", None, 89_944_697),
        ("swin_v2_base", (32, 32, 32), 87_219_257),
    ],
)
def test_parameter_counts_of_the_reference(name, channels, count):
    net = depth.network(name, max_depth=80.0, decoder_channels=channels)
    leaves = jax.tree.leaves(_abstract_parameters(net))
    assert sum(leaf.size for leaf in leaves) == count
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.float32)}


@pytest.mark.slow
@pytest.mark.parametrize("name", depth.NETWORKS)
def test_every_preset_builds_in_bfloat16_with_float32_parameters(name):
    net = depth.network(name, max_depth=80.0, dtype="bfloat16", remat=True)
    leaves = jax.tree.leaves(_abstract_parameters(net))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.float32)}
    image = jax.ShapeDtypeStruct((2, 50, 70, 3), jnp.float32)
    out, _ = jax.eval_shape(
        functools.partial(net.init_with_output, train=False), jax.random.key(0), image
    )
    assert (out.shape, out.dtype) == ((2, 50, 70), jnp.float32)


def test_overrides_reach_the_network():
    net = depth.network(
        "swin_v2_nano",
        max_depth=10,
        window_size=[4, 4, 4, 2],
        pretrained_window_size=(3, 3, 3, 3),
        drop_path=0.25,
        decoder_channels=[32, 16, 8],
        input_scale=0.5,
    )
    assert net.encoder.window_size == (4, 4, 4, 2)
    assert net.encoder.pretrained_window_size == (3, 3, 3, 3)
    assert net.encoder.drop_path == 0.25
    assert (net.decoder.channels, net.decoder.kernel_init) == ((32, 16, 8), "he")
    assert (net.decoder.max_depth, net.input_scale) == (10.0, 0.5)
    hash(net)


def test_the_number_of_parameters_is_whole():
    count = depth.parameter_count({"a": np.ones((2, 3)), "b": np.float32(1)})
    assert (count, type(count)) == (7, int)


def test_reference_presets_keep_the_values_of_the_paper():
    net = depth.network("swin_v2_large", max_depth=80.0)
    assert net.encoder.window_size == (22, 22, 22, 11)
    assert net.encoder.pretrained_window_size == (12, 12, 12, 6)
    assert net.encoder.use_shift == (True, True, False, False)
    assert (net.encoder.drop_path, net.encoder.residual_init) == (0.5, 1e-5)
    assert (net.decoder.kernel_init, net.decoder.head_channels) == (0.001, 192)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "swin_v2_giant"}, "one of swin_v2_nano, .*five_level, got 'swin_"),
        ({"dtype": "float16"}, "`dtype` must be one of float32, bfloat16, auto, got"),
        ({"max_depth": 0.0}, "`max_depth` must be positive, got 0.0"),
        ({"input_scale": -1.0}, "`input_scale` must be positive, got -1.0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    options = {"name": "swin_v2_nano", "max_depth": 80.0, **arguments}
    with pytest.raises(ValueError, match=message):
        depth.network(options.pop("name"), **options)


def test_integer_images_are_refused():
    with pytest.raises(ValueError, match=r"float in \[0, 1\], got uint8"):
        _small().init(
            jax.random.key(0), jnp.zeros((1, 8, 8, 3), jnp.uint8), train=False
        )


@pytest.mark.parametrize("input_scale", [1.0, 0.25])
def test_any_size_gives_depth_of_that_size(input_scale, jit, random_variables):
    net = depth.network("swin_v2_nano", max_depth=80.0, input_scale=input_scale)
    image = _image(37, 61)
    apply = jit(functools.partial(net.apply, train=False))
    predicted = apply(random_variables(net), image)
    assert predicted.shape == (2, 37, 61)
    assert predicted.dtype == jnp.float32
    assert 0 < float(predicted.min()) < float(predicted.max()) < 80


def test_jit_equals_no_jit(predict, variables):
    net, image = _small(), _image(24, 40)
    plain = net.apply(variables, image, train=False)
    np.testing.assert_allclose(predict(net, image), plain, atol=1e-4)


def test_input_scale_resizes_before_and_after(predict):
    image = _image(24, 40)
    small = jax.image.resize(image, (2, 12, 20, 3), "linear", antialias=True)
    expected = jax.image.resize(
        predict(_small(), small), (2, 24, 40), "linear", antialias=True
    )
    scaled = predict(_small(input_scale=0.5), image)
    np.testing.assert_allclose(scaled, expected, atol=1e-4)


def test_bfloat16_is_near_float32(predict):
    image = _image(24, 40)
    exact = predict(_small(), image)
    half = predict(_small(dtype=jnp.bfloat16), image)
    assert jnp.isfinite(half).all()
    assert half.dtype == jnp.float32
    assert float(jnp.abs(jnp.log(half / exact)).mean()) < 0.02


def test_every_parameter_gets_a_finite_gradient_that_is_not_zero(jit, variables):
    net, image = _small(), _image(24, 40)

    def loss(params):
        predicted, updated = net.apply(
            {**variables, "params": params}, image, train=True, mutable=["batch_stats"]
        )
        return jnp.log(predicted).var(), updated

    grads, updated = jit(jax.grad(loss, has_aux=True))(variables["params"])
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        name = jax.tree_util.keystr(path)
        assert jnp.isfinite(grad).all(), name
        # A bias in front of a batch norm has no effect in training.
        if "'conv']['bias'" not in name:
            assert float(jnp.abs(grad).max()) > 1e-7, name
    before = jax.tree.leaves(variables["batch_stats"])
    after = jax.tree.leaves(updated["batch_stats"])
    assert all(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_remat_changes_neither_parameters_nor_prediction(predict, variables):
    image = _image(24, 40)
    shapes = jax.tree.map(jnp.shape, _abstract_parameters(_small(remat=True)))
    assert shapes == jax.tree.map(jnp.shape, variables["params"])
    np.testing.assert_allclose(
        predict(_small(remat=True), image), predict(_small(), image), atol=1e-5
    )


def test_variables_of_a_network_that_sees_small_images():
    """Whose encoder refuses a quarter of 64 pixels."""
    shapes = [
        depth.variable_shapes(depth.network("glpdepth_b0", max_depth=10.0, **options))
        for options in ({}, {"input_scale": 0.25})
    ]
    assert jax.tree.map(lambda x: x.shape, shapes[0]) == jax.tree.map(
        lambda x: x.shape, shapes[1]
    )
