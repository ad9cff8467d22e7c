"""Swin Transformer V2 encoder, in the conventions of the official code and MIM-Depth.

Liu et al., "Swin Transformer V2: Scaling Up Capacity and Resolution", CVPR 2022; Xie
et al., "Revealing the Dark Secrets of Masked Image Modeling", CVPR 2023 (MIM-Depth).
The two networks have the same parameters and differ in the following.

                        "mim_depth"                   "official"
    LayerNorm eps       1e-6                          1e-5
    a map smaller than  is padded up to the window;   shrinks the window to its height
    its window          shifts as the stage says      and is not shifted
    shifted stages      the first two in the presets  all

A map that does not tile is padded with zeros on the right and at the bottom in both,
and the padding is *not* masked: a padded key is zero (keys have no bias), so it keeps
its position bias as its logit. The official code itself takes no such map; here we do
as transformers' `Swinv2Model` does. That one goes by the height alone, where the
official code goes by the smaller side: only on portrait maps do they differ.

Parameters are named `patch_embed`, `stage{s}_block{b}`, `stage{s}_merge` and `norm`;
`layer_index` and `has_weight_decay` read these names for layer-wise learning rates.

Shapes: B images, H x W tokens, C channels, N windows, T tokens a window, D channels a
head. Parameters are float32; `dtype` is that of the matrix products, while norms,
logits, softmax and the residual stream stay in float32.
"""

import re
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from amlr_jax.models import checks, swin_v2_presets
from amlr_jax.models.layers import drop_path_rates, layer_norm
from amlr_jax.models.swin_v2_blocks import PatchEmbed, PatchMerging, SwinBlock

PRESETS = swin_v2_presets.MIM_DEPTH  # the names, and the settings of MIM-Depth


class Convention(NamedTuple):
    """What tells the official network from MIM-Depth's."""

    norm_eps: float
    shrinks_window: bool  # to the height of a map that is not higher; no shift then


CONVENTIONS = {
    "mim_depth": Convention(norm_eps=1e-6, shrinks_window=False),
    "official": Convention(norm_eps=1e-5, shrinks_window=True),
}


class SwinV2(nn.Module):
    """Swin V2 encoder. Takes images of any size, in float, and shape (B, H, W, 3).

    Attributes:
      embed_dim: channels C of the first stage; they double from stage to stage.
      depths, num_heads, window_size, pretrained_window_size, use_shift: one entry per
        stage. With `use_shift` every second block shifts by half a window. A pretrained
        window of 0 is the window itself.
      drop_path: rate of the last block; see `layers.drop_path_rates`. Needs the random
        stream "drop_path" in training. A sample loses a whole residual branch.
      residual_init: initial scale of the norms that close the residual branches.
        MIM-Depth starts at 1e-5 and the official code at 0, so that every block starts
        as the identity.
      convention: "mim_depth" or "official", see the module.
      attention: "xla" or "cudnn", see `attention.attention`.
      dtype: of the matrix products.
      remat: recompute every block in the backward pass instead of keeping it.
    """

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_size: tuple[int, ...]
    pretrained_window_size: tuple[int, ...]
    use_shift: tuple[bool, ...]
    drop_path: float = 0.0
    mlp_ratio: float = 4.0
    patch_size: int = 4
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
          C * 2**s) with sizes rounded up, and then the last one once more after its own
          norm, which is what a decoder without skips reads; float32.
        """
        self._check(image_BHWC)
        norm_eps = CONVENTIONS[self.convention].norm_eps
        options = {"norm_eps": norm_eps, "dtype": self.dtype}
        x = PatchEmbed(self.embed_dim, self.patch_size, **options, name="patch_embed")(
            image_BHWC
        )
        stages = []
        for stage, depth in enumerate(self.depths):
            if stage > 0:
                x = PatchMerging(**options, name=f"stage{stage - 1}_merge")(x)
            for block in range(depth):
                window, shift = self._window_and_shift(stage, block, x.shape[1])
                x = self._block(stage, block, window=window, shift=shift)(x, train)
            stages.append(x)
        return [*stages, layer_norm(norm_eps, "norm")(x)]

    def _window_and_shift(self, stage: int, block: int, height: int) -> tuple[int, int]:
        window = self.window_size[stage]
        if CONVENTIONS[self.convention].shrinks_window and height <= window:
            return height, 0
        return window, window // 2 if self.use_shift[stage] and block % 2 else 0

    def _block(self, stage: int, block: int, *, window: int, shift: int) -> nn.Module:
        kind = nn.remat(SwinBlock, static_argnums=(2,)) if self.remat else SwinBlock
        rates = drop_path_rates(self.drop_path, self.depths)
        return kind(
            num_heads=self.num_heads[stage],
            window=window,
            pretrained_window=self.pretrained_window_size[stage],
            shift=shift,
            drop_path=rates[sum(self.depths[:stage]) + block],
            mlp_ratio=self.mlp_ratio,
            norm_eps=CONVENTIONS[self.convention].norm_eps,
            residual_init=self.residual_init,
            dtype=self.dtype,
            attention=self.attention,
            name=f"stage{stage}_block{block}",
        )

    def _check(self, image_BHWC: jax.Array) -> None:
        checks.image_shape(image_BHWC)
        checks.one_of("convention", self.convention, CONVENTIONS)
        windows = ("window_size", "pretrained_window_size", "use_shift")
        checks.one_per_stage(self, "num_heads", *windows)
        channels = [self.embed_dim * 2**stage for stage in range(len(self.depths))]
        checks.heads_divide(channels, self.num_heads)


def encoder(name: str, *, convention: str = "mim_depth", **overrides: Any) -> SwinV2:
    """The encoder of that name: "nano", "tiny", "small", "base", "large" or "huge".

    Args:
      name: of the size.
      convention: "mim_depth" or "official"; windows, shifts, drop path and initial
        values are then those of that system's configurations.
      **overrides: attributes of `SwinV2`; one that is None keeps the preset's value.
    """
    checks.one_of("name", name, PRESETS)
    checks.one_of("convention", convention, CONVENTIONS)
    preset = swin_v2_presets.BY_CONVENTION[convention][name]
    given = {key: value for key, value in overrides.items() if value is not None}
    return SwinV2(**{**preset, "convention": convention, **given})


def num_layers(depths: tuple[int, ...]) -> int:
    """Layers that layer-wise learning rates tell apart.

    Patch embedding, every block, every merging, and one for all that follows.
    """
    return sum(depths) + len(depths) - 1 + 2


def layer_index(path: tuple[str, ...], depths: tuple[int, ...]) -> int:
    """Layer of a parameter, 0 at the image to `num_layers(depths) - 1` at the output.

    MIM-Depth's rule: a merging counts as one more layer of the stage that it closes;
    the final norm, the decoder and the head are the last layer. The usual scale of the
    learning rate is decay ** (num_layers(depths) - 1 - layer_index(path, depths)).

    Args:
      path: names from the root of the parameters, such as ("encoder",
        "stage2_block17", "attn", "proj", "kernel").
      depths: blocks per stage.
    """
    for part in path:
        if part == "patch_embed":
            return 0
        match = re.fullmatch(r"stage(\d+)_(?:block(\d+)|merge)", part)
        if match is None:
            continue
        stage = int(match[1])
        block = depths[stage] if match[2] is None else int(match[2])
        return 1 + sum(depths[:stage]) + stage + block
    return num_layers(depths) - 1


def has_weight_decay(path: tuple[str, ...], leaf_ndim: int) -> bool:
    """Whether a parameter is decayed: not vectors, logit scales, position-bias MLPs."""
    exempt = {"bias", "logit_scale", "rpe_mlp"}
    return leaf_ndim > 1 and exempt.isdisjoint(path)
