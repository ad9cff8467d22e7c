"""Names of the tensors of each source, as tables for `assign`.

swinv2      the official classifiers; the bias MLP is `cpb_mlp`
simmim      the pretraining of SimMIM: an encoder without its decoder; the bias MLP is
            `cpb_mlp` or the older `rpe_mlp`
mim_depth   the whole depth network; its decoder becomes our `GradualDecoder`
glpdepth    the whole depth network
mit         Mix Transformers of SegFormer trained on ImageNet (mit_b0.pth to mit_b5.pth)
dinov2, dinov3      the encoders of Meta's repositories
depth_anything_v2   the whole depth network, relative or metric
monodepth2  encoder.pth, depth.pth, pose_encoder.pth and pose.pth of a folder: names are
            "<file>:<name in the file>"; `pose/...` is the pose network
resnet18    torchvision's
gvo         GVO's flow network, `flow/...`, and the depth network of its depth stage

All Swin-v2 have the same order of merged tokens, layout of q, k, v and position bias,
so only names differ. Heads of other tasks, mask tokens and tables that are computed
anew are buffers.
"""

from amlr_jax.models.from_torch.assign import Module

_BLOCK = r"layers\.(\d+)\.blocks\.(\d+)\."
_MERGE = r"layers\.(\d+)\.downsample\."
_OURS = "encoder/stage{0}_block{1}/"


def _swin_v2(prefix: str) -> tuple[Module, ...]:
    """Rows of the encoder, but for its last norm, whose modules are `prefix`..."""
    block, merge = prefix + _BLOCK, prefix + _MERGE
    mlp = block + r"attn\.(?:rpe|cpb)_mlp\."
    tables = r"attn\.(?:relative_coords_table|relative_position_index)|attn_mask"
    return (
        Module(prefix + r"patch_embed\.proj", "encoder/patch_embed/proj", "conv"),
        Module(prefix + r"patch_embed\.norm", "encoder/patch_embed/norm", "norm"),
        Module(block + r"attn\.qkv", _OURS + "attn/qkv", "linear"),
        Module(block + r"attn\.proj", _OURS + "attn/proj", "linear"),
        Module(block + r"attn\.q_bias", _OURS + "attn/q_bias", "array"),
        Module(block + r"attn\.v_bias", _OURS + "attn/v_bias", "array"),
        Module(block + r"attn\.logit_scale", _OURS + "attn/logit_scale", "array"),
        Module(mlp + "0", _OURS + "attn/rpe_mlp/fc1", "linear"),
        Module(mlp + "2", _OURS + "attn/rpe_mlp/fc2", "linear"),
        Module(block + r"(norm[12])", _OURS + "{2}", "norm"),
        Module(block + r"mlp\.(fc[12])", _OURS + "mlp/{2}", "linear"),
        Module(merge + "reduction", "encoder/stage{0}_merge/reduction", "linear"),
        Module(merge + "norm", "encoder/stage{0}_merge/norm", "norm"),
        Module(block + f"(?:{tables})", "", "buffer"),
    )


_GRADUAL = (
    Module(r"decoder\.deconv_layers\.0", "decoder/deconv0", "deconv"),
    Module(r"decoder\.deconv_layers\.1", "decoder/deconv0_norm", "batch_norm"),
    Module(r"decoder\.deconv_layers\.3", "decoder/deconv1", "deconv"),
    Module(r"decoder\.deconv_layers\.4", "decoder/deconv1_norm", "batch_norm"),
    Module(r"decoder\.deconv_layers\.6", "decoder/deconv2", "deconv"),
    Module(r"decoder\.deconv_layers\.7", "decoder/deconv2_norm", "batch_norm"),
    Module(r"decoder\.conv_layers\.0", "decoder/conv", "conv"),
    Module(r"decoder\.conv_layers\.1", "decoder/conv_norm", "batch_norm"),
    Module(r"last_layer_depth\.0", "decoder/head_conv", "conv"),
    Module(r"last_layer_depth\.2", "decoder/head_depth", "conv"),
)


def _stage(number: int, prefix: str) -> tuple[Module, ...]:
    """Rows of one stage, `number` from 1; `prefix` is a pattern."""
    embed, ours = f"{prefix}patch_embed{number}", f"encoder/stage{number - 1}"
    block, our_block = rf"{prefix}block{number}\.(\d+)", ours + "_block{0}"
    return (
        Module(rf"{embed}\.proj", f"{ours}_patch_embed/proj", "conv"),
        Module(rf"{embed}\.norm", f"{ours}_patch_embed/norm", "norm"),
        Module(rf"{block}\.(norm[12])", our_block + "/{1}", "norm"),
        Module(rf"{block}\.attn\.(q|kv|proj)", our_block + "/attn/{1}", "linear"),
        Module(rf"{block}\.attn\.sr", our_block + "/attn/sr", "conv"),
        Module(rf"{block}\.attn\.norm", our_block + "/attn/sr_norm", "norm"),
        Module(rf"{block}\.mlp\.(fc[12])", our_block + "/mlp/{1}", "linear"),
        Module(rf"{block}\.mlp\.dwconv\.dwconv", our_block + "/mlp/dwconv", "conv"),
        Module(rf"{prefix}norm{number}", f"{ours}_norm", "norm"),
    )


def _mix_transformer(prefix: str) -> tuple[Module, ...]:
    return tuple(row for number in range(1, 5) for row in _stage(number, prefix))


def _vision_transformer(prefix: str = "") -> tuple[Module, ...]:
    """Rows of DINOv2's and DINOv3's encoder, whose modules are `prefix`..."""
    block, ours = prefix + r"blocks\.(\d+)\.", "encoder/block{0}/"
    tables = r"blocks\.\d+\.attn\.qkv\.bias_mask|rope_embed\.periods"
    return (
        Module(prefix + r"patch_embed\.proj", "encoder/patch_embed", "conv"),
        Module(prefix + r"(cls_token|pos_embed)", "encoder/{0}", "array"),
        Module(
            prefix + r"(?:register|storage)_tokens", "encoder/register_tokens", "array"
        ),
        Module(block + r"(norm[12])", ours + "{1}", "norm"),
        Module(block + r"attn\.(qkv|proj)", ours + "attn/{1}", "linear"),
        Module(block + r"attn\.([qv]_bias)", ours + "attn/{1}", "array"),
        Module(block + r"(ls[12])\.gamma", ours + "{1}", "array"),
        Module(block + r"mlp\.(fc[12]|w12|w3)", ours + "mlp/{1}", "linear"),
        Module(prefix + "norm", "encoder/norm", "norm"),
        Module(prefix + rf"(?:mask_token|head\..*|{tables})", "", "buffer"),
    )


def _dpt() -> tuple[Module, ...]:
    """Rows of Depth Anything V2's head; its deepest fusion has a unit without use."""
    head, scratch = r"depth_head\.", r"depth_head\.scratch\."
    rows = [Module(scratch + r"refinenet4\.resConfUnit1\..*", "", "buffer")]
    for n in range(4):
        refine, ours = scratch + rf"refinenet{n + 1}\.", f"decoder/fusion{n}_"
        kind = "deconv" if n < 2 else "conv"
        rows += [
            Module(rf"{head}projects\.{n}", f"decoder/project{n}", "conv"),
            Module(rf"{head}resize_layers\.{n}", f"decoder/resize{n}", kind),
            Module(rf"{scratch}layer{n + 1}_rn", f"decoder/level{n}", "conv"),
            Module(refine + "out_conv", ours + "project", "conv"),
            Module(
                refine + r"resConfUnit([12])\.(conv[12])", ours + "unit{0}/{1}", "conv"
            ),
        ]
    last = {"1": "conv1", r"2\.0": "conv2", r"2\.2": "depth"}
    return (
        *rows,
        *(
            Module(f"{scratch}output_conv{theirs}", f"decoder/head_{ours}", "conv")
            for theirs, ours in last.items()
        ),
    )


_FUSION = r"decoder\.(fusion[123])"
_SELECTIVE_FUSION = (
    Module(r"decoder\.bot_conv", "decoder/bottleneck_conv", "conv"),
    Module(r"decoder\.(skip_conv[12])", "decoder/{0}", "conv"),
    Module(_FUSION + r"\.conv([12])\.0", "decoder/{0}/conv{1}", "conv"),
    Module(_FUSION + r"\.conv([12])\.1", "decoder/{0}/norm{1}", "batch_norm"),
    Module(_FUSION + r"\.conv3", "decoder/{0}/conv3", "conv"),
    Module(r"last_layer_depth\.0", "decoder/head_conv", "conv"),
    Module(r"last_layer_depth\.2", "decoder/head_depth", "conv"),
)


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


_FLOW = r"(?:flow_model\.)?flow_net\."
_LEVELS = {"Two": 2, "Thr": 3, "Fou": 4, "Fiv": 5, "Six": 6}


def _flow_network() -> tuple[Module, ...]:
    """The pyramid, the decoders of levels 2 to 6, and the refiner.

    The convolutions of a decoder are named One, Two, ...; its last one netFLow.
    """
    rows = [
        Module(
            _FLOW + r"netExtractor\.feature([1-6])\.([012])\.0",
            "flow/pyramid{0}_conv{1}",
            "conv",
        )
    ]
    for word, level in _LEVELS.items():
        theirs, ours = _FLOW + rf"net{word}\.", f"flow/level{level}_"
        convs = enumerate(("One", "Two", "Thr", "Fou", "Fiv"))
        names = {rf"net{name}\.0": f"conv{place}" for place, name in convs}
        names |= {"netFLow": "scores", "netfeat": "reduce"}
        rows += [Module(theirs + old, ours + new, "conv") for old, new in names.items()]
    refiner = _FLOW + r"netRefiner\.netMain\."
    for place in range(7):
        rows.append(Module(f"{refiner}{2 * place}", f"flow/refine_conv{place}", "conv"))
    return tuple(rows)


def _plane_decoder() -> tuple[Module, ...]:
    """Level i is number i - 1 in GVO; the `reduce` of its heads have no use there."""
    rows = [Module(r"depth_net\.get_disp\.reduce\d\..*", "", "buffer")]
    for level in range(1, 6):
        ours, number = f"decoder/level{level}_", level - 1
        for old, new in (("pre", "lateral"), ("iconv", "fusion")):
            theirs = rf"depth_net\.decoder\.{old}{number}\.0\.1"
            rows.append(Module(theirs, ours + new, "conv"))
        head = rf"depth_net\.get_disp\.med{number}\.0"
        rows.append(Module(head, f"decoder/head{level}", "conv"))
    return tuple(rows)


TABLES: dict[str, tuple[Module, ...]] = {
    # Official encoders are at times kept inside a model, as `encoder.`.
    "swinv2": (
        *_swin_v2(r"(?:|encoder\.)"),
        Module(r"(?:|encoder\.)norm", "encoder/norm", "norm"),
        Module(r"(?:|encoder\.)head\..*", "", "buffer"),
    ),
    # MIM-Depth names its last norm otherwise, so that it does not load SimMIM's but
    # starts it as the identity: so do we.
    "simmim": (
        *_swin_v2(r"(?:encoder\.)?"),
        Module(r"(?:encoder\.)?(?:mask_token|norm\..*)|decoder\..*", "", "buffer"),
    ),
    "mim_depth": (
        *_swin_v2(r"encoder\."),
        Module(r"encoder\.norm3", "encoder/norm", "norm"),
        *_GRADUAL,
    ),
    "glpdepth": (*_mix_transformer(r"encoder\."), *_SELECTIVE_FUSION),
    "mit": (
        *_mix_transformer(""),
        Module(r"head\.(?:weight|bias)|(?:decode|auxiliary)_head\..*", "", "buffer"),
    ),
    "dinov2": _vision_transformer(),
    "dinov3": _vision_transformer(),
    "depth_anything_v2": (*_vision_transformer(r"(?:pretrained\.|)"), *_dpt()),
    "monodepth2": (
        *_resnet(r"encoder:encoder\.", "encoder/"),
        *_skip_decoder(),
        *_resnet(r"pose_encoder:encoder\.", "pose/encoder/"),
        Module(r"pose:net\.([0-3])", "pose/decoder/conv{0}", "conv"),
    ),
    "resnet18": _resnet("", "encoder/"),
    "gvo": (
        *_flow_network(),
        *_resnet(r"depth_net\.encoder\.encoder\.", "encoder/"),
        *_plane_decoder(),
    ),
}
