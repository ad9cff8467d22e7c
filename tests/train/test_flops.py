"""Model FLOPs against counts by hand: of operations, transformations and networks."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from amlr_jax.config import base
from amlr_jax.train import build
from amlr_jax.train.flops import model_flops, peak_flops
from amlr_jax.train.step import train_step
from configs import kitti

SQUARE = jax.ShapeDtypeStruct((8, 8), jnp.float32)
ONE = 2 * 8**3  # of a product of two squares


def flops(function, *arrays) -> int:
    return model_flops(jax.make_jaxpr(function)(*arrays))


def array(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def test_products_with_batch_axes_and_several_contracted_ones():
    x, y = array(3, 4, 5, 6), array(3, 6, 5, 7)
    assert flops(lambda x, y: jnp.einsum("bijk,bkjl->bil", x, y), x, y) == (
        2 * 3 * 4 * 7 * (5 * 6)
    )
    assert flops(jnp.vdot, array(9), array(9)) == 18
    assert flops(jnp.matmul, array(0, 4), array(4, 3)) == 0


@pytest.mark.parametrize(
    ("stride", "groups", "outputs"), [(1, 1, 64), (2, 1, 16), (1, 2, 64), (4, 4, 4)]
)
def test_a_convolution_and_its_gradients(stride, groups, outputs):
    """Each of the two gradients costs as much as the convolution."""

    def conv(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), "SAME", feature_group_count=groups,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    x, kernel = array(1, 8, 8, 4), array(3, 3, 4 // groups, 8)
    want = 2 * outputs * 8 * (4 // groups) * 9
    assert flops(conv, x, kernel) == want
    gradient = jax.value_and_grad(lambda x, k: jnp.sin(conv(x, k)).sum(), (0, 1))
    assert flops(gradient, x, kernel) == 3 * want


def test_a_transposed_convolution_without_its_inserted_zeros():
    def doubled(x, kernel):
        return jax.lax.conv_transpose(x, kernel, (2, 2), "SAME")

    assert flops(doubled, array(1, 8, 8, 4), array(2, 2, 4, 6)) == 2 * 64 * 4 * 4 * 6


@jax.custom_jvp
def _custom(x, y):
    return x @ y


_custom.defjvp(lambda at, by: (_custom(*at), by[0] @ at[1] + at[0] @ by[1]))


@jax.custom_vjp
def _backward_by_hand(x, y):
    return x @ y


_backward_by_hand.defvjp(
    lambda x, y: (x @ y, (x, y)), lambda kept, g: (g @ kept[1].T, kept[0].T @ g)
)


@jax.jit
def _unread(x, y):
    """Nothing reads the second product."""
    product = x @ y
    _ = product @ y
    return product


def _loop(x, y):
    return jax.lax.scan(lambda c, _: (jax.jit(jnp.matmul)(c, y), None), x, length=5)[0]


def _branches(x, y):
    several = [jnp.add, lambda x, y: x @ y @ y, jnp.matmul]
    return jax.lax.switch(x[0, 0].astype(int), several, x, y)


def _by_platform(x, y):
    return jax.lax.platform_dependent(x, y, cpu=jnp.matmul, default=_loop)


@pytest.mark.parametrize(
    ("function", "products", "with_gradient"),
    [
        (jax.jit(jnp.matmul), 1, 3),
        (_custom, 1, 3),
        (_backward_by_hand, 1, 3),
        (_unread, 1, 3),
        (_loop, 5, 15),
        (_branches, 2, 6),
        (_by_platform, 5, 15),
        (jax.checkpoint(lambda x, y: jnp.sin(jnp.sin(x @ y) @ y)), 2, 6),
        (lambda x, y: jax.lax.fori_loop(0, 4, lambda i, c: c @ y, x), 4, 12),
        (lambda x, y: jax.lax.map(lambda c: (c * x) @ y, jnp.arange(3.0)), 3, 9),
        (lambda x, y: x + y, 0, 0),
    ],
)
def test_inner_jaxprs(function, products, with_gradient):
    assert flops(function, SQUARE, SQUARE) == products * ONE

    of = jax.value_and_grad(lambda x, y: jnp.sin(function(x, y)).sum(), (0, 1))
    assert flops(of, SQUARE, SQUARE) == with_gradient * ONE


def test_what_a_checkpoint_repeats_in_a_loop_counts_once():
    def deep(x, y, wrap):
        layer = wrap(lambda c, y: jnp.sin(jnp.sin(c @ y) @ y))
        return jax.lax.scan(lambda c, _: (layer(c, y), None), x, length=3)[0].sum()

    plain, saving = (
        flops(jax.grad(partial(deep, wrap=wrap), (0, 1)), SQUARE, SQUARE)
        for wrap in (lambda f: f, jax.checkpoint)
    )
    assert plain == saving == 3 * 2 * 3 * ONE


@pytest.mark.parametrize("axes", [("data",), ("data", "model")])
def test_the_shards_of_all_devices(axes):
    kinds = (AxisType.Auto,) * 2
    mesh = AbstractMesh((4, 2), ("data", "model"), axis_types=kinds)
    spec = PartitionSpec(axes)
    product = jax.shard_map(
        jnp.matmul, mesh=mesh, in_specs=(spec, PartitionSpec()), out_specs=spec
    )
    assert flops(product, SQUARE, SQUARE) == ONE


@pytest.mark.parametrize("layout", [0, 1])  # BTNH, BNTH
def test_attention_of_cudnn_counts_as_its_products(monkeypatch, layout):
    """Traced as on a GPU, which needs none: two products forward, four backward."""
    fused = pytest.importorskip("jax._src.cudnn.fused_attention_stablehlo")
    monkeypatch.setattr(fused, "check_cudnn_version", lambda: 91100)
    monkeypatch.setattr(fused, "check_compute_capability", lambda *_: True)
    monkeypatch.setattr(fused, "is_cuda_compute_capability_equal", lambda *_: False)
    shape = (6, 4, 64, 32) if layout else (6, 64, 4, 32)
    q = array(*shape, dtype=jnp.bfloat16)
    bias = array(1, 4, 64, 64, dtype=jnp.bfloat16)

    def attention(q, k, v, bias):
        fused_attention = partial(fused.dot_product_attention, scale=1.0)
        return fused_attention(q, k, v, bias, qkv_layout=["BTNH", "BNTH"][layout])

    def gradient(*arguments):
        return jax.grad(lambda *a: attention(*a).sum().astype(float), (0, 1, 2, 3))(
            *arguments
        )

    product = 2 * 6 * 4 * 64 * 64 * 32
    assert flops(attention, q, q, q, bias) == 2 * product
    assert flops(gradient, q, q, q, bias) == 6 * product


def swin_large_with_mim_depths_decoder(side: int) -> int:
    """Multiplications with additions of one forward pass, by hand.

    A block of N tokens and C channels in windows of T tokens: 3 N C^2 for q, k and v,
    2 N T C for attention, N C^2 for the projection, 8 N C^2 for the MLP. Without the
    MLPs of the position bias, which do not grow with the batch.
    """
    tokens, channels, sum_of = (side // 4) ** 2, 192, 0
    sum_of += tokens * (4 * 4 * 3) * channels  # patch embedding
    for blocks, window in ((2, 22), (2, 22), (18, 22), (2, 11)):
        sum_of += blocks * tokens * (12 * channels**2 + 2 * window**2 * channels)
        if channels < 1536:  # four tokens of C become one of 2 C
            tokens, channels = tokens // 4, 2 * channels
            sum_of += tokens * (2 * channels) * channels
    for into in (32, 32, 32):  # deconvolutions, 2 x 2 with stride 2
        sum_of, tokens, channels = (
            sum_of + tokens * 4 * channels * into,
            4 * tokens,
            into,
        )
    sum_of += tokens * 9 * 32 * 192  # at a quarter of the image
    return sum_of + side**2 * 9 * (192 * 192 + 192)


def step_flops(config, size: int) -> int:
    """Of the real step of a config."""
    made, (height, width) = build.components(config), config.data.crop
    state = jax.eval_shape(partial(build.state_before_training, config, made))
    batch = {
        "image": array(size, height, width, 3, dtype=jnp.uint8),
        "depth": array(size, height, width),
        "index": array(size, dtype=jnp.int32),
    }
    step = partial(
        train_step, objective=made.objective.losses, rebalancer=made.rebalancer,
        optimizer=made.optimizer, schedule=made.schedule,
        accumulate=config.optimizer.accumulate,
    )  # fmt: skip
    return flops(step, state, batch)


@pytest.mark.slow
def test_a_step_of_the_large_network_against_the_count_by_hand():
    want = swin_large_with_mim_depths_decoder(352)
    assert want == pytest.approx(137.2e9, rel=5e-3)  # MIM-Depth's, by its own modules
    found = step_flops(kitti.get_config("mim_depth"), 6)
    assert found == pytest.approx(6 * want * 2 * 3, rel=0.01)


def nano_step(**changes) -> int:
    config = base()
    config.model.name, config.data.crop = "swin_v2_nano", (64, 64)
    for key, value in changes.items():
        part, name = key.split("__")
        config[part][name] = value
    return step_flops(config, 8)


@pytest.mark.slow
def test_the_way_of_computing_changes_no_model_flops():
    """To the MLPs of the position bias, of which there is one for each part."""
    want = nano_step()
    for changes in (
        {"model__remat": True, "model__dtype": "bfloat16"},
        {"model__remat": True, "optimizer__accumulate": 2},
    ):
        assert nano_step(**changes) == pytest.approx(want, rel=0.02), changes


@pytest.mark.parametrize(
    ("name", "size", "gmac"),
    [("glpdepth_b4", (352, 704), 61.3), ("swin_v2_large", (352, 352), 140.1)],
)
def test_forward_passes_of_known_cost(name, size, gmac):
    """GLPDepth's own network; 2.8 % more for AMLR's decoder than for MIM-Depth's."""
    from amlr_jax.models import depth

    network = depth.network(name, max_depth=80.0)
    image = array(1, *size, 3)
    variables = jax.eval_shape(
        lambda image: network.init(jax.random.key(0), image, train=False), image
    )
    found = flops(lambda v, x: network.apply(v, x, train=False), variables, image)
    assert found / 2e9 == pytest.approx(gmac, rel=0.01)


@pytest.mark.parametrize(
    ("kind", "bfloat16", "float32"),
    [
        ("NVIDIA A100-SXM4-80GB", 312, 156),
        ("NVIDIA A100 80GB PCIe", 312, 156),
        ("NVIDIA H100 80GB HBM3", 989.4, 494.7),
        ("NVIDIA H100 PCIe", 756, 378),
        ("NVIDIA H200", 989.4, 494.7),
        ("NVIDIA L4", 121, 60),
        ("NVIDIA L40S", 362, 183),
        ("Tesla V100-SXM2-16GB", None, 15.7),
        ("Tesla T4", None, 8.1),
        ("NVIDIA GeForce RTX 4090", 165.2, 82.6),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None, None),
        ("NVIDIA H200 MIG 1g.18gb", None, None),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", None, None),
        ("cpu", None, None),
    ],
)
def test_peaks(kind, bfloat16, float32):
    for dtype, tera in (("bfloat16", bfloat16), ("float32", float32)):
        assert peak_flops(kind, dtype) == (tera and 1e12 * tera)
