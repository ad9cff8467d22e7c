"""Our Depth Anything V2 small beside transformers' in PyTorch.

    python tests/benchmarks/vit_speed.py [--rounds 10] [--threads 2] [--size 252 336]

Images of batch 1 in float32 with random weights: relative depth, and the gradient of
its mean square with respect to all parameters. Both run in turn in one process, with
the same cores; printed are medians and the ratio of ours to PyTorch eager.
"""

import argparse
import functools

import swin_speed  # the file beside this one


def ours(height: int, width: int) -> dict:
    """Calls that wait for their result."""
    import jax
    import jax.numpy as jnp

    from amlr_jax.models import depth

    net = depth.network("depth_anything_v2_small", max_depth=100.0)
    image = jax.random.uniform(jax.random.key(1), (1, height, width, 3))
    init = jax.jit(functools.partial(net.init, train=False))
    variables = init(jax.random.key(0), image)

    def predict(variables, image):
        return net.apply(variables, image, train=False, method="disparities")[0]

    def loss(variables, image):
        return jnp.square(predict(variables, image)).mean()

    forward = jax.jit(predict).lower(variables, image).compile()
    both = jax.jit(jax.value_and_grad(loss)).lower(variables, image).compile()
    return {
        "forward": lambda: jax.block_until_ready(forward(variables, image)),
        "forward+backward": lambda: jax.block_until_ready(both(variables, image)),
    }


def transformers_calls(height: int, width: int, threads: int) -> dict:
    """The same two calls on `DepthAnythingForDepthEstimation`, with its own SDPA."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    encoder = transformers.Dinov2Config(
        hidden_size=384,
        num_attention_heads=6,
        image_size=518,
        out_indices=[3, 6, 9, 12],
        reshape_hidden_states=False,
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=encoder, reassemble_hidden_size=384
    )
    config.neck_hidden_sizes, config.fusion_hidden_size = [48, 96, 192, 384], 64
    model = transformers.DepthAnythingForDepthEstimation(config).eval()
    image = torch.randn(1, 3, height, width)

    def forward():
        with torch.no_grad():
            return model(image).predicted_depth

    def both():
        model.zero_grad(set_to_none=True)
        model(image).predicted_depth.square().mean().backward()

    return {"forward": forward, "forward+backward": both}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, nargs=2, default=[252, 336])
    options = parser.parse_args()
    swin_speed.limit_threads(options.threads)
    runs = {"ours": ours(*options.size)}
    runs["eager"] = transformers_calls(*options.size, options.threads)
    medians = swin_speed.measure(runs, options.rounds)
    print(f"median ms of {options.rounds} rounds, {options.size[0]}x{options.size[1]}")
    for what in runs["ours"]:
        mine, peer = medians["ours", what], medians["eager", what]
        verdict = "holds" if mine <= swin_speed.TARGET * peer else "MISSED"
        ratio = f"{mine / peer:.3f} {verdict}"
        print(f"{what:18}ours {mine:9.1f}   eager {peer:9.1f}   {ratio}")


if __name__ == "__main__":
    main()
