"""What self-supervised training reads: views of the drives that a config names."""

from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from amlr_jax.console import bar, show
from amlr_jax.data import sources
from amlr_jax.data.frames import Frame, Sequences, View
from amlr_jax.data.kitti.sequences import read_sequences
from amlr_jax.data.prepared import default_cache
from amlr_jax.data.views import PreparedViews, prepare_views
from amlr_jax.data.views.augment import ViewAugmentation
from amlr_jax.data.views.loader import training_views
from amlr_jax.errors import InputError

SELF_SUPERVISED = "self_supervised"
NAMES = ("kitti", "street")  # data sets with drives


def with_depth(config):
    """The `config.data` of the frames with depth, which test the network.

    In self-supervision `data.list` names views, not frames with depth.
    """
    data = config.data.copy_and_resolve_references()
    if config.objective == SELF_SUPERVISED:
        data.list = ""
    return data


def load(config) -> PreparedViews | None:
    """The views to train on, without the frames of the test; None if supervised.

    KITTI's drives of the Eigen test are left out anyway (`read_sequences`). Where
    data.split=folder tests on the last frames of each drive, no view has one of them
    for its target or a source. InputError for what a user can mend.
    """
    if config.objective != SELF_SUPERVISED:
        return None
    whole, config = config, config.data
    if config.name not in NAMES:
        raise InputError(
            f"self-supervision needs data.name {' or '.join(NAMES)}, drives with "
            f"neighbouring frames; got '{config.name}'"
        )
    layout = sources.LAYOUTS[config.name](with_depth(whole), bar)
    found = read_sequences(
        Path(config.root),
        train_list=config.list,
        offsets=tuple(config.offsets),
        sides=config.sides,
        min_speed=config.min_speed,
    )
    found = without(found._replace(name=config.name), layout.test)
    for note in found.notes:
        show(note)
    cache = Path(config.cache) if config.cache else default_cache()
    return prepare_views(
        found,
        cache=cache.expanduser().absolute(),
        bar=bar,
        size=tuple(config.size),
        stereo=config.stereo,
        camera=config.camera,
    )


def without(views: Sequences, test: tuple[Frame, ...]) -> Sequences:
    """The views that show no moment of a test frame, seen by either camera."""
    tested = {_moment(frame.image) for frame in test}
    kept = tuple(v for v in views.train if not tested & _moments(v))
    left = len(views.train) - len(kept)
    if not kept:
        raise InputError(f"all {left} training views show frames of the test")
    if not left:
        return views
    note = f"{left} views left out that show frames of the test"
    return views._replace(train=kept, notes=(*views.notes, note))


def _moments(view: View) -> set[tuple[Path, str]]:
    return {_moment(path) for path in (view.image, *view.sources)}


def _moment(path: Path) -> tuple[Path, str]:
    """The drive and the number of <drive>/image_0x/data/<number>.png."""
    return path.parents[2], path.stem


def batches(
    config, views: PreparedViews, *, start: int, batch_size: int
) -> Iterator[dict[str, np.ndarray]]:
    """Endless training batches from batch number `start` on, see `training_views`."""
    options = config.data
    return training_views(
        views,
        ViewAugmentation(flip=options.flip, jitter=options.jitter),
        batch_size=batch_size,
        seed=config.seed,
        start=start,
        process=(jax.process_index(), jax.process_count()),
        workers=options.workers,
        threads=options.threads,
    )
