"""Swin Transformer V2 encoder, in the conventions of the official code and MIM-Depth.

Liu et al., "Swin Transformer V2: Scaling Up Capacity and Resolution", CVPR 2022; Xie
et al., "Revealing the Dark Secrets of Masked Image Modeling", CVPR 2023 (MIM-Depth).
The two networks have the same parameters and differ in the following.

                        "mim_depth"                   "official"
    LayerNorm eps       1e-6                          1e-5
    a map smaller than  is padded up to the window;   shrinks the window to its height
    its window          shifts as set for the stage   and is not shifted
    shifted stages      the first two in the presets  all

A map that does not tile is padded with zeros on the right and at the bottom in both,
and the padding is *not* masked: a padded key is zero (keys have no bias), so its logit
is its position bias. The official code does not support such a map; this one follows
transformers' `Swinv2Model`, which compares the window with the height alone, while the
official code compares it with the smaller side; they differ on portrait maps only.

Parameters are named `patch_embed`, `stage{s}_block{b}`, `stage{s}_merge` and `norm`;
`layer_of` and `depth.has_weight_decay` depend on these names.

Shapes: B images, H x W tokens, C channels, N windows, T tokens a window, D channels a
head. Parameters, logits, softmax and statistics of norms are float32; `dtype` is that
of the matrix products, the results of norms and the residual stream.
"""

import re
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from amlr_jax.models import layers
from amlr_jax.models.residual import run_blocks
from amlr_jax.models.swin_v2_blocks import PatchMerging, SwinBlock, pad_to_multiple

PATCH_SIZE = 4  # pixels
# MIM-Depth's presets, and nano. Heads have 32 channels, 16 in nano.
_SIZES = {
    # embed_dim, depths, num_heads, drop_path
    "nano": (48, (2, 2, 2, 2), (3, 6, 12, 24), 0.0),
    "tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24), 0.2),
    "small": (96, (2, 2, 18, 2), (3, 6, 12, 24), 0.3),
    "base": (128, (2, 2, 18, 2), (4, 8, 16, 32), 0.3),
    "large": (192, (2, 2, 18, 2), (6, 12, 24, 48), 0.5),
    "huge": (352, (2, 2, 18, 2), (11, 22, 44, 88), 0.5),
}
# MIM-Depth's for KITTI (`base` and `large`): at its 352 x 352 crop the windows tile
# exactly, and stages 3 and 4 attend globally.
_MIM_DEPTH = {
    "window_size": (22, 22, 22, 11),
    "pretrained_window_size": (12, 12, 12, 6),
    "use_shift": (True, True, False, False),
}
# nano: at a quarter of KITTI's size (22 x 44 tokens) the windows tile with little
# padding. This residual init trained fastest from scratch; 1e-5 and 0.01 are slightly
# slower, 1.0 (a plain LayerNorm) is far slower.
_NANO = {
    "window_size": (11, 11, 6, 6),
    "pretrained_window_size": (11, 11, 6, 6),
    "use_shift": (True, True, True, False),
    "residual_init": 0.1,
}
# The official configurations at 256 x 256: windows of 8 from scratch, and for `large`
# windows of 16 after pretraining with 12, taken here for `huge` too (no configuration
# of it is published).
_OFFICIAL = {
    "window_size": (8, 8, 8, 8),
    "pretrained_window_size": (0, 0, 0, 0),
    "use_shift": (True, True, True, True),
    "residual_init": 0.0,
}
_OFFICIAL_WIDE = {
    **_OFFICIAL,
    "window_size": (16, 16, 16, 16),
    "pretrained_window_size": (12, 12, 12, 6),
    "drop_path": 0.2,
}
# Attributes of `SwinV2` by name, for the convention "mim_depth".
PRESETS = {
    name: {
        "embed_dim": width,
        "depths": depths,
        "num_heads": heads,
        "drop_path": drop_path,
        **(_NANO if name == "nano" else _MIM_DEPTH),
    }
    for name, (width, depths, heads, drop_path) in _SIZES.items()
}
_OFFICIAL_PRESETS = {
    name: {**preset, **(_OFFICIAL_WIDE if name in ("large", "huge") else _OFFICIAL)}
    for name, preset in PRESETS.items()
}
_OFFICIAL_PRESETS["base"]["drop_path"] = 0.5


class Convention(NamedTuple):
    """How the official network and MIM-Depth's differ."""

    norm_eps: float
    shrinks_window: bool  # to the height of a map that is not higher; no shift then
    presets: dict[str, dict]


CONVENTIONS = {
    "mim_depth": Convention(1e-6, shrinks_window=False, presets=PRESETS),
    "official": Convention(1e-5, shrinks_window=True, presets=_OFFICIAL_PRESETS),
}


class SwinV2(nn.Module):
    """Swin V2 encoder. Takes images of any size, in float, and shape (B, H, W, 3).

    Attributes:
      embed_dim: channels C of the first stage; they double from stage to stage.
      depths, num_heads, window_size, pretrained_window_size, use_shift: one entry per
        stage. With `use_shift` every second block shifts by half a window. A pretrained
        window of 0 is the window itself.
      drop_path: rate of the last block; see `layers.drop_path_rates`. Needs the random
        stream "drop_path" in training.
      residual_init: initial scale of the norms that close the residual branches.
        MIM-Depth starts at 1e-5 and the official code at 0, so that every block starts
        as the identity.
      convention: "mim_depth" or "official", see the module.
      attention: "xla" or "cudnn", see `attention.attention`.
      dtype: of the matrix products and the residual stream.
      remat: recompute every block in the backward pass instead of keeping it.
    """

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_size: tuple[int, ...]
    pretrained_window_size: tuple[int, ...]
    use_shift: tuple[bool, ...]
    drop_path: float = 0.0
    residual_init: float = 1e-5
    convention: str = "mim_depth"
    attention: str = "xla"
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, image_BHWC: jax.Array, *, train: bool) -> list[jax.Array]:
        """Encodes images.

        Returns:
          The output of every stage s, of shape (B, H / (4 * 2**s), W / (4 * 2**s),
          C * 2**s) with sizes rounded up, followed by the normalised last one, the
          input of decoders without skips; float32.
        """
        per_stage = ("window_size", "pretrained_window_size", "use_shift")
        layers.check_one_per_stage(self, *per_stage)
        norm_eps = CONVENTIONS[self.convention].norm_eps
        options: dict = {"norm_eps": norm_eps, "dtype": self.dtype}
        patches = {"kernel_init": layers.linear_init, "name": "patch_embed", **options}
        embed = layers.PatchEmbed(self.embed_dim, PATCH_SIZE, PATCH_SIZE, **patches)
        x = embed(pad_to_multiple(image_BHWC, PATCH_SIZE))
        stages = []
        for stage, depth in enumerate(self.depths):
            if stage > 0:
                x = PatchMerging(**options, name=f"stage{stage - 1}_merge")(x)
            height = x.shape[1]
            blocks = [self._block(stage, n, height) for n in range(depth)]
            x = run_blocks(blocks, x, train=train, remat=self.remat)
            stages.append(x)
        stages.append(layers.layer_norm(norm_eps, "norm", dtype=self.dtype)(x))
        return [x.astype(jnp.float32) for x in stages]

    def _window_and_shift(self, stage: int, block: int, height: int) -> tuple[int, int]:
        window = self.window_size[stage]
        if CONVENTIONS[self.convention].shrinks_window and height <= window:
            return height, 0
        return window, window // 2 if self.use_shift[stage] and block % 2 else 0

    def _block(self, stage: int, block: int, height: int) -> SwinBlock:
        window, shift = self._window_and_shift(stage, block, height)
        rates = layers.drop_path_rates(self.drop_path, self.depths)
        return SwinBlock(
            num_heads=self.num_heads[stage],
            window=window,
            pretrained_window=self.pretrained_window_size[stage],
            shift=shift,
            drop_path=rates[sum(self.depths[:stage]) + block],
            norm_eps=CONVENTIONS[self.convention].norm_eps,
            residual_init=self.residual_init,
            dtype=self.dtype,
            attention=self.attention,
            name=f"stage{stage}_block{block}",
        )


def encoder(name: str, *, convention: str = "mim_depth", **overrides: Any) -> SwinV2:
    """The encoder of that name: "nano", "tiny", "small", "base", "large" or "huge".

    Args:
      name: of the size.
      convention: "mim_depth" or "official"; windows, shifts, drop path and initial
        values are then those of that system's configurations.
      **overrides: attributes of `SwinV2`; one that is None keeps the preset's value.
    """
    layers.check_one_of("name", name, PRESETS)
    layers.check_one_of("convention", convention, CONVENTIONS)
    preset = CONVENTIONS[convention].presets[name] | {"convention": convention}
    return layers.from_preset(SwinV2, preset, overrides)


def layer_of(path: tuple[str, ...], depths: tuple[int, ...]) -> tuple[int, int]:
    """Layer of a parameter, 0 at the image, and the last layer, at the output.

    MIM-Depth's rule: the patch embedding, each block and each merging are a layer; a
    merging counts at the end of its stage. The final norm, the decoder and the head are
    the last layer.

    Args:
      path: names from the root of the parameters, such as ("encoder",
        "stage2_block17", "attn", "proj", "kernel").
      depths: blocks per stage.
    """
    last = sum(depths) + len(depths)
    for part in path:
        if part == "patch_embed":
            return 0, last
        if match := re.fullmatch(r"stage(\d+)_(?:block(\d+)|merge)", part):
            stage = int(match[1])
            block = depths[stage] if match[2] is None else int(match[2])
            return 1 + sum(depths[:stage]) + stage + block, last
    return last, last
