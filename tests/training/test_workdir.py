"""A workdir belongs to one config, and a run that cannot start leaves no trace."""

import json

import pytest

from amlr_jax.errors import InputError
from amlr_jax.training import workdir

CONFIG = {"seed": 0, "steps": 10, "data": {"root": "a", "crop": (1, 2)}, "eval": {}}


def claim(folder, config):
    with workdir.claim(folder, config):
        workdir.write_json(folder / workdir.CONFIG, config)


def test_made_and_claimed_again(tmp_path):
    folder = tmp_path / "a" / "b"
    claim(folder, CONFIG)
    claim(folder, CONFIG)
    assert sorted(p.name for p in folder.iterdir()) == [workdir.CONFIG]


def test_failed_start_removes_what_it_made(tmp_path):
    (tmp_path / "mine").mkdir()
    with (
        pytest.raises(InputError, match="no data"),
        workdir.claim(tmp_path / "mine" / "b" / "c", CONFIG),
    ):
        raise InputError("no data")
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_failed_start_keeps_what_was_there(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError), workdir.claim(tmp_path, CONFIG):
        raise InputError("no data")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_unwritable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written.*--workdir=DIR"):
        claim(tmp_path / "file" / "run", CONFIG)


def test_other_run_says_what_differs(tmp_path):
    claim(tmp_path, CONFIG)
    other = CONFIG | {"seed": 1, "data": {"root": "b", "crop": (1, 3)}}
    message = r"data.crop was \[1, 2\], now \[1, 3\], seed was 0, now 1"
    with pytest.raises(InputError, match=message):
        claim(tmp_path, other)
    assert json.loads((tmp_path / workdir.CONFIG).read_text())["seed"] == 0


def test_what_may_differ(tmp_path):
    claim(tmp_path, CONFIG)
    claim(tmp_path, CONFIG | {"steps": 20, "eval": {"every_steps": 5}})


def test_checkpoints_without_a_config(tmp_path):
    (tmp_path / workdir.CHECKPOINTS).mkdir()
    with pytest.raises(InputError, match="holds checkpoints but no config.json"):
        claim(tmp_path, CONFIG)


def test_damaged_config(tmp_path):
    (tmp_path / workdir.CONFIG).write_text('{"seed": 0')
    with pytest.raises(InputError, match="is not JSON"):
        claim(tmp_path, CONFIG)
