"""Which views to train on: those of a config, without the frames of the test."""

from collections.abc import Sequence
from pathlib import Path

from amlr_jax.data.frames import Frame, Sequences, View
from amlr_jax.data.kitti.sequences import read_sequences
from amlr_jax.runtime.errors import InputError


def read_views(config, tested: Sequence[Frame]) -> Sequences:
    """The views that `config.data` names, but for those that show a frame of `tested`.

    KITTI's drives of the Eigen test are left out anyway (`read_sequences`). InputError
    for what a user can mend.
    """
    found = read_sequences(
        Path(config.root),
        train_list=config.list,
        offsets=tuple(config.offsets),
        sides=config.sides,
        min_speed=config.min_speed,
    )
    return without(found._replace(name=config.name), tested)


def without(views: Sequences, tested: Sequence[Frame]) -> Sequences:
    """The views that show no moment of a test frame, seen by either camera."""
    shown = {_moment(frame.image) for frame in tested}
    kept = tuple(v for v in views.train if not shown & _moments(v))
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
