"""The archive for KITTI's server: PNGs at its root, whole or not at all."""

import errno
import os
import zipfile

import pytest

from amlr_jax.predict import outputs
from amlr_jax.runtime.errors import InputError


def predicted(target, names, size=outputs.KITTI_SIZE):
    (target / "kitti").mkdir(parents=True, exist_ok=True)
    for name in names:
        (target / "kitti" / name).write_bytes(name.encode())
    return dict.fromkeys(names, size)


def test_what_the_server_takes(tmp_path):
    sizes = predicted(tmp_path, outputs.KITTI_NAMES)
    line = outputs.archive(sizes, tmp_path)
    assert line.endswith("500 files, as KITTI's server takes them")
    with zipfile.ZipFile(tmp_path / "kitti.zip") as archive:
        assert archive.namelist() == list(outputs.KITTI_NAMES)
        assert archive.namelist()[-1] == "0000000499.png"
        assert archive.read("0000000007.png") == b"0000000007.png"
        assert archive.testzip() is None


@pytest.mark.parametrize(
    "names, size, size_bytes, words",
    [
        (outputs.KITTI_NAMES, (352, 1216), 1, []),
        (outputs.KITTI_NAMES[1:], (352, 1216), 1, ["1 files missing, first 000"]),
        ([*outputs.KITTI_NAMES, "x.png"], (352, 1216), 1, ["1 files of other names"]),
        (outputs.KITTI_NAMES, (375, 1242), 1, ["500 files not of 1216 x 352, first 0"]),
        (outputs.KITTI_NAMES, (352, 1216), 6e8, ["600 MB, at most 500"]),
    ],
)
def test_shortcomings(names, size, size_bytes, words):
    found = outputs.shortcomings(dict.fromkeys(names, size), size_bytes=size_bytes)
    assert len(found) == len(words)
    assert all(word in line for word, line in zip(words, found, strict=True))


def test_whole_or_not_at_all(tmp_path, monkeypatch):
    sizes = predicted(tmp_path, ["0000000000.png"])
    (tmp_path / "kitti.zip").write_text("old")

    def full(self, *arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(zipfile.ZipFile, "write", full)
    with pytest.raises(InputError, match="kitti.zip' cannot be written: No space"):
        outputs.archive(sizes, tmp_path)
    assert (tmp_path / "kitti.zip").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kitti", "kitti.zip"]
