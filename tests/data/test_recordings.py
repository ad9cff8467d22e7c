"""Own recordings become views; still frames and the test are left out, and named."""

import json
from fractions import Fraction

import cv2
import numpy as np
import pytest

from amlr_jax.config import check
from amlr_jax.data import recordings
from amlr_jax.data.check.check_data import check as check_data
from amlr_jax.data.check.findings import FAULT
from amlr_jax.data.views import batches as view_batches
from amlr_jax.predict import mp4
from amlr_jax.runtime.errors import InputError
from configs import custom_selfsup

SIZE = (48, 64)
CAMERA = {"fx": 50.0, "fy": 51.0, "cx": 31.0, "cy": 24.0}


def picture(step, size=SIZE):
    """A texture that moves by `step` pixels."""
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (size[0] // 4, size[1], 3), np.uint8)
    wide = cv2.resize(wide, (4 * size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    return np.roll(wide, -step, axis=1)[:, : size[1]]


def write(root, *, steps=range(10), name="hall", depth=(), size=SIZE):
    """Frames under root/rgb/name; `depth` are the numbers of those that have some."""
    for role in ("rgb", "depth"):
        (root / role / name).mkdir(parents=True, exist_ok=True)
    for number, step in enumerate(steps):
        cv2.imwrite(str(root / f"rgb/{name}/{number}.png"), picture(step, size))
        if number in depth:
            metres = np.full(size, 2000, np.uint16)
            cv2.imwrite(str(root / f"depth/{name}/{number}.png"), metres)
    (root / "intrinsics.json").write_text(json.dumps(CAMERA))
    return root


@pytest.fixture
def data(tmp_path):
    """config.data of the frames that `write` makes."""
    made = custom_selfsup.get_config("tiny").data
    made.root, made.cache = str(tmp_path / "mine"), str(tmp_path / "cache")
    made.size, made.min_change = (32, 64), 0.0
    return made


def views(data):
    return recordings.read_sequences(data)


def keys(found):
    return [view.key for view in found.train]


def test_views_stay_in_their_recording(data, tmp_path):
    write(tmp_path / "mine", name="a", steps=range(4))
    write(tmp_path / "mine", name="b", steps=range(11))
    found = views(data)
    assert keys(found) == ["a/1", "a/2", *(f"b/{n}" for n in range(1, 10))]
    assert [path.stem for path in found.train[-1].sources] == ["8", "10"]
    assert found.train[0].intrinsics == tuple(CAMERA.values())
    data.offsets = (-3,)
    assert keys(views(data))[:2] == ["a/3", "b/3"]


def test_frames_are_chosen_by_motion(data, tmp_path):
    """The camera rests, moves by 1 pixel, and by 8; each kept frame is a target."""
    write(tmp_path / "mine", steps=[0, 0, 0, 1, 2, 3, 11, 11, 19, 27])
    whole = [
        recordings.reduced(cv2.imread(str(path))[..., ::-1])
        for path in sorted((tmp_path / "mine/rgb/hall").iterdir())
    ]
    small, large = (recordings.change(whole[a], whole[b]) for a, b in ((3, 4), (5, 6)))
    data.min_change = small / 2  # only those at rest are left out
    found = views(data)
    assert keys(found) == [f"hall/{n}" for n in (3, 4, 5, 6, 8)]
    assert found.notes == (
        f"3 frames of 10 left out: less than data.min_change={small / 2:g} grey levels "
        "from the frame kept before",
    )
    data.min_change = (small + large) / 2
    assert keys(views(data))[0] == "hall/5"  # three pixels from frame 0


def test_frames_are_compared_once(data, tmp_path, monkeypatch):
    """Until one of them changes."""
    write(tmp_path / "mine", steps=[0, 0, 8, 16, 24])
    data.min_change = 2.0
    first, reduced = views(data), recordings._reduced
    monkeypatch.setattr(recordings, "_reduced", None)
    assert views(data) == first
    monkeypatch.setattr(recordings, "_reduced", reduced)
    cv2.imwrite(str(tmp_path / "mine/rgb/hall/1.png"), picture(4))
    assert len(keys(views(data))) == len(keys(first)) + 1


def test_the_change_is_the_mean_difference_of_area_means():
    one = np.random.default_rng(0).integers(0, 256, (128, 192, 3), np.uint8)
    other = np.random.default_rng(1).integers(0, 256, (128, 192, 3), np.uint8)
    grey = [x.astype(float) @ [0.299, 0.587, 0.114] for x in (one, other)]
    small = [np.rint(g).reshape(64, 2, 64, 3).mean((1, 3)) for g in grey]
    want = np.abs(small[0] - small[1]).mean()
    got = recordings.change(*map(recordings.reduced, (one, other)))
    assert got == pytest.approx(want, abs=0.1)


def test_a_test_holds_out_the_end_of_recordings_with_depth(data, tmp_path):
    write(tmp_path / "mine", name="a", depth=(0, 9))
    write(tmp_path / "mine", name="b")
    data.split = "folder"
    layout = recordings.read_layout(data)
    assert [frame.key for frame in layout.test] == ["a/9"]
    assert layout.test[0].intrinsics == tuple(CAMERA.values())
    assert (layout.depth_scale, layout.test_only) == (1000.0, True)
    of = keys(views(data))
    assert "a/6" in of and "a/7" not in of and "b/8" in of
    found = check_data(data, max_depth=80.0, video=True)
    assert not [finding for finding in found if finding.level == FAULT]


def film(path, count=6):
    path.parent.mkdir(parents=True, exist_ok=True)
    with mp4.writing(path, rate=Fraction(10)) as append:
        for number in range(count):
            append(picture(5 * number), number / 10)
    return path


def test_a_video_is_read_once(data, tmp_path, monkeypatch):
    film(tmp_path / "mine/trip/drive.mp4")
    data.intrinsics = "50,51,31,24"
    first = views(data)
    assert keys(first) == [f"trip/drive/{n:06d}" for n in range(1, 5)]
    stored = cv2.imread(str(first.train[2].image))[..., ::-1]
    assert np.abs(stored.astype(int) - picture(15)).mean() < 12  # of the codec
    monkeypatch.setattr(recordings, "_store", None)
    assert views(data) == first


def test_batches_of_frames_and_a_video(data, tmp_path):
    root = write(tmp_path / "mine")
    film(root / "rgb/drive.mp4")
    config = custom_selfsup.get_config("tiny")
    config.data = data
    check(config)
    made = view_batches.load(config)
    batch = next(view_batches.batches(config, made, batch_size=3, seed=0))
    assert batch["image"].shape == (3, 32, 64, 3)
    assert len(made.contents("train").names) == 8 + 4
    # cx' = cx or W - 1 - cx of the frame flipped, at the same width.
    assert set(batch["intrinsics"][:, 2].tolist()) <= {31.0, 32.0}


def no_camera(root):
    (root / "intrinsics.json").unlink()


def other_size(root):
    (root / "intrinsics.json").write_text(json.dumps(CAMERA | {"cx": 15.0}))


def one_frame(root):
    for path in (root / "rgb/hall").glob("[1-9].png"):
        path.unlink()


def still(root):
    write(root, steps=[0] * 10)


def no_video(root):
    (root / "rgb/film.mp4").write_text("no video")


def cut_video(root):
    data = film(root / "rgb/long.mp4", 60).read_bytes()
    (root / "rgb/long.mp4").write_bytes(data[: len(data) // 2])


def mixed_sizes(root):
    cv2.imwrite(str(root / "rgb/hall/7.png"), picture(7, (48, 80)))


def damaged(root):
    path = root / "rgb/hall/7.png"
    path.write_bytes(path.read_bytes()[:300])


def twice(root):
    film(root / "rgb/hall.mp4")


def nothing(root):
    for path in (root / "rgb/hall").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    "fault, message",
    [
        (no_camera, "needs the camera: give fx,fy,cx,cy .*--config.data.intrinsics="),
        (other_size, "is 64 x 48, but data.intrinsics has the camera of another size"),
        (one_frame, r"offsets=\(-1, 1\) needs 3 frames .*the longest of 1 has 1$"),
        (still, "has 1 .9 frames of 10 left out: less than data.min_change=2 .*lower"),
        (no_video, "film.mp4' holds no frame that ffmpeg can read"),
        (cut_video, "long.mp4' (is damaged|holds no frame)"),
        (mixed_sizes, r"one size; 'hall' has 48x64 \(hall/0\), 48x80 \(hall/7\)"),
        (damaged, "hall/7.png' is damaged"),
        (twice, "two recordings of one name: hall"),
        (nothing, "no frames at data.root=.*expected .*<recording>/<name>.jpg"),
    ],
)
def test_bad_recordings(data, tmp_path, fault, message):
    fault(write(tmp_path / "mine"))
    data.min_change = 2.0
    with pytest.raises(InputError, match=message):
        views(data)
    videos = tmp_path / "cache/videos"
    assert not [path for path in videos.glob("*") if path.suffix != ".lock"]


def test_a_test_without_depth(data, tmp_path):
    write(tmp_path / "mine")
    data.split = "folder"
    with pytest.raises(InputError, match="none of the last fifth of a recording"):
        recordings.read_layout(data)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("data.split", "eigen", "data.split must be none, or folder"),
        ("data.stereo", True, "data.stereo=True is for data.name kitti, street"),
        ("data.camera", "monodepth2", "data.camera=monodepth2 is KITTI's"),
        ("objective", "supervised", "data.name=frames has no depth to learn from"),
        ("data.name", "custom", "For your own frames or videos use configs/custom_"),
    ],
)
def test_keys_that_do_not_fit(data, tmp_path, key, value, message):
    write(tmp_path / "mine")
    config = custom_selfsup.get_config("tiny")
    config.data = data
    config.update_from_flattened_dict({key: value})
    with pytest.raises(InputError, match=message):
        check(config)
        view_batches.measured(config)
        view_batches.load(config)
