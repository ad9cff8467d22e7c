"""Videos by the ffmpeg that imageio-ffmpeg brings: frames one at a time, and MP4.

Its generators are not used: they hide ffmpeg's exit status, which reports damaged
files and full disks, and they fork, which is not safe beside the threads of JAX.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple

import imageio_ffmpeg
import numpy as np

from amlr_jax.predict.outputs import CannotWriteError
from amlr_jax.runtime import files
from amlr_jax.runtime.errors import InputError

# Where a file does not tell, and ffmpeg gives the resolution of its clock.
USUAL_RATE = Fraction(25)
COMPLETE = 0.98  # of the frames that duration and rate promise, both rounded
# Of sRGB pictures, and named in the file: else players guess by the size.
_BT709 = "colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=limited"
_COLORS = ["-vf", f"scale=out_color_matrix=bt709:out_range=limited,setparams={_BT709}"]
_H264 = ["-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p"]
_H264 += ["-movflags", "+faststart"]


class VideoFacts(NamedTuple):
    """The header of a video file, as far as it is of use."""

    size: tuple[int, int]  # height, width of the upright frames
    rate: Fraction  # frames a second
    frames: int  # estimated from the duration; 0: unknown


def facts(path: Path) -> VideoFacts:
    """InputError if ffmpeg cannot decode the first frame."""
    first = ["-map", "0:v:0", "-frames:v", "1", "-pix_fmt", "yuv420p"]
    output = [*first, "-f", "yuv4mpegpipe", "-"]
    with _ffmpeg("-i", _url(path), *output, level="info", stdout=PIPE) as (run, log):
        header = run.stdout.readline().decode(errors="replace")
        run.stdout.read()
        run.wait()
        said = _said(log)
    found = re.match(r"YUV4MPEG2 W(\d+) H(\d+) F(\d+):(\d+)", header)
    if not found:
        raise InputError(
            f"'{path}' holds no frame that ffmpeg can read; it is damaged or no video"
        )
    width, height, *ratio = map(int, found.groups())
    rate = Fraction(*ratio)
    # Of frames at varying times it is the mean rate, not the nominal one, that keeps
    # the duration; ffmpeg prints it with two decimals.
    mean = re.search(r" Video: .* ([\d.]+) fps", said)
    if mean and abs(rate - Fraction(mean[1])) > 0.01:
        rate = Fraction(mean[1])
    rate = USUAL_RATE if rate > 480 else rate
    time = re.search(r"(?m)^  Duration: (\d+):(\d+):([\d.]+)", said)
    hours, minutes, seconds = map(Fraction, time.groups() if time else (0, 0, 0))
    seconds += 60 * minutes + 3600 * hours
    return VideoFacts((height, width), rate, round(seconds * rate))


def frames(path: Path, about: VideoFacts, damage: list[str]) -> Iterator[np.ndarray]:
    """Its frames in turn, uint8 RGB [H, W, 3], upright; only one is in memory.

    Each decoded frame comes once. If the file is damaged, a line is appended to
    `damage` after the last frame: ffmpeg failed, or it reported errors and fewer frames
    came than `about` promises. The promise alone proves nothing, as it is an estimate.
    """
    height, width = about.size
    length = 3 * height * width
    output = ["-map", "0:v:0", "-fps_mode", "passthrough"]
    output += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    count = 0
    with _ffmpeg("-i", _url(path), *output, stdout=PIPE) as (run, log):
        while len(data := run.stdout.read(length)) == length:
            yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
            count += 1
        failed, complaint = run.wait(), _complaint(log)
        missing = count < COMPLETE * about.frames
        if failed or not count or (complaint and missing):
            damage.append(
                f"'{path}' is damaged: {count} of about {about.frames} frames can be "
                f"read ({complaint or 'ffmpeg gives no reason'})"
            )


@contextmanager
def writing(path: Path, *, rate: Fraction) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that appends pictures to an MP4, which is at `path` after the block.

    Pictures are uint8 RGB [H, W, 3] of one size; an odd size loses its last row or
    column, because the codec stores colour for two pixels each. The video is H.264 in
    yuv420p with its index first, as browsers play it. If the block fails or the disk is
    full there is no file; the latter is a CannotWriteError.
    """
    pictures = ["-f", "image2pipe", "-c:v", "ppm", "-framerate", str(rate), "-i", "-"]

    def write(picture: np.ndarray) -> None:
        height, width = (length - length % 2 for length in picture.shape[:2])
        try:
            run.stdin.write(b"P6 %d %d 255\n" % (width, height))
            run.stdin.write(picture[:height, :width].tobytes())
        except OSError:  # ffmpeg has ended
            finish()
            raise

    def finish() -> None:
        with suppress(OSError):
            run.stdin.close()
        if run.wait():
            why = _complaint(log) or "ffmpeg failed"
            raise CannotWriteError(f"'{path}' cannot be written: {why}")

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            files.replacing(path) as temporary,
            _ffmpeg("-y", *pictures, *_COLORS, *_H264, str(temporary), stdin=PIPE) as (
                run,
                log,
            ),
        ):
            yield write
            finish()
    except OSError as error:
        why = error.strerror
        raise CannotWriteError(f"'{path}' cannot be written: {why}") from error


@contextmanager
def _ffmpeg(
    *arguments: str, level: str = "error", stdin: int = DEVNULL, stdout: int = DEVNULL
) -> Iterator[tuple[Any, IO[bytes]]]:
    """The Popen of ffmpeg and what it reports; ended with the block."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", level, *arguments]
    # A file, because nobody reads a second pipe while frames go through the first.
    with TemporaryFile() as log:
        process = Popen(command, stdin=stdin, stdout=stdout, stderr=log)
        try:
            yield process, log
        finally:
            process.kill()
            for pipe in filter(None, (process.stdin, process.stdout)):
                with suppress(OSError):
                    pipe.close()
            process.wait()


def _said(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read(100_000).decode(errors="replace")


def _complaint(log: IO[bytes]) -> str:
    """The first line of what ffmpeg reported, without the names of its parts."""
    first, *_ = [*_said(log).strip().splitlines(), ""]
    return re.sub(r"^(\[[^]]*\] )*", "", first)


def _url(path: Path) -> str:
    return f"file:{path.absolute()}"  # a colon in the name is no protocol then
