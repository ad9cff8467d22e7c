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
    return [s.name for s in inputs.find(source, target=target, **options)]


def test_a_folder_is_read_in_order_without_its_results(folder, tmp_path):
    expected = ["a.JPG", "b.png", "below/c.tiff", "clip.mp4"]
    assert names(folder, folder / "out") == expected
    assert names(folder, tmp_path / "o", limit=5) == [*expected, "out/old_color.png"]
    assert names(folder, folder / "out", limit=2) == expected[:2]


def test_stem_and_kind(folder):
    found = inputs.find(folder, target=folder / "out")
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
        ("*.webp", "o", "holds no image and no video"),
        (".trash", ".trash", "--output must not be the folder"),
        ("b.png", ".", "--output must not be the folder"),
    ],
)
def test_nothing_to_predict(folder, source, target, words):
    with pytest.raises(InputError, match=words):
        inputs.find(folder / source, target=folder / target)


def test_results_never_share_a_name(folder, tmp_path):
    (folder / "b.jpeg").write_text("")
    with pytest.raises(InputError, match=r"suffix only: .*b.jpeg, .*b.png; rename"):
        inputs.find(folder, target=tmp_path / "o")
