"""Depth networks by name, from plain Python values.

A family is a group of names with one builder, whose keyword arguments are the options
of the family; other options are refused.
"""

import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from amlr_jax.models import mix_transformer, precision, resnet, swin_v2
from amlr_jax.models.decoders.depth import (
    REFERENCE_KERNEL_STD,
    GradualDecoder,
    SelectiveFusionDecoder,
)
from amlr_jax.models.decoders.disparity import FiveLevelDecoder, SkipDecoder
from amlr_jax.models.depth_network import DepthNetwork
from amlr_jax.models.layers import check_one_of

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
ACTIVATIONS = {"silu": nn.silu, "relu": nn.relu}
# Attributes of the encoder that are options; the presets give the others.
SWIN_OPTIONS = ["convention", "window_size", "pretrained_window_size", "use_shift"]
SWIN_OPTIONS += ["drop_path"]
_SWIN, _GLP = "swin_v2_", "glpdepth_"
WITH_ATTENTION = (_SWIN, _GLP)


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


def _glpdepth(
    name: str, common: dict, *, max_depth: float, drop_path: float = 0.1
) -> dict:
    encoder = mix_transformer.encoder(
        name.removeprefix(_GLP), drop_path=drop_path, **common
    )
    decoder = SelectiveFusionDecoder(
        channels=encoder.embed_dims[0],  # 64, and 32 for b0: the finest skip's
        max_depth=max_depth,
        dtype=common["dtype"],
    )
    return {"encoder": encoder, "decoder": decoder}


def _monodepth2(name: str, common: dict, *, max_depth: float) -> dict:
    del name
    decoder = SkipDecoder(max_depth=max_depth, dtype=common["dtype"])
    return _on_resnet(decoder)


def _five_level(
    name: str,
    common: dict,
    *,
    max_depth: float,
    upsampling: str = "nearest",
    planes: int = 0,
) -> dict:
    del name
    decoder = FiveLevelDecoder(
        max_depth=max_depth,
        upsampling=upsampling,
        planes=planes,
        dtype=common["dtype"],
    )
    return _on_resnet(decoder)


def _on_resnet(decoder: nn.Module) -> dict:
    return {
        "encoder": resnet.ResNet18(dtype=decoder.dtype),
        "decoder": decoder,
        "multiple_of": 32,
        "resize": "lanczos3",
        "decoder_resizes": True,
    }


_FAMILIES = (
    (tuple(_SWIN + name for name in swin_v2.PRESETS), _swin_v2),
    (tuple(_GLP + name for name in mix_transformer.PRESETS), _glpdepth),
    (("monodepth2",), _monodepth2),
    (("five_level",), _five_level),
)
BUILDERS: dict[str, Callable] = {n: make for names, make in _FAMILIES for n in names}
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
    **options: Any,
) -> DepthNetwork:
    """The network of that name; every argument is a plain Python value.

    Args:
      name: "swin_v2_{nano,tiny,small,base,large,huge}", "glpdepth_{b0..b5}",
        "monodepth2" or "five_level".
      max_depth: largest depth in metres, 80 for KITTI and 10 for NYU; 100 for
        monodepth2, up to its unknown scale.
      dtype: "float32", "bfloat16" or "auto", of the matrix products; parameters are
        float32.
      attention: "xla", "cudnn" or "auto", of the encoders with attention; "auto" is
        the best of the device, see `precision.choose`.
      remat: recompute the encoder's blocks in the backward pass, to save memory
        (no effect on a ResNet).
      input_scale, input_size: see `DepthNetwork`.
      **options: of the family; None keeps the preset's value.
        swin_v2: convention ("mim_depth" or "official"), window_size,
        pretrained_window_size, use_shift, drop_path (see `swin_v2.SwinV2`),
        decoder_channels (None: (4C, 2C, C) for a first stage of C channels; MIM-Depth's
        is (32, 32, 32)), decoder_activation ("silu", AMLR's, or "relu", MIM-Depth's).
        The decoder's initial kernels are MIM-Depth's (standard deviation 0.001), and
        He's for nano, which trains from scratch.
        glpdepth: drop_path. five_level: upsampling ("nearest", "subpixel_head" or
        "subpixel_levels"), planes (of inverse depth, 48 in GVO; 0: a sigmoid).
    """
    _check_arguments(name, max_depth=max_depth, input_scale=input_scale)
    given = {key: _plain(value) for key, value in options.items() if value is not None}
    build = BUILDERS[name]
    _check_options(name, build, given)
    chosen = chosen_precision(name, dtype, attention)
    common = {"dtype": DTYPES[chosen.dtype], "remat": remat}
    common["attention"] = chosen.attention
    parts = build(name, common, max_depth=float(max_depth), **given)
    return DepthNetwork(
        **parts, input_scale=float(input_scale), input_size=_plain(input_size)
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

    decay ** (layers above it) for a Swin-v2 (see `swin_v2.layer_index`). The other
    encoders have no layer groups in their references: there `decay` must be 1.
    """
    if decay == 1:
        return lambda path: 1.0
    if not isinstance(network.encoder, swin_v2.SwinV2):
        raise ValueError(
            "`layer_decay` is defined for swin_v2 networks; for others it must be 1, "
            f"got {decay}."
        )
    depths = network.encoder.depths
    last = swin_v2.num_layers(depths) - 1
    return lambda path: decay ** (last - swin_v2.layer_index(path, depths))


has_weight_decay = swin_v2.has_weight_decay


def variable_shapes(network: DepthNetwork) -> dict:
    """Shapes of the network's variables, the same for images of any size."""
    side = round(64 / min(network.input_scale, 1))  # 64 as the encoder sees it
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    key = jax.random.key(0)
    return jax.eval_shape(lambda x: network.init(key, x, train=False), image)


def _plain(value: Any) -> Any:
    """A list of a configuration as a tuple, which is hashable."""
    return tuple(value) if isinstance(value, list | tuple) else value


def _check_options(name: str, build: Callable, options: dict) -> None:
    parameters = inspect.signature(build).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    known.remove("max_depth")
    if build is _swin_v2:
        known += SWIN_OPTIONS
    for option in options:
        if option not in known:
            raise ValueError(
                f"`{option}` is no option of {name}, which takes "
                f"{', '.join(known) or 'none'}."
            )


def _check_arguments(name: str, *, max_depth: float, input_scale: float) -> None:
    check_one_of("name", name, NETWORKS)
    for label, value in (("max_depth", max_depth), ("input_scale", input_scale)):
        if not value > 0:
            raise ValueError(f"`{label}` must be positive, got {value}.")
