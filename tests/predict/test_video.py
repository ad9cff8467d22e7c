"""Videos in and out: every frame once, its rate kept, nothing half written."""

import cv2
import numpy as np
import pytest

from amlr_jax.predict import video
from amlr_jax.predict.outputs import CannotWriteError
from amlr_jax.runtime.errors import InputError

SIZE = (48, 64)


def picture(number, size=SIZE):
    """A bright bar that moves, on a background whose red is the frame's number."""
    shown = np.full((*size, 3), (20 * number, 40, 60), np.uint8)
    shown[:, 6 * number : 6 * number + 8] = 255
    return shown


def write(path, *, frames=6, size=SIZE, rate=12.0):
    writer = video.Writer(path, rate=rate)
    for number in range(frames):
        writer.write(picture(number, size))
    writer.close()
    return path


@pytest.mark.parametrize("size", [SIZE, (49, 65), (2, 2)])
def test_there_and_back(tmp_path, size):
    path = write(tmp_path / "new" / "a.mp4", size=size)
    assert video.facts(path) == (6, 12.0)
    found = list(video.frames(path))
    assert len(found) == 6
    even = tuple(length - length % 2 for length in size)
    for number, frame in enumerate(found):
        assert frame.dtype == np.uint8 and frame.shape == (*even, 3)
        if size == SIZE:
            error = frame.astype(int) - picture(number)
            assert np.abs(error).mean() < 12
    assert [p.name for p in path.parent.iterdir()] == ["a.mp4"]


def test_an_avi_with_a_missing_end(tmp_path):
    path = tmp_path / "a.avi"
    code = cv2.VideoWriter_fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), code, 10, SIZE[::-1])
    for number in range(10):
        writer.write(picture(number)[..., ::-1])
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert video.facts(path).frames == 10
    assert 0 < len(list(video.frames(path))) < 10


@pytest.mark.parametrize("data", [b"", b"no video", None])
def test_no_video(tmp_path, data, capfd):
    path = tmp_path / "a.mp4"
    if data is None:  # without its end, where the index is
        data = write(path).read_bytes()[:-900]
    path.write_bytes(data)
    with pytest.raises(InputError, match="a.mp4' holds no frame .* convert it"):
        video.facts(path)
    assert capfd.readouterr().err == ""


def test_what_is_lost_in_writing_is_noticed(tmp_path):
    writer = video.Writer(tmp_path / "a.mp4", rate=10)
    for number in range(3):
        writer.write(picture(number))
    writer._writer.release()
    writer.write(picture(4))  # OpenCV says nothing
    with pytest.raises(CannotWriteError, match="the encoder stopped"):
        writer.close()
    assert not list(tmp_path.iterdir())


def test_abandoned(tmp_path):
    writer = video.Writer(tmp_path / "a.mp4", rate=10)
    writer.abandon()
    writer.write(picture(0))
    writer.abandon()
    assert not list(tmp_path.iterdir())
    write(tmp_path / "b.mp4", frames=0)
    assert not list(tmp_path.iterdir())
