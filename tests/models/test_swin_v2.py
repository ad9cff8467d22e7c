"""Properties of the Swin-v2 encoder; `test_swin_v2_numpy` checks its values."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from amlr_jax.models import (
    attention,
    depth_network,
    layers,
    swin_v2,
    swin_v2_blocks,
)
from amlr_jax.models.decoders.depth import GradualDecoder
from amlr_jax.models.depth import has_weight_decay


def _small(**overrides):
    """Two stages, few channels: as fast as a Swin gets."""
    options = {
        "embed_dim": 8,
        "depths": (2, 1),
        "num_heads": (2, 4),
        "window_size": (3, 2),
        "pretrained_window_size": (2, 2),
        "use_shift": (True, True),
        "residual_init": 1.0,
    }
    return swin_v2.SwinV2(**{**options, **overrides})


def _block(**overrides):
    options = {
        "num_heads": 2,
        "window": 4,
        "pretrained_window": 3,
        "shift": 0,
        "drop_path": 0.0,
        "norm_eps": 1e-6,
        "residual_init": 1.0,
        "dtype": jnp.float32,
    }
    return swin_v2_blocks.SwinBlock(**{**options, **overrides})


def _image(height, width, *, batch=1, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.random((batch, height, width, 3), np.float32))


def _names(params):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {tuple(k.key for k in path): leaf for path, leaf in leaves}


@pytest.fixture(scope="module")
def variables(random_variables):
    return random_variables(_small())


@pytest.fixture(scope="module")
def encode(jit, variables):
    """Compiles once per encoder and shape of the image."""

    @functools.cache
    def compiled(net, train):
        return jit(functools.partial(net.apply, train=train))

    return lambda net, image, train=False: compiled(net, train)(variables, image)


@pytest.fixture(scope="module")
def large_parameters():
    net = swin_v2.encoder("large")
    shape = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    init = functools.partial(net.init, train=False)
    return _names(jax.eval_shape(init, jax.random.key(0), shape)["params"])


def test_logit_scale_is_clamped():
    layer = attention.WindowAttention(2, 2, 2)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 1, 4, 8)), jnp.float32)
    params = layer.init(jax.random.key(0), x)["params"]

    def at(scale):
        changed = {**params, "logit_scale": jnp.full((2, 1, 1), scale)}
        return layer.apply({"params": changed}, x)

    np.testing.assert_array_equal(at(5.0), at(np.log(100.0)))
    assert not np.array_equal(at(4.0), at(5.0))
    np.testing.assert_allclose(params["logit_scale"], np.log(10.0), rtol=1e-6)


def test_zero_tokens_have_finite_gradients():
    layer = attention.WindowAttention(2, 2, 2)
    x = jnp.zeros((1, 1, 4, 8))
    params = layer.init(jax.random.key(0), x)
    grads = jax.grad(lambda p, x: layer.apply(p, x).sum(), argnums=(0, 1))(params, x)
    assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_initial_values(jit):
    init = jit(functools.partial(_small(residual_init=1e-5).init, train=False))
    names = _names(init(jax.random.key(0), _image(16, 16))["params"])
    for path, leaf in names.items():
        if path[-1] == "scale":
            closes_branch = path[-2] in ("norm1", "norm2")
            assert np.all(leaf == np.float32(1e-5 if closes_branch else 1)), path
        elif path[-1] in ("bias", "q_bias", "v_bias"):
            assert not np.any(leaf), path
        elif path[-1] == "kernel":
            assert 0.01 < np.std(leaf) < 0.03, path


def test_stage_sizes_round_up(encode):
    *stages, last = encode(_small(), _image(37, 61, batch=2))
    assert [s.shape for s in stages] == [(2, 10, 16, 8), (2, 5, 8, 16)]
    assert last.shape == stages[-1].shape


def test_without_drop_path_training_needs_no_random_key(encode):
    net, image = _small(), _image(20, 28)
    trained = encode(net, image, train=True)[1]
    np.testing.assert_array_equal(trained, encode(net, image)[1])


def test_drop_path_drops_whole_samples(jit):
    block = _block(drop_path=0.5)
    x = jnp.broadcast_to(_image(4, 4)[..., :1], (1, 4, 4, 8)).repeat(4, 0)
    params = block.init(jax.random.key(0), x)
    keeps = jnp.array([[False, False, True, True], [False, True, False, True]])
    y = np.asarray(jit(block.apply)(params, x, keeps))
    # Two branches, each kept or dropped: four outcomes, one of them the identity.
    assert len(np.unique(y.reshape(4, -1).round(4), axis=0)) == 4
    np.testing.assert_array_equal(y[0], x[0])


def test_drop_path_keeps_the_expectation():
    block = _block(drop_path=0.25)
    x = jnp.ones((4, 1, 1, 8)) * jnp.arange(8)
    params = block.init(jax.random.key(0), x)["params"]
    params["norm2"]["scale"] = jnp.zeros(8)
    keeps = jnp.array([[True, True, True, False]] * 2)  # as at this rate
    y = block.apply({"params": params}, x, keeps).mean(0) - x[0]
    expected = block.apply({"params": params}, x)[0] - x[0]
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_remat_changes_no_gradient(jit, variables):
    image = _image(20, 28)

    def gradients(net):
        def loss(params):
            rngs = {"drop_path": jax.random.key(3)}
            *_, last = net.apply({"params": params}, image, train=True, rngs=rngs)
            return jnp.sin(last).sum()

        return jax.grad(loss)

    kept, recomputed = (
        gradients(_small(drop_path=0.3, remat=remat)) for remat in (False, True)
    )
    params = variables["params"]
    assert "remat" in str(jax.make_jaxpr(recomputed)(params))
    assert "remat" not in str(jax.make_jaxpr(kept)(params))
    for a, b in zip(
        jax.tree.leaves(jit(kept)(params)),
        jax.tree.leaves(jit(recomputed)(params)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_near_float32_and_features_are_float32(encode):
    image = _image(20, 28)
    *_, exact = encode(_small(), image)
    *stages, last = encode(_small(dtype=jnp.bfloat16), image)
    assert {s.dtype for s in [*stages, last]} == {jnp.dtype(jnp.float32)}
    np.testing.assert_allclose(last, exact, atol=0.2)
    assert float(jnp.abs(last - exact).mean()) < 0.03


def test_every_layer_index_of_the_large_model(large_parameters):
    depths = (2, 2, 18, 2)
    found = {path: swin_v2.layer_of(path, depths) for path in large_parameters}
    assert {last for _, last in found.values()} == {28}
    ids = {path: layer for path, (layer, _) in found.items()}
    assert set(ids.values()) == set(range(29))
    sheet = {
        "patch_embed": 0,
        "stage0_block0": 1,
        "stage0_block1": 2,
        "stage0_merge": 3,
        "stage1_block0": 4,
        "stage1_block1": 5,
        "stage1_merge": 6,
        **{f"stage2_block{b}": 7 + b for b in range(18)},
        "stage2_merge": 25,
        "stage3_block0": 26,
        "stage3_block1": 27,
        "norm": 28,
    }
    assert {path[0] for path in ids} == set(sheet)
    for path, layer in ids.items():
        assert layer == sheet[path[0]], path
        assert swin_v2.layer_of(("encoder", *path), depths)[0] == layer


def test_layer_scales_of_the_sheet():
    depths = (2, 2, 18, 2)
    scales = {
        part: 0.85 ** (28 - swin_v2.layer_of((part,), depths)[0])
        for part in ("patch_embed", "stage0_merge", "stage2_block0", "stage2_block17")
    }
    np.testing.assert_allclose(
        list(scales.values()), [0.01056, 0.0172, 0.03295, 0.52201], rtol=3e-3
    )
    assert swin_v2.layer_of(("decoder", "head_depth", "bias"), depths) == (28, 28)


def test_weight_decay_spares_vectors_scales_and_position_bias(large_parameters):
    decayed = {
        path
        for path, leaf in large_parameters.items()
        if has_weight_decay(path, leaf.ndim)
    }
    assert {path[-1] for path in decayed} == {"kernel"}
    assert {path[-2] for path in decayed} == {
        *("qkv", "proj", "fc1", "fc2", "reduction")
    }
    assert not any("rpe_mlp" in path for path in decayed)
    assert len(decayed) == 24 * 4 + 3 + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "giant"}, "nano, tiny, small, base, large, huge, got 'giant'"),
        ({"name": "tiny", "convention": "timm"}, "mim_depth, official, got 'timm'"),
    ],
)
def test_unknown_names_list_the_known_ones(arguments, message):
    with pytest.raises(ValueError, match=message):
        swin_v2.encoder(**arguments)


def _closed_form(embed, depths, heads):
    """Parameters of an encoder by arithmetic."""
    count = 48 * embed + 3 * embed + 2 * 8 * embed
    for stage, (depth, head) in enumerate(zip(depths, heads, strict=True)):
        c = embed * 2**stage
        count += depth * (12 * c**2 + 12 * c + head + 1536 + 512 * head)
        count += (8 * c**2 + 4 * c) * (stage < 3)
    return count


@pytest.mark.parametrize("convention", swin_v2.CONVENTIONS)
@pytest.mark.parametrize("name", swin_v2.PRESETS)
def test_parameter_counts(name, convention):
    net = swin_v2.encoder(name, convention=convention)
    shape = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    init = functools.partial(net.init, train=False)
    leaves = jax.tree.leaves(jax.eval_shape(init, jax.random.key(0), shape))
    count = sum(leaf.size for leaf in leaves)
    assert count == _closed_form(net.embed_dim, net.depths, net.num_heads)
    published = {"base": 86_893_816, "large": 195_202_932}
    assert count == published.get(name, count)


def test_presets_of_the_official_code():
    tiny, base, large = (
        swin_v2.encoder(name, convention="official")
        for name in ("tiny", "base", "large")
    )
    assert tiny.window_size == (8, 8, 8, 8)
    assert large.window_size == (16, 16, 16, 16)
    assert tiny.pretrained_window_size == (0, 0, 0, 0)
    assert large.pretrained_window_size == (12, 12, 12, 6)
    assert tiny.use_shift == large.use_shift == (True,) * 4
    assert (tiny.drop_path, base.drop_path, large.drop_path) == (0.2, 0.5, 0.2)
    assert tiny.residual_init == 0.0
    changed = swin_v2.encoder("tiny", convention="official", residual_init=0.5)
    assert (changed.residual_init, changed.convention) == (0.5, "official")


def test_the_official_network_starts_as_the_identity():
    net = _small(convention="official", residual_init=0.0, depths=(2, 0))
    variables = net.init(jax.random.key(0), _image(16, 16), train=False)
    embed = layers.PatchEmbed(8, 4, 4)
    embedded = embed.apply(
        {"params": variables["params"]["patch_embed"]}, _image(16, 16)
    )
    first = net.apply(variables, _image(16, 16), train=False)[0]
    np.testing.assert_array_equal(first, embedded)


@pytest.mark.slow
def test_bfloat16_is_within_one_percent_on_a_real_frame(
    real_data, jit, random_variables
):
    files = sorted(real_data.glob("kitti/raw_data/*/*/image_02/data/*.png"))
    frame = np.asarray(PIL.Image.open(files[0]).resize((224, 96))) / np.float32(255)

    def predict(dtype):
        net = depth_network.DepthNetwork(
            swin_v2.encoder("nano", dtype=dtype),
            GradualDecoder((64, 32, 16), 16, kernel_init="he", dtype=dtype),
        )
        variables = random_variables(net)
        head = variables["params"]["decoder"]["head_depth"]
        head["kernel"] *= 20.0  # from metres to tens of metres, as in a trained network
        apply = jit(functools.partial(net.apply, train=False))
        return np.asarray(apply(variables, frame[None]))

    exact, rounded = predict(jnp.float32), predict(jnp.bfloat16)
    error = np.abs(rounded - exact) / exact
    assert exact.std() > 3.0
    assert 0 < np.median(error) < 0.01


@pytest.mark.parametrize(
    ("overrides", "shape", "message"),
    [
        ({"window_size": (3,)}, (1, 8, 8, 3), r"`window_size` must have one entry"),
        (
            {"attention": "flash", "embed_dim": 16},
            (1, 8, 8, 3),
            "must be one of xla, cudnn, got 'flash'",
        ),
        (
            {"attention": "cudnn", "embed_dim": 16},
            (1, 8, 8, 3),
            '"cudnn" needs bfloat16, got float32',
        ),
    ],
)
def test_bad_arguments_are_named(overrides, shape, message):
    with pytest.raises(ValueError, match=message):
        _small(**overrides).init(jax.random.key(0), jnp.zeros(shape), train=False)


# ---------------------------------------------------------------- windows


@pytest.mark.parametrize(("height", "width", "window"), [(6, 6, 3), (4, 10, 2)])
def test_reverse_undoes_partition(height, width, window):
    x = np.random.default_rng(0).random((2, height, width, 5), np.float32)
    parts = swin_v2_blocks.partition(jnp.asarray(x), window)
    assert parts.shape == (2, height * width // window**2, window**2, 5)
    np.testing.assert_array_equal(
        swin_v2_blocks.reverse(parts, window, height, width), x
    )


def test_partition_is_row_major():
    x = jnp.arange(4 * 6).reshape(1, 4, 6, 1)
    parts = swin_v2_blocks.partition(x, 2)[0, :, :, 0]
    np.testing.assert_array_equal(parts[1], [2, 3, 8, 9])
    np.testing.assert_array_equal(parts[3], [12, 13, 18, 19])


def test_padding_is_zero_and_on_the_right_and_bottom():
    padded = swin_v2_blocks.pad_to_multiple(jnp.ones((1, 3, 5, 2)), 4)
    assert padded.shape == (1, 4, 8, 2)
    assert padded[:, :3, :5].min() == 1
    assert float(padded.sum()) == 3 * 5 * 2
    untouched = jnp.ones((1, 4, 8, 2))
    assert swin_v2_blocks.pad_to_multiple(untouched, 4) is untouched


def test_shift_regions_by_hand():
    # Rows 0..3 and columns 0..3, window 2, shift 1: row bands are 0 0 1 2.
    regions = swin_v2_blocks.shift_regions(4, 4, window=2, shift=1)
    expected = [[0, 0, 0, 0], [1, 2, 1, 2], [3, 3, 6, 6], [4, 5, 7, 8]]
    np.testing.assert_array_equal(regions, expected)


def test_shift_regions_of_a_single_window():
    regions = swin_v2_blocks.shift_regions(2, 2, window=2, shift=1)
    assert len(np.unique(regions)) == 4
