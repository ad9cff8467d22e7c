"""Data sets by name: from a config to a prepared, checked set of frames."""

from collections.abc import Callable
from pathlib import Path

from amlr_jax.data import kitti, nyu, street
from amlr_jax.data.frames import Layout
from amlr_jax.data.prepared import Prepared, default_cache, prepare
from amlr_jax.errors import InputError


def _street(config, bar: Callable) -> Layout:
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
    layout = kitti.read_layout(Path(config.root), split=config.split)
    return layout._replace(name="street")


LAYOUTS: dict[str, Callable] = {
    "kitti": lambda config, bar: kitti.read_layout(
        Path(config.root), split=config.split
    ),
    "nyu": lambda config, bar: nyu.read_layout(Path(config.root), split=config.split),
    "street": _street,
}


def load(config, *, bar: Callable) -> Prepared:
    """The prepared data that `config.data` names; InputError for what is wrong."""
    if config.name not in LAYOUTS:
        known = ", ".join(LAYOUTS)
        raise InputError(f"data.name must be one of {known}; got '{config.name}'")
    layout = LAYOUTS[config.name](config, bar)
    cache = Path(config.cache) if config.cache else default_cache()
    return prepare(layout, cache=cache.expanduser().absolute(), bar=bar)
