"""A training step of a config on this machine's device: speed, MFU, memory, kernels.

    python tests/benchmarks/train_step.py [--config configs/kitti.py:large] [--batch 6]
        [--dtype auto] [--attention auto] [--steps 20] [--trace DIR] [--peer]

The step is the one that a run compiles: objective, rebalancer, AdamW and the test of
skipping, on a synthetic batch that is already on the device. `--trace` profiles three
steps, writes a trace for ui.perfetto.dev to DIR, and prints the time of the kernels by
the module whose operation they compute, and the longest kernels; it turns CUDA graphs
off, which hide the names of the operations. `--peer` also times
transformers' Swin-v2 encoder of the same size in PyTorch, eager and compiled, with
fused AdamW and, on a GPU, bfloat16 autocast: the encoder alone, without decoder and
losses, so less work than ours.
"""

import argparse
import gzip
import importlib.util
import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import numpy as np

from amlr_jax.runtime import mesh as meshes
from amlr_jax.runtime.command import load_config
from amlr_jax.train import build
from amlr_jax.train.flops import model_flops, peak_flops
from amlr_jax.train.step import compile_step

WARM_UP = 3
TRACED = 3  # steps
ROWS = 15  # of the tables of kernels


def synthetic(config, size: int) -> dict[str, np.ndarray]:
    """A batch of noise with depth at a tenth of the pixels."""
    rng, (height, width) = np.random.default_rng(0), config.data.crop
    depth = rng.uniform(1.0, config.model.max_depth, (size, height, width))
    depth *= rng.random(depth.shape) < 0.1
    return {
        "image": rng.integers(0, 256, (size, height, width, 3), np.uint8),
        "depth": depth.astype(np.float32),
        "intrinsics": np.ones((size, 4), np.float32),
        "index": np.arange(size, dtype=np.int32),
    }


class Step:
    """The compiled step with its state and batch."""

    def __init__(self, config) -> None:
        made, mesh = build.components(config), meshes.make_mesh(fsdp=1)
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            state = jax.jit(partial(build.state_before_training, config, made))()
        self.state = jax.device_put(state, meshes.replicated(mesh))
        self.batch = meshes.put_local(synthetic(config, config.batch_size), mesh)
        function = compile_step(
            mesh,
            accumulate=config.optimizer.accumulate,
            objective=made.objective.losses,
            rebalancer=made.rebalancer,
            optimizer=made.optimizer,
            schedule=made.schedule,
        )
        traced = function.trace(self.state, self.batch)
        self.flops = model_flops(traced.jaxpr)
        start = time.perf_counter()
        self.compiled = traced.lower().compile()
        self.compile_seconds = time.perf_counter() - start

    def __call__(self) -> None:
        """Starts a step; `wait` waits for it."""
        self.state, self.metrics = self.compiled(self.state, self.batch)

    def wait(self) -> None:
        """Waits for the last step."""
        jax.block_until_ready(self.metrics)


def seconds_a_step(step: Callable, wait: Callable, steps: int) -> float:
    """The mean of `steps` that follow each other without waiting."""
    for _ in range(WARM_UP):
        step()
    wait()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    return (time.perf_counter() - start) / steps


def report(step: Step, config, seconds: float) -> None:
    """Speed, MFU and memory."""
    device, size = jax.local_devices()[0], config.batch_size
    print(f"{device.device_kind}, {config.model.dtype}, {config.model.attention}")
    print(f"compiled in {step.compile_seconds:.1f} s")
    print(f"{1e3 * seconds:.1f} ms a step, {size / seconds:.1f} images/s")
    rate = step.flops / seconds
    peak = peak_flops(device.device_kind, config.model.dtype)
    share = f", MFU {rate / peak / jax.device_count():.1%}" if peak else ""
    one, every = step.flops / size / 1e12, rate / 1e12
    print(f"{one:.3f} TFLOP an image, {every:.2f} TFLOP/s{share}")
    temporary = step.compiled.memory_analysis().temp_size_in_bytes
    print(f"temporary memory {temporary / 2**30:.2f} GiB (XLA's account)")
    if stats := device.memory_stats():
        print(f"peak memory {stats['peak_bytes_in_use'] / 2**30:.2f} GiB")


def trace(step: Step, folder: Path) -> None:
    """Profiles some steps and prints where their time goes."""
    jax.profiler.start_trace(folder, create_perfetto_trace=True)
    for _ in range(TRACED):
        step()
    step.wait()
    jax.profiler.stop_trace()
    newest = max(
        folder.rglob("perfetto_trace.json.gz"), key=lambda p: p.stat().st_mtime
    )
    with gzip.open(newest) as file:
        events = json.load(file)["traceEvents"]
    of_operation = dict(OPERATION.findall(step.compiled.as_text()))
    kernels: Counter[str] = Counter()
    modules: Counter[str] = Counter()
    for event in events:
        name = event.get("args", {}).get("hlo_op")
        if name and "dur" in event:
            kernels[name] += event["dur"]
            modules[module_of(of_operation.get(name, ""))] += event["dur"]
    for title, times in (("module", modules), ("kernel", kernels)):
        print(f"\nms a step  {title}")
        for name, microseconds in times.most_common(ROWS):
            where = f"  {of_operation.get(name, '')}" if title == "kernel" else ""
            print(f"{microseconds / 1e3 / TRACED:9.2f}  {name}{where[:90]}")


OPERATION = re.compile(r'%?([\w.-]+) = .*?metadata={[^}]*op_name="([^"]+)"')


def module_of(operation: str) -> str:
    """`backward encoder/layers` of `jit(f)/transpose(jvp(g))/encoder/layers_2/dot`."""
    parts = [p for p in re.split(r"/", operation) if not re.search(r"[()]", p)]
    names = [re.sub(r"_?\d+$", "", p) for p in parts[:-1]][:3]
    way = "backward " if "transpose(" in operation else ""
    return way + ("/".join(names) or "optimizer and rest")


def peers(encoder, config, steps: int) -> None:
    """PyTorch's times for the encoder alone."""
    import torch
    import transformers

    device = "cuda" if torch.cuda.is_available() else "cpu"
    size, height = config.batch_size, config.data.crop[0]
    network = transformers.Swinv2Model(
        transformers.Swinv2Config(
            image_size=height,
            embed_dim=encoder.embed_dim,
            depths=list(encoder.depths),
            num_heads=list(encoder.num_heads),
            window_size=max(encoder.window_size),
        ),
        add_pooling_layer=False,
    ).to(device)
    images = torch.randn(size, 3, height, height, device=device)
    optimizer = torch.optim.AdamW(network.parameters(), fused=device == "cuda")
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def step(model):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = model(images).last_hidden_state.float().square().mean()
        loss.backward()
        optimizer.step()

    for name, model in (("eager", network), ("compiled", torch.compile(network))):
        seconds = seconds_a_step(partial(step, model), wait, steps)
        print(f"transformers, {name}, encoder alone: {1e3 * seconds:.1f} ms a step")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/kitti.py:large")
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--attention", default="auto")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--peer", action="store_true")
    options = parser.parse_args()
    if options.trace:  # read when jax starts its backend
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_enable_command_buffer="
    config = load_config(options.config)
    config.batch_size = options.batch
    config.model.dtype, config.model.attention = options.dtype, options.attention
    config = build.with_precision(config, None)
    step = Step(config)
    report(step, config, seconds_a_step(step, step.wait, options.steps))
    if options.trace:
        trace(step, options.trace)
    if options.peer and importlib.util.find_spec("transformers"):
        peers(build.components(config).network.encoder, config, options.steps)


if __name__ == "__main__":
    main()
