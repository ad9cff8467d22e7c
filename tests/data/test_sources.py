"""Data by name; the street reads as KITTI, and refuses a folder that is not its own."""

import pytest

from amlr_jax.config import base
from amlr_jax.data import sources
from amlr_jax.runtime.errors import InputError
from amlr_jax.street import writer
from tests import tiny_kitti
from tests.data import test_custom


def config(tmp_path, **changes):
    data = base().data
    data.update(root=str(tmp_path / "street"), cache=str(tmp_path / "cache"))
    data.update(name="street", split="folder", **changes)
    data.street.update(drives=1, frames=2)
    return data


def test_the_street_is_read_as_kitti(tmp_path, counter, monkeypatch):
    monkeypatch.setattr(writer, "bar", counter)
    data = sources.load(config(tmp_path))
    assert (data.name, len(data.train), len(data.test)) == ("street", 1, 1)
    assert data.train[0]["image"].shape == (375, 1242, 3)
    assert counter.steps == 2 + 2  # rendered, prepared
    sources.load(config(tmp_path))
    assert counter.steps == 2 + 2  # both are found


def test_root_of_something_else(tmp_path):
    tiny_kitti.write(tmp_path / "street")
    with pytest.raises(InputError, match="data.root for the street: root must be new"):
        sources.load(config(tmp_path))


def test_unknown_name(tmp_path):
    with pytest.raises(
        InputError, match="must be one of kitti, nyu, custom, .*nyu_tfds; got 'make3d'"
    ):
        data = config(tmp_path)
        data.name = "make3d"
        sources.load(data)


@pytest.mark.parametrize(
    "key, value", [("list", "x.txt"), ("test_list", "x.txt"), ("depth_cap", 5.0)]
)
def test_keys_that_the_data_has_no_use_for(tmp_path, key, value):
    data = config(tmp_path, **{key: value})
    with pytest.raises(InputError, match=f"data.{key}={value} .*'street' does not"):
        sources.load(data)


def test_lists_by_config_and_what_there_is_to_say(kitti_root, tmp_path, capsys):
    row = f"{tiny_kitti.DATE}/{tiny_kitti.drive('0001')} {{}} l"
    (tmp_path / "list.txt").write_text("\n".join(map(row.format, range(5))))
    data = config(tmp_path, list=str(tmp_path / "list.txt"))
    data.update(name="kitti", root=str(kitti_root))
    prepared = sources.load(data)
    assert (prepared.split, len(prepared.train), len(prepared.test)) == (
        "list-folder",
        4,
        1,
    )
    assert "last fifth of each drive or scene" in capsys.readouterr().out


def test_own_folder_by_config(tmp_path):
    test_custom.write(tmp_path / "own")
    data = config(tmp_path, depth_scale=500.0, depth_cap=12.0)
    data.update(name="custom", root=str(tmp_path / "own"))
    prepared = sources.load(data)
    assert (prepared.name, prepared.depth_scale) == ("custom", 500.0)
    assert 5 < prepared.median_depth < 12
    data.split = "eigen"
    with pytest.raises(InputError, match="data.split must be folder for custom"):
        sources.load(data)
