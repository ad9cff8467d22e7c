"""Videos that are written as MP4; their pictures keep the times of the frames read."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from subprocess import PIPE

import numpy as np

from amlr_jax.data.video import ffmpeg
from amlr_jax.predict.outputs import CannotWriteError
from amlr_jax.runtime import files

# Of sRGB pictures, and named in the file: else players guess by the size.
_BT709 = "colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=limited"
_COLORS = ["-vf", f"scale=out_color_matrix=bt709:out_range=limited,setparams={_BT709}"]
_H264 = ["-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p"]
_H264 += ["-movflags", "+faststart", "-video_track_timescale", "90000"]
_H264 += ["-fps_mode", "passthrough", "-enc_time_base", "1:90000"]
_PICTURES = ["-f", "matroska", "-i", "-"]


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

    with files.refused(f"'{path}'", CannotWriteError):
        path.parent.mkdir(parents=True, exist_ok=True)
        options = [*_PICTURES, *_COLORS, *_H264]
        with (
            files.replacing(path) as temporary,
            ffmpeg("-y", *options, str(temporary), stdin=PIPE) as (run, log),
        ):
            yield write
            finish()


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
