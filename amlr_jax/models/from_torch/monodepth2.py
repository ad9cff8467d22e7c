"""Names of monodepth2's four files, and of torchvision's ResNet-18.

A monodepth2 model is a folder of encoder.pth, depth.pth, pose_encoder.pth and pose.pth;
a name here is "<file>:<name in the file>". In the depth network its tensors go to
`encoder` and `decoder`, in the pose network to `pose/encoder` and `pose/decoder`.
The classifier (`fc`) has no place in either.
"""

import numpy as np

from amlr_jax.models.from_torch.names import Module


def _resnet(source: str, target: str) -> tuple[Module, ...]:
    """A ResNet-18 whose module names start with `source`, to the path `target`."""
    block, path = source + r"layer([1-4])\.([01])\.", target + "layer{0}_block{1}/"
    return (
        Module(source + "conv1", target + "conv1", "conv"),
        Module(source + "bn1", target + "bn1", "batch_norm"),
        Module(block + "(conv[12])", path + "{2}", "conv"),
        Module(block + "(bn[12])", path + "{2}", "batch_norm"),
        Module(block + r"downsample\.0", path + "downsample_conv", "conv"),
        Module(block + r"downsample\.1", path + "downsample_bn", "batch_norm"),
        Module(source + r"fc\..*", "", "buffer"),
    )


def _skip_decoder() -> tuple[Module, ...]:
    """Convolutions 0 ... 9 are levels 4 ... 0, two each; then the heads of 0 ... 3.

    The heads are in the order of the `scales` that monodepth2 trained with; this is
    its default.
    """
    convs = [
        Module(
            rf"depth:decoder\.{index}\.conv\.conv",
            f"decoder/level{4 - index // 2}_conv{index % 2}",
            "conv",
        )
        for index in range(10)
    ]
    heads = [
        Module(rf"depth:decoder\.{10 + scale}\.conv", f"decoder/head{scale}", "conv")
        for scale in range(4)
    ]
    return (*convs, *heads)


TABLES = {
    "monodepth2": (
        *_resnet(r"encoder:encoder\.", "encoder/"),
        *_skip_decoder(),
        *_resnet(r"pose_encoder:encoder\.", "pose/encoder/"),
        Module(r"pose:net\.([0-3])", "pose/decoder/conv{0}", "conv"),
    ),
    "resnet18": _resnet("", "encoder/"),
}


def stack_conv1(weight: np.ndarray, *, images: int) -> np.ndarray:
    """The first convolution of a ResNet for several images, from that for one.

    The kernel is repeated along its input channels and divided by their number, so that
    a stack of equal images gives what one image gave. monodepth2 starts its pose
    encoder so, from ImageNet's weights.

    Args:
      weight: (out, 3, h, w), as in torch.
      images: how many images are stacked.

    Returns:
      (out, 3 * images, h, w).
    """
    return np.concatenate([weight] * images, axis=1) / images
