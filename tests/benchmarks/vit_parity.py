"""Vision transformers and DPT against transformers' classes in PyTorch, random weights.

    python tests/benchmarks/vit_parity.py [--size small] [--gradients]

Dinov2, Dinov2WithRegisters and DINOv3-ViT (the normed output of every block) and
DepthAnything, relative and metric (depth), in float32 on images of several shapes.
The weights go through a .safetensors file and the names of `amlr_jax.convert`. Printed
are the numbers of parameters, the largest differences and whether they hold.
"""

import argparse
import functools
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers as peers
from flax.traverse_util import flatten_dict
from safetensors.torch import save_file

from amlr_jax.models import depth, vision_transformer
from amlr_jax.models.decoders.dpt import PRESETS as WIDTHS
from amlr_jax.models.from_torch import files, sources
from amlr_jax.models.from_torch.assign import assign
from amlr_jax.models.from_torch.tables import TABLES

FEATURE, RELATIVE, GRADIENT = 1e-4, 1e-3, 1e-3  # the largest differences that hold


def randomized(model):
    """The peer with no parameter at a neutral value."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if p.ndim in (2, 4):
                p.copy_(noise / p[0].numel() ** 0.5)
            else:
                one = name.endswith("lambda1") or "norm" in name.split(".")[-2]
                p.copy_(float(one and not name.endswith("bias")) + 0.1 * noise)
    return model.eval()


def count_parameters(model, *, but: tuple[str, ...]) -> int:
    """Without those of unused modules."""
    named = model.named_parameters()
    return sum(p.numel() for n, p in named if not any(part in n for part in but))


def encoder_config(family: str, size: str, **options):
    preset = vision_transformer.PRESETS[family][size]
    common = {
        "hidden_size": preset["embed_dim"],
        "num_hidden_layers": preset["depth"],
        "num_attention_heads": preset["num_heads"],
        "attn_implementation": "eager",
    }
    if family == "dinov3":
        width = 4 * preset["embed_dim"]
        options |= {"intermediate_size": width, "num_register_tokens": 4}
        return peers.DINOv3ViTConfig(**common, **options)
    options |= {"image_size": 518, "patch_size": 14}
    options |= {"use_swiglu_ffn": preset.get("gated", False)}
    if "num_register_tokens" in options:
        return peers.Dinov2WithRegistersConfig(**common, **options)
    return peers.Dinov2Config(**common, **options)


def converted(source: str, tensors: dict):
    """Our network's name, options and variables, as `amlr_jax.convert` makes them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file({n: t.contiguous() for n, t in tensors.items()}, path)
        found = sources.recognise(source, files.read(path))
    shapes = depth.variable_shapes(network(found.name, found.options))
    given = {"parts": found.parts}
    variables, report = assign(found.tensors, TABLES[source], shapes, **given)
    return found, variables, report


def network(name: str, options: dict):
    options = {k: v for k, v in options.items() if k != "shorter_side"}
    return depth.network(name, max_depth=80.0, dtype="float32", **options)


def image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((1, height, width, 3), np.float32)


def for_torch(image_BHWC: np.ndarray):
    mean, std = vision_transformer.IMAGE_MEAN, vision_transformer.IMAGE_STD
    x = (image_BHWC - np.float32(mean)) / np.float32(std)
    return torch.from_numpy(x.transpose(0, 3, 1, 2).copy())


def compare_encoder(family: str, size: str, cells: list, gradients: bool, **options):
    config = encoder_config(family, size, **options)
    kind = type(config).__name__.removesuffix("Config") + "Model"
    model = randomized(getattr(peers, kind)(config))
    found, variables, _ = converted(family, model.state_dict())
    params = {"params": variables["params"]["encoder"]}
    count = sum(x.size for x in jax.tree.leaves(params))
    theirs = count_parameters(model, but=("mask_token",))
    net = network(found.name, found.options).encoder
    net = net.clone(levels=tuple(range(net.depth)))
    report(f"{kind} {size}: parameters", count, theirs, exact=True)
    prefix, patch = 1 + net.registers, net.patch_size
    for rows, columns in cells:
        x = image(patch * rows, patch * columns)
        with torch.no_grad():
            out = model(for_torch(x), output_hidden_states=True)
            norm = model.layernorm if family == "dinov2" else model.norm
            hidden = out.hidden_states[-net.depth :]
            wanted = [norm(state)[:, prefix:].numpy() for state in hidden]
        got = jax.jit(functools.partial(net.apply, train=False))(params, x)
        pairs = zip(got, wanted, strict=True)
        worst = max(np.abs(g.reshape(w.shape) - w).max() for g, w in pairs)
        report(f"  {len(got)} levels, {rows} x {columns} patches", worst, FEATURE)
    if gradients:
        compare_gradients(family, model, net, params["params"], x)


def compare_gradients(source: str, model, net, params, x) -> None:
    """Of the mean of sin of the last level."""
    prefix = 1 + net.registers
    model(for_torch(x)).last_hidden_state[:, prefix:].sin().sum().backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    wanted = converted(source, grads)[1]["params"]["encoder"]

    def total(params):
        return jnp.sin(net.apply({"params": params}, x, train=False)[-1]).sum()

    got = jax.jit(jax.grad(total))(params)
    report("  gradients", worst_gradient(got, wanted), GRADIENT)


def worst_gradient(got, wanted) -> float:
    """Largest difference relative to the largest value of the parameter's gradient."""
    got, wanted = flatten_dict(got), flatten_dict(wanted)
    largest = max(np.abs(w).max() for w in wanted.values())
    worst = 0.0
    for path, w in wanted.items():
        if path[-2:] == ("qkv", "bias"):  # that of the keys has no influence: noise
            continue
        # what is noise about zero is measured by the largest gradient
        scale = max(np.abs(w).max(), 1e-4 * largest)
        worst = max(worst, float(np.abs(got[path] - w).max() / scale))
    return worst


def compare_depth(size: str, kind: str, cells: list, gradients: bool) -> None:
    levels = vision_transformer.PRESETS["dinov2"][size]["levels"]
    out = {"out_indices": [n + 1 for n in levels], "reshape_hidden_states": False}
    widths, channels = WIDTHS[size]
    config = peers.DepthAnythingConfig(
        backbone_config=encoder_config("dinov2", size, **out),
        reassemble_hidden_size=vision_transformer.PRESETS["dinov2"][size]["embed_dim"],
        neck_hidden_sizes=list(widths),
        fusion_hidden_size=channels,
        depth_estimation_type=kind,
        max_depth=80 if kind == "metric" else 1,
    )
    model = randomized(peers.DepthAnythingForDepthEstimation(config))
    with torch.no_grad():
        model.head.conv3.bias.fill_(1.0)  # so that relative depth is not all zero
    found, variables, _ = converted("depth_anything_v2", model.state_dict())
    name = found.name + ("_metric_outdoor" if kind == "metric" else "")
    net = network(name, found.options)
    count = sum(x.size for x in jax.tree.leaves(variables))
    unused = ("mask_token", "fusion_stage.layers.0.residual_layer1")
    theirs = count_parameters(model, but=unused)
    report(f"DepthAnything {size}, {kind}: parameters", count, theirs, exact=True)

    def output(variables, x):
        if kind == "metric":
            return net.apply(variables, x, train=False)
        return net.apply(variables, x, train=False, method="disparities")[0]

    for rows, columns in cells:
        x = image(14 * rows, 14 * columns)
        wanted = model(for_torch(x)).predicted_depth
        got = jax.jit(output)(variables, x)
        w = wanted.detach().numpy()
        worst = np.abs(got - w).max() / np.abs(w).max()
        each = np.max(np.abs(got - w) / np.maximum(np.abs(w), 0.01 * w.max()))
        report(f"  depth, {rows} x {columns} patches", max(worst, each), RELATIVE)
    if gradients:
        wanted.sin().sum().backward()
        grads = {n: p.grad for n, p in model.named_parameters()}
        grads = {n: g for n, g in grads.items() if g is not None}
        wanted = converted("depth_anything_v2", grads)[1]["params"]

        def total(params):
            return jnp.sin(output({"params": params}, x)).sum()

        got = jax.jit(jax.grad(total))(variables["params"])
        report("  gradients", worst_gradient(got, wanted), GRADIENT)


def report(what: str, found, bound, *, exact: bool = False) -> None:
    holds = found == bound if exact else found <= bound
    text = f"{found:,}" if exact else f"{found:.1e}"
    print(f"{what:55}{text:>14}  {'holds' if holds else f'MISSED {bound}'}", flush=True)


def main() -> None:
    """Prints a line for each comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="small")
    parser.add_argument("--gradients", action="store_true")
    options = parser.parse_args()
    cells = [(37, 37), (12, 20), (5, 3)]
    given = options.size, cells, options.gradients
    compare_encoder("dinov2", *given)
    if options.size in vision_transformer.PRESETS["dinov3"]:
        compare_encoder("dinov2", *given, num_register_tokens=4)
        compare_encoder("dinov3", *given)
        for kind in ("relative", "metric"):
            compare_depth(options.size, kind, *given[1:])


if __name__ == "__main__":
    main()
