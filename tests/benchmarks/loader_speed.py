"""Images a second of our loader, from PNGs and decoded, beside PyTorch's DataLoader.

    python tests/benchmarks/loader_speed.py [--root DIR] [--rounds 5] [--threads 2]
        [--workers 0]

All do GLPDepth's supervised work on KITTI frames: read, decode, KB crop, CutDepth,
flip, crop of 352x352, colours, batches of 6. Ours has the images as PNGs or decoded,
and the depth as it is prepared, decoded in both. The DataLoader decodes with OpenCV and
changes with albumentations, or with our functions if that is not installed.

Views are three of these images at 192x640 for self-supervision, with flip and jitter.
Ours are prepared; the DataLoader does monodepth2's work with Pillow: it decodes,
resizes and changes them. Each starts anew in each round and takes its turn; printed are
medians.

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
from contextlib import closing
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageEnhance

from amlr_jax.data import augment, kitti, loader
from amlr_jax.data.frames import Sequences, View
from amlr_jax.data.prepared import Prepared, prepare
from amlr_jax.data.storage import Storage
from amlr_jax.data.views import augment as view_augment
from amlr_jax.data.views.prepare import PreparedViews, prepare_views

BATCH = 6
SETTING = augment.Augmentation((352, 352))
VIEW_SETTING = view_augment.ViewAugmentation()
VIEW_SIZE = 192, 640
# Of a batch of crops, of our views, and of the DataLoader's with their sources.
SHAPES = ((BATCH, *SETTING.crop, 3), (BATCH, *VIEW_SIZE, 3), (BATCH, 3, *VIEW_SIZE, 3))
# Ratios to reach by CPU time in one thread, and by the clock with two.
TARGETS = (("PNG", "DataLoader", 1.0), ("decoded", "DataLoader", 3.0))
BY_CLOCK = (("PNG", "DataLoader", 1.5), ("decoded", "DataLoader", 3.0))
BY_CLOCK += (("PNG", "PNG alone", 1.8), ("decoded", "decoded alone", 1.8))
OF_VIEWS = (("views", "views DataLoader", 3.0), ("views", "views alone", 1.8))


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


def our_views(views: PreparedViews, **how: int) -> Iterator:
    """Our batches of views, endless."""
    change = partial(view_augment.augment_view, setting=VIEW_SETTING)
    part = loader.Part(views.train, change)
    return loader.endless([part], batch_size=BATCH, seed=0, **how)


class ViewFiles:
    """Views as a map-style dataset of PyTorch, changed by Pillow as in torchvision."""

    def __init__(self, views: PreparedViews) -> None:
        self.views = views.views * 100

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index: int) -> dict:
        view, rng = self.views[index], np.random.default_rng()
        flip = rng.random() < VIEW_SETTING.flip
        drawn = view_augment.draw_jitter(rng, probability=VIEW_SETTING.jitter)
        images = [self.image(path, flip) for path in (view.image, *view.sources)]
        changed = [np.asarray(self.jittered(image, drawn)) for image in images]
        both = {"image": np.stack(images), "network_image": np.stack(changed)}
        return {**both, "index": index}

    @staticmethod
    def image(path: Path, flip: bool) -> Image.Image:
        """Decoded, resized and mirrored."""
        image = Image.open(path).convert("RGB")
        image = image.resize(VIEW_SIZE[::-1], Image.Resampling.LANCZOS)
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image

    @staticmethod
    def jittered(image: Image.Image, drawn: dict[str, float]) -> Image.Image:
        """Its colours changed."""
        classes = ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color
        of = dict(zip(("brightness", "contrast", "saturation"), classes, strict=True))
        for name, value in drawn.items():
            if name in of:
                image = of[name](image).enhance(value)
                continue
            hue, *others = image.convert("HSV").split()
            codes = (np.asarray(hue, int) + int(value * 255)).astype(np.uint8)
            image = Image.merge("HSV", (Image.fromarray(codes), *others)).convert("RGB")
        return image


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


def pytorch(files: Files | ViewFiles, workers: int) -> Iterator:
    """The batches of a DataLoader, in NumPy like ours."""
    import torch.utils.data

    torch.set_num_threads(1)
    batches = torch.utils.data.DataLoader(
        files,
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
            assert next(batches)["image"].shape in SHAPES
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
        print(f"{name:17}{statistics.median(values):8.1f} images a {unit}")
    for name, peer, target in (*(TARGETS if parallel == 1 else BY_CLOCK), *OF_VIEWS):
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


def views_of(layout, cache: Path) -> PreparedViews:
    """A view for each training frame, with the next frames of the list as sources."""
    frames = layout.train
    around = zip(frames[1:-1], frames, frames[2:], strict=False)
    views = tuple(
        View(one.key, one.image, (before.image, after.image), one.intrinsics)
        for one, before, after in around
    )
    sequences = Sequences("kitti", "folder", (-1, 1), views, ())
    return prepare_views(sequences, cache=cache, size=VIEW_SIZE)


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
        views = views_of(layout, cache)
        runs = {
            "PNG": lambda: ours(files, **how),
            "decoded": lambda: ours(decoded, **how),
            "views": lambda: our_views(views, **how),
        }
        if parallel > 1:
            runs["PNG alone"] = lambda: ours(files, threads=1)
            runs["decoded alone"] = lambda: ours(decoded, threads=1)
            runs["views alone"] = lambda: our_views(views, threads=1)
        if importlib.util.find_spec("torch"):
            processes = parallel if parallel > 1 else 0
            runs["DataLoader"] = lambda: pytorch(Files(layout), processes)
            runs["views DataLoader"] = lambda: pytorch(ViewFiles(views), processes)
        else:
            print("torch is not installed: skipped")
        compare(runs, options.rounds, parallel)
        if options.samples:
            report_memory(decoded, options.samples)


if __name__ == "__main__":
    main()
