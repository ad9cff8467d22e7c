"""The archive for KITTI's server: PNGs at its root, whole or not at all."""

import errno
import os
import zipfile
from pathlib import Path

import pytest

from amlr_jax.predict import kitti_server
from amlr_jax.predict.inputs import Source
from amlr_jax.runtime.errors import InputError


def predicted(target, names, size=kitti_server.SIZE):
    (target / "kitti").mkdir(parents=True, exist_ok=True)
    for name in names:
        (target / "kitti" / name).write_bytes(name.encode())
    return {Source(Path("/in/image", name), f"image/{name}"): size for name in names}


def test_what_the_server_takes(tmp_path):
    sizes = predicted(tmp_path, kitti_server.NAMES)
    line = kitti_server.archive(sizes, tmp_path, [])
    assert line.endswith("500 files, as KITTI's server takes them")
    with zipfile.ZipFile(tmp_path / "kitti.zip") as archive:
        assert archive.namelist() == list(kitti_server.NAMES)
        assert archive.namelist()[-1] == "0000000499.png"
        assert archive.read("0000000007.png") == b"0000000007.png"
        assert archive.testzip() is None


@pytest.mark.parametrize(
    "names, size, size_bytes, words",
    [
        (kitti_server.NAMES, (352, 1216), 1, []),
        (kitti_server.NAMES[1:], (352, 1216), 1, ["1 of 500 files missing, first 000"]),
        ([*kitti_server.NAMES, "x.png"], (352, 1216), 1, ["1 files of other names"]),
        (kitti_server.NAMES, (375, 1242), 1, ["500 files not of 1216 x 352, first 0"]),
        (kitti_server.NAMES, (352, 1216), 6e8, ["600 MB, at most 500"]),
    ],
)
def test_shortcomings(names, size, size_bytes, words):
    found = kitti_server.shortcomings(dict.fromkeys(names, size), size_bytes=size_bytes)
    assert len(found) == len(words)
    assert all(word in line for word, line in zip(words, found, strict=True))


def test_an_archive_with_gaps_goes(tmp_path):
    sizes = predicted(tmp_path, ["0000000000.png"])
    assert "will not take it (499 of" in kitti_server.archive(sizes, tmp_path, [])
    assert (tmp_path / "kitti.zip").is_file()
    line = kitti_server.archive(sizes, tmp_path, ["one"])
    assert "is not written, because 1 failed" in line
    assert not (tmp_path / "kitti.zip").exists()


def test_whole_or_not_at_all(tmp_path, monkeypatch):
    sizes = predicted(tmp_path, ["0000000000.png"])
    (tmp_path / "kitti.zip").write_text("old")

    def full(self, *arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(zipfile.ZipFile, "write", full)
    with pytest.raises(InputError, match="kitti.zip' cannot be written: No space"):
        kitti_server.archive(sizes, tmp_path, [])
    assert (tmp_path / "kitti.zip").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kitti", "kitti.zip"]
