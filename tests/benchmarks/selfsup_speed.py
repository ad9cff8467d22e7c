"""One self-supervised step of ours beside monodepth2's own code in PyTorch.

    python tests/benchmarks/selfsup_speed.py --reference DIR [--batch 4] \
        [--size 192,640] [--steps 5] [--rounds 2] [--threads 2]

DIR has the reference's own files (trainer.py, layers.py, networks/) and is not part of
this project; without it only ours is measured. Both train configs/kitti_selfsup.py:
monodepth2: ResNet-18 for depth and pose, two sources, four scales, Adam, float32, on
the same random images that are in memory. Each runs in a process of its own, in turn,
on the same cores. Printed are the median seconds of a step by the clock and of the CPU
(all threads; less moved by other work on the machine), the peak of resident memory less
what the imports took, and, for ours, what XLA says of the compiled step. Ours is
compiled once, by a process whose peak is told apart, and then read from JAX's cache.
Where torchvision is missing its ResNet-18 is that of tests/models/torch_monodepth2.py.
"""

import argparse
import importlib
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np

SOURCES = (-1, 1)


def images(options) -> list[np.ndarray]:
    """The target and its sources, uint8 [B, H, W, 3] each."""
    rng = np.random.default_rng(0)
    height, width = options.size
    shape = (options.batch, height // 8, width // 8, 3)
    coarse = rng.integers(0, 256, shape, np.uint8).repeat(8, 1).repeat(8, 2)
    return [np.roll(coarse, 3 * shift, axis=2) for shift in (0, *SOURCES)]


def ours(options) -> tuple[Callable[[], float], dict]:
    """A step that waits for its loss, and XLA's account of its memory in MiB."""
    import jax
    import jax.numpy as jnp

    from amlr_jax.data.views.index import camera_of
    from amlr_jax.runtime import mesh as parallel
    from amlr_jax.train import build
    from amlr_jax.train.step import compile_step
    from configs import kitti_selfsup

    config = kitti_selfsup.get_config("monodepth2")
    config.model.input_size = config.data.size = options.size
    made = build.components(config)
    pieces = {k: v for k, v in made._asdict().items() if k != "network"}
    pieces["objective"] = made.objective.losses
    state = jax.jit(lambda: build.state_before_training(config, made))()
    target, *sources = images(options)
    camera = np.tile(np.float32(camera_of(options.size)), (options.batch, 1))
    batch = {"image": target, "sources": np.stack(sources, 1), "intrinsics": camera}
    batch |= {"network_image": target, "network_sources": batch["sources"]}
    batch = jax.tree.map(jnp.asarray, batch)
    step = compile_step(parallel.make_mesh(), **pieces).lower(state, batch).compile()
    held = [state]

    def run() -> float:
        held[0], measured = step(held[0], batch)
        return float(measured["total"])

    facts = step.memory_analysis()
    names = ("argument", "output", "alias", "temp")
    sizes = {n: getattr(facts, f"{n}_size_in_bytes") / 2**20 for n in names}
    return run, sizes


def reference(options) -> tuple[Callable[[], float], dict]:
    """The same step by the reference's `Trainer`, which is not initialised."""
    import torch

    torch.set_num_threads(options.threads)
    trainer, networks, layers = reference_modules(options.reference)
    height, width = options.size
    made = trainer.Trainer.__new__(trainer.Trainer)
    made.opt = reference_options(height, width)
    made.device, made.num_scales, made.num_pose_frames = "cpu", 4, 2
    made.use_pose_net = True
    encoder, pose = (resnet(networks, images=count) for count in (1, 2))
    channels = np.array([64, 64, 128, 256, 512])
    made.models = {
        "encoder": encoder,
        "depth": networks.DepthDecoder(channels, range(4)),
        "pose_encoder": pose,
        "pose": networks.PoseDecoder(channels, 1, 2),
    }
    made.ssim = layers.SSIM()
    made.backproject_depth = {0: layers.BackprojectDepth(options.batch, height, width)}
    made.project_3d = {0: layers.Project3D(options.batch, height, width)}
    weights = [p for model in made.models.values() for p in model.parameters()]
    optimizer = torch.optim.Adam(weights, 1e-4)
    inputs = reference_batch(options)

    def run() -> float:
        _, losses = made.process_batch(dict(inputs))
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        return losses["loss"].item()

    return run, {}


def reference_modules(folder: Path) -> tuple:
    """Its modules, with stand-ins for what a step does not need."""
    for name in ("datasets", "utils", "kitti_utils", "tensorboardX", "IPython"):
        stand_in = sys.modules[name] = types.ModuleType(name)
        stand_in.SummaryWriter = stand_in.embed = None
    if importlib.util.find_spec("torchvision") is None:
        for name in ("torchvision", "torchvision.models"):
            stand_in = sys.modules[name] = types.ModuleType(name)
            stand_in.ResNet = object
        sys.modules["torchvision"].models = sys.modules["torchvision.models"]
    sys.path.insert(0, str(folder))
    return tuple(map(importlib.import_module, ("trainer", "networks", "layers")))


def resnet(networks, *, images: int):
    """Its encoder, or the same without torchvision."""
    if hasattr(sys.modules.get("torchvision.models"), "resnet18"):
        return networks.ResnetEncoder(18, False, images)
    from tests.models.torch_monodepth2 import Encoder

    return Encoder(images)


def reference_options(height: int, width: int) -> types.SimpleNamespace:
    """Its default options, as far as a step asks for them."""
    return types.SimpleNamespace(
        height=height,
        width=width,
        scales=[0, 1, 2, 3],
        frame_ids=[0, *SOURCES],
        min_depth=0.1,
        max_depth=100.0,
        disparity_smoothness=1e-3,
        pose_model_type="separate_resnet",
        v1_multiscale=False,
        predictive_mask=False,
        disable_automasking=False,
        avg_reprojection=False,
        no_ssim=False,
    )


def reference_batch(options) -> dict:
    """Its inputs: colours at four scales, and the camera."""
    import torch

    height, width = options.size
    camera = torch.eye(4).repeat(options.batch, 1, 1)
    camera[:, 0, 0], camera[:, 1, 1] = 0.58 * width, 1.92 * height
    camera[:, 0, 2], camera[:, 1, 2] = 0.5 * width, 0.5 * height
    inputs = {("K", 0): camera, ("inv_K", 0): torch.linalg.inv(camera)}
    for offset, image in zip((0, *SOURCES), images(options), strict=True):
        full = torch.tensor(image).movedim(-1, 1).float() / 255
        inputs["color_aug", offset, 0] = inputs["color", offset, 0] = full
    for scale in (1, 2, 3):
        small = torch.nn.functional.avg_pool2d(inputs["color", 0, 0], 2**scale)
        inputs["color", 0, scale] = small
    return inputs


def peak() -> float:
    """MiB of resident memory at most so far, of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def measure_alone(options) -> None:
    """The child: prints one line of JSON."""
    make = {"ours": ours, "reference": reference}[options.only]
    if options.only == "ours":
        import jax

        jax.devices()
    else:
        import torch  # noqa: F401
    before = peak()
    run, sizes = make(options)
    losses = [run(), run()]
    seconds: list[tuple[float, float]] = []
    for _ in range(options.steps):
        start = time.perf_counter(), time.process_time()
        losses.append(run())
        seconds.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    found = {"seconds": seconds, "imports": before, "peak": peak(), "xla": sizes}
    print(json.dumps(found | {"losses": losses}))


def child(who: str, options, argv: list[str], cache: str) -> dict:
    """Measures `who` in a process of its own."""
    cores = sorted(os.sched_getaffinity(0))[: options.threads]
    environment = {"JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": str(options.threads)}
    environment |= {"JAX_COMPILATION_CACHE_DIR": cache}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, *argv, f"--only={who}"],
        env=os.environ | environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def report(found: dict[str, list[dict]]) -> None:
    """Prints steps, memory and ratios."""
    medians, peaks = {}, {}
    for who, rounds in found.items():
        each = zip(*(pair for one in rounds for pair in one["seconds"]), strict=True)
        wall, medians[who] = map(statistics.median, each)
        peaks[who] = max(one["peak"] - one["imports"] for one in rounds)
        print(
            f"{who:10}{wall:8.2f} s a step ({1 / wall:.3f} steps/s), of the CPU "
            f"{medians[who]:.2f} s; {peaks[who]:.0f} MiB above "
            f"{rounds[0]['imports']:.0f} MiB of imports"
        )
        for name, size in rounds[0]["xla"].items():
            print(f"{'':10}XLA {name:10}{size:8.0f} MiB")
    if len(found) == 2:
        mine, theirs = found
        print(f"CPU    {mine} / {theirs}: {medians[mine] / medians[theirs]:.2f}")
        print(f"memory {mine} / {theirs}: {peaks[mine] / peaks[theirs]:.2f}")


def main() -> None:
    """Prints the table, or measures one as a child."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument(
        "--size", type=lambda text: tuple(map(int, text.split(","))), default=(192, 640)
    )
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("ours", "reference"), help="of the children")
    options = parser.parse_args()
    if options.only:
        measure_alone(options)
        return
    who = ["ours", "reference"] if options.reference else ["ours"]
    found: dict[str, list[dict]] = {name: [] for name in who}
    with tempfile.TemporaryDirectory() as cache:
        first = child("ours", options, [*sys.argv[1:], "--steps=0"], cache)
        for _ in range(options.rounds):
            for name in who:
                found[name].append(child(name, options, sys.argv[1:], cache))
    height, width = options.size
    print(f"batch {options.batch} of {height}x{width}, {options.threads} threads")
    print(f"ours, compiling too: {first['peak'] - first['imports']:.0f} MiB")
    report(found)


if __name__ == "__main__":
    main()
