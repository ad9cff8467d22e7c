"""Layouts prepared: frames with depth as sequences of decoded examples."""

import os
from collections.abc import Callable
from pathlib import Path

from amlr_jax.data import depth_files
from amlr_jax.data.frames import Layout, fingerprint
from amlr_jax.data.prepared.builder import prepared_builder
from amlr_jax.data.prepared.depth_frames import DepthFrames, LayoutConfig
from amlr_jax.data.prepared.shards import Records, damaged
from amlr_jax.data.storage import AS_THE_FILES, Storage, size_name
from amlr_jax.runtime.errors import InputError


def default_cache() -> Path:
    """$AMLR_JAX_CACHE, or amlr_jax in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("AMLR_JAX_CACHE") or Path(home) / "amlr_jax")


class Prepared:
    """A prepared layout: random access to its decoded examples.

    `train` and `test` are sequences of dicts of numpy arrays: `image` uint8
    [H, W, 3], `depth` uint16 codes, or float32 metres where the layout's files are not
    all PNGs, [H, W, 1]; `intrinsics` [4], `key`, `index`.
    The median depth and the valid share are those of the training frames, and of the
    test frames where the layout has no others (`Layout.test_only`).
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
    layout: Layout, *, cache: Path, bar: Callable, storage: Storage = AS_THE_FILES
) -> Prepared:
    """Prepares `layout` under `cache`, or reuses what is there.

    `bar(title, total)` is a context manager that yields something with `advance()`.
    Of several processes one prepares and the others wait. Raises InputError for a
    damaged file, a full disk, and a prepared set that has been damaged since.
    """
    for name, frames in (("training", layout.train), ("test", layout.test)):
        asked = name == "test" or not layout.test_only
        if asked and not frames:
            raise InputError(
                f"data.split={layout.split} leaves no {name} frame; "
                "a drive or scene needs at least two frames to hold one out"
            )
    name = f"{layout.name}-{layout.split}-{fingerprint(layout)}{storage.tag}"
    config = LayoutConfig(name=name, layout=layout, storage=storage)
    builder = prepared_builder(
        DepthFrames,
        config,
        cache=cache,
        bar=bar,
        title=f"Preparing {layout.name}",
        total=len(layout.train) + len(layout.test),
    )
    return Prepared(builder, layout)
