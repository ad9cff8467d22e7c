"""State dicts of GLPDepth, and of SegFormer's encoders that it starts from.

"glpdepth" is the whole network. "mit" is the ImageNet checkpoint of a Mix Transformer
(mit_b0.pth to mit_b5.pth), which goes to the encoder of a depth network; its classifier
is left out. Names in PyTorch count stages from 1, ours from 0.
"""

from amlr_jax.models.from_torch.names import Module

STAGES = 4


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


def _encoder(prefix: str) -> tuple[Module, ...]:
    return tuple(
        row for number in range(1, STAGES + 1) for row in _stage(number, prefix)
    )


_FUSION = r"decoder\.(fusion[123])"
_DECODER = (
    Module(r"decoder\.bot_conv", "decoder/bottleneck_conv", "conv"),
    Module(r"decoder\.(skip_conv[12])", "decoder/{0}", "conv"),
    Module(_FUSION + r"\.conv([12])\.0", "decoder/{0}/conv{1}", "conv"),
    Module(_FUSION + r"\.conv([12])\.1", "decoder/{0}/norm{1}", "batch_norm"),
    Module(_FUSION + r"\.conv3", "decoder/{0}/conv3", "conv"),
    Module(r"last_layer_depth\.0", "decoder/head_conv", "conv"),
    Module(r"last_layer_depth\.2", "decoder/head_depth", "conv"),
)

TABLES = {
    "glpdepth": (*_encoder(r"encoder\."), *_DECODER),
    "mit": (*_encoder(""), Module(r"head\.(?:weight|bias)", "", "buffer")),
}
