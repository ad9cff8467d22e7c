"""NYUv2's layout is read whole, and every fault in it is named."""

import shutil

import pytest

from amlr_jax.data import nyu
from amlr_jax.runtime.errors import InputError


def test_real_sample(real_data):
    layout = nyu.read_layout(real_data / "nyu", split="folder")
    assert [f.key for f in layout.test] == ["basement/00100", "dining_room/00003"]
    assert len(layout.train) == 4
    assert layout.depth_scale == 1000.0


def test_official_wants_the_published_counts(real_data, tmp_path):
    shutil.copytree(real_data / "nyu", tmp_path / "nyu")
    test = tmp_path / "nyu" / nyu.OFFICIAL_TEST
    shutil.copytree(real_data / "nyu" / "basement", test / "basement")
    with pytest.raises(InputError, match="'train': 6, 'test': 3"):
        nyu.read_layout(tmp_path / "nyu", split="official")
    assert len(nyu.read_layout(tmp_path / "nyu", split="folder").train) == 4


def test_missing_files_by_name(real_data, tmp_path):
    root = tmp_path / "nyu"
    shutil.copytree(real_data / "nyu", root)
    (root / "basement" / "rgb_00050.jpg").unlink()
    with pytest.raises(InputError, match="missing image of 1 .*rgb_00050"):
        nyu.read_layout(root, split="folder")
    (root / "basement" / "sync_depth_00050.png").unlink()
    (root / "basement" / "sync_depth_00100.png").unlink()
    with pytest.raises(InputError, match="missing ground truth of 1 .*depth_00100"):
        nyu.read_layout(root, split="folder")


def test_empty_root_says_the_layout(tmp_path):
    with pytest.raises(InputError, match="expected <scene>/rgb_NNNNN.jpg"):
        nyu.read_layout(tmp_path, split="folder")
