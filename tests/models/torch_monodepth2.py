"""The networks in PyTorch, written from their equations, under the reference's names.

Not a test module. `encoder.`, `decoder.{k}.conv.conv.` and `net.{k}.` are the names
that monodepth2's files use; the five-level decoder has names of ours.
"""

import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from amlr_jax.models.from_torch import assign

FEATURES = (64, 64, 128, 256, 512)
FIVE_LEVEL = [
    assign.Module(r"(lateral|fusion|expand)(\d)", "level{1}_{0}", "conv"),
    assign.Module(r"(head\d)", "{0}", "conv"),
]


class Block(nn.Module):
    def __init__(self, inputs, channels, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = nn.Identity()
        if stride > 1:
            skip = nn.Conv2d(inputs, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(skip, nn.BatchNorm2d(channels))

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.downsample(x)).relu()


class ResNet18(nn.Module):
    """torchvision's, with its classifier."""

    def __init__(self, images=1):
        super().__init__()
        self.conv1 = nn.Conv2d(3 * images, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        for stage in (1, 2, 3, 4):
            inputs, channels = FEATURES[stage - 1 : stage + 1]
            first = Block(inputs, channels, 1 if stage == 1 else 2)
            blocks = nn.Sequential(first, Block(channels, channels, 1))
            self.add_module(f"layer{stage}", blocks)
        self.fc = nn.Linear(512, 1000)

    def forward(self, x):
        maps = [self.bn1(self.conv1(x)).relu()]
        x = F.max_pool2d(maps[0], 3, 2, 1)
        for stage in (1, 2, 3, 4):
            x = getattr(self, f"layer{stage}")(x)
            maps.append(x)
        return maps


class Encoder(nn.Module):
    def __init__(self, images=1):
        super().__init__()
        self.encoder = ResNet18(images)

    def forward(self, x):
        return self.encoder((x - 0.45) / 0.225)


class Conv3x3(nn.Module):
    def __init__(self, inputs, channels):
        super().__init__()
        self.conv = nn.Conv2d(inputs, channels, 3)

    def forward(self, x):
        return self.conv(F.pad(x, (1, 1, 1, 1), mode="reflect"))


class EluConv(nn.Module):
    def __init__(self, inputs, channels):
        super().__init__()
        self.conv = Conv3x3(inputs, channels)

    def forward(self, x):
        return F.elu(self.conv(x))


class SkipDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        skips, inputs, layers = (0, 64, 64, 128, 256), 512, []
        for level, channels in reversed(list(enumerate((16, 32, 64, 128, 256)))):
            layers += [EluConv(inputs, channels)]
            layers += [EluConv(channels + skips[level], channels)]
            inputs = channels
        layers += [Conv3x3(channels, 1) for channels in (16, 32, 64, 128)]
        self.decoder = nn.ModuleList(layers)

    def forward(self, features):
        x, maps = features[-1], []
        for level in (4, 3, 2, 1, 0):
            first = 2 * (4 - level)
            x = F.interpolate(self.decoder[first](x), scale_factor=2, mode="nearest")
            x = torch.cat([x, features[level - 1]], 1) if level else x
            x = self.decoder[first + 1](x)
            if level < 4:
                maps.insert(0, self.decoder[10 + level](x).sigmoid()[:, 0])
        return maps


class PoseDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.ModuleList(
            [
                nn.Conv2d(512, 256, 1),
                nn.Conv2d(256, 256, 3, padding=1),
                nn.Conv2d(256, 256, 3, padding=1),
                nn.Conv2d(256, 12, 1),
            ]
        )

    def forward(self, x):
        for layer in self.net[:3]:
            x = layer(x).relu()
        pose = 0.01 * self.net[3](x).mean((2, 3)).reshape(-1, 2, 6)
        return pose[:, 0, :3], pose[:, 0, 3:]


class FiveLevelDecoder(nn.Module):
    CHANNELS = (64, 96, 128, 128, 256)

    def __init__(self, upsampling, scales):
        super().__init__()
        self.upsampling, self.scales = upsampling, scales
        above = 0
        for level, channels in reversed(list(enumerate(self.CHANNELS, start=1))):
            self.add_conv("lateral", level, FEATURES[level - 1], channels, 3)
            self.add_conv("fusion", level, channels + above, channels, 3)
            if upsampling == "subpixel_levels" and level > 1:
                self.add_conv("expand", level, channels, 4 * channels, 1)
            if level in scales:
                outputs = 4**level if upsampling == "subpixel_head" else 1
                self.add_conv("head", level, channels, outputs, 1)
            above = channels

    def add_conv(self, role, level, inputs, channels, size):
        self.add_module(f"{role}{level}", nn.Conv2d(inputs, channels, size))

    def conv(self, role, level, x):
        layer = getattr(self, f"{role}{level}")
        if layer.kernel_size == (3, 3):
            x = F.pad(x, (1, 1, 1, 1), mode="reflect")
        return layer(x)

    def double(self, level, x):
        if self.upsampling == "subpixel_levels":
            return F.pixel_shuffle(self.conv("expand", level, x), 2)
        return F.interpolate(x, scale_factor=2, mode="nearest")

    def forward(self, features):
        x, maps = None, []
        for level in (5, 4, 3, 2, 1):
            own = F.elu(self.conv("lateral", level, features[level - 1]))
            x = own if x is None else torch.cat([own, self.double(level + 1, x)], 1)
            x = F.elu(self.conv("fusion", level, x))
            if level in self.scales:
                logits = self.conv("head", level, x)
                if self.upsampling == "subpixel_head":
                    logits = F.pixel_shuffle(logits, 2**level)
                maps.insert(0, logits.sigmoid()[:, 0])
        return maps


def randomize(module, *, seed=0):
    """Random parameters and statistics, none of them neutral; in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if not value.is_floating_point():
            continue
        noise = torch.randn(value.shape, generator=generator)
        if value.ndim > 1:
            noise *= (value.shape[0] / value.numel()) ** 0.5
        elif name.endswith(("running_var", "weight")):
            noise = 1 + 0.2 * noise.clamp(-2, 2)
        else:
            noise *= 0.2
        value.copy_(noise)
    return module.eval()


def variables(module, table, *, prefix="", strip=""):
    """The state of a module as variables of ours, without `strip` before each path."""
    return _place(module.state_dict().items(), table, prefix, strip)


def gradients(module, table, *, prefix="", strip=""):
    """The gradients of a module's parameters, in the layout of ours."""
    tensors = ((name, p.grad) for name, p in module.named_parameters())
    used = ((name, grad) for name, grad in tensors if grad is not None)
    return _place(used, table, prefix, strip)["params"]


def _place(tensors, table, prefix, strip):
    tree = {}
    for name, tensor in tensors:
        place = assign.place(prefix + name, table)
        assert place is not None, f"{prefix + name} is in no table"
        if not place.collection:
            continue
        node = tree.setdefault(place.collection, {})
        *parents, leaf = "/".join(place.path).removeprefix(strip).split("/")
        for key in parents:
            node = node.setdefault(key, {})
        assert leaf not in node, place
        node[leaf] = place.transform(tensor.numpy())
    return tree


def float64(tree):
    """For gradients: in float32 a ReLU near zero flips in one framework alone."""
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def from_nhwc(array):
    return torch.from_numpy(np.array(array).transpose(0, 3, 1, 2))


def to_nhwc(tensor):
    return tensor.detach().numpy().transpose(0, 2, 3, 1)
