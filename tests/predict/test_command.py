"""`python -m amlr_jax.predict`: its options arrive, and a mistake is one line."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.conftest import REPOSITORY

# The command on a network of two layers, whatever the checkpoint.
ON_A_TOY = """
import runpy, jax, jax.numpy as jnp
from amlr_jax.models import pretrained
from tests.predict.test_images_to_depth import Quick
network = Quick()
variables = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
pretrained.load_network = lambda folder: pretrained.Loaded(network, variables, 80.0)
runpy.run_module("amlr_jax.predict", run_name="__main__")
"""


def run(start: list[str], *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *start, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        pixels = np.full((20, 30, 3), 80 * number, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "page.png").write_text("<html>")
    return folder


def test_every_option_arrives(images, tmp_path):
    done = run(
        ["-c", ON_A_TOY],
        "--checkpoint=anything",
        f"--input={images}/*.png",
        f"--output={tmp_path / 'out'}",
        "--save=npz, ply,png16",
        "--batch_size=2",
        "--tile",
        "--flip",
        "--intrinsics=20,20,15,10",
        "--ply_stride=5",
        "--max_depth=40",
        "--overwrite",
    )
    assert done.returncode == 1, done.stderr  # because of page.png
    assert "Traceback" not in done.stderr
    assert "page.png' is damaged or no image of a known format" in done.stdout
    assert "3 of 4 images" in done.stdout and "code / 256" in done.stdout
    record = json.loads((tmp_path / "out/predictions.json").read_text())
    assert record["settings"] == {
        "tile": True,
        "flip": True,
        "intrinsics": "20,20,15,10",
        "fov": None,
        "ply_stride": 5,
        "max_depth": 40.0,
    }
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    kinds = ("depth.npz", "depth.png", "points.ply")
    expected = [f"{number}_{kind}" for number in range(3) for kind in kinds]
    assert names == [*expected, "predictions.json"]
    assert b"element vertex 24\n" in (tmp_path / "out/0_points.ply").read_bytes()[:300]


def test_a_mistake_is_one_line(images, tmp_path):
    paths = [f"--input={images}", f"--output={tmp_path / 'out'}"]
    done = run(["-m", "amlr_jax.predict"], *paths, "--checkpoint=x", "--save=ply")
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: --save=ply needs the camera")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
