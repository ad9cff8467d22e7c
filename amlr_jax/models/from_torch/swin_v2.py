"""Names of Swin-v2 in PyTorch: the official code's, SimMIM's, MIM-Depth's, HF's.

The order of the merged tokens, the layout of q, k, v and the position bias are the same
everywhere, so only names differ:

    swinv2        the official classification checkpoints, `cpb_mlp` for the bias MLP
    simmim        the pretraining of SimMIM: an encoder without its decoder; `cpb_mlp`
                  or the older name `rpe_mlp`
    mim_depth     the whole depth network; its decoder ends in our `GradualDecoder`
    transformers  `Swinv2Model` of Hugging Face, whose three matrices query, key and
                  value must first become one, `attention.self.qkv`

Heads of other tasks, mask tokens and tables that are computed anew are buffers.
"""

from amlr_jax.models.from_torch.names import Module

_BLOCK = r"layers\.(\d+)\.blocks\.(\d+)\."
_MERGE = r"layers\.(\d+)\.downsample\."
_OURS = "encoder/stage{0}_block{1}/"


def _official(prefix: str = "") -> tuple[Module, ...]:
    """Rows of the encoder, but for its last norm, whose modules are `prefix`..."""
    block, merge = prefix + _BLOCK, prefix + _MERGE
    mlp = block + r"attn\.(?:cpb|rpe)_mlp\."
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


_DECODER = (
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


def _transformers() -> tuple[Module, ...]:
    """Rows of `Swinv2Model`, with or without the prefix of a task's model."""
    prefix = r"(?:swinv2\.)?"
    block = prefix + r"encoder\.layers\.(\d+)\.blocks\.(\d+)\."
    merge = prefix + r"encoder\.layers\.(\d+)\.downsample\."
    embed = prefix + r"embeddings\."
    attn, mlp = block + r"attention\.self\.", _OURS + "mlp/"
    bias = attn + r"continuous_position_bias_mlp\."
    tables = r"(?:relative_coords_table|relative_position_index)"
    return (
        Module(
            embed + r"patch_embeddings\.projection", "encoder/patch_embed/proj", "conv"
        ),
        Module(embed + "norm", "encoder/patch_embed/norm", "norm"),
        Module(attn + "qkv", _OURS + "attn/qkv", "linear"),
        Module(attn + r"query\.bias", _OURS + "attn/q_bias", "array"),
        Module(attn + r"value\.bias", _OURS + "attn/v_bias", "array"),
        Module(attn + "logit_scale", _OURS + "attn/logit_scale", "array"),
        Module(bias + "0", _OURS + "attn/rpe_mlp/fc1", "linear"),
        Module(bias + "2", _OURS + "attn/rpe_mlp/fc2", "linear"),
        Module(block + r"attention\.output\.dense", _OURS + "attn/proj", "linear"),
        Module(block + "layernorm_before", _OURS + "norm1", "norm"),
        Module(block + "layernorm_after", _OURS + "norm2", "norm"),
        Module(block + r"intermediate\.dense", mlp + "fc1", "linear"),
        Module(block + r"output\.dense", mlp + "fc2", "linear"),
        Module(merge + "reduction", "encoder/stage{0}_merge/reduction", "linear"),
        Module(merge + "norm", "encoder/stage{0}_merge/norm", "norm"),
        Module(prefix + "layernorm", "encoder/norm", "norm"),
        Module(attn + tables, "", "buffer"),
        Module(r"classifier\..*|(?:swinv2\.)?embeddings\.mask_token", "", "buffer"),
    )


TABLES: dict[str, tuple[Module, ...]] = {
    "swinv2": (
        *_official(),
        Module("norm", "encoder/norm", "norm"),
        Module(r"head\..*", "", "buffer"),
    ),
    # MIM-Depth names its last norm otherwise, so that it does not load SimMIM's but
    # starts it as the identity: so do we.
    "simmim": (
        *_official(r"(?:encoder\.)?"),
        Module(r"(?:encoder\.)?(?:mask_token|norm\..*)|decoder\..*", "", "buffer"),
    ),
    "mim_depth": (
        *_official(r"encoder\."),
        Module(r"encoder\.norm3", "encoder/norm", "norm"),
        *_DECODER,
    ),
    "transformers": _transformers(),
}
