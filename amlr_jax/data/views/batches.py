"""Training views of a self-supervised config, and its test frames."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from amlr_jax.data import sources
from amlr_jax.data.frames import Contents
from amlr_jax.data.loader import Batch, Part, endless
from amlr_jax.data.nyu_tfds import TfdsPrepared
from amlr_jax.data.prepared import Prepared, cache_folder
from amlr_jax.data.storage import size_name
from amlr_jax.data.views.augment import ViewAugmentation, augment_view
from amlr_jax.data.views.index import read_views
from amlr_jax.data.views.prepare import PreparedViews, prepare_views
from amlr_jax.runtime.console import show
from amlr_jax.runtime.errors import InputError


class Unmeasured(NamedTuple):
    """Replaces a `Prepared` set where there is no depth: it has no frames."""

    name: str
    split: str = sources.NO_TEST
    test: tuple = ()
    test_sizes: dict = {}
    folder: Path = Path()
    median_depth: float = float("nan")
    valid_share: float = 0.0

    def contents(self, part: str) -> Contents:
        """Nothing."""
        del part
        return Contents((), "")


def with_depth(config: ConfigDict) -> ConfigDict:
    """`config.data` for the test frames: its `list` names views, not frames."""
    data = config.data.copy_and_resolve_references()
    data.list = ""
    return data


def measured(config: ConfigDict) -> Prepared | TfdsPrepared | Unmeasured:
    """The test frames, with depth; training needs no depth.

    With data.split=none there are none. InputError for invalid input.
    """
    if config.data.split == sources.NO_TEST:
        show("data.split=none: there is no test frame, nothing is measured")
        return Unmeasured(config.data.name)
    try:
        return sources.load(with_depth(config), test_only=True)
    except InputError as error:
        raise InputError(
            f"{error}; to train without a test: --config.data.split={sources.NO_TEST}"
        ) from error


def load(config: ConfigDict) -> PreparedViews:
    """The training views, without test frames.

    Where data.split=folder tests on the last frames of each drive, no view has one of
    them as its target or a source. InputError for invalid input.
    """
    data = config.data
    tests = data.split != sources.NO_TEST
    read = partial(sources.read_layout, test_only=True)
    found = read_views(data, read(with_depth(config)).test if tests else ())
    for note in found.notes:
        show(note)
    options: dict = {"stereo": data.stereo, "camera": data.camera}
    place, size = cache_folder(data.cache), tuple(data.size)
    return prepare_views(found, cache=place, size=size, **options)


def batches(
    config: ConfigDict, views: PreparedViews, **options: Any
) -> Iterator[Batch]:
    """Endless batches of augmented views; `options` are those of `loader.endless`.

    `image` and `network_image` are uint8 [B, H, W, 3], `sources` and `network_sources`
    uint8 [B, S, H, W, 3] with the sources at data.offsets, `intrinsics` float32
    [B, 4] in pixels of the image, `index` int32 [B], the places in `views.train`; with
    stereo also `partner` uint8 [B, H, W, 3] and `partner_from_target` float32 [B, 3] in
    metres. Close the iterator when done.
    """
    setting = ViewAugmentation(flip=config.data.flip, jitter=config.data.jitter)
    sizes = views.train.sizes
    if len(sizes) > 1:
        names = ", ".join(map(size_name, sizes))
        raise InputError(
            f"a batch holds images of one size, the views are of {names}; set "
            "--config.data.size='(192, 640)'"
        )
    change = partial(augment_view, setting=setting)
    return endless([Part(views.train, change)], **options)
