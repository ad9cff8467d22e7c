"""Videos, read by the ffmpeg that imageio-ffmpeg brings, one frame at a time.

Frames have times: containers promise rates and numbers of frames that need not be true.

Its generators are not used: they hide ffmpeg's exit status, which reports damaged
files and full disks, and they fork, which is not safe beside the threads of JAX.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple

import imageio_ffmpeg
import numpy as np

from amlr_jax.runtime.errors import InputError

VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".m4v", ".webm", ".mpg", ".mpeg"}
# Prints the time of each frame to a pipe. The filter showinfo would do so between the
# messages, and an error in the middle of its lines is then no line of its own.
_TIMES = "metadata=mode=add:key=amlr:value=1,"
_TIMES += r"metadata=mode=print:key=amlr:direct=1:file=pipe\\:"
# Where a file does not tell, and ffmpeg gives the resolution of its clock.
USUAL_RATE = Fraction(25)
# Of the promised duration, and seconds less; it is rounded and includes a last frame.
COMPLETE, ROUNDING = 0.98, 0.1
SHORTEST = 1e-3  # seconds between two frames


class VideoFacts(NamedTuple):
    """The header of a video file, as far as it is of use."""

    size: tuple[int, int]  # height, width of the upright frames
    rate: Fraction  # frames a second, if they have no times
    seconds: float  # promised duration; 0: unknown

    @property
    def frames(self) -> int:
        """An estimate of their number; 0: unknown."""
        return round(self.seconds * self.rate)


class Reading(NamedTuple):
    """What became known while a video was read."""

    damage: list[str]  # a line, if the file is damaged
    notes: list[str]  # a line, if ffmpeg reports something, or the header is wrong


def facts(path: Path) -> VideoFacts:
    """InputError if ffmpeg cannot decode the first frame."""
    first = ["-map", "0:v:0", "-frames:v", "1", "-pix_fmt", "yuv420p"]
    output = [*first, "-f", "yuv4mpegpipe", "-"]
    with ffmpeg("-i", _url(path), *output, level="info", stdout=PIPE) as (run, log):
        header = run.stdout.readline().decode(errors="replace")
        run.stdout.read()
        run.wait()
        said = log.text()
    found = re.match(r"YUV4MPEG2 W(\d+) H(\d+) F(\d+):(\d+)", header)
    if not found:
        raise InputError(
            f"'{path}' holds no frame that ffmpeg can read; it is damaged or no video"
        )
    width, height, *ratio = map(int, found.groups())
    rate = Fraction(*ratio)
    # Of frames at varying times it is the mean rate; ffmpeg prints two decimals.
    mean = re.search(r" Video: .* ([\d.]+) fps", said)
    if mean and abs(rate - Fraction(mean[1])) > 0.01:
        rate = Fraction(mean[1])
    rate = rate if 0 < rate <= 480 else USUAL_RATE
    time = re.search(r"(?m)^  Duration: (\d+):(\d+):([\d.]+)", said)
    if "Estimating duration" in said:  # from the size of the file
        time = None
    hours, minutes, seconds = map(float, time.groups() if time else (0, 0, 0))
    return VideoFacts((height, width), rate, seconds + 60 * minutes + 3600 * hours)


def frames(
    path: Path, about: VideoFacts, reading: Reading
) -> Iterator[tuple[float, np.ndarray]]:
    """Time in seconds from 0 and frame, uint8 RGB [H, W, 3], upright; one in memory.

    Each decoded frame comes once, and times increase. `reading` is complete after the
    last frame. The file is damaged if ffmpeg failed, or reported errors and the frames
    end before the promised duration; the promise alone proves nothing.
    """
    height, width = about.size
    length = 3 * height * width
    inner, outer = os.pipe()
    output = ["-map", "0:v:0", "-fps_mode", "passthrough", "-vf", f"{_TIMES}{outer}"]
    # Without a fine clock, frames that are close would be errors of ffmpeg's.
    output += ["-enc_time_base", "1:1000000"]
    output += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    count, step = 0, 1 / float(about.rate)
    start, time = 0.0, -step
    with (
        os.fdopen(inner) as times,
        os.fdopen(outer, "w") as passed,
        ffmpeg("-i", _url(path), *output, stdout=PIPE, pass_fds=[outer]) as (run, log),
    ):
        passed.close()  # so that `times` ends with ffmpeg
        while len(data := run.stdout.read(length)) == length:
            stamp = _time(times)
            if not count:
                start = stamp or 0.0
            least = time + SHORTEST
            time = time + step if stamp is None else max(stamp - start, least)
            yield time, np.frombuffer(data, np.uint8).reshape(height, width, 3)
            count += 1
        failed, complaint = run.wait(), log.complaint()
    end = time + step
    is_short = end < COMPLETE * about.seconds - ROUNDING
    if failed or not count or (complaint and is_short):
        promised = f" of {about.seconds:.1f}" if about.seconds else ""
        reading.damage.append(
            f"'{path}' is damaged: {count} frames, {end:.1f}{promised} s, can be read "
            f"({complaint or 'ffmpeg gives no reason'})"
        )
    elif complaint:
        reading.notes.append(f"'{path}': {count} frames are read, but {complaint}")
    elif is_short:
        reading.notes.append(
            f"'{path}' has frames for {end:.1f} s; its header promises "
            f"{about.seconds:.1f} s"
        )


def _time(times: IO[str]) -> float | None:
    """The time of the next frame in seconds; None if it has none."""
    found = re.search(r"pts_time:(-?[\d.]+(e[-+]\d+)?)\s", times.readline())
    times.readline()  # the value of the key
    return float(found[1]) if found else None


class _Log:
    """What ffmpeg reports, in a file, so that no pipe is ever full."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def text(self) -> str:
        """All lines, once ffmpeg has ended."""
        self._file.seek(0)
        return self._file.read().decode(errors="replace").replace("[info] ", "")

    def complaint(self) -> str:
        """The first line without prefixes: an error, if only these are told."""
        first, *_ = self.text().splitlines() or [""]
        return re.sub(r"^(\[[^]]*\] )*", "", first.rstrip())


@contextmanager
def ffmpeg(
    *arguments: str,
    level: str = "error",
    stdin: int = DEVNULL,
    stdout: int = DEVNULL,
    pass_fds: Sequence[int] = (),
) -> Iterator[tuple[Any, _Log]]:
    """The Popen of ffmpeg and what it reports; ended with the block."""
    exe = imageio_ffmpeg.get_ffmpeg_exe()
    command = [exe, "-nostats", "-v", f"level+{level}", *arguments]
    with TemporaryFile() as said:
        pipes: dict = {"stdin": stdin, "stdout": stdout, "stderr": said}
        process = Popen(command, pass_fds=pass_fds, **pipes)
        try:
            yield process, _Log(said)
        finally:
            process.kill()
            for pipe in filter(None, (process.stdin, process.stdout)):
                with suppress(OSError):
                    pipe.close()
            process.wait()


def _url(path: Path) -> str:
    return f"file:{path.absolute()}"  # a colon in the name is no protocol then
