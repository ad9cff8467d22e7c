"""Layouts prepared once as a tensorflow-datasets data set, without TensorFlow.

Every file is checked while it is copied into array_record shards, so that a fault is
found in the first minutes and not in the middle of a run. A prepared set is named by
the fingerprint of its files and reused until one of them changes. It appears whole or
not at all: what an interrupted preparation left is removed by the next.
"""

import contextlib
import fcntl
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds
from absl import logging

from amlr_jax.data import depth_files
from amlr_jax.data.depth_frames import DepthFrames, LayoutConfig
from amlr_jax.data.frames import Layout, fingerprint
from amlr_jax.data.shards import Records, damaged
from amlr_jax.data.storage import AS_THE_FILES, Storage, size_name
from amlr_jax.errors import InputError


def default_cache() -> Path:
    """$AMLR_JAX_CACHE, or amlr_jax in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("AMLR_JAX_CACHE") or Path(home) / "amlr_jax")


class Prepared:
    """A prepared layout: random access to its decoded examples.

    `train` and `test` are sequences of dicts of numpy arrays: `image` uint8
    [H, W, 3], `depth` uint16 codes, or float32 metres where the layout's files are not
    all PNGs, [H, W, 1]; `intrinsics` [4], `key`, `index`.
    Reading a damaged record raises InputError. `skipped` names the training frames
    that were left out because their files are damaged.
    """

    def __init__(self, builder: DepthFrames, layout: Layout) -> None:
        facts = builder.info.metadata
        if not {"median_code", "valid_share"} <= set(facts):
            raise damaged(builder.data_dir, "metadata.json is not whole")
        resize = builder.builder_config.storage.resize
        # Figures of resized frames carry their size in the data set's name.
        self.name = layout.name + (f"@{size_name(resize)}" if resize else "")
        self.split = layout.split
        self.depth_scale = depth_files.stored_scale(layout)
        counted = depth_files.count_scale(layout)
        self.median_depth = facts["median_code"] / counted  # metres
        self.valid_share = facts["valid_share"]
        self.skipped = tuple(facts.get("skipped", ()))
        self.folder = Path(builder.data_dir)
        self.train = Records(builder, "train")
        self.test = Records(builder, "test")


def prepare(
    layout: Layout, *, cache: Path, bar, storage: Storage = AS_THE_FILES
) -> Prepared:
    """Prepares `layout` under `cache`, or reuses what is there.

    `bar(title, total)` is a context manager that yields something with `advance()`.
    Of several processes one prepares and the others wait. Raises InputError for a
    damaged file, a full disk, and a prepared set that has been damaged since.
    """
    for name, frames in (("training", layout.train), ("test", layout.test)):
        if not frames:
            raise InputError(
                f"data.split={layout.split} leaves no {name} frame; "
                "a drive or scene needs at least two frames to hold one out"
            )
    name = f"{layout.name}-{layout.split}-{fingerprint(layout)}{storage.tag}"
    config = LayoutConfig(name=name, layout=layout, storage=storage)
    builder = _builder(config, cache)
    if not builder.is_prepared():
        with _only_one(cache, name):
            builder = _builder(config, cache)
            if not builder.is_prepared():
                _download_and_prepare(builder, cache, bar)
    return Prepared(builder, layout)


def _builder(config: LayoutConfig, cache: Path) -> DepthFrames:
    # tfds warns that the configuration is not one of its catalogue's.
    logging.set_verbosity(logging.ERROR)
    try:
        return DepthFrames(data_dir=cache, config=config, file_format="array_record")
    # Of what was prepared before; a damaged JSON has no exception of its own in tfds.
    except Exception as error:
        raise damaged(cache / DepthFrames.name / config.name, str(error)) from error


@contextlib.contextmanager
def _only_one(cache: Path, name: str) -> Iterator[None]:
    """Holds the lock of one prepared set; the system frees it if we are killed."""
    path = cache / f"{name}.lock"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise _cannot_prepare(cache, error) from error
    with path.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download_and_prepare(builder: DepthFrames, cache: Path, bar) -> None:
    layout = builder.builder_config.layout
    # With the lock held, an unfinished folder is what a killed process left.
    for folder in Path(builder.data_dir).parent.glob("incomplete.*"):
        shutil.rmtree(folder, ignore_errors=True)
    # Our bar replaces tfds's bars and its announcements on stdout.
    tfds.disable_progress_bar()
    total = len(layout.train) + len(layout.test)
    try:
        with bar(f"Preparing {layout.name}", total) as progress:
            builder.builder_config.advance = progress.advance
            with contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare()
    except InputError:
        raise
    # array_record reports a full disk, and tfds all else, as RuntimeError.
    except (OSError, RuntimeError) as error:
        raise _cannot_prepare(cache, error) from error


def _cannot_prepare(cache: Path, error: Exception) -> InputError:
    text = " ".join(str(error).split())
    return InputError(
        f"cannot prepare the data under '{cache}': {text}; "
        "choose another folder with --config.data.cache=DIR"
    )
