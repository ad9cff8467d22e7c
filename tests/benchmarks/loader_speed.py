"""Images a second of our loader, from PNGs and decoded, beside PyTorch's DataLoader.

    python tests/benchmarks/loader_speed.py [--root DIR] [--rounds 5] [--threads 2]
        [--workers 0]

All do GLPDepth's supervised work on KITTI frames: read, decode, KB crop, CutDepth,
flip, crop of 352x352, colours, batches of 6. Ours has the images as PNGs or decoded,
and the depth as it is prepared, decoded in both. The DataLoader decodes with OpenCV and
changes with albumentations, or with our functions if that is not installed. Each
starts anew in each round and takes its turn; printed are medians.

With one thread all work is in this process and its CPU seconds count, so that a busy
machine changes little. With several the wall clock counts: the DataLoader has as many
worker processes as ours has threads, and ours with one thread shows what more of them
bring. `--workers` reads with processes instead of threads. Then the memory of this
process after 1,000 and 10,000 samples.
"""

import argparse
import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np

from amlr_jax.data import augment, kitti, loader
from amlr_jax.data.prepared import Prepared, prepare
from amlr_jax.data.storage import Storage

BATCH = 6
SETTING = augment.Augmentation((352, 352))
# Ratios to reach by CPU time in one thread, and by the clock with two.
TARGETS = (("PNG", "DataLoader", 1.0), ("decoded", "DataLoader", 3.0))
BY_CLOCK = (("PNG", "DataLoader", 1.5), ("decoded", "DataLoader", 3.0))
BY_CLOCK += (("PNG", "PNG alone", 1.8), ("decoded", "decoded alone", 1.8))


def bar(title: str, total: int):
    """Shows nothing."""
    del title, total
    return nullcontext(SimpleNamespace(advance=lambda: None))


def ours(data: Prepared, *, threads: int, workers: int = 0) -> Iterator:
    """Our batches, endless."""
    return loader.training_batches(
        data,
        SETTING,
        batch_size=BATCH,
        seed=0,
        kb_crop=True,
        workers=workers,
        threads=threads,
    )


class Files:
    """The frames of a layout as a map-style dataset of PyTorch."""

    def __init__(self, layout) -> None:
        self.frames = layout.train * 100  # so that no epoch ends while it is timed
        self.change = albumentations_changes()

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> dict:
        frame = self.frames[index]
        image = cv2.cvtColor(cv2.imread(str(frame.image)), cv2.COLOR_BGR2RGB)
        code = cv2.imread(str(frame.depth), cv2.IMREAD_UNCHANGED)
        raw = {"image": image, "depth": code[..., None], "key": b"", "index": 0}
        raw["intrinsics"] = np.asarray(frame.intrinsics, np.float32)
        rng = np.random.default_rng()
        return self.change(augment.cropped_example(raw, kb_crop=True), rng)


def albumentations_changes() -> Callable:
    """GLPDepth's changes, by the library if it is there."""
    if not importlib.util.find_spec("albumentations"):
        print("albumentations is not installed: the DataLoader uses our functions")
        return lambda cropped, rng: augment.augment(
            cropped, SETTING, rng, depth_scale=256.0
        )
    import albumentations

    changes = albumentations.Compose(
        [
            albumentations.HorizontalFlip(p=0.5),
            albumentations.RandomCrop(*SETTING.crop),
            albumentations.RandomBrightnessContrast(p=0.5),
            albumentations.RandomGamma(p=0.5),
            albumentations.HueSaturationValue(p=0.5),
        ],
        additional_targets={"depth": "mask"},
    )

    def change(cropped: dict, rng: np.random.Generator) -> dict:
        image, depth = cropped["image"], cropped["depth"]
        if rng.random() < SETTING.cut_depth:
            image, strip = image.copy(), augment.draw_strip(depth.shape[1], rng)
            augment.paste_depth(image, depth / 256.0, strip, max_depth=80.0)
        changed = changes(image=image, depth=depth)
        image = np.ascontiguousarray(changed["image"])
        return {
            "image": image,
            "depth": changed["depth"].astype(np.float32) / np.float32(256),
            "index": cropped["index"],
        }

    return change


def one_thread(worker: int) -> None:
    """OpenCV's own threads only disturb where each core has a process."""
    del worker
    cv2.setNumThreads(0)


def pytorch(layout, workers: int) -> Iterator:
    """The batches of a DataLoader, in NumPy like ours."""
    import torch.utils.data

    torch.set_num_threads(1)
    batches = torch.utils.data.DataLoader(
        Files(layout),
        batch_size=BATCH,
        shuffle=True,
        num_workers=workers,
        worker_init_fn=one_thread,
    )
    for batch in batches:
        yield {name: value.numpy() for name, value in batch.items()}


def rate(start: Callable[[], Iterator], images: int, clock: Callable) -> float:
    """Images a second, once the first batches are there."""
    with closing(start()) as batches:
        for _ in range(6):
            next(batches)
        begin = clock()
        for _ in range(images // BATCH):
            assert next(batches)["image"].shape == (BATCH, 352, 352, 3)
        seconds = clock() - begin
    return images // BATCH * BATCH / seconds


def compare(runs: dict[str, Callable], rounds: int, parallel: int) -> None:
    """Prints medians, and ratios of the same round."""
    clock = time.process_time if parallel == 1 else time.perf_counter
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, start in runs.items():
            rates[name].append(rate(start, 300 * parallel, clock))
    unit = "CPU second" if parallel == 1 else "second by the clock"
    for name, values in rates.items():
        print(f"{name:14}{statistics.median(values):8.1f} images a {unit}")
    for name, peer, target in TARGETS if parallel == 1 else BY_CLOCK:
        if peer in rates:
            pairs = zip(rates[name], rates[peer], strict=True)
            ratios = sorted(a / b for a, b in pairs)
            verdict = "holds" if statistics.median(ratios) >= target else "MISSED"
            print(
                f"{name} / {peer}: {statistics.median(ratios):.2f}, from "
                f"{ratios[0]:.2f} to {ratios[-1]:.2f} (at least {target}) {verdict}"
            )


def resident() -> float:
    """MiB of memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def report_memory(data: Prepared, samples: int) -> None:
    """Prints the memory after a tenth of the samples, and after all."""
    seen = 0
    with closing(ours(data, threads=1)) as batches:
        for mark in (samples // 10, samples):
            while seen < mark:
                seen += len(next(batches)["index"])
            print(f"{resident():8.0f} MiB after {seen} samples")


def layout_under(root: Path | None, folder: Path):
    """KITTI under `root`; without it noise of KITTI's size, which inflates slower."""
    if root is None:
        from tests import tiny_kitti

        print("no --root: noise instead of KITTI's images")
        root = tiny_kitti.write(folder / "kitti", frames=20, size=(375, 1242))
    layout = kitti.read_layout(root, split="folder")
    # The shuffle of fewer than a thousand frames takes grain longer than that of more.
    return layout._replace(train=layout.train * -(-1000 // len(layout.train)))


def main() -> None:
    """Prints rates, ratios and memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--samples", type=int, default=10_000)
    options = parser.parse_args()
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        layout = layout_under(options.root, Path(folder))
        cache = Path(folder) / "cache"
        files = prepare(layout, cache=cache)
        decoded = prepare(layout, cache=cache, how=Storage(decoded=True))
        parallel = max(options.threads, options.workers)
        how = {"threads": options.threads, "workers": options.workers}
        runs = {
            "PNG": lambda: ours(files, **how),
            "decoded": lambda: ours(decoded, **how),
        }
        if parallel > 1:
            runs["PNG alone"] = lambda: ours(files, threads=1)
            runs["decoded alone"] = lambda: ours(decoded, threads=1)
        if importlib.util.find_spec("torch"):
            processes = parallel if parallel > 1 else 0
            runs["DataLoader"] = lambda: pytorch(layout, processes)
        else:
            print("torch is not installed: skipped")
        compare(runs, options.rounds, parallel)
        if options.samples:
            report_memory(decoded, options.samples)


if __name__ == "__main__":
    main()
