"""DINOv2, DINOv3 and Depth Anything's DPT in PyTorch, from their equations.

Not a test module. Functions of a dict of tensors by the official names, of which
`state_dicts` makes random ones.
"""

import math

import torch
from torch.nn import functional as F


def _layer(t, name, x):
    return F.linear(x, t[f"{name}.weight"], t.get(f"{name}.bias"))


def _norm(t, name, x, eps):
    return F.layer_norm(x, x.shape[-1:], t[f"{name}.weight"], t[f"{name}.bias"], eps)


def _conv(t, name, x, **options):
    return F.conv2d(x, t[f"{name}.weight"], t.get(f"{name}.bias"), **options)


def _positions(learned, grid, antialias):
    side = math.isqrt(learned.shape[1])
    square = learned.mT.unflatten(-1, (side, side))
    size = {"size": grid, "mode": "bicubic", "antialias": antialias}
    return F.interpolate(square, **size).flatten(2).mT


def _rotated(x_bhtd, grid):
    """Pairs (d, d + D/2) turned as complex numbers; tokens before the patches stay."""
    count, half = grid[0] * grid[1], x_bhtd.shape[-1] // 2
    speeds = 100.0 ** (-torch.arange(half // 2) * 2 / half)
    y, x = (2 * (torch.arange(n) + 0.5) / n - 1 for n in grid)
    y = y[:, None, None].expand(*grid, 1) * speeds
    x = x[None, :, None].expand(*grid, 1) * speeds
    angle = 2 * torch.pi * torch.cat([y, x], -1).flatten(0, 1)
    patches = x_bhtd[:, :, -count:]
    pairs = torch.complex(patches[..., :half].contiguous(), patches[..., half:])
    turned = pairs * torch.polar(torch.ones_like(angle), angle)
    turned = torch.cat([turned.real, turned.imag], -1)
    return torch.cat([x_bhtd[:, :, :-count], turned], 2)


def _attention(t, name, x, heads, rotary_grid):
    if f"{name}.q_bias" in t:  # DINOv3's, without a bias of the keys
        zero = torch.zeros_like(t[f"{name}.q_bias"])
        bias = torch.cat([t[f"{name}.q_bias"], zero, t[f"{name}.v_bias"]])
    else:
        bias = t[f"{name}.qkv.bias"]
    qkv = F.linear(x, t[f"{name}.qkv.weight"], bias)
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    if rotary_grid:
        q, k = _rotated(q, rotary_grid), _rotated(k, rotary_grid)
    weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
    return _layer(t, f"{name}.proj", (weights @ v).transpose(1, 2).flatten(2))


def _mlp(t, name, x):
    if f"{name}.w12.weight" in t:
        gate, x = _layer(t, f"{name}.w12", x).chunk(2, -1)
        return _layer(t, f"{name}.w3", F.silu(gate) * x)
    return _layer(t, f"{name}.fc2", F.gelu(_layer(t, f"{name}.fc1", x)))


def levels(t, image_bchw, *, heads, eps):
    """The normed patches after each block, (B, C, H, W) each; an image in [0, 1]."""
    mean, std = (torch.tensor(v)[:, None, None] for v in
                 ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))  # fmt: skip
    patch = t["patch_embed.proj.weight"].shape[-1]
    maps = _conv(t, "patch_embed.proj", (image_bchw - mean) / std, stride=patch)
    grid, x = tuple(maps.shape[2:]), maps.flatten(2).mT
    registers = t.get("register_tokens", x[:1, :0])
    first = t["cls_token"].expand(len(x), -1, -1)
    if "pos_embed" in t:
        first = first + t["pos_embed"][:, :1]
        x = x + _positions(t["pos_embed"][:, 1:], grid, registers.shape[1] > 0)
    x = torch.cat([first, registers.expand(len(x), -1, -1), x], 1)
    rotary, found = () if "pos_embed" in t else grid, []
    for n in range(sum(name.endswith("norm1.weight") for name in t)):
        name = f"blocks.{n}."
        y = _norm(t, name + "norm1", x, eps)
        y = _attention(t, name + "attn", y, heads, rotary)
        x = x + t[name + "ls1.gamma"] * y
        y = _mlp(t, name + "mlp", _norm(t, name + "norm2", x, eps))
        x = x + t[name + "ls2.gamma"] * y
        normed = _norm(t, "norm", x, eps)[:, -grid[0] * grid[1] :]
        found.append(normed.mT.unflatten(-1, grid))
    return found


def _residual(t, name, x):
    y = _conv(t, f"{name}.conv1", x.relu(), padding=1)
    return x + _conv(t, f"{name}.conv2", y.relu(), padding=1)


def _resized(x, size):
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def dpt(t, features, *, patch):
    """The logits of Depth Anything's head, (B, H * patch, W * patch)."""
    head, scratch, maps = "depth_head.", "depth_head.scratch.", []
    for n, x in enumerate(features):
        x = _conv(t, f"{head}projects.{n}", x)
        name = f"{head}resize_layers.{n}"
        if n < 2:
            weight, bias = t[f"{name}.weight"], t[f"{name}.bias"]
            x = F.conv_transpose2d(x, weight, bias, stride=4 >> n)
        elif n == 3:
            x = _conv(t, name, x, stride=2, padding=1)
        maps.append(_conv(t, f"{scratch}layer{n + 1}_rn", x, padding=1))
    x = None
    for n in (3, 2, 1, 0):
        name = f"{scratch}refinenet{n + 1}."
        if x is None:
            x = maps[n]
        else:
            x = x + _residual(t, name + "resConfUnit1", maps[n])
        x = _residual(t, name + "resConfUnit2", x)
        size = maps[n - 1].shape[2:] if n else [2 * side for side in x.shape[2:]]
        x = _conv(t, name + "out_conv", _resized(x, size))
    x = _conv(t, scratch + "output_conv1", x, padding=1)
    x = _resized(x, [side * patch for side in features[0].shape[2:]])
    x = _conv(t, scratch + "output_conv2.0", x, padding=1).relu()
    return _conv(t, scratch + "output_conv2.2", x)[:, 0]
