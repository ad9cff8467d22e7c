"""Vision transformers of DINOv2 and DINOv3, the encoders of dense predictors today.

Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", 2023;
Darcet et al., "Vision Transformers Need Registers", ICLR 2024; Siméoni et al.,
"DINOv3", 2025. The two differ in the following.

                   DINOv2                              DINOv3
    patch          14                                  16
    position       learned, 37 x 37, interpolated      rotary, of queries and keys
    registers      none, or 4                          4
    bias           of queries, keys and values         of queries and values
    LayerNorm eps  1e-6                                1e-5
    MLP            GELU, SwiGLU in giant               GELU

Learned positions are interpolated as in transformers: bicubic, and with registers
antialiased. The official DINOv2 without registers adds 0.1 to the numbers of patches
there, which moves the positions by less than 0.1 patches. DINOv3's random rescaling of
the coordinates, an augmentation of its pretraining, is left out.

Parameters are named `patch_embed`, `cls_token`, `register_tokens`, `pos_embed`,
`block{b}` and `norm`; `layer_of` depends on these names.

Shapes: B images, H x W patches, T tokens (class, registers, patches), C channels, D
channels a head. Parameters, logits, softmax and statistics of norms are float32;
`dtype` is that of the matrix products, the results of norms and the residual stream.
"""

import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from amlr_jax.models import layers
from amlr_jax.models.residual import run_blocks
from amlr_jax.models.vision_transformer_blocks import VisionBlock, interpolated

# ImageNet's, with which all of these networks were trained.
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
_SIZES = {
    # embed_dim, depth, num_heads, levels: the blocks whose outputs are features
    "small": (384, 12, 6, (2, 5, 8, 11)),
    "base": (768, 12, 12, (2, 5, 8, 11)),
    "large": (1024, 24, 16, (4, 11, 17, 23)),
    "giant": (1536, 40, 24, (9, 19, 29, 39)),
}
_DINOV2 = {"patch_size": 14, "positions": 37, "key_bias": True, "norm_eps": 1e-6}
_DINOV3 = {"patch_size": 16, "positions": 0, "key_bias": False, "norm_eps": 1e-5}


def _preset(size: str, family: dict) -> dict:
    names = ("embed_dim", "depth", "num_heads", "levels")
    return dict(zip(names, _SIZES[size], strict=True)) | family


# Attributes of `VisionTransformer` by family and size; the levels are Depth Anything's.
PRESETS = {
    "dinov2": {
        size: _preset(size, _DINOV2 | {"gated": size == "giant"}) for size in _SIZES
    },
    "dinov3": {
        size: _preset(size, _DINOV3 | {"registers": 4})
        for size in ("small", "base", "large")
    },
}


class VisionTransformer(nn.Module):
    """ViT encoder. Takes images in [0, 1] of shape (B, H * patch, W * patch, 3).

    Attributes:
      embed_dim, depth, num_heads: channels, blocks and heads.
      levels: the blocks, from 0, whose outputs are the features.
      patch_size: pixels.
      positions: side of the square of learned positions; 0: rotary positions.
      registers: number of tokens beside the class token and the patches.
      key_bias: whether keys have a bias, as queries and values do.
      gated: SwiGLU in place of the MLP.
      drop_path: rate of the last block; the rates rise linearly from 0 over all blocks.
        Needs the random stream "drop_path" in training.
      norm_eps: of all norms.
      attention: "xla" or "cudnn", see `attention.attention`.
      dtype: of the matrix products and the residual stream.
      remat: recompute every block in the backward pass instead of keeping it.
    """

    embed_dim: int
    depth: int
    num_heads: int
    levels: tuple[int, ...]
    patch_size: int
    positions: int
    registers: int = 0
    key_bias: bool = True
    gated: bool = False
    drop_path: float = 0.0
    norm_eps: float = 1e-6
    attention: str = "xla"
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, image_BHWC: jax.Array, *, train: bool) -> list[jax.Array]:
        """Encodes images.

        Returns:
          The patches after each block of `levels` and the one norm, each of shape
          (B, H, W, C), all at 1/patch_size; float32.
        """
        x_B1TC, grid = self._tokens(image_BHWC)
        prefix = 1 + self.registers
        rates = layers.drop_path_rates(self.drop_path, (self.depth,))
        norm = layers.layer_norm(self.norm_eps, "norm", dtype=self.dtype)
        features, start = [], 0
        for level in self.levels:
            numbers = range(start, level + 1)
            blocks = [self._block(n, rates[n], prefix, grid) for n in numbers]
            x_B1TC = run_blocks(blocks, x_B1TC, train=train, remat=self.remat)
            patches = norm(x_B1TC[:, 0, prefix:]).astype(jnp.float32)
            features.append(patches.reshape(len(patches), *grid, self.embed_dim))
            start = level + 1
        return features

    def _tokens(self, image_BHWC: jax.Array) -> tuple[jax.Array, tuple[int, int]]:
        """(B, 1, T, C), as one window of the attention, and the patches (H, W)."""
        x = (image_BHWC - jnp.array(IMAGE_MEAN)) / jnp.array(IMAGE_STD)
        patch = {"size": self.patch_size, "strides": self.patch_size}
        options = {"dtype": self.dtype, "kernel_init": layers.linear_init, **patch}
        x = layers.conv(x, self.embed_dim, **options, name="patch_embed")
        batch, rows, columns, _ = x.shape
        parts = [self._token("cls_token", 1), x.reshape(batch, -1, self.embed_dim)]
        if self.positions:
            learned = self._token("pos_embed", 1 + self.positions**2)
            antialias = self.registers > 0
            placed = interpolated(learned[0, 1:], (rows, columns), antialias=antialias)
            parts = [parts[0] + learned[:, :1], parts[1] + placed]
        if self.registers:
            parts.insert(1, self._token("register_tokens", self.registers))
        shapes = ((batch, *part.shape[1:]) for part in parts)
        whole = [
            jnp.broadcast_to(part.astype(self.dtype), shape)
            for part, shape in zip(parts, shapes, strict=True)
        ]
        return jnp.concatenate(whole, axis=1)[:, None], (rows, columns)

    def _token(self, name: str, count: int) -> jax.Array:
        return self.param(
            name, layers.linear_init, (1, count, self.embed_dim), jnp.float32
        )

    def _block(
        self, number: int, drop_path: float, prefix: int, grid: tuple[int, int]
    ) -> VisionBlock:
        return VisionBlock(
            num_heads=self.num_heads,
            drop_path=drop_path,
            norm_eps=self.norm_eps,
            dtype=self.dtype,
            attention=self.attention,
            key_bias=self.key_bias,
            gated=self.gated,
            rotary=() if self.positions else (prefix, *grid),
            name=f"block{number}",
        )


def encoder(family: str, size: str, **overrides: Any) -> VisionTransformer:
    """The encoder of "dinov2" or "dinov3" of that size, "small" to "large" or "giant".

    `overrides` are attributes of `VisionTransformer`; one that is None keeps the
    preset's value.
    """
    layers.check_one_of("family", family, PRESETS)
    layers.check_one_of("size", size, PRESETS[family])
    return layers.from_preset(VisionTransformer, PRESETS[family][size], overrides)


def layer_of(path: tuple[str, ...], depth: int) -> tuple[int, int]:
    """Layer of a parameter, 0 at the image, and the last layer, at the output.

    As in BEiT and MAE: tokens and positions belong to the embedding; the norm of the
    features and the decoder are the last layer.
    """
    for part in path:
        if part in ("patch_embed", "cls_token", "register_tokens", "pos_embed"):
            return 0, depth + 1
        if match := re.fullmatch(r"block(\d+)", part):
            return 1 + int(match[1]), depth + 1
    return depth + 1, depth + 1
