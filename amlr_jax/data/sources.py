"""Data sets by name: from a config to a prepared, checked set of frames."""

from collections.abc import Callable
from pathlib import Path

from amlr_jax import street
from amlr_jax.data import custom, kitti, nyu
from amlr_jax.data.frames import Layout
from amlr_jax.data.nyu_tfds import TfdsPrepared
from amlr_jax.data.prepared import Prepared, cache_folder, prepare
from amlr_jax.data.storage import storage
from amlr_jax.runtime.console import show
from amlr_jax.runtime.errors import InputError, preview


def _street(config, bar: Callable, **options) -> Layout:
    """The embedded street: rendered on first use, then read as what it is, KITTI."""
    total, seen = config.street.drives * config.street.frames, 0
    with bar("Rendering the street", total) as shown:

        def progress(done: int, total: int) -> None:
            nonlocal seen
            del total
            shown.advance(done - seen)
            seen = done

        try:
            street.generate(Path(config.root), progress=progress, **config.street)
        except (OSError, ValueError) as error:
            raise InputError(f"data.root for the street: {error}") from error
        progress(total, total)  # all at once if it was there
    layout = kitti.read_layout(Path(config.root), split=config.split, **options)
    return layout._replace(name="street")


def _published(read: Callable) -> Callable:
    """The reader of a layout that has splits by name and lists."""

    def layout(config, bar: Callable, **options) -> Layout:
        del bar
        lists = {"train_list": config.list, "test_list": config.test_list}
        return read(Path(config.root), split=config.split, **lists, **options)

    return layout


def _custom(config, bar: Callable) -> Layout:
    del bar
    if config.split != "folder":
        raise InputError(f"data.split must be folder for custom, got '{config.split}'")
    return custom.read_layout(
        Path(config.root),
        depth_scale=config.depth_scale,
        depth_cap=config.depth_cap,
        depth_key=config.depth_key,
        train_list=config.list,
        test_list=config.test_list,
    )


LAYOUTS: dict[str, Callable] = {
    "kitti": _published(kitti.read_layout),
    "nyu": _published(nyu.read_layout),
    "custom": _custom,
    "street": _street,
}
NYU_TFDS = "nyu_tfds"
DRIVES = ("kitti", "street")  # data sets with frames in the order of time
NO_TEST = "none"  # data.split of video of which nothing is measured
# Keys that only some data sets have a use for.
_USES = {
    "list": ("kitti", "nyu", "custom"),
    "test_list": ("kitti", "nyu", "custom"),
    "depth_scale": ("custom",),
    "depth_cap": ("custom",),
    "depth_key": ("custom",),
    "decoded": tuple(LAYOUTS),
    "resize": tuple(LAYOUTS),
    "skip_bad": tuple(LAYOUTS),
}


def tested(config, *, bar: Callable) -> Layout:
    """The test frames of one of `DRIVES`; nothing else need have depth."""
    return LAYOUTS[config.name](config, bar, test_only=True)


def load(config, *, bar: Callable, test_only: bool = False) -> Prepared | TfdsPrepared:
    """The prepared data that `config.data` names; InputError for what is wrong.

    With `test_only` the frames of `tested` alone.
    """
    check_keys(config)
    if config.name == NYU_TFDS:
        return TfdsPrepared(Path(config.root).expanduser())
    layout = tested(config, bar=bar) if test_only else LAYOUTS[config.name](config, bar)
    for note in layout.notes:
        show(note)
    how = storage(
        decoded=config.decoded, resize=config.resize, skip_bad=config.skip_bad
    )
    data = prepare(layout, cache=cache_folder(config.cache), bar=bar, storage=how)
    if data.skipped:
        names = preview(data.skipped)
        show(f"{len(data.skipped)} damaged training frames left out: {names}")
    return data


def check_keys(config) -> None:
    """A data set that is not known, or a key that it would pass over in silence."""
    if config.name not in (*LAYOUTS, NYU_TFDS):
        known = ", ".join((*LAYOUTS, NYU_TFDS))
        raise InputError(f"data.name must be one of {known}; got '{config.name}'")
    for key, names in _USES.items():
        if config[key] and config.name not in names:
            raise InputError(
                f"data.{key}={config[key]} is for data.name {', '.join(names)}; "
                f"'{config.name}' has no use for it"
            )
