"""Videos by the ffmpeg that imageio-ffmpeg brings: frames one at a time, and MP4.

Frames have times, and a video that is written keeps those of the one that is read:
containers promise rates and numbers of frames that need not be true.

Its generators are not used: they hide ffmpeg's exit status, which reports damaged
files and full disks, and they fork, which is not safe beside the threads of JAX.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from queue import Empty, Queue
from subprocess import DEVNULL, PIPE, Popen
from threading import Thread
from typing import IO, Any, NamedTuple

import imageio_ffmpeg
import numpy as np

from amlr_jax.predict.outputs import CannotWriteError
from amlr_jax.runtime import files
from amlr_jax.runtime.errors import InputError

# Where a file does not tell, and ffmpeg gives the resolution of its clock.
USUAL_RATE = Fraction(25)
# Of the promised duration, and seconds less; it is rounded and includes a last frame.
COMPLETE, ROUNDING = 0.98, 0.1
SHORTEST = 1e-3  # seconds between two frames
# Of sRGB pictures, and named in the file: else players guess by the size.
_BT709 = "colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=limited"
_COLORS = ["-vf", f"scale=out_color_matrix=bt709:out_range=limited,setparams={_BT709}"]
_H264 = ["-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p"]
_H264 += ["-movflags", "+faststart", "-video_track_timescale", "90000"]
_H264 += ["-fps_mode", "passthrough", "-enc_time_base", "1:90000"]
_PICTURES = ["-f", "matroska", "-i", "-"]


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
    with _ffmpeg("-i", _url(path), *output, level="info", stdout=PIPE) as (run, log):
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
    output = ["-map", "0:v:0", "-fps_mode", "passthrough", "-vf", "showinfo=checksum=0"]
    # Without a fine clock, frames that are close would be errors of ffmpeg's.
    output += ["-enc_time_base", "1:1000000"]
    output += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    count, step = 0, 1 / float(about.rate)
    start, time = 0.0, -step
    with _ffmpeg("-i", _url(path), *output, level="info", stdout=PIPE) as (run, log):
        while len(data := run.stdout.read(length)) == length:
            stamp = log.time()
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


@contextmanager
def writing(
    path: Path, *, rate: Fraction
) -> Iterator[Callable[[np.ndarray, float], None]]:
    """A function that appends a picture at a time to an MP4, at `path` after the block.

    Pictures are uint8 RGB [H, W, 3] of one size, times are in seconds and increase;
    the last one is shown for 1 / `rate`. An odd size loses its last row or column,
    because the codec stores colour for two pixels each. The video is H.264 in yuv420p
    with its index first, as browsers play it. If the block fails or the disk is full
    there is no file; the latter is a CannotWriteError.
    """
    started = False

    def write(picture: np.ndarray, time: float) -> None:
        nonlocal started
        height, width = (length - length % 2 for length in picture.shape[:2])
        head = b"" if started else _matroska_head((height, width), rate)
        started = True
        pixels = picture[:height, :width].tobytes()
        try:
            run.stdin.write(head + _matroska_frame(pixels, time))
        except OSError:  # ffmpeg has ended
            finish()
            raise

    def finish() -> None:
        with suppress(OSError):
            run.stdin.close()
        if run.wait():
            why = log.complaint() or "ffmpeg failed"
            raise CannotWriteError(f"'{path}' cannot be written: {why}")

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            files.replacing(path) as temporary,
            _ffmpeg("-y", *_PICTURES, *_COLORS, *_H264, str(temporary), stdin=PIPE) as (
                run,
                log,
            ),
        ):
            yield write
            finish()
    except OSError as error:
        why = error.strerror
        raise CannotWriteError(f"'{path}' cannot be written: {why}") from error


def _matroska_head(size: tuple[int, int], rate: Fraction) -> bytes:
    """The start of a Matroska stream of RGB pictures at times in microseconds."""
    height, width = size
    colour = b"\x2e\xb5\x24", b"RGB\x18"
    video = _element(b"\xe0", (b"\xb0", width), (b"\xba", height), colour)
    duration = b"\x23\xe3\x83", round(1e9 / rate)
    kind = (b"\xd7", 1), (b"\x73\xc5", 1), (b"\x83", 1), (b"\x86", b"V_UNCOMPRESSED")
    track = _element(b"\xae", *kind, duration, video)
    return b"".join(
        [
            _element(b"\x1a\x45\xdf\xa3", (b"\x42\x82", b"matroska")),
            b"\x18\x53\x80\x67\x01" + 7 * b"\xff",  # segment of unknown length
            _element(b"\x15\x49\xa9\x66", (b"\x2a\xd7\xb1", 1000)),  # nanoseconds
            _element(b"\x16\x54\xae\x6b", track),
        ]
    )


def _matroska_frame(pixels: bytes, time: float) -> bytes:
    block = b"\xa3", b"\x81\0\0\x80" + pixels
    return _element(b"\x1f\x43\xb6\x75", (b"\xe7", round(1e6 * time)), block)


def _element(name: bytes, *parts: bytes | tuple[bytes, int | bytes]) -> bytes:
    """An element of Matroska: of elements, and of names with a number or bytes."""
    data = b""
    for part in parts:
        if isinstance(part, bytes):
            data += part
            continue
        key, value = part
        value = value.to_bytes(8, "big") if isinstance(value, int) else value
        data += key + (len(value) | 1 << 56).to_bytes(8, "big") + value
    return name + (len(data) | 1 << 56).to_bytes(8, "big") + data


class _Log:
    """Reads what ffmpeg reports, so that its pipe is never full."""

    def __init__(self, pipe: IO[bytes], *, level: str) -> None:
        self._pipe, self._all_are_errors = pipe, level == "error"
        self._lines: deque[str] = deque(maxlen=200)
        self._error, self._times = "", Queue[float | None]()
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for raw in self._pipe:
            line = raw.decode(errors="replace").rstrip()
            if found := re.search(r"Parsed_showinfo.* n: *\d+ .*pts_time:(\S+)", line):
                known = re.fullmatch(r"-?[\d.]+(e[-+]\d+)?", found[1])
                self._times.put(float(found[1]) if known else None)
            # A line of a thread may hold an error of another one.
            error = re.search(r"\[(?:error|fatal|panic)\] (.*)", line)
            if error or self._all_are_errors:
                text = error[1] if error else re.sub(r"^(\[[^]]*\] )*", "", line)
                self._error = self._error or text
            if "Parsed_showinfo" not in line:
                self._lines.append(line)

    def time(self) -> float | None:
        """The time of the next frame in seconds; None if it has none."""
        try:
            return self._times.get(timeout=10)
        except Empty:
            return None

    def text(self) -> str:
        """All lines, once ffmpeg has ended."""
        self._thread.join(timeout=10)
        return "\n".join(re.sub(r"\[info\] ", "", line) for line in self._lines)

    def complaint(self) -> str:
        """The first error, without the names of the parts of ffmpeg."""
        self._thread.join(timeout=10)
        return self._error


@contextmanager
def _ffmpeg(
    *arguments: str, level: str = "error", stdin: int = DEVNULL, stdout: int = DEVNULL
) -> Iterator[tuple[Any, _Log]]:
    """The Popen of ffmpeg and what it reports; ended with the block."""
    exe = imageio_ffmpeg.get_ffmpeg_exe()
    command = [exe, "-nostats", "-v", f"level+{level}", *arguments]
    process = Popen(command, stdin=stdin, stdout=stdout, stderr=PIPE)
    log = _Log(process.stderr, level=level)  # type: ignore[arg-type]
    try:
        yield process, log
    finally:
        process.kill()
        for pipe in filter(None, (process.stdin, process.stdout)):
            with suppress(OSError):
                pipe.close()
        process.wait()


def _url(path: Path) -> str:
    return f"file:{path.absolute()}"  # a colon in the name is no protocol then
