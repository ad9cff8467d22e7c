"""Prediction from files: every image of a folder, whatever it is, or one clear line."""

import json
import zipfile
from fractions import Fraction
from itertools import islice

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from amlr_jax.data import colors, video
from amlr_jax.evaluate import predictor as predict_module
from amlr_jax.models import depth, depth_network, pretrained
from amlr_jax.models.decoders.disparity import DisparityDecoder, depth_from_disparity
from amlr_jax.predict import images_to_depth, mp4, outputs
from amlr_jax.predict.images_to_depth import Options
from amlr_jax.runtime import mesh as parallel
from amlr_jax.runtime.errors import InputError
from tests.train.toy import Toy

OPTIONS = {"max_depth": 10.0}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Weights of a small network, as `convert` would write them."""
    network = depth.network("swin_v2_nano", **OPTIONS)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: (0.02 * rng.standard_normal(leaf.shape) + (leaf.ndim == 1)).astype(
            np.float32
        ),
        depth.variable_shapes(network),
    )
    folder = tmp_path_factory.mktemp("weights") / "nano"
    model = {"source": "test", "name": "swin_v2_nano", "options": OPTIONS}
    model |= {"complete": True, "parts": ["encoder", "decoder"]}
    pretrained.save(folder, variables, model)
    return folder


class Quick(Toy):
    """The toy network, whose decoder is of no kind."""

    decoder: object = None


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A checkpoint in name only, of a network that compiles in no time."""
    network = Quick()
    image = jnp.zeros((1, 8, 8, 3))
    variables = network.init(jax.random.key(0), image, train=False)
    monkeypatch.setattr(
        pretrained, "load_network", lambda _: pretrained.Loaded(network, variables, 80)
    )
    return tmp_path / "weights"


@pytest.fixture
def shapes(monkeypatch):
    """Shapes that the network was given, in order."""
    seen = []
    make = predict_module.with_weights

    def counting(*arguments, **options):
        predict = make(*arguments, **options)

        def counted(image):
            seen.append(image.shape[:3])
            return predict(image)

        return counted

    monkeypatch.setattr(images_to_depth, "with_weights", counting)
    return seen


def _image(path, *, mode="RGB", size=(60, 40), seed=0):
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def _film(path, *, frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    with mp4.writing(path, rate=Fraction(7)) as append:
        for number in range(frames):
            append(np.full((32, 64, 3), 40 * number, np.uint8), number / 7)
    return path


def _shown(capsys):
    return " ".join(capsys.readouterr().out.split())


def test_a_folder_goes_on_past_a_bad_file(checkpoint, tmp_path, capsys):
    source, target = tmp_path / "images", tmp_path / "depth"
    _image(source / "a.png")
    _image(source / "below" / "grey.jpg", mode="L")
    _image(source / "one.png", size=(1, 1))
    (source / "page[1].png").write_text("<html>not found</html>")
    cut = _image(source / "cut.png").read_bytes()[:-900]
    (source / "cut.png").write_bytes(cut)
    failed = images_to_depth.run(checkpoint, source, target)
    assert len(failed) == 2 and "page[1].png" in failed[0] and "cut.png" in failed[1]
    for stem, shape in (("a", (40, 60)), ("below/grey", (40, 60)), ("one", (1, 1))):
        metres = np.load(target / f"{stem}_depth.npy")
        assert metres.shape == shape
        assert (metres > 0).all() and (metres < 10).all()
        assert (target / f"{stem}_depth.png").is_file()
        assert (target / f"{stem}_color.png").is_file()
    assert not list(target.glob("page*")) and not list(target.glob("cut*"))
    shown = _shown(capsys)
    assert "3 of 5 images" in shown and "metres = code / 1000" in shown
    assert "page[1].png' is damaged or no image" in shown
    record = json.loads((target / "predictions.json").read_text())
    assert [row["file"] for row in record["images"]] == [
        "a.png",
        "below/grey.jpg",
        "one.png",
    ]
    row, metres = record["images"][0], np.load(target / "a_depth.npy")
    assert (row["height"], row["width"]) == (40, 60)
    assert row["min"] == metres.min() and row["max"] == metres.max()
    assert row["median"] == pytest.approx(np.median(metres))
    assert (record["unit"], record["png16_codes_per_unit"]) == ("m", 1000)
    assert record["failed"] == failed


def test_images_of_a_size_go_together(toy, shapes, tmp_path):
    sizes = [(30, 20), (24, 20), (30, 20), (30, 20), (24, 20), (30, 20), (30, 20)]
    for number, size in enumerate(sizes):
        _image(tmp_path / f"in/{number}.png", size=size, seed=number)
    options = Options(save=("npy",), batch_size=3)
    assert not images_to_depth.run(toy, tmp_path / "in", tmp_path / "out", options)
    # Two shapes: two compilations. The last three-image batch is filled up.
    assert shapes == [(3, 20, 30), (3, 20, 30), (2, 20, 24)]
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [row["file"] for row in record["images"]] == [f"{n}.png" for n in range(7)]
    network, variables, *_ = pretrained.load_network(None)
    predict = predict_module.predictor(network, parallel.make_mesh())
    for number in range(7):
        with Image.open(tmp_path / f"in/{number}.png") as image:
            alone = predict(variables, np.asarray(image)[None])[0]
        found = np.load(tmp_path / f"out/{number}_depth.npy")
        np.testing.assert_allclose(found, alone, rtol=1e-5)


def test_the_same_command_goes_on(toy, shapes, tmp_path, capsys):
    source, target = tmp_path / "in", tmp_path / "out"
    for name in "abc":
        _image(source / f"{name}.png")
    run = images_to_depth.run
    quick = Options(save=("npy",))
    run(toy, source, target, quick._replace(limit=2))
    assert len(shapes) == 2
    run(toy, source, target, quick)
    assert len(shapes) == 3 and "2 of them from before" in _shown(capsys)
    run(toy, source, target, quick._replace(save=("npy", "npz")))
    assert len(shapes) == 6
    run(toy, source, target, quick)
    assert len(shapes) == 6
    with pytest.raises(InputError, match="another run .flip was False, now True"):
        run(toy, source, target, quick._replace(flip=True))
    run(toy, source, target, quick._replace(flip=True, overwrite=True))
    assert len(shapes) == 9


def test_files_of_someone_else_are_kept(toy, tmp_path):
    _image(tmp_path / "in/a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a_depth.npy").write_text("mine")
    arguments = toy, tmp_path / "in", tmp_path / "out"
    with pytest.raises(InputError, match="a_depth.npy and no predictions.json"):
        images_to_depth.run(*arguments)
    assert (tmp_path / "out/a_depth.npy").read_text() == "mine"
    images_to_depth.run(*arguments, Options(overwrite=True))
    assert np.load(tmp_path / "out/a_depth.npy").shape == (40, 60)


def test_flip_is_the_mean_with_the_mirror_image(toy, tmp_path):
    path = _image(tmp_path / "in/a.png")
    options = Options(save=("npy",), flip=True)
    images_to_depth.run(toy, path, tmp_path / "out", options)
    network, variables, *_ = pretrained.load_network(None)
    with Image.open(path) as image:
        pixels = np.asarray(image)[None] / np.float32(255)
    both = (
        network.apply(variables, pixels, train=False)
        + network.apply(variables, pixels[:, :, ::-1], train=False)[:, :, ::-1]
    )
    found = np.load(tmp_path / "out/a_depth.npy")
    np.testing.assert_allclose(found, both[0] / 2, rtol=1e-5)
    # Windows of a network without a horizon differ at their borders only.
    options = Options(save=("npy",), tile=True, flip=True)
    images_to_depth.run(toy, path, tmp_path / "tiled", options)
    tiled = np.load(tmp_path / "tiled/a_depth.npy")
    assert tiled.shape == found.shape and np.isfinite(tiled).all()
    assert not np.array_equal(tiled, found)
    assert np.median(np.abs(tiled - found) / found) < 0.1


def test_an_upright_image_has_no_squares(toy, shapes, tmp_path, capsys):
    path = _image(tmp_path / "in/a.png", size=(20, 30))
    options = Options(save=("npy",), tile=True)
    images_to_depth.run(toy, path, tmp_path / "out", options)
    assert "1 image is not wider than high; --tile has no effect" in _shown(capsys)


def test_an_archive_for_the_server(toy, tmp_path, capsys):
    for number in range(2):
        _image(tmp_path / f"in/{number:010d}.png", size=(1216, 352))
    arguments = toy, tmp_path / "in", tmp_path / "out", Options(save=("kitti",))
    images_to_depth.run(*arguments)
    with zipfile.ZipFile(tmp_path / "out/kitti.zip") as archive:
        assert archive.namelist() == ["0000000000.png", "0000000001.png"]
    assert "498 files missing" in _shown(capsys)
    (tmp_path / "in/0000000002.png").write_text("")
    images_to_depth.run(*arguments)
    assert "kitti.zip is not written, because 1 failed" in _shown(capsys)
    assert not (tmp_path / "out/kitti.zip").exists()


def test_a_video_becomes_one(toy, shapes, tmp_path):
    _film(tmp_path / "drive.mp4", frames=5)
    options = Options(
        save=("color", "side_by_side", "npy", "ply"), fov=90.0, batch_size=2
    )
    arguments = toy, tmp_path / "drive.mp4", tmp_path / "out", options
    assert not images_to_depth.run(*arguments)
    assert shapes == [(2, 32, 64)] * 3
    for kind in ("color", "side_by_side"):
        about = video.facts(tmp_path / f"out/drive_{kind}.mp4")
        assert float(about.rate) == pytest.approx(7, rel=1e-3) and about.frames == 5
    depths = sorted((tmp_path / "out/drive").glob("*_depth.npy"))
    assert [p.name[:6] for p in depths] == [f"{n:06d}" for n in range(5)]
    assert np.load(depths[0]).shape == (32, 64)
    assert len(list((tmp_path / "out/drive").glob("*_points.ply"))) == 5
    (row,) = json.loads((tmp_path / "out/predictions.json").read_text())["images"]
    assert (row["frames"], row["height"], row["width"]) == (5, 32, 64)
    assert row["min"] == min(np.load(p).min() for p in depths)
    images_to_depth.run(*arguments)
    assert len(shapes) == 3


def test_a_video_keeps_its_scale_of_colours(toy, tmp_path, monkeypatch):
    path = _film(tmp_path / "drive.mp4", frames=4)
    picture, nears = outputs.picture, []

    def noting(kind, result, style):
        nears.append(result.near)
        return picture(kind, result, style)

    monkeypatch.setattr(outputs, "picture", noting)
    options = Options(save=("color", "npy"))
    images_to_depth.run(toy, path, tmp_path / "out", options)
    first = np.load(tmp_path / "out/drive/000000_depth.npy")
    assert nears == [colors.nearest(first, far=80.0)] * 4


def test_a_smoothed_video_keeps_its_arrays(toy, tmp_path, capsys):
    path = _film(tmp_path / "drive.mp4", frames=4)
    rows, arrays = [], []
    for smooth, name in ((0.0, "raw"), (0.5, "smooth")):
        options = Options(save=("npy", "color"), smooth=smooth)
        assert not images_to_depth.run(toy, path, tmp_path / name, options)
        rows.append(json.loads((tmp_path / name / "predictions.json").read_text()))
        arrays.append(np.load(tmp_path / name / "drive/000002_depth.npy"))
    np.testing.assert_array_equal(*arrays)
    raw, smoothed = (row["images"][0] for row in rows)
    assert "flicker" in raw and "flicker_smoothed" not in raw
    assert "flicker_smoothed" in smoothed
    assert rows[1]["settings"]["smooth"] == 0.5 and "smooth" not in rows[0]["settings"]
    _image(tmp_path / "one.png")
    with pytest.raises(InputError, match="--smooth is for the pictures of videos"):
        source = tmp_path / "one.png"
        images_to_depth.run(toy, source, tmp_path / "no", Options(smooth=1.0))


def test_confidence_is_the_agreement_of_views(toy, tmp_path):
    source = _image(tmp_path / "a.png")
    options = Options(save=("npy", "confidence"), flip=True)
    assert not images_to_depth.run(toy, source, tmp_path / "out", options)
    network, variables, *_ = pretrained.load_network(None)
    pixels = np.asarray(Image.open(source))[None] / np.float32(255)
    views = [
        np.asarray(network.apply(variables, x, train=False))[0]
        for x in (pixels, pixels[:, :, ::-1])
    ]
    logs = np.log([views[0], views[1][:, ::-1]])
    confidence = np.load(tmp_path / "out/a_confidence.npy")
    assert confidence.dtype == np.float32 and confidence.shape == (40, 60)
    np.testing.assert_allclose(confidence, np.exp(-logs.std(0)), atol=2e-3)
    depth = np.load(tmp_path / "out/a_depth.npy")
    np.testing.assert_allclose(depth, np.exp(logs).mean(0), rtol=1e-5)
    with pytest.raises(InputError, match="compares several views .* give --flip"):
        none = Options(save=("confidence",), tile=True)
        images_to_depth.run(toy, source, tmp_path / "no", none)


def test_a_damaged_video(toy, tmp_path, capsys, monkeypatch):
    path = _film(tmp_path / "in/drive.mp4", frames=4)
    (tmp_path / "in/text.avi").write_text("no video")
    frames = video.frames

    def damaged(path, about, reading):
        yield from islice(frames(path, about, reading), 3)
        reading.damage.append(f"'{path}' is damaged")

    monkeypatch.setattr(video, "frames", damaged)
    arguments = toy, path.parent, tmp_path / "out", Options(save=("npy", "color"))
    for _ in range(2):  # it is not taken for done
        failed = images_to_depth.run(*arguments)
        assert "text.avi' holds no frame" in failed[0]
        assert failed[1].endswith("drive.mp4' is damaged")
        assert "0 of 2 videos" in _shown(capsys)
    assert video.facts(tmp_path / "out/drive_color.mp4").frames == 3


def test_a_video_keeps_the_times_of_its_frames(toy, tmp_path):
    times = [0, 0.1, 0.2, 2.2, 2.3, 3.0]
    with mp4.writing(tmp_path / "drive.mp4", rate=Fraction(10)) as append:
        for number, time in enumerate(times):
            append(np.full((32, 64, 3), 40 * number, np.uint8), time)
    options = Options(save=("color",), batch_size=4)
    assert not images_to_depth.run(toy, tmp_path / "drive.mp4", tmp_path / "o", options)
    path, reading = tmp_path / "o/drive_color.mp4", video.Reading([], [])
    frames = video.frames(path, video.facts(path), reading)
    np.testing.assert_allclose([time for time, _ in frames], times, atol=1e-3)


def test_a_video_of_fewer_frames_than_promised(toy, tmp_path, capsys, monkeypatch):
    path, facts = _film(tmp_path / "drive.mp4", frames=4), video.facts
    promise = lambda path: facts(path)._replace(seconds=9.0)  # noqa: E731
    monkeypatch.setattr(video, "facts", promise)
    arguments = toy, path, tmp_path / "out", Options(save=("npy",))
    assert not images_to_depth.run(*arguments)
    assert "has frames for 0.6 s; its header promises 9.0 s" in _shown(capsys)
    images_to_depth.run(*arguments)
    assert "1 of 1 videos in" in _shown(capsys)


def test_a_file_that_does_not_fit_is_reported(toy, tmp_path, monkeypatch):
    for name, width in (("a", 30), ("b", 60), ("c", 30)):
        _image(tmp_path / f"in/{name}.png", size=(width, 20))

    def predictor(*arguments, **options):
        def predict(image):
            if image.shape[2] == 60:
                raise InputError("1 x 20x60 does not fit in memory")
            return np.full(image.shape[:3], 5, np.float32)

        return predict

    monkeypatch.setattr(images_to_depth, "with_weights", predictor)
    options = Options(save=("npy",), batch_size=2)
    failed = images_to_depth.run(toy, tmp_path / "in", tmp_path / "out", options)
    assert len(failed) == 1 and "b.png': 1 x 20x60 does not fit" in failed[0]
    names = sorted(p.name for p in (tmp_path / "out").glob("*.npy"))
    assert names == ["a_depth.npy", "c_depth.npy"]


def test_a_header_with_another_size(toy, shapes, tmp_path):
    """A PNG says only at its end that it is turned."""
    for name in "ab":
        path = _image(tmp_path / f"in/{name}.png", size=(30, 20))
    with Image.open(path) as image:
        exif = Image.Exif()
        exif[0x0112] = 6
        image.load()
        image.save(path, exif=exif)
    options = Options(save=("npy",), batch_size=2)
    assert not images_to_depth.run(toy, tmp_path / "in", tmp_path / "out", options)
    assert np.load(tmp_path / "out/a_depth.npy").shape == (20, 30)
    assert np.load(tmp_path / "out/b_depth.npy").shape == (30, 20)


def test_an_image_without_its_camera(toy, tmp_path):
    for name in "ab":
        _image(tmp_path / f"in/{name}.png", size=(30, 20))
    camera = {"b": {"fx": 20, "fy": 20, "cx": 15, "cy": 10}}
    (tmp_path / "c.json").write_text(json.dumps(camera))
    options = Options(save=("ply",), intrinsics=str(tmp_path / "c.json"))
    failed = images_to_depth.run(toy, tmp_path / "in", tmp_path / "out", options)
    assert len(failed) == 1 and "a.png' has no camera" in failed[0]
    assert [p.name for p in (tmp_path / "out").glob("*.ply")] == ["b_points.ply"]


def test_a_relative_network_says_so(toy, tmp_path, capsys, monkeypatch):
    path = _image(tmp_path / "in/a.png")
    monkeypatch.setattr(depth_network, "DisparityDecoder", type(None))
    images_to_depth.run(toy, path, tmp_path / "out")
    shown = _shown(capsys)
    assert "true up to one factor" in shown and "depth = code / 256" in shown
    record = json.loads((tmp_path / "out/predictions.json").read_text())
    assert record["unit"] == "relative"


def test_monodepth2_is_relative():
    network = depth.network("monodepth2", max_depth=100.0)
    style = images_to_depth.style_of(network, 100.0, ("npy",), Options(max_depth=50.0))
    assert (style.unit, style.far) == ("", 50.0)
    network = depth.network("swin_v2_nano", **OPTIONS)
    assert images_to_depth.style_of(network, 10.0, ("npy",), Options()).unit == "m"
    with pytest.raises(InputError, match="--save: .* max_depth 300 .*leave out png16"):
        images_to_depth.style_of(network, 300.0, ("png16",), Options())


@pytest.mark.parametrize(
    "options, words",
    [
        ({"save": ("png",)}, "--save is a list of png16, npy.*; got 'png'"),
        ({"save": ("ply",)}, "needs the camera: .*--fov=DEGREES"),
        ({"max_depth": 0.0}, "--max_depth must be positive"),
        ({"save": ("kitti",)}, "x/a.png' and .*y/a.png would have one name"),
    ],
)
def test_options_that_do_not_work(toy, tmp_path, options, words):
    for folder in "xy":
        _image(tmp_path / f"in/{folder}/a.png")
    with pytest.raises(InputError, match=words):
        images_to_depth.run(toy, tmp_path / "in", tmp_path / "out", Options(**options))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", ["file", "file/out"])
def test_an_output_that_cannot_be(toy, tmp_path, target):
    _image(tmp_path / "in/a.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--output"):
        images_to_depth.run(toy, tmp_path / "in", tmp_path / target)


def test_only_bad_files(toy, tmp_path):
    (tmp_path / "a.png").write_text("")
    with pytest.raises(InputError, match="a.png' is damaged or no image"):
        images_to_depth.run(toy, tmp_path / "a.png", tmp_path / "out")


def test_a_full_disk_ends_it_and_what_was_done_is_kept(toy, tmp_path, monkeypatch):
    for name in "abcdefghij":
        _image(tmp_path / f"in/{name}.png")
    write = outputs.write_whole

    def full(path, data):
        if path.name == "h_depth.npy":
            error = f"'{path}' cannot be written: No space left on device"
            raise outputs.CannotWriteError(error)
        write(path, data)

    monkeypatch.setattr(outputs, "write_whole", full)
    with pytest.raises(InputError, match="h_depth.npy.*No space left"):
        images_to_depth.run(
            toy, tmp_path / "in", tmp_path / "out", Options(save=("npy",))
        )
    record = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [row["file"][0] for row in record["images"]] == [*"abcdefg"]


class Disparity(nn.Module):
    """Stands for a network that predicts disparity."""

    decoder: object = None

    def __call__(self, image, *, train: bool):
        return depth_from_disparity(image.mean(-1))


def test_disparity_is_saved_where_there_is_one(tmp_path, monkeypatch):
    network = Disparity(decoder=DisparityDecoder())
    monkeypatch.setattr(
        pretrained, "load_network", lambda _: pretrained.Loaded(network, {}, 100)
    )
    image = _image(tmp_path / "in" / "a.png")
    options = Options(save=("disparity", "npy"))
    images_to_depth.run(tmp_path / "w", image, tmp_path / "out", options)
    saved = np.load(tmp_path / "out" / "a_disparity.npy")
    want = np.asarray(Image.open(image), np.float64).mean(-1) / 255
    np.testing.assert_allclose(saved, want, atol=1e-6)
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())
    near, far = record["disparity_depths"]
    made = 1 / (1 / far + (1 / near - 1 / far) * saved)
    np.testing.assert_allclose(made, np.load(tmp_path / "out" / "a_depth.npy"), 1e-5)


def test_disparity_of_a_network_in_metres(toy, tmp_path):
    image = _image(tmp_path / "in" / "a.png")
    with pytest.raises(InputError, match="--save=disparity is for networks that"):
        images_to_depth.run(toy, image, tmp_path / "out", Options(save=("disparity",)))
    assert not (tmp_path / "out").exists()
