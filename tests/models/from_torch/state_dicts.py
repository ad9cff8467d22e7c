"""Random state dicts with the names and shapes of the published checkpoints.

Written from their layer lists, independently of the tables of names. NumPy arrays.
"""

import zlib
from pathlib import Path

import numpy as np
import pytest

NANO = {"width": 48, "depths": (2, 2, 2, 2), "heads": (3, 6, 12, 24)}


class Builder:
    """Collects tensors under a prefix; the values tell the names apart."""

    def __init__(self) -> None:
        self.tensors: dict[str, np.ndarray] = {}

    def add(self, name: str, *shape: int) -> None:
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        self.tensors[name] = rng.standard_normal(shape, np.float32)

    def affine(self, name: str, *shape: int, bias: bool = True) -> None:
        """Weight and bias of a linear layer, a convolution or a norm."""
        self.add(f"{name}.weight", *shape)
        if bias:
            self.add(f"{name}.bias", shape[0])

    def batch_norm(self, name: str, channels: int) -> None:
        self.affine(name, channels)
        self.add(f"{name}.running_mean", channels)
        self.add(f"{name}.running_var", channels)
        self.tensors[f"{name}.num_batches_tracked"] = np.array(7)


def coordinates(window: int, pretrained: int) -> np.ndarray:
    """Swin-v2's table: sign(x) log8(1 + |x|), x = 8 offset / (pretrained - 1)."""
    x = 8 * np.arange(1.0 - window, window) / (pretrained - 1)
    x = np.sign(x) * np.log2(1 + abs(x)) / 3
    return np.stack(np.meshgrid(x, x, indexing="ij"), -1)[None].astype(np.float32)


def swin_v2(
    *,
    width: int,
    depths: tuple[int, ...],
    heads: tuple[int, ...],
    windows: tuple[int, ...],
    pretrained: tuple[int, ...] | None = None,
    prefix: str = "",
    norm: str = "norm",
    mlp: str = "cpb_mlp",
) -> dict[str, np.ndarray]:
    """An encoder; tables of coordinates and indices included."""
    build = Builder()
    build.affine(f"{prefix}patch_embed.proj", width, 3, 4, 4)
    build.affine(f"{prefix}patch_embed.norm", width)
    for stage, (depth, window) in enumerate(zip(depths, windows, strict=True)):
        channels = width * 2**stage
        table = coordinates(window, (pretrained or windows)[stage])
        for block in range(depth):
            name = f"{prefix}layers.{stage}.blocks.{block}."
            _swin_block(build, name, channels, heads[stage], mlp)
            build.tensors[name + "attn.relative_coords_table"] = table
            build.tensors[name + "attn.relative_position_index"] = np.zeros((9, 9), int)
        if stage + 1 < len(depths):
            name = f"{prefix}layers.{stage}.downsample."
            build.affine(name + "reduction", 2 * channels, 4 * channels, bias=False)
            build.affine(name + "norm", 2 * channels)
    build.affine(prefix + norm, channels)
    return build.tensors


def _swin_block(build: Builder, name: str, channels: int, heads: int, mlp: str) -> None:
    build.affine(name + "norm1", channels)
    build.add(name + "attn.logit_scale", heads, 1, 1)
    build.add(name + "attn.q_bias", channels)
    build.add(name + "attn.v_bias", channels)
    build.affine(f"{name}attn.{mlp}.0", 512, 2)
    build.affine(f"{name}attn.{mlp}.2", heads, 512, bias=False)
    build.affine(name + "attn.qkv", 3 * channels, channels, bias=False)
    build.affine(name + "attn.proj", channels, channels)
    build.affine(name + "norm2", channels)
    build.affine(name + "mlp.fc1", 4 * channels, channels)
    build.affine(name + "mlp.fc2", channels, 4 * channels)


def simmim(**options) -> dict[str, np.ndarray]:
    """A pretraining: encoder, mask token and the head that paints the image."""
    sizes = {**NANO, "windows": (12, 12, 12, 6), "mlp": "rpe_mlp", **options}
    tensors = swin_v2(**sizes, prefix="encoder.")
    build = Builder()
    build.add("encoder.mask_token", 1, 1, sizes["width"])
    build.affine("decoder.0", 32 * 32 * 3, 8 * sizes["width"], 1, 1)
    return tensors | build.tensors


def swinv2(**options) -> dict[str, np.ndarray]:
    """A classifier."""
    sizes = {**NANO, "windows": (8, 8, 8, 8), **options}
    build = Builder()
    build.affine("head", 1000, 8 * sizes["width"])
    shifted = {"layers.0.blocks.1.attn_mask": np.zeros((64, 64, 64), np.float32)}
    return swin_v2(**sizes) | shifted | build.tensors


def mim_depth(channels=(32, 24, 16), **options) -> dict[str, np.ndarray]:
    """A whole depth network."""
    sizes = {**NANO, "windows": (22, 22, 22, 11), "pretrained": (12, 12, 12, 6)}
    sizes |= {"prefix": "encoder.", "norm": "norm3", "mlp": "rpe_mlp", **options}
    build, width = Builder(), sizes["width"]
    inputs = 8 * width
    for index, outputs in enumerate(channels):
        name = f"decoder.deconv_layers.{3 * index}"
        build.affine(name, inputs, outputs, 2, 2, bias=False)
        build.batch_norm(f"decoder.deconv_layers.{3 * index + 1}", outputs)
        inputs = outputs
    build.affine("decoder.conv_layers.0", width, inputs, 3, 3)
    build.batch_norm("decoder.conv_layers.1", width)
    build.affine("last_layer_depth.0", width, width, 3, 3)
    build.affine("last_layer_depth.2", 1, width, 3, 3)
    return swin_v2(**sizes) | build.tensors


def mit(
    *, dims=(32, 64, 160, 256), depths=(2, 2, 2, 2), prefix="", head=True
) -> dict[str, np.ndarray]:
    """A Mix Transformer; by default B0, with the classifier of its pretraining."""
    build, inputs = Builder(), 3
    for stage, (channels, depth) in enumerate(zip(dims, depths, strict=True)):
        number, size = stage + 1, 3 if stage else 7
        reduction = (8, 4, 2, 1)[stage]
        embed = f"{prefix}patch_embed{number}"
        build.affine(embed + ".proj", channels, inputs, size, size)
        build.affine(embed + ".norm", channels)
        for block in range(depth):
            name = f"{prefix}block{number}.{block}."
            build.affine(name + "norm1", channels)
            build.affine(name + "attn.q", channels, channels)
            build.affine(name + "attn.kv", 2 * channels, channels)
            build.affine(name + "attn.proj", channels, channels)
            if reduction > 1:
                build.affine(name + "attn.sr", channels, channels, reduction, reduction)
                build.affine(name + "attn.norm", channels)
            build.affine(name + "norm2", channels)
            build.affine(name + "mlp.fc1", 4 * channels, channels)
            build.affine(name + "mlp.dwconv.dwconv", 4 * channels, 1, 3, 3)
            build.affine(name + "mlp.fc2", channels, 4 * channels)
        build.affine(f"{prefix}norm{number}", channels)
        inputs = channels
    if head:
        build.affine("head", 1000, inputs)
    return build.tensors


def glpdepth() -> dict[str, np.ndarray]:
    """A whole depth network; widths and depths of B1, the published ones have B4."""
    build = Builder()
    build.affine("decoder.bot_conv", 64, 512, 1, 1)
    build.affine("decoder.skip_conv1", 64, 320, 1, 1)
    build.affine("decoder.skip_conv2", 64, 128, 1, 1)
    for name in ("decoder.fusion1.", "decoder.fusion2.", "decoder.fusion3."):
        build.affine(name + "conv1.0", 64, 128, 3, 3)
        build.batch_norm(name + "conv1.1", 64)
        build.affine(name + "conv2.0", 32, 64, 3, 3)
        build.batch_norm(name + "conv2.1", 32)
        build.affine(name + "conv3", 2, 32, 3, 3)
    build.affine("last_layer_depth.0", 64, 64, 3, 3)
    build.affine("last_layer_depth.2", 1, 64, 3, 3)
    encoder = mit(dims=(64, 128, 320, 512), prefix="encoder.", head=False)
    return encoder | build.tensors


def vision_transformer(
    *, width=384, depth=12, patch=14, positions=37, registers=0, gated=False
) -> dict[str, np.ndarray]:
    """DINOv2's encoder, by default small, or with `positions` 0 DINOv3's.

    DINOv3's bias of the keys is not there, as after `namings.official`.
    """
    build = Builder()
    build.affine("patch_embed.proj", width, 3, patch, patch)
    build.add("cls_token", 1, 1, width)
    build.add("mask_token", 1, width)
    if positions:
        build.add("pos_embed", 1, 1 + positions**2, width)
    if registers:
        build.add("register_tokens", 1, registers, width)
    for n in range(depth):
        name = f"blocks.{n}."
        build.affine(name + "norm1", width)
        build.affine(name + "attn.qkv", 3 * width, width, bias=positions > 0)
        if not positions:
            build.add(name + "attn.q_bias", width)
            build.add(name + "attn.v_bias", width)
        build.affine(name + "attn.proj", width, width)
        build.add(name + "ls1.gamma", width)
        build.affine(name + "norm2", width)
        if gated:
            hidden = (int(4 * width * 2 / 3) + 7) // 8 * 8
            build.affine(name + "mlp.w12", 2 * hidden, width)
            build.affine(name + "mlp.w3", width, hidden)
        else:
            build.affine(name + "mlp.fc1", 4 * width, width)
            build.affine(name + "mlp.fc2", width, 4 * width)
        build.add(name + "ls2.gamma", width)
    build.affine("norm", width)
    return build.tensors


def dpt(*, inputs=384, widths=(48, 96, 192, 384), channels=64) -> dict[str, np.ndarray]:
    """The head of Depth Anything V2, by default small's."""
    build, scratch = Builder(), "depth_head.scratch."
    for n, width in enumerate(widths):
        build.affine(f"depth_head.projects.{n}", width, inputs, 1, 1)
        name = f"{scratch}layer{n + 1}_rn"
        build.affine(name, channels, width, 3, 3, bias=False)
        for unit in ("1.conv1", "1.conv2", "2.conv1", "2.conv2"):
            name = f"{scratch}refinenet{n + 1}.resConfUnit{unit}"
            build.affine(name, channels, channels, 3, 3)
        build.affine(f"{scratch}refinenet{n + 1}.out_conv", channels, channels, 1, 1)
    for n, size in ((0, 4), (1, 2), (3, 3)):
        build.affine(f"depth_head.resize_layers.{n}", widths[n], widths[n], size, size)
    build.affine(scratch + "output_conv1", channels // 2, channels, 3, 3)
    build.affine(scratch + "output_conv2.0", 32, channels // 2, 3, 3)
    build.affine(scratch + "output_conv2.2", 1, 32, 1, 1)
    return build.tensors


def depth_anything_v2() -> dict[str, np.ndarray]:
    """A whole depth network, small; relative and metric ones have the same tensors."""
    encoder = {f"pretrained.{n}": x for n, x in vision_transformer().items()}
    return encoder | dpt()


def resnet18(prefix: str = "", *, images: int = 1) -> dict[str, np.ndarray]:
    """torchvision's ResNet-18 with its classifier."""
    build, inputs = Builder(), 64
    build.affine(prefix + "conv1", 64, 3 * images, 7, 7, bias=False)
    build.batch_norm(prefix + "bn1", 64)
    for layer, channels in enumerate((64, 128, 256, 512), start=1):
        for block in (0, 1):
            name = f"{prefix}layer{layer}.{block}."
            build.affine(name + "conv1", channels, inputs, 3, 3, bias=False)
            build.batch_norm(name + "bn1", channels)
            build.affine(name + "conv2", channels, channels, 3, 3, bias=False)
            build.batch_norm(name + "bn2", channels)
            if inputs != channels:
                down = name + "downsample."
                build.affine(down + "0", channels, inputs, 1, 1, bias=False)
                build.batch_norm(down + "1", channels)
            inputs = channels
    build.affine(prefix + "fc", 1000, 512)
    return build.tensors


def monodepth2() -> dict[str, dict]:
    """The four files of a folder, by stem; plain numbers beside the encoder."""
    depth, pose = Builder(), Builder()
    inputs = (512, 512, 256, 256, 128, 128, 64, 96, 32, 16)  # with the skips
    outputs = (256, 256, 128, 128, 64, 64, 32, 32, 16, 16)
    for index, (into, out) in enumerate(zip(inputs, outputs, strict=True)):
        depth.affine(f"decoder.{index}.conv.conv", out, into, 3, 3)
    for scale, channels in enumerate((16, 32, 64, 128)):
        depth.affine(f"decoder.{10 + scale}.conv", 1, channels, 3, 3)
    for index, (into, out, size) in enumerate(
        ((512, 256, 1), (256, 256, 3), (256, 256, 3), (256, 12, 1))
    ):
        pose.affine(f"net.{index}", out, into, size, size)
    encoder = {"height": 192, "width": 640, "use_stereo": False}
    return {
        "encoder": resnet18("encoder.") | encoder,
        "depth": depth.tensors,
        "pose_encoder": resnet18("encoder.", images=2),
        "pose": pose.tensors,
    }


def save(tensors: dict, path: Path) -> None:
    """With torch.save; plain numbers stay what they are."""
    torch = pytest.importorskip("torch")  # of the extra `parity`

    def as_tensor(value):
        return torch.as_tensor(value) if isinstance(value, np.ndarray) else value

    path.parent.mkdir(exist_ok=True)
    torch.save({name: as_tensor(value) for name, value in tensors.items()}, path)
