"""The frames to check: those that training would read, or else all that can be named.

The readers of the layouts stop at the first fault. Then the frames are listed anew
without asking whether their files are there, so that every fault is found.
"""

from collections.abc import Callable
from typing import NamedTuple

from amlr_jax.data import kitti, nyu, sources
from amlr_jax.data.check import kitti_listing, pair_listing
from amlr_jax.data.check.findings import FAULT, NOTE, Finding
from amlr_jax.data.frames import Layout
from amlr_jax.data.storage import storage
from amlr_jax.runtime.errors import InputError

SPLITS = {
    "kitti": kitti.SPLITS,
    "street": kitti.SPLITS,
    "nyu": nyu.SPLITS,
    "custom": ("folder",),
}
LENIENT: dict[str, Callable] = {
    "kitti": kitti_listing.layout,
    "street": kitti_listing.layout,
    "nyu": pair_listing.nyu_layout,
    "custom": pair_listing.custom_layout,
}


class Listed(NamedTuple):
    """The frames, and what was found while listing them."""

    layout: Layout
    findings: tuple[Finding, ...]


def read(data, *, bar: Callable, test_only: bool = False) -> Listed:
    """The frames that `config.data` names, files that are missing included.

    With `test_only` those of the test, of `sources.DRIVES`. Raises InputError for a
    mistake in the config, and where no frame can be named.
    """
    _check_choice(data)
    try:
        options = {"test_only": True} if test_only else {}
        layout = sources.LAYOUTS[data.name](data, bar, **options)
    except InputError as error:
        return _lenient(data, error, options)
    notes = (Finding("layout", NOTE, note) for note in layout.notes)
    return Listed(layout, tuple(notes))


def _lenient(data, error: InputError, options: dict) -> Listed:
    if data.name not in LENIENT:
        raise error
    findings = [Finding("layout", FAULT, f"training would stop: {error}")]
    layout = LENIENT[data.name](data, findings, **options)
    # A list without a frame that can be used, a root without any: no data to check.
    asked = {data.list: layout.train, data.test_list: layout.test}
    if not all(frames for path, frames in asked.items() if path):
        raise error
    if not layout.train + layout.test:
        raise error
    return Listed(layout._replace(name=data.name), tuple(findings))


def _check_choice(data) -> None:
    """What no look at the files can repair."""
    sources.check_keys(data)
    storage(decoded=data.decoded, resize=data.resize, skip_bad=data.skip_bad)
    splits = SPLITS.get(data.name, (data.split,))
    if data.split not in splits:
        known = ", ".join(splits)
        raise InputError(f"data.split must be one of {known}; got '{data.split}'")
