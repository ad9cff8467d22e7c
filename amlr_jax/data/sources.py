"""Data sets by name: from a config to a prepared and checked set of frames."""

import hashlib
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from ml_collections import ConfigDict

from amlr_jax import street
from amlr_jax.config import LAYOUTS, USES
from amlr_jax.data import benchmarks, custom, kitti, nyu, recordings
from amlr_jax.data.frames import Contents, Layout, Report, refuse
from amlr_jax.data.nyu_tfds import TfdsPrepared
from amlr_jax.data.prepared import Prepared, cache_folder, prepare
from amlr_jax.data.storage import Storage
from amlr_jax.runtime import paths
from amlr_jax.runtime.console import show
from amlr_jax.runtime.errors import InputError, counted, preview
from amlr_jax.runtime.rules import AUTO

NYU_TFDS = "nyu_tfds"
NO_TEST = "none"  # data.split of video of which nothing is measured


def read_layout(
    config: ConfigDict,
    *,
    test_only: bool = False,
    report: Report = refuse,
) -> Layout:
    """The frames of `config.data`, for one of `LAYOUTS`.

    With `test_only`, for data with frames in the order of time, only the test frames;
    other frames need no depth. Problems of the files are passed to `report`; InputError
    for an invalid config, and where no frame can be named.
    """
    check_keys(config)
    if config.name == recordings.NAME:
        return recordings.read_layout(config, report=report)
    root = paths.expanded(config.root)
    lists = {"train_list": config.list, "test_list": config.test_list}
    if config.name in benchmarks.SETS:
        if config.split != "folder":
            raise InputError(
                f"data.split must be folder for {config.name}, got '{config.split}'"
            )
        cap = config.depth_cap
        return benchmarks.read_layout(config.name, root, depth_cap=cap, report=report)
    if config.name == "custom":
        whole = config.split == custom.ALL
        if not (config.split == "folder" or whole and not any(lists.values())):
            raise InputError(
                "data.split must be folder for custom or, without lists, all, which "
                f"is for evaluation alone; got '{config.split}'"
            )
        units = {key: config[key] for key in custom.UNITS}
        more = {"all_tested": whole, "report": report}
        return custom.read_layout(root, **more, **units, **lists)
    options = {"split": config.split, "report": report, **lists}
    if config.name == "nyu":
        return nyu.read_layout(root, **options)
    if config.name == "street":
        _render_street(config)
    layout = kitti.read_layout(root, test_only=test_only, **options)
    return layout._replace(name=config.name)


def _render_street(config: ConfigDict) -> None:
    """Renders the embedded street in KITTI's layout if it does not exist."""
    try:
        street.generate(paths.expanded(config.root), **config.street)
    except (OSError, ValueError) as error:
        raise InputError(f"data.root for the street: {error}") from error


def load(config: ConfigDict, *, test_only: bool = False) -> Prepared | TfdsPrepared:
    """The prepared data of `config.data`; InputError for invalid input.

    With `test_only` only the test frames, as `read_layout`.
    """
    check_keys(config)
    if config.name == NYU_TFDS:
        return TfdsPrepared(paths.expanded(config.root))
    layout = read_layout(config, test_only=test_only)
    for note in layout.notes:
        show(note)
    how = Storage(config.decoded, tuple(config.resize) or None, config.skip_bad)
    data = prepare(layout, cache=cache_folder(config.cache), how=how)
    if data.skipped:
        count = counted(len(data.skipped), "damaged training frame")
        show(f"{count} left out: {preview(data.skipped)}")
    return data


def check_keys(config: ConfigDict) -> None:
    """InputError for an unknown data set, a key that it would ignore, and no folder."""
    if config.name not in (*LAYOUTS, NYU_TFDS):
        known = ", ".join((*LAYOUTS, NYU_TFDS))
        raise InputError(f"data.name must be one of {known}; got '{config.name}'")
    for key, names in USES.items():
        if config[key] and config[key] != AUTO and config.name not in names:
            raise InputError(
                f"data.{key}={config[key]} is for data.name {', '.join(names)}; "
                f"'{config.name}' does not use it"
            )
    root = paths.expanded(config.root)
    if config.name != "street" and not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise InputError(
            f"data.root='{root}' {what}; give the folder of the data, "
            "--config.data.root=DIR"
        )


class Joined:
    """Prepared data sets by label, and their examples one after the other.

    `sets` have `train` or `test` sequences and `contents`, as `Prepared` does.
    """

    def __init__(self, sets: Mapping[str, Any]) -> None:
        self.sets = dict(sets)

    def starts(self) -> list[int]:
        """The place of the first training example of each set, and their number."""
        lengths = (len(data.train) for data in self.sets.values())
        return list(accumulate(lengths, initial=0))

    def key(self, place: int) -> str:
        """The name of a training example, after the label if there are several sets."""
        starts = self.starts()
        number = bisect_right(starts, place) - 1
        label, data = list(self.sets.items())[number]
        key = data.train[place - starts[number]]["key"]
        key = key.decode() if isinstance(key, bytes) else key
        return f"{label}:{key}" if len(self.sets) > 1 else key

    def contents(self, part: str) -> Contents:
        """The frames of "train" or "test" of all sets, as `key` names them."""
        found = {label: data.contents(part) for label, data in self.sets.items()}
        if len(found) == 1:
            return found.popitem()[1]
        names = [f"{label}:{n}" for label, one in found.items() for n in one.names]
        files = repr([one.files for one in found.values()]).encode()
        return Contents(tuple(names), hashlib.sha256(files).hexdigest()[:16])
