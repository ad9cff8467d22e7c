"""What the page does with one file, without gradio and a browser."""

import socket
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from amlr_jax.app import __main__ as app
from amlr_jax.app.engine import Bounds, Engine, Look
from amlr_jax.predict import images_to_depth
from amlr_jax.report import keep
from amlr_jax.runtime.errors import InputError
from tests.predict import test_video
from tests.report import runs


@pytest.fixture(scope="module")
def engine(weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine")
    return Engine(weights, folder, Bounds(pixels=4000, seconds=2.0))


@pytest.fixture
def photo(tmp_path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize("augmentations", [(), ("flip",), ("flip", "tile")])
def test_files_are_those_of_predict(engine, weights, photo, tmp_path, augmentations):
    answer = engine.see(photo, augmentations)
    _, made = engine.show(answer, Look(fov=70.0, far=50.0))
    save = ("png16", "npy", "color", "ply")
    options = images_to_depth.Options(save=save, fov=70.0, max_depth=50.0)
    options = options._replace(**dict.fromkeys(augmentations, True))
    assert not images_to_depth.run(weights, photo, tmp_path / "out", options)
    assert [path.name for path in made] == [
        "photo_depth.png", "photo_depth.npy", "photo_color.png", "photo_points.ply",
    ]  # fmt: skip
    for path in made:
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()
    folder = made[0].parent
    del answer
    assert not folder.exists()


def test_a_large_image_is_made_smaller_with_its_camera(engine, tmp_path):
    Image.new("RGB", (200, 100)).save(tmp_path / "a.jpg")
    answer = engine.see(tmp_path / "a.jpg")
    assert answer.depth.shape == (44, 89)
    text, _ = engine.show(answer, Look(intrinsics="100,100,99.5,49.5"))
    assert "89 x 44 pixels, made smaller from 200 x 100" in text
    assert "f = 44.5, 44.0, c = 44.0, 21.5 px" in text
    assert "camera not known" in engine.show(answer, Look())[0]


def test_the_nearest_colour_and_the_unit(engine, photo):
    answer = engine.see(photo)
    text, made = engine.show(answer, Look(near=2.0, far=20.0))
    assert "2.0 m" in text and "20 m, by 1/depth" in text and len(made) == 3
    assert "PNG: depth = code / 256 m" in text


@pytest.mark.parametrize(
    "look, message",
    [
        (Look(near=9.0, far=5.0), "got 9 to 5 m"),
        (Look(far=0.0), "got automatic to 0 m"),
        (Look(near=-1.0), "got -1 to 80 m"),
        (Look(fov=180.0), "between 0 and 180"),
        (Look(intrinsics="1,2,3"), "the first two positive; got '1,2,3'"),
        (Look(intrinsics="/etc/calib.json"), "got '/etc/calib.json'"),
        (Look(intrinsics="9,9,500,500"), "another size"),
    ],
)
def test_what_cannot_be_shown(engine, photo, look, message):
    with pytest.raises(InputError, match=message):
        engine.show(engine.see(photo), look)


def test_videos_are_bounded_and_shown_as_predict_does(engine, weights, tmp_path):
    path, done = test_video.write(tmp_path / "a.mp4", frames=4), []
    folder, made = engine.film(path, lambda *bar: done.append(bar))
    assert [p.name for p in made] == ["a_color.mp4", "a_side_by_side.mp4"]
    assert [count for count, _ in done] == [1, 2, 3, 4]
    options = images_to_depth.Options(save=("color", "side_by_side"))
    images_to_depth.run(weights, path, tmp_path / "out", options)
    for one in made:
        assert one.read_bytes() == (tmp_path / "out" / one.name).read_bytes()
    del folder
    long = test_video.write(tmp_path / "long.mp4", frames=36)
    with pytest.raises(InputError, match=r"has 3 s or more .* most 2 s of 0.004 mill"):
        engine.film(long, lambda *bar: None)


def test_few_sizes_stay_compiled(weights, tmp_path, monkeypatch):
    monkeypatch.setattr("amlr_jax.app.engine.SIZES", 2)
    engine = Engine(weights, tmp_path)
    for sizes in ([(8, 8), (8, 9)], [(8, 8)], [(8, 10)]):
        engine.prepare(sizes)
    kept = engine._predictors[images_to_depth.Options().mode]._compiled
    assert [key[0] for key in kept] == [(1, 8, 8, 3), (1, 8, 10, 3)]


def test_examples_are_held_out_frames_or_those_named(engine, photo, monkeypatch):
    assert engine.examples("") == []
    assert engine.examples(str(photo.parent)) == [photo]
    with pytest.raises(InputError, match="does not exist"):
        engine.examples("nowhere")
    engine.checkpoint.mkdir(exist_ok=True)
    runs.save(engine.checkpoint, [runs.frame()])
    (made,) = engine.examples("")
    (frame,) = keep.load_frames(engine.checkpoint / keep.FRAMES)
    np.testing.assert_array_equal(np.asarray(Image.open(made)), frame.image)


def test_the_card(engine, tmp_path, monkeypatch):
    lines, report = engine.card()
    assert report == "" and any("up to 80 m" in line for line in lines)
    monkeypatch.setattr(engine, "checkpoint", runs.write(tmp_path / "run"))
    assert "<!doctype html>" in engine.card()[1]


def test_mistakes_of_the_command(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "")
    monkeypatch.setitem(sys.modules, "gradio", ModuleType("gradio"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--port={port} cannot be used: Addr"):
            app.start(weights, tmp_path, port=port)
    with pytest.raises(InputError, match="--examples 'nowhere' does not exist"):
        app.start(weights, tmp_path, examples="nowhere", port=port)
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(InputError, match=r"pip install 'amlr_jax\[app\]'"):
        app.start(weights, tmp_path)
