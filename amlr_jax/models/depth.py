"""Depth networks by name, from plain Python values.

A family is a group of names with one builder, whose keyword arguments are the options
of the family; other options are refused.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from amlr_jax.models import (
    mix_transformer,
    precision,
    resnet,
    swin_v2,
    vision_transformer,
)
from amlr_jax.models.decoders.depth import (
    REFERENCE_KERNEL_STD,
    GradualDecoder,
    SelectiveFusionDecoder,
)
from amlr_jax.models.decoders.disparity import FiveLevelDecoder, SkipDecoder
from amlr_jax.models.decoders.dpt import PRESETS as DPT_PRESETS
from amlr_jax.models.decoders.dpt import MetricDPT, RelativeDPT
from amlr_jax.models.depth_network import DepthNetwork
from amlr_jax.models.layers import check_one_of

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
ACTIVATIONS = {"silu": nn.silu, "relu": nn.relu}
# Attributes of the encoder that are options; the presets give the others.
SWIN_OPTIONS = ("convention", "window_size", "pretrained_window_size", "drop_path")
# Parameters without weight decay, beside all vectors.
UNDECAYED = {"bias", "logit_scale", "rpe_mlp"}  # of Swin-v2
UNDECAYED |= {"cls_token", "register_tokens", "pos_embed"}  # of vision transformers
_SWIN, _GLP = "swin_v2_", "glpdepth_"
# Family and size of the encoder of networks with a `RelativeDPT` or a `MetricDPT`.
_RELATIVE_DPT = {
    f"depth_anything_v2_{size}": ("dinov2", size) for size in ("small", "base", "large")
}
_METRIC_DPT = {
    f"{family}_{size}_dpt": (family, size)
    for family, sizes in vision_transformer.PRESETS.items()
    for size in sizes
}
_METRIC_DPT |= {
    f"{name}_metric_{place}": encoder
    for name, encoder in _RELATIVE_DPT.items()
    for place in ("indoor", "outdoor")
}
_DPT = _METRIC_DPT | _RELATIVE_DPT
WITH_ATTENTION = (_SWIN, _GLP, *_DPT)


def _swin_v2(
    name: str,
    common: dict,
    *,
    max_depth: float,
    decoder_channels: tuple[int, ...] | None = None,
    decoder_activation: str = "silu",
    **encoder_options: Any,
) -> dict:
    encoder = swin_v2.encoder(name.removeprefix(_SWIN), **encoder_options, **common)
    width = encoder.embed_dim
    from_scratch = name == "swin_v2_nano"
    check_one_of("decoder_activation", decoder_activation, ACTIVATIONS)
    decoder = GradualDecoder(
        channels=decoder_channels or (4 * width, 2 * width, width),
        head_channels=width,
        max_depth=max_depth,
        activation=ACTIVATIONS[decoder_activation],
        kernel_init="he" if from_scratch else REFERENCE_KERNEL_STD,
        dtype=common["dtype"],
    )
    return {"encoder": encoder, "decoder": decoder}


def _glpdepth(name: str, common: dict, *, max_depth: float, **options: Any) -> dict:
    encoder = mix_transformer.encoder(name.removeprefix(_GLP), **options, **common)
    width = encoder.embed_dims[0]  # 64, and 32 for b0: the finest skip's
    decoder = SelectiveFusionDecoder(width, max_depth, dtype=common["dtype"])
    return {"encoder": encoder, "decoder": decoder}


def _dpt(name: str, common: dict, *, max_depth: float, **options: Any) -> dict:
    relative = name in _RELATIVE_DPT
    family, size = _DPT[name]
    encoder = vision_transformer.encoder(family, size, **options, **common)
    widths, channels = DPT_PRESETS[size]
    decoder = (RelativeDPT if relative else MetricDPT)(
        widths=widths,
        channels=channels,
        patch_size=encoder.patch_size,
        max_depth=max_depth,
        dtype=common["dtype"],
    )
    return {
        "encoder": encoder,
        "decoder": decoder,
        "multiple_of": encoder.patch_size,
        "resize": "cubic",
        "decoder_resizes": relative,
    }


def _on_resnet(name: str, common: dict, *, max_depth: float, **options: Any) -> dict:
    kind = SkipDecoder if name == "monodepth2" else FiveLevelDecoder
    return {
        "encoder": resnet.ResNet18(dtype=common["dtype"]),
        "decoder": kind(max_depth=max_depth, dtype=common["dtype"], **options),
        "multiple_of": 32,
        "resize": "lanczos3",
        "decoder_resizes": True,
    }


_SWIN_FAMILY = ("decoder_channels", "decoder_activation", *SWIN_OPTIONS)
# Names, builder and options of each family.
_FAMILIES: tuple[tuple[Iterable[str], Callable, tuple[str, ...]], ...] = (
    ([_SWIN + size for size in swin_v2.PRESETS], _swin_v2, _SWIN_FAMILY),
    ([_GLP + size for size in mix_transformer.PRESETS], _glpdepth, ("drop_path",)),
    (_DPT, _dpt, ("registers", "drop_path")),
    (["monodepth2"], _on_resnet, ()),
    (["five_level"], _on_resnet, ("upsampling", "planes")),
)
BUILDERS = {n: (make, options) for names, make, options in _FAMILIES for n in names}
NETWORKS = tuple(BUILDERS)


def network(
    name: str,
    *,
    max_depth: float,
    dtype: str = "auto",
    attention: str = "auto",
    remat: bool = False,
    input_scale: float = 1.0,
    input_size: tuple[int, int] | None = None,
    shorter_side: int | None = None,
    **options: Any,
) -> DepthNetwork:
    """The network of that name; every argument is a plain Python value.

    Args:
      name: "swin_v2_{nano,tiny,small,base,large,huge}", "glpdepth_{b0..b5}",
        "dinov2_{small,base,large,giant}_dpt", "dinov3_{small,base,large}_dpt",
        "depth_anything_v2_{small,base,large}", the same with "_metric_indoor" or
        "_metric_outdoor", "monodepth2" or "five_level". The metric Depth Anything is
        the network of dinov2_*_dpt; its published `max_depth` is 20 m indoors and 80 m
        outdoors.
      max_depth: largest depth in metres, 80 for KITTI and 10 for NYU; 100 for
        monodepth2, up to its unknown scale.
      dtype: "float32", "bfloat16" or "auto", of the matrix products; parameters are
        float32.
      attention: "xla", "cudnn" or "auto", of the encoders with attention; "auto" is
        the best of the device, see `precision.choose`.
      remat: recompute the encoder's blocks in the backward pass, to save memory
        (no effect on a ResNet).
      input_scale, input_size, shorter_side: see `DepthNetwork`.
      **options: of the family; None keeps the preset's value.
        swin_v2: convention ("mim_depth" or "official"), window_size,
        pretrained_window_size, drop_path (see `swin_v2.SwinV2`), decoder_channels
        (None: (4C, 2C, C) for a first stage of C channels; MIM-Depth's is
        (32, 32, 32)), decoder_activation ("silu", AMLR's, or "relu", MIM-Depth's).
        The decoder's initial kernels are MIM-Depth's (standard deviation 0.001), and
        He's for nano, which trains from scratch.
        dinov2, dinov3, depth_anything_v2: registers, drop_path (see
        `vision_transformer.VisionTransformer`).
        glpdepth: drop_path. five_level: upsampling ("nearest", "subpixel_head" or
        "subpixel_levels"), planes (of inverse depth, 48 in GVO; 0: a sigmoid).
    """
    check_one_of("name", name, NETWORKS)
    for label, value in (("max_depth", max_depth), ("input_scale", input_scale)):
        if not value > 0:
            raise ValueError(f"`{label}` must be positive, got {value}.")
    given = {key: _plain(value) for key, value in options.items() if value is not None}
    build, known = BUILDERS[name]
    for option in given:
        if option not in known:
            takes = ", ".join(known) or "none"
            raise ValueError(f"`{option}` is no option of {name}, which takes {takes}.")
    chosen = chosen_precision(name, dtype, attention)
    common = {"dtype": DTYPES[chosen.dtype], "remat": remat}
    common["attention"] = chosen.attention
    parts = build(name, common, max_depth=float(max_depth), **given)
    return DepthNetwork(
        **parts,
        input_scale=float(input_scale),
        input_size=_plain(input_size),
        shorter_side=shorter_side,
    )


def chosen_precision(
    name: str, dtype: str | None, attention: str | None
) -> precision.Precision:
    """`precision.choose` for a network; one without attention is at "xla"."""
    if name.startswith(WITH_ATTENTION):
        return precision.choose(dtype, attention)
    if attention == "cudnn":
        raise ValueError(f"`attention` must be auto for {name}, which has none.")
    return precision.choose(dtype, "xla")


def fitted_to_device(name: str, options: dict) -> dict:
    """Options of `network`, with what this device cannot compute with replaced."""
    fitting = precision.supported(options.get("dtype"), options.get("attention"))
    if not name.startswith(WITH_ATTENTION):
        fitting = fitting._replace(attention="xla")
    return {**options, **fitting._asdict()}


def compute_dtype(name: str | None) -> Any:
    """The dtype of that name; of another device's, this device's (`precision`)."""
    return DTYPES[precision.supported(name).dtype]


def precision_of(network: DepthNetwork) -> precision.Precision:
    """What a network computes with."""
    encoder, decoder = (getattr(network, x, None) for x in ("encoder", "decoder"))
    dtype = jnp.dtype(getattr(decoder, "dtype", jnp.float32)).name
    return precision.Precision(dtype, getattr(encoder, "attention", "xla"))


def layer_scale(network: DepthNetwork, decay: float) -> Callable:
    """Path of a parameter to the factor of its learning rate, for layer-wise decay.

    decay ** (layers above it) for a Swin-v2 (`swin_v2.layer_of`) and for a vision
    transformer (`vision_transformer.layer_of`). The other encoders have no layer
    groups in their references: there `decay` must be 1.
    """
    if decay == 1:
        return lambda path: 1.0
    encoder = network.encoder
    if isinstance(encoder, swin_v2.SwinV2):
        layer_of: Callable = partial(swin_v2.layer_of, depths=encoder.depths)
    elif isinstance(encoder, vision_transformer.VisionTransformer):
        layer_of = partial(vision_transformer.layer_of, depth=encoder.depth)
    else:
        raise ValueError(
            "`layer_decay` is defined for swin_v2, dinov2, dinov3 and "
            f"depth_anything_v2 networks; for others it must be 1, got {decay}."
        )

    def scale(path: tuple[str, ...]) -> float:
        layer, last = layer_of(path)
        return decay ** (last - layer)

    return scale


def has_weight_decay(path: tuple[str, ...], leaf_ndim: int) -> bool:
    """Whether a parameter is decayed: matrices and kernels, but for `UNDECAYED`."""
    return leaf_ndim > 1 and UNDECAYED.isdisjoint(path)


def variable_shapes(network: DepthNetwork) -> dict:
    """Shapes of the network's variables, the same for images of any size."""
    side = round(64 / min(network.input_scale, 1))  # 64 as the encoder sees it
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    key = jax.random.key(0)
    return jax.eval_shape(lambda x: network.init(key, x, train=False), image)


def parameter_count(params: Any) -> int:
    """The number of parameters in a tree of arrays or of their shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _plain(value: Any) -> Any:
    """A list of a configuration as a tuple, which is hashable."""
    return tuple(value) if isinstance(value, list | tuple) else value
