"""Other libraries' names of the same tensors, to those of the official files.

Each naming is recognised by one of its names. A row is a pattern of a whole module name
and its official name, where {0}, {1} are the groups and {next} is group 0 plus 1. A
tensor whose official name ends in "#0", "#1" is joined with its others along axis 0.
"""

import re
from typing import NamedTuple

import numpy as np

from amlr_jax.runtime.errors import InputError


class Naming(NamedTuple):
    """The names of one library; what no row knows keeps its name."""

    holds: str  # for people
    sign: str  # pattern of a name that only this naming has
    rows: tuple[tuple[str, str], ...]


_STAGES = r"(?:swinv2\.)?encoder\.layers\.(\d+)\."
_SWIN = _STAGES + r"blocks\.(\d+)\."
_BLOCK = "layers.{0}.blocks.{1}."
_SELF = _SWIN + r"attention\.self\."
HUGGING_FACE_SWIN = Naming(
    "Hugging Face's Swin-v2",
    r"(?:swinv2\.)?embeddings\.patch_embeddings\.projection\.weight",
    (
        (r"(?:swinv2\.)?embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
        (r"(?:swinv2\.)?embeddings\.norm", "patch_embed.norm"),
        (r"(?:swinv2\.)?embeddings\.(mask_token)", "head.{0}"),
        (_SELF + r"(logit_scale|relative_\w+)", _BLOCK + "attn.{2}"),
        (_SELF + r"continuous_position_bias_mlp\.(\d)", _BLOCK + "attn.cpb_mlp.{2}"),
        (_SELF + r"query\.weight", _BLOCK + "attn.qkv.weight#0"),
        (_SELF + r"key\.weight", _BLOCK + "attn.qkv.weight#1"),
        (_SELF + r"value\.weight", _BLOCK + "attn.qkv.weight#2"),
        (_SELF + r"query\.bias", _BLOCK + "attn.q_bias"),
        (_SELF + r"value\.bias", _BLOCK + "attn.v_bias"),
        (_SWIN + r"attention\.output\.dense", _BLOCK + "attn.proj"),
        (_SWIN + r"layernorm_before", _BLOCK + "norm1"),
        (_SWIN + r"layernorm_after", _BLOCK + "norm2"),
        (_SWIN + r"intermediate\.dense", _BLOCK + "mlp.fc1"),
        (_SWIN + r"output\.dense", _BLOCK + "mlp.fc2"),
        (_STAGES + r"downsample\.(\w+)", "layers.{0}.downsample.{1}"),
        (r"(?:swinv2\.)?layernorm", "norm"),
        (r"classifier", "head"),
    ),
)

_MIT = "block{next}.{1}."


def _segformer(
    embed: str, block: str, attention: dict[str, str], norm: str
) -> tuple[tuple[str, str], ...]:
    """Rows of a Mix Transformer; patterns, of which `attention` has our part first."""
    parts = ((block + pattern, _MIT + ours) for ours, pattern in attention.items())
    return (
        (embed + r"\.proj", "patch_embed{next}.proj"),
        (embed + r"\.layer_norm", "patch_embed{next}.norm"),
        *parts,
        (block + r"mlp\.dwconv\.dwconv", _MIT + "mlp.dwconv.dwconv"),
        (norm, "norm{next}"),
        (r"classifier", "head"),
    )


HUGGING_FACE_SEGFORMER = Naming(
    "Hugging Face's SegFormer",
    r"(?:segformer\.)?encoder\.patch_embeddings\.0\.proj\.weight",
    _segformer(
        r"(?:segformer\.)?encoder\.patch_embeddings\.(\d)",
        r"(?:segformer\.)?encoder\.block\.(\d)\.(\d+)\.",
        {
            "norm1": r"layer_norm_1",
            "norm2": r"layer_norm_2",
            "attn.q": r"attention\.self\.query",
            "attn.kv.{2}#0": r"attention\.self\.key\.(weight|bias)",
            "attn.kv.{2}#1": r"attention\.self\.value\.(weight|bias)",
            "attn.sr": r"attention\.self\.sr",
            "attn.norm": r"attention\.self\.layer_norm",
            "attn.proj": r"attention\.output\.dense",
            "mlp.fc{2}": r"mlp\.dense([12])",
        },
        r"(?:segformer\.)?encoder\.layer_norm\.(\d)",
    ),
)
_STAGE = r"(?:segformer\.)?stages\.(\d)\."
HUGGING_FACE_SEGFORMER_5 = Naming(
    "Hugging Face's SegFormer (transformers 5)",
    _STAGE + r"patch_embeddings\.proj\.weight",
    _segformer(
        _STAGE + "patch_embeddings",
        _STAGE + r"blocks\.(\d+)\.",
        {
            "norm1": r"layernorm_before",
            "norm2": r"layernorm_after",
            "attn.q": r"attention\.q_proj",
            "attn.kv.{2}#0": r"attention\.k_proj\.(weight|bias)",
            "attn.kv.{2}#1": r"attention\.v_proj\.(weight|bias)",
            "attn.sr": r"attention\.sequence_reduction\.sequence_reduction",
            "attn.norm": r"attention\.sequence_reduction\.layer_norm",
            "attn.proj": r"attention\.o_proj",
            "mlp.fc{2}": r"mlp\.fc([12])",
        },
        _STAGE + "layer_norm",
    ),
)

_MM = r"layers\.(\d)\.1\.(\d+)\."
MMSEGMENTATION = Naming(
    "MMSegmentation's Mix Transformer",
    r"layers\.\d\.0\.projection\.weight",
    (
        (r"layers\.(\d)\.0\.projection", "patch_embed{next}.proj"),
        (r"layers\.(\d)\.0\.norm", "patch_embed{next}.norm"),
        (_MM + r"(norm[12])", _MIT + "{2}"),
        (_MM + r"attn\.attn\.in_proj_(weight|bias)", _MIT + "attn.q+kv.{2}"),
        (_MM + r"attn\.attn\.out_proj", _MIT + "attn.proj"),
        (_MM + r"attn\.(sr|norm)", _MIT + "attn.{2}"),
        (_MM + r"ffn\.layers\.0", _MIT + "mlp.fc1"),
        (_MM + r"ffn\.layers\.1", _MIT + "mlp.dwconv.dwconv"),
        (_MM + r"ffn\.layers\.4", _MIT + "mlp.fc2"),
        (r"layers\.(\d)\.2", "norm{next}"),
    ),
)
_DINO, _HEAD = r"(?:dinov2\w*\.)?", "depth_head.scratch."
_NECK = r"neck\.fusion_stage\.layers\."
_REASSEMBLE = r"neck\.reassemble_stage\.layers\.(\d)\."


def _dino(layer: str) -> tuple[tuple[str, str], ...]:
    """Rows of a DINO encoder, whose block is `layer`, and of Depth Anything's head."""
    block, ours = _DINO + layer + r"\.(\d+)\.", "blocks.{0}."
    attention = block + r"attention\.(?:attention\.)?"
    return (
        (_DINO + r"embeddings\.(cls_token|mask_token|register_tokens)", "{0}"),
        (_DINO + r"embeddings\.position_embeddings", "pos_embed"),
        (_DINO + r"embeddings\.patch_embeddings(?:\.projection)?", "patch_embed.proj"),
        (block + r"(norm[12])", ours + "{1}"),
        (attention + r"(?:query|q_proj)\.(\w+)", ours + "attn.qkv.{1}#0"),
        (attention + r"(?:key|k_proj)\.(\w+)", ours + "attn.qkv.{1}#1"),
        (attention + r"(?:value|v_proj)\.(\w+)", ours + "attn.qkv.{1}#2"),
        (block + r"attention\.(?:output\.dense|o_proj)", ours + "attn.proj"),
        (block + r"layer_scale([12])\.lambda1", ours + "ls{1}.gamma"),
        (block + r"mlp\.weights_in", ours + "mlp.w12"),
        (block + r"mlp\.weights_out", ours + "mlp.w3"),
        (block + r"mlp\.(fc[12])", ours + "mlp.{1}"),
        (_DINO + r"(?:layer)?norm", "norm"),
        (r"classifier", "head"),
        (_REASSEMBLE + "projection", "depth_head.projects.{0}"),
        (_REASSEMBLE + "resize", "depth_head.resize_layers.{0}"),
        (r"neck\.convs\.(\d)", _HEAD + "layer{next}_rn"),
        *_fusions(),
        (r"head\.conv1", _HEAD + "output_conv1"),
        (r"head\.conv2", _HEAD + "output_conv2.0"),
        (r"head\.conv3", _HEAD + "output_conv2.2"),
    )


def _fusions() -> tuple[tuple[str, str], ...]:
    """Hugging Face counts the fusions from the coarsest map, Depth Anything last."""
    unit = r"\.residual_layer([12])\.convolution([12])"
    rows: list[tuple[str, str]] = []
    for n in range(4):
        refine = f"{_HEAD}refinenet{4 - n}."
        rows.append((rf"{_NECK}{n}\.projection", refine + "out_conv"))
        rows.append((rf"{_NECK}{n}{unit}", refine + "resConfUnit{0}.conv{1}"))
    return tuple(rows)


_GIANT = _DINO + r"encoder\.layer\.(\d+)\.mlp\."
HUGGING_FACE_DINOV2 = Naming(
    "Hugging Face's DINOv2",
    _DINO + r"encoder\.layer\.\d+\.norm1\.weight",
    (
        # transformers 5's names of giant's SwiGLU
        (_GIANT + r"gate_proj\.(\w+)", "blocks.{0}.mlp.w12.{1}#0"),
        (_GIANT + r"up_proj\.(\w+)", "blocks.{0}.mlp.w12.{1}#1"),
        (_GIANT + "down_proj", "blocks.{0}.mlp.w3"),
        *_dino(r"encoder\.layer"),
    ),
)
HUGGING_FACE_DINOV3 = Naming(
    "Hugging Face's DINOv3",
    r"layer\.\d+\.norm1\.weight",
    (
        (r"layer\.(\d+)\.attention\.([qv])_proj\.bias", "blocks.{0}.attn.{1}_bias"),
        (r"layer\.(\d+)\.mlp\.up_proj", "blocks.{0}.mlp.fc1"),
        (r"layer\.(\d+)\.mlp\.down_proj", "blocks.{0}.mlp.fc2"),
        *_dino(r"layer"),
    ),
)
NAMINGS = (
    HUGGING_FACE_DINOV2,
    HUGGING_FACE_DINOV3,
    HUGGING_FACE_SWIN,
    HUGGING_FACE_SEGFORMER,
    HUGGING_FACE_SEGFORMER_5,
    MMSEGMENTATION,
)


def official(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors by their official names; InputError for a joined one without a part.

    timm merges at the start of a stage, `layers.1.downsample`, where the official code
    merges at the end of the one before, `layers.0.downsample`.

    DINOv3 stores a bias of the keys that a mask makes zero.
    """
    for naming in NAMINGS:
        if any(re.fullmatch(naming.sign, name) for name in tensors):
            renamed = {_renamed(n, naming.rows): x for n, x in tensors.items()}
            return _joined(_split(renamed), naming)
    if any(name.endswith(".qkv.bias_mask") for name in tensors):
        return _without_key_bias(tensors)
    merges = {m[1] for n in tensors if (m := re.match(r"layers\.(\d)\.downsample", n))}
    if merges and "0" not in merges:
        pattern = r"(?<=^layers\.)\d(?=\.downsample)"
        return {re.sub(pattern, _before, name): x for name, x in tensors.items()}
    return tensors


def _before(match: re.Match) -> str:
    return str(int(match[0]) - 1)


def _renamed(name: str, rows: tuple[tuple[str, str], ...]) -> str:
    module, _, leaf = name.rpartition(".")
    for pattern, ours in rows:
        for whole, end in ((name, ""), (module, f".{leaf}")):
            if match := re.fullmatch(pattern, whole):
                groups = match.groups()
                count = int(groups[0]) + 1 if groups and groups[0].isdigit() else 0
                return ours.format(*groups, next=count) + end
    return name


def _split(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The parts of PyTorch's q, k, v in one; 1 x 1 convolutions as linear layers."""
    found = {}
    for name, tensor in tensors.items():
        if ".attn.q+kv." in name:
            third = len(tensor) // 3
            found[name.replace("q+kv", "q")] = tensor[:third]
            found[name.replace("q+kv", "kv")] = tensor[third:]
        elif re.search(r"\.mlp\.fc[12]\.weight$", name) and tensor.ndim == 4:
            found[name] = tensor[:, :, 0, 0]
        else:
            found[name] = tensor
    return found


def _without_key_bias(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = {}
    for name, tensor in tensors.items():
        if name.endswith(".attn.qkv.bias"):
            q_bias, _, v_bias = np.split(tensor, 3)
            stem = name.removesuffix("qkv.bias")
            found |= {stem + "q_bias": q_bias, stem + "v_bias": v_bias}
        else:
            found[name] = tensor
    return found


def _joined(tensors: dict[str, np.ndarray], naming: Naming) -> dict[str, np.ndarray]:
    parts: dict[str, dict[int, np.ndarray]] = {}
    found = {}
    for name, tensor in tensors.items():
        whole, joint, number = name.partition("#")
        if joint:
            parts.setdefault(whole, {})[int(number)] = tensor
        else:
            found[name] = tensor
    for name, some in parts.items():
        needed = 3 if ".qkv." in name else 2
        if len(some) != needed or len({x.shape[1:] for x in some.values()}) > 1:
            raise InputError(
                f"the input of {naming.holds} has {len(some)} of the {needed} parts of "
                f"{name}; the file is not whole"
            )
        found[name] = np.concatenate([some[number] for number in sorted(some)])
    return found
