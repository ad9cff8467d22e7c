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
import numpy as np
from einops import rearrange

from amlr_jax.models import swin_v2_presets, windows
from amlr_jax.models.attention import WindowAttention, linear_init

PRESETS = swin_v2_presets.MIM_DEPTH  # the names, and the settings of MIM-Depth


class Convention(NamedTuple):
    """What tells the official network from MIM-Depth's."""

    norm_eps: float
    shrinks_window: bool  # to the height of a map that is not higher; no shift then


CONVENTIONS = {
    "mim_depth": Convention(norm_eps=1e-6, shrinks_window=False),
    "official": Convention(norm_eps=1e-5, shrinks_window=True),
}


def _gelu(x: jax.Array) -> jax.Array:
    """x (1 + erf(x / sqrt(2))) / 2, in float32: 1 + erf loses digits in bfloat16.

    As PyTorch computes it. `jax.nn.gelu` goes by erfc, which is slower on a CPU.
    """
    y = x.astype(jnp.float32)
    return (0.5 * y * (1.0 + jax.lax.erf(y * np.float32(np.sqrt(0.5))))).astype(x.dtype)


class Mlp(nn.Module):
    """Linear, exact GELU, linear: (..., C) to (..., C)."""

    ratio: float = 4.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        options = {"dtype": self.dtype, "kernel_init": linear_init}
        x = nn.Dense(int(self.ratio * channels), **options, name="fc1")(x)
        x = _gelu(x)
        return nn.Dense(channels, **options, name="fc2")(x)


def _layer_norm(eps: float, name: str, scale: float = 1.0) -> nn.LayerNorm:
    return nn.LayerNorm(
        epsilon=eps,
        dtype=jnp.float32,
        use_fast_variance=False,
        scale_init=nn.initializers.constant(scale),
        name=name,
    )


class SwinBlock(nn.Module):
    """Post-norm block: x + norm(attention(x)), then x + norm(mlp(x)); (B, H, W, C)."""

    num_heads: int
    window: int
    pretrained_window: int
    shift: int
    drop_path: float
    mlp_ratio: float
    norm_eps: float
    residual_init: float
    dtype: Any
    attention: str = "xla"

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, train: bool) -> jax.Array:
        def residual(y: jax.Array, name: str) -> jax.Array:
            y = _layer_norm(self.norm_eps, name, self.residual_init)(y)
            return nn.Dropout(
                self.drop_path, broadcast_dims=(1, 2, 3), rng_collection="drop_path"
            )(y, deterministic=not train)

        x_BHWC = x_BHWC + residual(self._attend(x_BHWC), "norm1")
        mlp = Mlp(self.mlp_ratio, dtype=self.dtype, name="mlp")
        return x_BHWC + residual(mlp(x_BHWC), "norm2")

    def _attend(self, x_BHWC: jax.Array) -> jax.Array:
        """Pad, shift, attend within windows, undo."""
        _, height, width, _ = x_BHWC.shape
        x = windows.pad_to_multiple(x_BHWC.astype(self.dtype), self.window)
        padded = x.shape[1:3]
        regions = None
        if self.shift:
            x = jnp.roll(x, (-self.shift, -self.shift), axis=(1, 2))
            regions = windows.shift_regions(
                *padded, window=self.window, shift=self.shift
            )
        x = WindowAttention(
            self.num_heads,
            self.window,
            self.pretrained_window,
            dtype=self.dtype,
            implementation=self.attention,
            name="attn",
        )(windows.partition(x, self.window), regions)
        x = windows.reverse(x, self.window, *padded)
        if self.shift:
            x = jnp.roll(x, (self.shift, self.shift), axis=(1, 2))
        return x[:, :height, :width]


class PatchEmbed(nn.Module):
    """Non-overlapping patches to tokens: (B, H, W, 3) to (B, H/p, W/p, C), float32."""

    embed_dim: int
    patch_size: int
    norm_eps: float
    dtype: Any

    @nn.compact
    def __call__(self, image_BHWC: jax.Array) -> jax.Array:
        patch = (self.patch_size, self.patch_size)
        x = nn.Conv(
            self.embed_dim,
            patch,
            strides=patch,
            padding="VALID",
            dtype=self.dtype,
            kernel_init=linear_init,
            name="proj",
        )(windows.pad_to_multiple(image_BHWC, self.patch_size))
        return _layer_norm(self.norm_eps, "norm")(x)


class PatchMerging(nn.Module):
    """2 x 2 tokens to one: (B, H, W, C) to (B, H/2, W/2, 2C), rounded up; float32.

    The four are concatenated in the order (row, column) = 00, 10, 01, 11; the norm
    follows the reduction (version 2).
    """

    norm_eps: float
    dtype: Any

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        channels = x_BHWC.shape[-1]
        x = windows.pad_to_multiple(x_BHWC.astype(self.dtype), 2)
        x = rearrange(x, "b (h p) (w q) c -> b h w (q p c)", p=2, q=2)
        x = nn.Dense(
            2 * channels,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=linear_init,
            name="reduction",
        )(x)
        return _layer_norm(self.norm_eps, "norm")(x)


def drop_path_rates(maximum: float, depths: tuple[int, ...]) -> tuple[float, ...]:
    """One rate per block, from 0 up to `maximum` in equal steps over all blocks."""
    return tuple(float(rate) for rate in np.linspace(0.0, maximum, sum(depths)))


class SwinV2(nn.Module):
    """Swin V2 encoder. Takes images of any size, in float, and shape (B, H, W, 3).

    Attributes:
      embed_dim: channels C of the first stage; they double from stage to stage.
      depths, num_heads, window_size, pretrained_window_size, use_shift: one entry per
        stage. With `use_shift` every second block shifts by half a window. A pretrained
        window of 0 is the window itself.
      drop_path: rate of the last block; see `drop_path_rates`. Needs the random stream
        "drop_path" in training. A sample loses a whole residual branch.
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
        return [*stages, _layer_norm(norm_eps, "norm")(x)]

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
        if image_BHWC.ndim != 4 or image_BHWC.shape[-1] != 3:
            raise ValueError(
                f"`image_BHWC` must have shape (B, H, W, 3), got {image_BHWC.shape}."
            )
        if self.convention not in CONVENTIONS:
            raise ValueError(
                f"`convention` must be one of {', '.join(CONVENTIONS)}, got "
                f"{self.convention!r}."
            )
        for name in ("num_heads", "window_size", "pretrained_window_size", "use_shift"):
            if len(getattr(self, name)) != len(self.depths):
                raise ValueError(
                    f"`{name}` must have one entry for each of {len(self.depths)} "
                    f"stages, got {getattr(self, name)}."
                )
        for stage, heads in enumerate(self.num_heads):
            if self.embed_dim * 2**stage % heads:
                raise ValueError(
                    "`num_heads` must divide the channels of its stage: stage "
                    f"{stage} has {self.embed_dim * 2**stage}, got {heads}."
                )


def encoder(name: str, *, convention: str = "mim_depth", **overrides: Any) -> SwinV2:
    """The encoder of that name: "nano", "tiny", "small", "base", "large" or "huge".

    Args:
      name: of the size.
      convention: "mim_depth" or "official"; windows, shifts, drop path and initial
        values are then those of that system's configurations.
      **overrides: attributes of `SwinV2`; one that is None keeps the preset's value.
    """
    for label, value, known in (
        ("name", name, PRESETS),
        ("convention", convention, CONVENTIONS),
    ):
        if value not in known:
            raise ValueError(
                f"`{label}` must be one of {', '.join(known)}, got {value!r}."
            )
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
