"""A workdir belongs to one config, and a run that cannot start leaves no trace."""

import json

import pytest

from amlr_jax.runtime import files, workdir
from amlr_jax.runtime.errors import InputError

CONFIG = {"seed": 0, "steps": 10, "data": {"root": "a", "crop": (1, 2)}, "eval": {}}


def claim(folder, config):
    with workdir.claim(folder, config):
        files.write_json(folder / workdir.CONFIG, config)


def test_made_and_claimed_again(tmp_path):
    folder = tmp_path / "a" / "b"
    claim(folder, CONFIG)
    claim(folder, CONFIG)
    assert sorted(p.name for p in folder.iterdir()) == [workdir.CONFIG]


def test_a_folder_in_use(tmp_path):
    with (
        workdir.claim(tmp_path, CONFIG),
        pytest.raises(InputError, match="is in use by process"),
    ):
        claim(tmp_path, CONFIG)


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


def test_a_key_of_a_later_version(tmp_path):
    """At its default the run goes on."""
    later = {"ema": 0.0, "freeze": (), "selfsup": {"matches": 3000}}
    claim(tmp_path, CONFIG)
    with workdir.claim(tmp_path, CONFIG | later, defaults=CONFIG | later):
        pass
    with (
        pytest.raises(InputError, match="ema was not set, now 0.9"),
        workdir.claim(tmp_path, CONFIG | later | {"ema": 0.9}, defaults=later),
    ):
        pass


def test_checkpoints_without_a_config(tmp_path):
    (tmp_path / workdir.CHECKPOINTS).mkdir()
    with pytest.raises(InputError, match="holds checkpoints but no config.json"):
        claim(tmp_path, CONFIG)


def test_damaged_config(tmp_path):
    (tmp_path / workdir.CONFIG).write_text('{"seed": 0')
    with pytest.raises(InputError, match="is damaged"):
        claim(tmp_path, CONFIG)


# ------------------------------------------------------------- several processes


@pytest.fixture
def second(monkeypatch):
    """Plays process 1; what process 0 says is in the dict."""
    said = {"config": json.dumps(CONFIG), "workdir": "a mark"}
    monkeypatch.setattr(workdir.distributed, "is_first", lambda: False)
    monkeypatch.setattr(workdir.distributed, "from_first", lambda name, _: said[name])
    monkeypatch.setattr(workdir, "SEEN", 0.3)
    return said


def test_a_second_process_leaves_the_folder_alone(second, tmp_path):
    (tmp_path / workdir.CHECKPOINTS).mkdir()  # the first may be ahead
    (tmp_path / workdir.MARK).write_text("a mark")
    with workdir.claim(tmp_path, CONFIG):
        pass
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == [workdir.MARK, workdir.CHECKPOINTS]


@pytest.mark.parametrize("mark", [None, "of another start"])
def test_a_folder_that_the_hosts_do_not_share(second, tmp_path, mark):
    if mark:
        (tmp_path / workdir.MARK).write_text(mark)
    folder = tmp_path if mark else tmp_path / "missing"
    with (
        pytest.raises(InputError, match="does not see.*folder that all hosts share"),
        workdir.claim(folder, CONFIG),
    ):
        pass
    assert folder.exists() == bool(mark)


def test_a_second_process_with_another_config(second, tmp_path):
    other = CONFIG | {"seed": 1, "data": {"root": "elsewhere", "crop": (1, 3)}}
    message = r"data.crop is \[1, 3\], there \[1, 2\], seed is 1, there 0"
    with pytest.raises(InputError, match=message), workdir.claim(tmp_path, other):
        pass


def test_the_first_leaves_no_mark(tmp_path, monkeypatch):
    seen = []

    def meet(name, **_):
        seen.append((name, (tmp_path / workdir.MARK).exists()))

    monkeypatch.setattr(workdir.distributed, "is_alone", lambda: False)
    monkeypatch.setattr(workdir.distributed, "meet", meet)
    with workdir.claim(tmp_path, CONFIG):
        pass
    assert seen == [("workdir seen", True)]
    assert not (tmp_path / workdir.MARK).exists()
