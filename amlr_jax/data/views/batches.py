"""What self-supervised training reads, and the frames with depth that test it."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from amlr_jax.data import sources
from amlr_jax.data.prepared import Prepared, default_cache
from amlr_jax.data.views import PreparedViews, prepare_views
from amlr_jax.data.views.augment import ViewAugmentation
from amlr_jax.data.views.choose import read_views
from amlr_jax.data.views.loader import training_views
from amlr_jax.runtime.console import bar, show
from amlr_jax.runtime.errors import InputError

SELF_SUPERVISED = "self_supervised"


class Unmeasured(NamedTuple):
    """Stands for a `Prepared` set where there is no depth: no frame at all."""

    name: str
    split: str = sources.NO_TEST
    train: tuple = ()
    test: tuple = ()
    skipped: tuple = ()
    folder: Path = Path()
    depth_scale: float = 1.0
    median_depth: float = float("nan")
    valid_share: float = 0.0


def with_depth(config):
    """The `config.data` of the frames with depth, which test the network.

    In self-supervision `data.list` names views, not frames with depth.
    """
    data = config.data.copy_and_resolve_references()
    if config.objective == SELF_SUPERVISED:
        data.list = ""
    return data


def measured(config) -> Prepared | Unmeasured:
    """The frames with depth of a config; in self-supervision those of the test alone.

    What video trains on needs no depth. With data.split=none nothing does, and nothing
    is measured. InputError for what a user can mend.
    """
    if config.objective != SELF_SUPERVISED:
        return sources.load(config.data, bar=bar)
    _check_name(config.data)
    if config.data.split == sources.NO_TEST:
        show("data.split=none: there is no test frame, nothing is measured")
        return Unmeasured(config.data.name)
    try:
        return sources.load(with_depth(config), bar=bar, test_only=True)
    except InputError as error:
        raise InputError(
            f"{error}; to train without a test: --config.data.split={sources.NO_TEST}"
        ) from error


def load(config) -> PreparedViews | None:
    """The views to train on, without the frames of the test; None if supervised.

    Where data.split=folder tests on the last frames of each drive, no view has one of
    them for its target or a source. InputError for what a user can mend.
    """
    if config.objective != SELF_SUPERVISED:
        return None
    whole, config = config, config.data
    _check_name(config)
    test = ()
    if config.split != sources.NO_TEST:
        test = sources.tested(with_depth(whole), bar=bar).test
    found = read_views(config, test)
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


def _check_name(data) -> None:
    if data.name not in sources.DRIVES:
        raise InputError(
            f"self-supervision needs data.name {' or '.join(sources.DRIVES)}, drives "
            f"with neighbouring frames; got '{data.name}'"
        )


def batches(config, views: PreparedViews, **draw) -> Iterator[dict[str, np.ndarray]]:
    """Endless training batches; `draw` are the options of `training_views`."""
    options = config.data
    setting = ViewAugmentation(flip=options.flip, jitter=options.jitter)
    return training_views(views, setting, **draw)
