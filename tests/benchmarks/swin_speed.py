"""Our Swin-v2 encoder beside transformers' `Swinv2Model` in PyTorch.

    python tests/benchmarks/swin_speed.py [--rounds 10] [--threads 2] [--batch 1]

Swin-v2-tiny with windows of 8, as microsoft/swinv2-tiny-patch4-window8-256, on 352x352
images in float32, with random weights: the last normed features, and the gradient of
their mean square with respect to all parameters. All run in turn in one process, with
the same cores; printed are medians and the ratio of ours to each peer.
"""

import argparse
import functools
import os
import statistics
import time

SIZE = 352
TARGET = 1.0  # of PyTorch eager, at most


def limit_threads(threads: int) -> None:
    """The same number of cores for both, before either library starts its pool."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    os.environ["OMP_NUM_THREADS"] = str(threads)


def ours(batch: int) -> dict:
    """Calls that wait for their result."""
    import jax
    import jax.numpy as jnp

    from amlr_jax.models import swin_v2

    net = swin_v2.encoder(
        "tiny", convention="official", drop_path=0.0, residual_init=1.0
    )
    image = jax.random.normal(jax.random.key(1), (batch, SIZE, SIZE, 3))
    init = jax.jit(functools.partial(net.init, train=False))
    params = init(jax.random.key(0), image)["params"]

    def encode(params, image):
        return net.apply({"params": params}, image, train=False)[-1]

    def loss(params, image):
        return jnp.square(encode(params, image)).mean()

    forward = jax.jit(encode).lower(params, image).compile()
    both = jax.jit(jax.value_and_grad(loss)).lower(params, image).compile()
    return {
        "forward": lambda: jax.block_until_ready(forward(params, image)),
        "forward+backward": lambda: jax.block_until_ready(both(params, image)),
    }


def transformers_model(batch: int, threads: int):
    """The peer and an image."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    config = transformers.Swinv2Config(
        image_size=SIZE, window_size=8, drop_path_rate=0.0
    )
    model = transformers.Swinv2Model(config, add_pooling_layer=False).eval()
    return model, torch.randn(batch, 3, SIZE, SIZE)


def torch_calls(model, image) -> dict:
    """The same two calls on `model`."""
    import torch

    def forward():
        with torch.no_grad():
            return model(image).last_hidden_state

    def both():
        model.zero_grad(set_to_none=True)
        model(image).last_hidden_state.square().mean().backward()

    return {"forward": forward, "forward+backward": both}


def prepare(batch: int, threads: int) -> dict[str, dict]:
    """The calls by implementation and what they compute."""
    import torch

    model, image = transformers_model(batch, threads)
    return {
        "ours": ours(batch),
        "eager": torch_calls(model, image),
        "torch.compile": torch_calls(torch.compile(model), image),
    }


def measure(runs: dict[str, dict], rounds: int) -> dict[tuple[str, str], float]:
    """Median milliseconds of each call, all in turn."""
    names = [(who, what) for what in runs["ours"] for who in runs]
    times: dict[tuple[str, str], list[float]] = {name: [] for name in names}
    for turn in range(rounds + 2):
        for who, what in names:
            start = time.perf_counter()
            runs[who][what]()
            if turn >= 2:
                times[who, what].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    options = parser.parse_args()
    limit_threads(options.threads)
    runs = prepare(options.batch, options.threads)
    medians = measure(runs, options.rounds)
    print(f"median ms of {options.rounds} rounds, {options.batch}x{SIZE}x{SIZE}")
    for what in runs["ours"]:
        mine = medians["ours", what]
        print(f"{what:18}{'ours':>14}{mine:9.1f}")
        for peer in ("eager", "torch.compile"):
            ratio = mine / medians[peer, what]
            verdict = ""
            if peer == "eager":
                verdict = "holds" if ratio <= TARGET else "MISSED"
            print(f"{'':18}{peer:>14}{medians[peer, what]:9.1f}  {ratio:.3f} {verdict}")


if __name__ == "__main__":
    main()
