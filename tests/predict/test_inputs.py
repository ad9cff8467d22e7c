"""The files that an option stands for."""

import pytest

from amlr_jax.predict import inputs
from amlr_jax.runtime.errors import InputError

NAMES = ["b.png", "a.JPG", "below/c.tiff", "clip.mp4", "notes.txt", ".hidden.png"]
NAMES += [".trash/d.png", "out/old_color.png"]


@pytest.fixture
def folder(tmp_path):
    for name in NAMES:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return tmp_path / "in"


def names(source, target, **options):
    return [s.name for s in inputs.find(source, target=target, **options).files]


def test_a_folder_is_read_in_order_without_its_results(folder, tmp_path):
    expected = ["a.JPG", "b.png", "below/c.tiff", "clip.mp4"]
    assert names(folder, folder / "out") == expected
    assert names(folder, tmp_path / "o", limit=5) == [*expected, "out/old_color.png"]
    assert names(folder, folder / "out", limit=2) == expected[:2]


def test_stem_and_kind(folder):
    found = inputs.find(folder, target=folder / "out").files
    assert [s.stem for s in found] == ["a", "b", "below/c", "clip"]
    assert [s.is_video for s in found] == [False, False, False, True]


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("*.png", ["b.png"]),
        ("**/*.tiff", ["below/c.tiff"]),
        ("be*/*", ["below/c.tiff"]),
        ("**.png", ["b.png"]),
        ("[ab].*", ["a.JPG", "b.png"]),
    ],
)
def test_a_pattern(folder, tmp_path, pattern, expected):
    assert names(folder / pattern, tmp_path / "o") == expected


def test_a_pattern_in_a_folder_whose_name_looks_like_one(folder, tmp_path):
    folder = folder.rename(tmp_path / "in[1]")
    assert names(folder / "*.png", tmp_path / "o") == ["b.png"]


def test_a_file_whose_name_looks_like_a_pattern(folder, tmp_path):
    (folder / "x[1].png").write_text("")
    assert names(folder / "x[1].png", tmp_path / "o") == ["x[1].png"]


def test_a_file_of_any_ending_is_taken_at_its_word(folder, tmp_path):
    assert names(folder / "notes.txt", tmp_path / "o") == ["notes.txt"]


@pytest.mark.parametrize(
    "source, target, words",
    [
        ("absent", "o", "does not exist"),
        ("*.webp", "o", "matches no file"),
        (".trash", ".trash", "--output must not be the folder"),
        ("b.png", ".", "--output must not be the folder"),
    ],
)
def test_nothing_to_predict(folder, source, target, words):
    with pytest.raises(InputError, match=words):
        inputs.find(folder / source, target=folder / target)


def test_limit_takes_the_first_by_number(tmp_path):
    for number in range(1, 13):
        (tmp_path / f"img{number}.png").touch()
    assert names(tmp_path, tmp_path / "o", limit=3) == [
        "img1.png",
        "img2.png",
        "img3.png",
    ]


def test_linked_folders_and_the_results_behind_a_link(folder, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/old_color.png").touch()
    (folder / "linked").symlink_to(tmp_path / "disk")
    (folder / "again").symlink_to(folder)
    assert "linked/old_color.png" in names(folder, folder / "out")
    assert names(folder / "**/*.tiff", folder / "out") == ["below/c.tiff"]
    assert "linked/old_color.png" not in names(folder, tmp_path / "disk")
    (folder / "gone").symlink_to(tmp_path / "absent")
    found = inputs.find(folder, target=tmp_path / "o")
    assert found.lost == [f"'{folder / 'gone'}' is a link to nothing"]


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("run[1]/*.png", ["x.png"]),
        ("run[12]/*.png", ["run1/x.png"]),
        ("run[1]", ["x.png"]),
    ],
)
def test_a_folder_whose_name_looks_like_a_pattern(tmp_path, pattern, expected):
    for name in ("run1", "run[1]"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "x.png").touch()
    assert names(tmp_path / "in" / pattern, tmp_path / "o") == expected


def test_other_endings_are_counted(folder, tmp_path):
    for name in ("a.heic", "b.HEIC", "below/c.dng", "d"):
        (folder / name).touch()
    (note,) = inputs.find(folder, target=folder / "out").notes
    assert "5 files are passed over" in note and ".heic 2" in note and ".dng 1" in note
    with pytest.raises(InputError, match=r"holds no image .*passed over .*heic 1"):
        inputs.find(folder / "a.he*", target=tmp_path / "o")


def test_names_in_another_encoding_can_be_written(tmp_path):
    (tmp_path / "K\udcfcche").mkdir()
    (tmp_path / "K\udcfcche/1.png").touch()
    (found,) = inputs.find(tmp_path, target=tmp_path / "o").files
    assert found.name == "Küche/1.png" and found.path.is_file()
