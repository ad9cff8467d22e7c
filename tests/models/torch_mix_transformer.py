"""GLPDepth in PyTorch, written from its equations under the names of its state dict.

Not a test module. Every parameter has a random value, none is neutral.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import torch
from flax.traverse_util import unflatten_dict
from torch import nn
from torch.nn import functional as F

from amlr_jax.models.from_torch import assign


class Sizes(NamedTuple):
    embed_dims: tuple[int, ...]
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    reductions: tuple[int, ...]


class Attention(nn.Module):
    def __init__(self, dim, heads, reduction, eps):
        super().__init__()
        self.heads = heads
        self.q, self.kv = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        if reduction > 1:
            self.sr = nn.Conv2d(dim, dim, reduction, reduction)
            self.norm = nn.LayerNorm(dim, eps=eps)

    def split(self, tokens):
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x_bchw):
        tokens = x_bchw.flatten(2).mT
        source = tokens
        if hasattr(self, "sr"):
            source = self.norm(self.sr(x_bchw).flatten(2).mT)
        k, v = (self.split(part) for part in self.kv(source).chunk(2, -1))
        mixed = F.scaled_dot_product_attention(self.split(self.q(tokens)), k, v)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, dim):
        super().__init__()
        hidden = 4 * dim
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        # GLPDepth wraps the convolution in a module of the same name.
        wrapped = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.dwconv = nn.ModuleDict({"dwconv": wrapped})

    def forward(self, tokens, size):
        hidden = self.fc1(tokens).mT.unflatten(-1, size)
        return self.fc2(F.gelu(self.dwconv["dwconv"](hidden)).flatten(2).mT)


class Block(nn.Module):
    def __init__(self, dim, heads, reduction, eps):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(dim, eps=eps[0]) for _ in range(2))
        self.attn, self.mlp = Attention(dim, heads, reduction, eps[1]), Mlp(dim)

    def forward(self, tokens, size):
        tokens = tokens + self.attn(self.norm1(tokens).mT.unflatten(-1, size))
        return tokens + self.mlp(self.norm2(tokens), size)


class MixTransformer(nn.Module):
    """`eps` is that of the block and stage norms, and that of the others."""

    def __init__(self, sizes, eps=(1e-6, 1e-5)):
        super().__init__()
        self.stages = len(sizes.depths)
        inputs = 3
        for stage, dim in enumerate(sizes.embed_dims, 1):
            kernel, stride = (7, 4) if stage == 1 else (3, 2)
            embed = nn.ModuleDict(
                {
                    "proj": nn.Conv2d(inputs, dim, kernel, stride, kernel // 2),
                    "norm": nn.LayerNorm(dim, eps=eps[1]),
                }
            )
            heads, reduction = sizes.num_heads[stage - 1], sizes.reductions[stage - 1]
            blocks = [
                Block(dim, heads, reduction, eps)
                for _ in range(sizes.depths[stage - 1])
            ]
            self.add_module(f"patch_embed{stage}", embed)
            self.add_module(f"block{stage}", nn.ModuleList(blocks))
            self.add_module(f"norm{stage}", nn.LayerNorm(dim, eps=eps[0]))
            inputs = dim

    def forward(self, x):
        maps = []
        for stage in range(1, self.stages + 1):
            embed = getattr(self, f"patch_embed{stage}")
            x = embed["proj"](x)
            size = x.shape[2:]
            tokens = embed["norm"](x.flatten(2).mT)
            for block in getattr(self, f"block{stage}"):
                tokens = block(tokens, size)
            x = getattr(self, f"norm{stage}")(tokens).mT.unflatten(-1, size)
            maps.append(x)
        return maps


def _double(x, like=None):
    x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    return x if like is None else x[..., : like.shape[2], : like.shape[3]]


def _normed(inputs, outputs):
    conv = nn.Conv2d(inputs, outputs, 3, padding=1)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Fusion(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = _normed(2 * channels, channels)
        self.conv2 = _normed(channels, channels // 2)
        self.conv3 = nn.Conv2d(channels // 2, 2, 3, padding=1)

    def forward(self, local, wide):
        maps = self.conv3(self.conv2(self.conv1(torch.cat([local, wide], 1))))
        weights = maps.sigmoid().split(1, 1)
        return local * weights[0] + wide * weights[1]


class Decoder(nn.Module):
    def __init__(self, embed_dims, channels):
        super().__init__()
        self.bot_conv = nn.Conv2d(embed_dims[3], channels, 1)
        self.skip_conv1 = nn.Conv2d(embed_dims[2], channels, 1)
        self.skip_conv2 = nn.Conv2d(embed_dims[1], channels, 1)
        self.fusion1, self.fusion2, self.fusion3 = (Fusion(channels) for _ in range(3))

    def forward(self, maps):
        x = self.bot_conv(maps[3])
        x = self.fusion1(self.skip_conv1(maps[2]), _double(x, maps[2]))
        x = self.fusion2(self.skip_conv2(maps[1]), _double(x, maps[1]))
        x = self.fusion3(maps[0], _double(x, maps[0]))
        return _double(_double(x))


class Head(nn.Module):
    """The decoder and what follows it, which GLPDepth keeps apart from it."""

    def __init__(self, embed_dims, max_depth):
        super().__init__()
        channels, self.max_depth = embed_dims[0], max_depth
        self.decoder = Decoder(embed_dims, channels)
        self.last_layer_depth = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 1, 3, padding=1),
        )

    def forward(self, maps, size):
        x = self.decoder(maps)[..., : size[0], : size[1]]
        return self.max_depth * self.last_layer_depth(x)[:, 0].sigmoid()


class GLPDepth(Head):
    def __init__(self, sizes, max_depth=80.0):
        super().__init__(sizes.embed_dims, max_depth)
        self.encoder = MixTransformer(sizes)

    def forward(self, image):
        return super().forward(self.encoder(image), image.shape[2:])


@torch.no_grad()
def randomize(module):
    """Random parameters and statistics, none at a neutral value; in evaluation."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim > 1:
            tensor.copy_(noise / tensor[0].numel() ** 0.5)
        elif name.endswith(("bias", "running_mean")):
            tensor.copy_(0.2 * noise)
        else:
            tensor.copy_(1 + 0.2 * noise.clamp(-2, 2))
    return module.eval()


def to_variables(tensors, table):
    """Our variables from named tensors; every one of them must have a place."""
    flat = {}
    for name, tensor in tensors.items():
        found = assign.place(name, table)
        assert found is not None, name
        if found.collection:
            array = found.transform(tensor.detach().numpy())
            flat[found.collection, *found.path] = jnp.asarray(array)
    return unflatten_dict(flat)


def gradients(module):
    return {name: parameter.grad for name, parameter in module.named_parameters()}


def to_torch(x_BHWC):
    return torch.tensor(np.moveaxis(np.asarray(x_BHWC), -1, 1))
