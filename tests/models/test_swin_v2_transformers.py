"""The official convention against transformers' `Swinv2Model` with random weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.models import swin_v2
from amlr_jax.models.from_torch.assign import Module, place

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

DEPTHS, HEADS = (2, 1, 2, 1), (2, 4, 4, 8)
WINDOW = 4
PRETRAINED = (3, 0, 4, 2)
# Where a map's height is odd transformers halves its own, which decides on the window,
# down: of these sizes none is then on the other side of the window.
SIZES = {
    # height, width: the maps of the four stages, in tokens
    "tiles": (64, 128),  # 16 x 32, 8 x 16, 4 x 8 (not shifted), 2 x 4 (windows of 2)
    "padded": (96, 104),  # 24 x 26, 12 x 13, 6 x 7, 3 x 4 (windows of 3)
    "portrait": (163, 50),  # 41 x 13, 21 x 7, 11 x 4, 6 x 2: no multiples of the patch
    "one token": (32, 32),  # 8 x 8, 4 x 4, 2 x 2, 1 x 1
}


def peer(height, width):
    """A small `Swinv2Model` without a neutral value, for images of that size."""
    torch.manual_seed(0)
    config = transformers.Swinv2Config(
        image_size=[-(-height // 4) * 4, -(-width // 4) * 4],
        embed_dim=16,
        depths=list(DEPTHS),
        num_heads=list(HEADS),
        window_size=WINDOW,
        pretrained_window_sizes=list(PRETRAINED),
        drop_path_rate=0.0,
    )
    model = transformers.Swinv2Model(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("logit_scale"):
                p.add_(0.5 * torch.randn_like(p))
            elif p.ndim == 1:
                centre = "norm" in name and name.endswith("weight")
                p.copy_(float(centre) + 0.2 * torch.randn_like(p))
            else:
                p.copy_(torch.randn_like(p) / p[0].numel() ** 0.5)
    return model


OURS = "encoder/stage{0}_block{1}/"


def table() -> tuple[Module, ...]:
    """Rows of `Swinv2Model`, with or without the prefix of a task's model."""
    prefix = r"(?:swinv2\.)?"
    block = prefix + r"encoder\.layers\.(\d+)\.blocks\.(\d+)\."
    merge = prefix + r"encoder\.layers\.(\d+)\.downsample\."
    embed = prefix + r"embeddings\."
    attn, mlp = block + r"attention\.self\.", OURS + "mlp/"
    bias = attn + r"continuous_position_bias_mlp\."
    tables = r"(?:relative_coords_table|relative_position_index)"
    return (
        Module(
            embed + r"patch_embeddings\.projection", "encoder/patch_embed/proj", "conv"
        ),
        Module(embed + "norm", "encoder/patch_embed/norm", "norm"),
        Module(attn + "qkv", OURS + "attn/qkv", "linear"),
        Module(attn + r"query\.bias", OURS + "attn/q_bias", "array"),
        Module(attn + r"value\.bias", OURS + "attn/v_bias", "array"),
        Module(attn + "logit_scale", OURS + "attn/logit_scale", "array"),
        Module(bias + "0", OURS + "attn/rpe_mlp/fc1", "linear"),
        Module(bias + "2", OURS + "attn/rpe_mlp/fc2", "linear"),
        Module(block + r"attention\.output\.dense", OURS + "attn/proj", "linear"),
        Module(block + "layernorm_before", OURS + "norm1", "norm"),
        Module(block + "layernorm_after", OURS + "norm2", "norm"),
        Module(block + r"intermediate\.dense", mlp + "fc1", "linear"),
        Module(block + r"output\.dense", mlp + "fc2", "linear"),
        Module(merge + "reduction", "encoder/stage{0}_merge/reduction", "linear"),
        Module(merge + "norm", "encoder/stage{0}_merge/norm", "norm"),
        Module(prefix + "layernorm", "encoder/norm", "norm"),
        Module(attn + tables, "", "buffer"),
        Module(r"classifier\..*|(?:swinv2\.)?embeddings\.mask_token", "", "buffer"),
    )


def join(state):
    """A state dict with query, key and value in one matrix, as NumPy."""
    state = {name: tensor.detach().numpy() for name, tensor in state.items()}
    for name in [n for n in state if n.endswith("self.query.weight")]:
        parts = [
            state.pop(name.replace("query", part)) for part in ("query", "key", "value")
        ]
        state[name.replace("query", "qkv")] = np.concatenate(parts)
    return state


def convert(state):
    """Our parameters; every tensor has a place."""
    params, rows = {}, table()
    for name, array in join(state).items():
        where = place(name, rows)
        assert where is not None, name
        if not where.collection:
            continue
        *parents, leaf = where.path[1:]  # below "encoder"
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = jnp.asarray(where.transform(array))
    return params


def stages_of(model, image):
    """The maps of all stages before merging and the last, normed: (B, H, W, C)."""
    embedded, size = model.embeddings(image)
    encoded = model.encoder(
        embedded,
        size,
        output_hidden_states=True,
        output_hidden_states_before_downsampling=True,
    )
    maps = [m.permute(0, 2, 3, 1) for m in encoded.reshaped_hidden_states]
    normed = model.layernorm(encoded.last_hidden_state)
    return [*maps[1:], normed.reshape(maps[-1].shape)]


def ours(convention="official"):
    return swin_v2.SwinV2(
        embed_dim=16,
        depths=DEPTHS,
        num_heads=HEADS,
        window_size=(WINDOW,) * 4,
        pretrained_window_size=PRETRAINED,
        use_shift=(True,) * 4,
        convention=convention,
    )


def images(height, width):
    rng = np.random.default_rng(0)
    return rng.standard_normal((2, height, width, 3)).astype(np.float32)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_every_stage_equals_transformers(size, jit):
    image, model = images(*size), peer(*size)
    with torch.no_grad():
        expected = stages_of(model, torch.tensor(image.transpose(0, 3, 1, 2)))
    apply = jit(functools.partial(ours().apply, train=False))
    stages = apply({"params": convert(model.state_dict())}, image)
    assert [s.shape for s in stages] == [tuple(s.shape) for s in expected]
    for stage, other in zip(stages, expected, strict=True):
        np.testing.assert_allclose(stage, other, atol=1e-4)


def test_gradients_equal_those_of_transformers(jit):
    size = SIZES["padded"]
    image, model = images(*size), peer(*size)
    stages = stages_of(model, torch.tensor(image.transpose(0, 3, 1, 2)))
    sum(torch.sin(s).sum() for s in stages).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert all(g is not None for g in gradients.values())
    expected = convert(gradients)

    def total(params):
        stages = ours().apply({"params": params}, image, train=False)
        return sum(jnp.sin(s).sum() for s in stages)

    found = jit(jax.grad(total))(convert(model.state_dict()))
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    paths = jax.tree_util.tree_leaves_with_path(expected)
    for (path, other), leaf in zip(paths, jax.tree.leaves(found), strict=True):
        error = jnp.abs(leaf - other).max() / jnp.abs(other).max()
        assert error < 1e-3, (jax.tree_util.keystr(path), error)


def test_mim_depth_is_another_network(jit):
    size = SIZES["one token"]
    params = convert(peer(*size).state_dict())

    def encode(convention):
        apply = jit(functools.partial(ours(convention).apply, train=False))
        return apply({"params": params}, images(*size))

    official, mim_depth = encode("official"), encode("mim_depth")
    # The first map is wider than its window: no more than the eps tells them apart.
    np.testing.assert_allclose(official[0], mim_depth[0], atol=1e-3)
    assert np.abs(official[-1] - mim_depth[-1]).max() > 0.1
