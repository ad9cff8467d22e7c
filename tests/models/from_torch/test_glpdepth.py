"""GLPDepth as a whole: every name has a place, and the network computes the same."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.models import depth, mix_transformer
from amlr_jax.models.decoders.depth import SelectiveFusionDecoder
from amlr_jax.models.from_torch import assign
from amlr_jax.models.from_torch.tables import TABLES

torch = pytest.importorskip("torch")
from tests.models import torch_mix_transformer as peer  # noqa: E402

SIZES = peer.Sizes((8, 12, 16, 16), (1, 1, 1, 1), (1, 2, 2, 4), (8, 4, 2, 1))
TABLE = TABLES["glpdepth"]
B4 = peer.Sizes(
    embed_dims=(64, 128, 320, 512),
    depths=(3, 8, 27, 3),
    num_heads=(1, 2, 5, 8),
    reductions=(8, 4, 2, 1),
)


def _network(**overrides):
    encoder = mix_transformer.MixTransformer(
        **SIZES._asdict(), drop_path=0.0, **overrides
    )
    decoder = SelectiveFusionDecoder(channels=SIZES.embed_dims[0])
    return depth.DepthNetwork(encoder=encoder, decoder=decoder)


def _image(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.random((2, height, width, 3), np.float32))


@pytest.fixture
def reference():
    return peer.randomize(peer.GLPDepth(SIZES))


def _shapes(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {tuple(k.key for k in path): leaf.shape for path, leaf in leaves}


def _count(shapes, *prefix):
    found = [s for path, s in shapes.items() if path[: len(prefix)] == prefix]
    return sum(int(np.prod(shape)) for shape in found)


def test_every_tensor_of_glpdepth_has_its_place_in_b4():
    net = depth.DepthNetwork(
        encoder=mix_transformer.encoder("b4"),
        decoder=SelectiveFusionDecoder(),
    )
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    init = functools.partial(net.init, train=False)
    ours = _shapes(jax.eval_shape(init, jax.random.key(0), image))
    assert _count(ours, "params") == 61_220_903
    assert _count(ours, "params", "encoder") == 60_842_688
    assert _count(ours, "params", "decoder") == 378_215

    placed = {}
    with torch.device("meta"):
        state = peer.GLPDepth(B4).state_dict()
    for name, tensor in state.items():
        found = assign.place(name, TABLE)
        if found.collection:
            empty = np.broadcast_to(np.float32(0), tuple(tensor.shape))
            path = (found.collection, *found.path)
            assert path not in placed, name
            placed[path] = found.transform(empty).shape
    assert placed == ours


def test_encoders_of_imagenet_go_to_the_same_places():
    table = TABLES["mit"]
    with torch.device("meta"):
        state = peer.MixTransformer(SIZES).state_dict()
    for name in state:
        assert assign.place(name, table) == assign.place(f"encoder.{name}", TABLE), name
        assert assign.place(name, table).path[0] == "encoder"
    for name in ("head.weight", "head.bias"):
        assert assign.place(name, table).collection == ""
    for name in ("head.scale", "block5.0.norm1.weight", "block1.0.attn.v.weight"):
        assert assign.place(name, table) is None
        assert assign.place(f"encoder.{name}", TABLE) is None


@pytest.mark.parametrize("size", [(64, 96), (61, 77)])
def test_depth_is_that_of_torch(jit, reference, size):
    image = _image(*size)
    with torch.no_grad():
        expected = reference(peer.to_torch(image))
    variables = peer.to_variables(reference.state_dict(), TABLE)
    found = jit(functools.partial(_network().apply, train=False))(variables, image)
    assert found.shape == (2, *size)
    assert np.std(found) > 1
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_gradients_of_a_training_step_are_those_of_torch(jit, reference):
    # At seed 0 a ReLU has an input within rounding of zero, and its own gradient.
    image = _image(61, 77, seed=1)
    variables = peer.to_variables(reference.state_dict(), TABLE)
    reference.train()(peer.to_torch(image)).log().mean().backward()
    expected = peer.to_variables(peer.gradients(reference), TABLE)["params"]

    def loss(params):
        predicted, _ = _network().apply(
            {**variables, "params": params}, image, train=True, mutable=["batch_stats"]
        )
        return jnp.log(predicted).mean()

    found = jit(jax.grad(loss))(variables["params"])
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(found))

    def compare(leaf, wanted):
        # Biases in front of a batch norm and of keys have no influence.
        bound = 1e-3 * np.abs(wanted).max() + 1e-6 * largest
        np.testing.assert_allclose(leaf, wanted, rtol=0, atol=bound)

    jax.tree.map(compare, found, expected)


# Names of transformers' GLPN to GLPDepth's; {0} is the number found, {1} one more.
_RENAMED = (
    (r"glpn\.encoder\.patch_embeddings\.(\d)", "encoder.patch_embed{1}"),
    (r"glpn\.encoder\.layer_norm\.(\d)", "encoder.norm{1}"),
    (r"glpn\.encoder\.block\.(\d)", "encoder.block{1}"),
    (r"layer_norm_(\d)", "norm{0}"),
    ("layer_norm", "norm"),
    (r"attention\.self\.query", "attn.q"),
    (r"attention\.self", "attn"),
    (r"attention\.output\.dense", "attn.proj"),
    ("dense", "fc"),
    (r"decoder\.stages\.0\.convolution", "decoder.bot_conv"),
    (r"decoder\.stages\.(\d)\.convolution", "decoder.skip_conv{0}"),
    (r"decoder\.stages\.(\d)\.fusion", "decoder.fusion{0}"),
    ("convolutional_layer", "conv"),
    (r"head\.head", "last_layer_depth"),
)


def _rename(name):
    for pattern, new in _RENAMED:
        match = re.search(pattern, name)
        if match:
            numbers = [int(group) for group in match.groups()]
            renamed = new.format(*numbers, *(number + 1 for number in numbers))
            name = name[: match.start()] + renamed + name[match.end() :]
    return name


def _of_transformers(state):
    """Its tensors under GLPDepth's names, with keys and values in one matrix."""
    state = {_rename(name): tensor for name, tensor in state.items()}
    for name in [name for name in state if ".attn.key." in name]:
        pair = [state.pop(name), state.pop(name.replace("key", "value"))]
        state[name.replace("key", "kv")] = torch.cat(pair)
    return state


def test_depth_is_that_of_transformers(jit):
    transformers = pytest.importorskip("transformers")
    config = transformers.GLPNConfig(
        depths=list(SIZES.depths),
        hidden_sizes=list(SIZES.embed_dims),
        num_attention_heads=list(SIZES.num_heads),
        decoder_hidden_size=SIZES.embed_dims[0],
        max_depth=80,
    )
    model = peer.randomize(transformers.GLPNForDepthEstimation(config))
    image = _image(64, 96)
    with torch.no_grad():
        expected = model(peer.to_torch(image)).predicted_depth
    variables = peer.to_variables(_of_transformers(model.state_dict()), TABLE)
    # All its norms have torch's eps, whatever its configuration says.
    net = _network(norm_eps=1e-5)
    found = jit(functools.partial(net.apply, train=False))(variables, image)
    np.testing.assert_allclose(found, expected, atol=1e-4)
