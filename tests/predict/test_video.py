"""Videos in and out: every frame once, its rate kept, nothing half written."""

import re
import subprocess
from fractions import Fraction

import imageio_ffmpeg
import numpy as np
import pytest

from amlr_jax.data import video
from amlr_jax.predict import mp4
from amlr_jax.predict.outputs import CannotWriteError
from amlr_jax.runtime.errors import InputError

SIZE = (48, 64)


def picture(number, size=SIZE):
    """A bright bar that moves, on a background whose red is the frame's number."""
    shown = np.full((*size, 3), (20 * number, 40, 60), np.uint8)
    shown[:, 6 * number : 6 * number + 8] = 255
    return shown


def write(path, *, frames=6, size=SIZE, rate=Fraction(12)):
    with mp4.writing(path, rate=rate) as append:
        for number in range(frames):
            append(picture(number, size), number / rate)
    return path


def convert(path, name, *options, before=()):
    """The video again in another form."""
    made = path.with_name(name)
    exe = imageio_ffmpeg.get_ffmpeg_exe()
    command = [exe, "-v", "error", *before, "-i", path, *options, made]
    subprocess.run(command, check=True)
    return made


def read(path):
    found, reading = timed(path)
    return [frame for _, frame in found], reading.damage


def timed(path, **changes):
    reading = video.Reading([], [])
    about = video.facts(path)._replace(**changes)
    return list(video.frames(path, about, reading)), reading


@pytest.mark.parametrize("size", [SIZE, (49, 65), (2, 2)])
def test_there_and_back(tmp_path, size):
    path = write(tmp_path / "new" / "a.mp4", size=size)
    even = tuple(length - length % 2 for length in size)
    about = video.facts(path)
    assert about == (even, 12, 0.5) and about.frames == 6
    found, damage = read(path)
    assert len(found) == 6 and not damage
    for number, frame in enumerate(found):
        assert frame.dtype == np.uint8 and frame.shape == (*even, 3)
        if size == SIZE:
            error = frame.astype(int) - picture(number)
            assert np.abs(error).mean() < 4
    assert [p.name for p in path.parent.iterdir()] == ["a.mp4"]


def test_browsers_play_it(tmp_path):
    path = write(tmp_path / "a.mp4")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", path]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert "Video: h264" in said and "yuv420p(tv, bt709, progressive)" in said
    assert imageio_ffmpeg.count_frames_and_secs(path) == (6, 0.5)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_colours_stay(tmp_path):
    """Flat colours, apart from the borders between them, to six codes of 255."""
    codes = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    shown = np.kron(codes, np.ones((16, 16, 1), np.uint8))
    with mp4.writing(tmp_path / "a.mp4", rate=Fraction(10)) as append:
        append(shown, 0)
    ((frame,), _) = read(tmp_path / "a.mp4")
    middles = np.s_[8::16, 8::16]
    assert np.abs(frame[middles].astype(int) - shown[middles]).max() <= 6


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24000, 1001), 7, 1])
def test_the_rate_is_kept(tmp_path, rate):
    path = write(tmp_path / "a.mp4", rate=Fraction(rate))
    assert float(video.facts(path).rate) == pytest.approx(float(rate), rel=1e-4)
    times = [time for time, _ in timed(path)[0]]
    np.testing.assert_allclose(times, np.arange(6) / float(rate), atol=2e-5)


def test_a_video_turned_by_its_camera_is_upright(tmp_path):
    path = write(tmp_path / "a.mp4")
    turn = ["-display_rotation", "90"]
    turned = convert(path, "turned.mp4", "-c", "copy", before=turn)
    assert video.facts(turned).size == SIZE[::-1]
    for frame, other in zip(read(path)[0], read(turned)[0], strict=True):
        difference = np.rot90(frame).astype(int) - other
        assert np.abs(difference).mean() < 2


def test_frames_of_a_varying_rate_come_once(tmp_path):
    path = write(tmp_path / "a.mp4")
    slower = ["-vf", "setpts='N*(N+1)/2/12/TB'", "-fps_mode", "vfr"]
    varying = convert(path, "90 fps.mp4", *slower)
    found, damage = read(varying)
    assert len(found) == 6 and not damage
    about = video.facts(varying)
    assert about.rate < 10 and about.frames == 6  # the nominal rate is 12


TIMES = {
    "jitter": [0, 0.06, 0.2, 0.26, 0.4, 0.5],
    "a pause": [0, 0.1, 0.2, 5.2, 5.3, 5.4],
    "slower and slower": [0, 0.04, 0.12, 0.28, 0.6, 1.24],
    "fast": [0, 0.004, 0.008, 0.012, 0.016, 0.02],
}


@pytest.mark.parametrize("name", ["a.webm", "live.webm", "a.mkv", "a.mp4", "a.ts"])
@pytest.mark.parametrize("times", TIMES)
def test_frames_keep_their_times(tmp_path, name, times):
    """Also where the container has neither a duration nor a rate, as of browsers."""
    times = TIMES[times]
    with mp4.writing(tmp_path / "first.mp4", rate=Fraction(10)) as append:
        for number, time in enumerate(times):
            append(picture(number), time)
    live = ["-f", "webm", "-live", "1"] if name == "live.webm" else []
    codec = "libvpx" if name.endswith("webm") else "libx264"
    options = ["-fps_mode", "passthrough", "-enc_time_base", "1:1000", "-c:v", codec]
    options += ["-b:v", "4M"]
    path = convert(tmp_path / "first.mp4", name, *options, *live)
    frames, reading = timed(path)
    found = [time for time, _ in frames]
    np.testing.assert_allclose(found, times, atol=2.1e-3)
    assert not reading.damage
    for number, (_, frame) in enumerate(frames):
        assert abs(np.median(frame[..., 0]) - 20 * number) < 8


def test_frames_without_times_have_the_rate(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mp4", rate=Fraction(5))
    monkeypatch.setattr(video, "_time", lambda times: None)
    times = [time for time, _ in timed(path)[0]]
    np.testing.assert_allclose(times, np.arange(6) / 5)
    stuck = iter([3.0, 3.0, 2.0, 3.1, None, 3.2])
    monkeypatch.setattr(video, "_time", lambda times: next(stuck))
    times = [time for time, _ in timed(path)[0]]
    assert times[0] == 0 and (np.diff(times) > 0).all()


@pytest.mark.parametrize(
    "name, codec", [("a.avi", "mjpeg"), ("a.mkv", "libx264"), ("a.mp4", "libx264")]
)
def test_a_missing_end(tmp_path, name, codec):
    path = write(tmp_path / "long.mp4", frames=20)
    path = convert(path, name, "-c:v", codec, "-g", "1", "-movflags", "+faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 4 // 5])
    found, (line,) = read(path)
    assert 0 < len(found) < 20
    assert f"{name}' is damaged: {len(found)} frames, " in line and re.search(
        "of 1.[37] s", line
    )


def test_a_wrong_promise_is_no_damage(tmp_path):
    found, reading = timed(write(tmp_path / "a.mp4"), seconds=100)
    assert len(found) == 6 and not reading.damage
    assert (
        "a.mp4' has frames for 0.5 s; its header promises 100.0 s" in reading.notes[0]
    )


@pytest.mark.parametrize("data", [b"", b"no video", None])
def test_no_video(tmp_path, data, capfd):
    path = tmp_path / "a.mp4"
    if data is None:
        data = write(path).read_bytes()[:600]
    path.write_bytes(data)
    with pytest.raises(InputError, match="a.mp4' holds no frame .* damaged or no vid"):
        video.facts(path)
    assert capfd.readouterr().err == ""


def test_reading_can_stop_early(tmp_path):
    path, reading = write(tmp_path / "a.mp4"), video.Reading([], [])
    frames = video.frames(path, video.facts(path), reading)
    next(frames)
    frames.close()
    assert not reading.damage


@pytest.mark.parametrize("read_first", ["", "head -c 20000 > /dev/null;"])
def test_a_full_disk(tmp_path, monkeypatch, read_first):
    """An encoder that ends with an error, before or after it took all frames."""
    encoder = tmp_path / "ffmpeg"
    encoder.write_text(
        f"#!/bin/sh\n{read_first} echo '[mp4 @ 0x1] No space left' >&2; exit 1\n"
    )
    encoder.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(encoder))
    with pytest.raises(CannotWriteError, match="a.mp4' cannot be written: No space le"):
        write(tmp_path / "out" / "a.mp4", size=(480, 640))
    assert not list((tmp_path / "out").iterdir())


def test_a_failed_block_leaves_nothing(tmp_path):
    with (
        pytest.raises(ZeroDivisionError),
        mp4.writing(tmp_path / "a.mp4", rate=Fraction(10)) as append,
    ):
        append(picture(0), 0)
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
