"""Folders are walked through links, names are ordered and compared in one way."""

import os
import unicodedata

import pytest

from amlr_jax.runtime import paths
from amlr_jax.runtime.errors import InputError


def make(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def found(root, pattern="**/*", **options):
    files, lost = paths.find(root, pattern, **options)
    assert not lost
    return [path.relative_to(root).as_posix() for path in files]


# ---------------------------------------------------------------- finding


def test_links_to_files_and_folders_are_followed(tmp_path):
    root = make(tmp_path / "root", "a/1.png")
    other = make(tmp_path / "disk", "1.png", "deep/2.png")
    (root / "b").symlink_to(other)
    (root / "c").symlink_to(root / "b")  # a link to a link
    (root / "a/2.png").symlink_to(other / "1.png")
    (tmp_path / "link").symlink_to(root)
    expected = ["a/1.png", "a/2.png", "b/1.png", "b/deep/2.png"]
    expected += ["c/1.png", "c/deep/2.png"]
    assert found(root) == found(tmp_path / "link") == expected


@pytest.mark.parametrize("target", [".", "..", "../..", "../b"])
def test_a_loop_ends(tmp_path, target):
    root = make(tmp_path / "root", "a/1.png", "b/2.png")
    for folder in ("a", "b"):  # two of them would double with each level
        (root / folder / "x").symlink_to(target)
        (root / folder / "y").symlink_to(target)
    files = found(root)
    assert {"a/1.png", "b/2.png"} <= set(files) and len(files) < 30


def test_a_link_to_itself_and_to_nothing_is_named(tmp_path):
    root = make(tmp_path / "root", "a/1.png")
    (root / "gone").symlink_to(tmp_path / "absent")
    (root / "self").symlink_to(root / "self")
    (root / "a/2.png").symlink_to(tmp_path / "absent.png")
    files, lost = paths.find(root)
    assert [path.name for path in files] == ["1.png"]
    assert len(lost) == 3 and all("is a link to nothing" in line for line in lost)
    with pytest.raises(InputError, match="2.png' is a link to nothing.*restore"):
        paths.find(root).all()


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    root = make(tmp_path / "root", "a/1.png", "b/2.png")
    scan = os.scandir

    def guarded(folder):
        if os.path.basename(folder) == "b":
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    files, (line,) = paths.find(root)
    assert [path.name for path in files] == ["1.png"]
    assert line.endswith("b' cannot be read: Permission denied")


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("*", ["top.png"]),
        ("*/*.png", ["run1/x.png", "run[1]/x.png"]),
        ("run[1]/*.png", ["run[1]/x.png"]),  # the folder of that name wins
        ("run[12]/*", ["run1/x.png"]),
        ("**/x.*", ["a/b/x.png", "run1/x.png", "run[1]/x.png"]),
        ("a/**", ["a/b/x.png"]),
        ("**/b/**/*.png", ["a/b/x.png"]),
        (".hidden/*", [".hidden/h.png"]),
        ("absent/*", []),
    ],
)
def test_patterns(tmp_path, pattern, expected):
    names = ("top.png", "a/b/x.png", "run1/x.png", "run[1]/x.png", ".hidden/h.png")
    assert found(make(tmp_path, *names), pattern) == expected


@pytest.mark.parametrize("root", [".", "", "a/..", "../work"])
def test_a_relative_root(tmp_path, monkeypatch, root):
    make(tmp_path / "work", *(f"{n}b.png" for n in (1, 10, 9)), "a/x.png")
    monkeypatch.chdir(tmp_path / "work")
    names = [path.name for path in paths.find(type(tmp_path)(root)).files]
    assert names == ["1b.png", "9b.png", "10b.png", "x.png"]


def test_folders_and_a_root_that_is_none(tmp_path):
    make(tmp_path, "a/b/1.png", "c/2.png")
    assert found(tmp_path, folders=True) == ["a", "a/b", "c"]
    assert found(tmp_path / "absent") == found(tmp_path / "c/2.png") == []


# ---------------------------------------------------------------- order


@pytest.mark.parametrize(
    "names",
    [
        [f"frame_{n}" for n in range(1, 121)],
        ["frame-01", "frame-1", "frame-2", "frame-0010"],
        ["a1b2", "a1b10", "a2b1", "a10"],
        ["scene_2/10", "scene_10/1", "scene_10/2"],
        ["1305031102.9", "1305031103.17", "1305031103.2"],  # seconds
        ["v1.9", "v1.10"],
        ["٣", "10", "99999999999999999999", "100000000000000000000"],  # Arabic 3
        ["", "1", "a", "a1", "b"],
    ],
)
def test_natural_order(names):
    assert sorted(reversed(names), key=paths.natural) == names


@pytest.mark.parametrize(
    "name, expected",
    [
        ("a/left_0012", ("a/left_#", 12)),
        ("2/x7y3.v", ("2/x7y#.v", 3)),
        ("1/none", None),
    ],
)
def test_last_number(name, expected):
    assert paths.last_number(name) == expected


# ---------------------------------------------------------------- spelling


def test_plain_names_of_two_systems_are_equal():
    composed, apart = (unicodedata.normalize(f, "Küche/é") for f in ("NFC", "NFD"))
    latin = "K\udcfcche/\udce9"  # bytes of Latin-1 as Python reads them from the disk
    assert composed != apart
    assert {paths.plain(name) for name in (composed, apart, latin)} == {composed}
    assert paths.plain("日本/١ 🙂") == "日本/١ 🙂"


def test_a_name_in_another_spelling_is_found(tmp_path):
    apart = unicodedata.normalize("NFD", "Küche/é.png")
    composed = unicodedata.normalize("NFC", apart)
    make(tmp_path, apart)
    assert paths.on_disk(tmp_path, composed) == tmp_path / apart
    assert paths.on_disk(tmp_path, "Küche/b.png").name == "b.png"
    make(tmp_path, composed)
    assert paths.on_disk(tmp_path, composed) == tmp_path / composed


def test_names_are_one_file_only_where_the_disk_says_so(tmp_path, monkeypatch):
    folder = tmp_path / "not/yet"
    assert not paths.are_one_file(["a/X.png", "a/x.png"], folder)
    assert not list(tmp_path.iterdir())
    exists = type(tmp_path).exists
    monkeypatch.setattr(
        type(tmp_path),
        "exists",
        lambda self: (
            any(self.name.lower() == p.name.lower() for p in self.parent.glob("*"))
            or exists(self)
        ),
    )
    assert paths.are_one_file(["a/X.png", "a/x.png"], folder)


def test_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.expanded("~/a") == tmp_path / "a"
    with pytest.raises(InputError, match="'~nobody-here/a' names the home folder of"):
        paths.expanded("~nobody-here/a")
