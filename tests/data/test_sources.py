"""Data by name; the street reads as KITTI, and refuses a folder that is not its own."""

import pytest

from amlr_jax.config import base
from amlr_jax.data import sources
from amlr_jax.errors import InputError
from tests import tiny_kitti
from tests.data.test_prepared import Counter


def config(tmp_path, **changes):
    data = base().data
    data.update(root=str(tmp_path / "street"), cache=str(tmp_path / "cache"))
    data.update(name="street", split="folder", **changes)
    data.street.update(drives=1, frames=2)
    return data


class Bars(Counter):
    """Counts steps that may be several at once."""

    def advance(self, steps=1):
        self.steps += steps


def test_the_street_is_read_as_kitti(tmp_path):
    bars = Bars()
    data = sources.load(config(tmp_path), bar=bars)
    assert (data.name, len(data.train), len(data.test)) == ("street", 1, 1)
    assert data.train[0]["image"].shape == (375, 1242, 3)
    assert bars.steps == 2 + 2  # rendered, prepared
    sources.load(config(tmp_path), bar=bars)
    assert bars.steps == 2 + 2 + 2  # found, not prepared again


def test_root_of_something_else(tmp_path):
    tiny_kitti.write(tmp_path / "street")
    with pytest.raises(InputError, match="data.root for the street: root must be new"):
        sources.load(config(tmp_path), bar=Bars())


def test_unknown_name(tmp_path):
    with pytest.raises(InputError, match="must be one of kitti, nyu, street"):
        data = config(tmp_path)
        data.name = "make3d"
        sources.load(data, bar=Bars())
