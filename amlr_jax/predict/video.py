"""Videos by OpenCV: frames one at a time, and pictures back into an MP4."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from amlr_jax.predict.outputs import CannotWriteError
from amlr_jax.runtime.errors import InputError

# Read when a first video is opened: what is wrong with it is for one line of ours.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

USUAL_RATE = 25.0  # frames a second, where a file does not say


class Facts(NamedTuple):
    """What a video file says of itself."""

    frames: int  # 0: it does not say
    rate: float  # frames a second


def facts(path: Path) -> Facts:
    """InputError if OpenCV cannot read a single frame of it."""
    capture = _opened(path)
    try:
        if not capture.read()[0]:
            raise _unreadable(path)
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        rate = capture.get(cv2.CAP_PROP_FPS)
    finally:
        capture.release()
    known = math.isfinite(rate) and 0 < rate <= 1000
    return Facts(max(int(count), 0), rate if known else USUAL_RATE)


def frames(path: Path) -> Iterator[np.ndarray]:
    """Its frames in turn, uint8 RGB [H, W, 3]; only one is in memory.

    It ends where the file ends or cannot be decoded further.
    """
    capture = _opened(path)
    try:
        while True:
            good, frame = capture.read()
            if not good:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()


class Writer:
    """An MP4 that appears at `path` when it is closed, whole or not at all.

    Pictures are uint8 RGB [H, W, 3] of one size; an odd size loses its last row or
    column, which the codec cannot hold.
    """

    def __init__(self, path: Path, *, rate: float) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.tmp.mp4")
        self._rate = rate
        self._writer: cv2.VideoWriter | None = None
        self._count = 0

    def write(self, picture: np.ndarray) -> None:
        """Appends a picture."""
        height, width = (length - length % 2 for length in picture.shape[:2])
        if self._writer is None:
            self._writer = self._started((width, height))
        frame = cv2.cvtColor(picture[:height, :width], cv2.COLOR_RGB2BGR)
        with _quiet():  # a full disk, frame after frame
            self._writer.write(frame)
        self._count += 1

    def close(self) -> None:
        """Puts the file in its place; CannotWriteError if it is not whole."""
        if self._writer is None:
            return
        self._writer.release()
        # The encoder does not report a full disk; what it wrote must be counted.
        if not self._is_whole():
            self.abandon()
            raise CannotWriteError(
                f"'{self._path}' cannot be written: the encoder stopped; is the disk "
                "full?"
            )
        os.replace(self._temporary, self._path)

    def abandon(self) -> None:
        """Leaves nothing behind."""
        if self._writer is not None:
            self._writer.release()
        self._temporary.unlink(missing_ok=True)

    def _started(self, size: tuple[int, int]) -> cv2.VideoWriter:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = error.strerror
            raise CannotWriteError(f"'{self._path}' cannot be made: {why}") from error
        code = cv2.VideoWriter_fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(self._temporary), code, self._rate, size)
        if not writer.isOpened():
            raise CannotWriteError(
                f"'{self._path}' cannot be written as a video of {size[0]} x {size[1]}"
            )
        return writer

    def _is_whole(self) -> bool:
        if not self._temporary.is_file():
            return False
        try:
            return facts(self._temporary).frames == self._count
        except InputError:
            return False


def _opened(path: Path) -> cv2.VideoCapture:
    with _quiet():
        capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise _unreadable(path)
    return capture


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what OpenCV has to say on stderr."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _unreadable(path: Path) -> InputError:
    return InputError(
        f"'{path}' holds no frame that OpenCV can read; convert it, for example "
        "with ffmpeg -i IN -c:v libx264 OUT.mp4"
    )
