"""One channel of an OpenEXR file, read with NumPy and zlib.

Current wheels of OpenCV do not include OpenEXR. Supported is the usual depth output of
renderers: one part, scan lines, no compression or RLE, ZIPS, ZIP, 16- or 32-bit floats.
Other files (tiles, PIZ, DWA ...) are refused by name. Format: "OpenEXR File Layout",
openexr.com.
"""

import struct
import zlib
from typing import NamedTuple

import numpy as np

MAGIC = b"\x76\x2f\x31\x01"
_TILED, _DEEP, _MULTIPART = 0x200, 0x800, 0x1000
_COMPRESSIONS = ["NONE", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "B44", "B44A"]
_COMPRESSIONS += ["DWAA", "DWAB"]
_LINES_IN_CHUNK = {"NONE": 1, "RLE": 1, "ZIPS": 1, "ZIP": 16}
_TYPES = [np.dtype(name) for name in ("<u4", "<f2", "<f4")]  # by their codes
_PIXEL_LIMIT = 2**28


class _Header(NamedTuple):
    compression: str
    channels: dict[str, np.dtype]  # in the order of the file
    height: int
    width: int
    first_line: int
    end: int  # of the header, bytes


def read_channel(data: bytes, *, name: str = "") -> np.ndarray:
    """The channel `name` [H, W] as float32.

    Without a name: the only channel, or Z (also of a layer, "depth.Z"), or R, G, B
    where the three are equal. ValueError if the file cannot be read.
    """
    try:
        header = _header(data)
        planes = _planes(data, header)
    except (struct.error, zlib.error, IndexError, OverflowError) as error:
        raise ValueError(f"the file is cut or damaged: {error}") from error
    chosen = name or _depth_name(planes)
    if chosen not in planes:
        raise ValueError(f"no channel '{chosen}' among {', '.join(planes)}")
    return planes[chosen].astype(np.float32)


def _depth_name(planes: dict[str, np.ndarray]) -> str:
    if len(planes) == 1:
        return next(iter(planes))
    deep = [name for name in planes if name.rpartition(".")[2] == "Z"]
    if len(deep) == 1:
        return deep[0]
    if set(planes) - {"A"} == {"B", "G", "R"}:
        red, *others = (planes[name] for name in "RGB")
        if all(np.array_equal(red, other, equal_nan=True) for other in others):
            return "R"
    raise ValueError(
        f"channels {', '.join(planes)}: name the depth with --config.data.depth_key"
    )


def _header(data: bytes) -> _Header:
    if data[:4] != MAGIC:
        raise ValueError("not an OpenEXR file")
    (version,) = struct.unpack_from("<I", data, 4)
    if version & (_TILED | _DEEP | _MULTIPART):
        raise ValueError("tiled, deep or multi-part; write one part in scan lines")
    attributes, end = _attributes(data, 8)
    try:
        window = struct.unpack("<4i", attributes["dataWindow"])
        code = attributes["compression"][0]
        channels = _channels(attributes["channels"])
    except KeyError as error:
        raise ValueError(f"the header lacks {error}") from error
    name = _COMPRESSIONS[code] if code < len(_COMPRESSIONS) else f"number {code}"
    if name not in _LINES_IN_CHUNK:
        raise ValueError(f"compression {name}; write it with ZIP")
    height, width = window[3] - window[1] + 1, window[2] - window[0] + 1
    if min(height, width) < 1 or height * width > _PIXEL_LIMIT:
        raise ValueError(f"size {height}x{width}")
    return _Header(name, channels, height, width, window[1], end)


def _attributes(data: bytes, at: int) -> tuple[dict[str, bytes], int]:
    found = {}
    while data[at]:
        name, at = _text(data, at)
        _, at = _text(data, at)
        (size,) = struct.unpack_from("<I", data, at)
        found[name] = data[at + 4 : at + 4 + size]
        at += 4 + size
    return found, at + 1


def _channels(data: bytes) -> dict[str, np.dtype]:
    found, at = {}, 0
    while data[at]:
        name, at = _text(data, at)
        kind, _, across, down = struct.unpack_from("<IIii", data, at)
        at += 16
        if kind >= len(_TYPES) or (across, down) != (1, 1):
            raise ValueError(f"channel {name} is subsampled or of an unknown type")
        found[name] = _TYPES[kind]
    return found


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.find(b"\0", at)
    if end < 0:
        raise IndexError("a name without an end")
    return data[at:end].decode("utf-8", "replace"), end + 1


def _planes(data: bytes, header: _Header) -> dict[str, np.ndarray]:
    shape = header.height, header.width
    planes = {name: np.zeros(shape, kind) for name, kind in header.channels.items()}
    row_bytes = header.width * sum(kind.itemsize for kind in header.channels.values())
    step = _LINES_IN_CHUNK[header.compression]
    count = -(-header.height // step)
    for offset in struct.unpack_from(f"<{count}Q", data, header.end):
        line, size = struct.unpack_from("<iI", data, offset)
        first = line - header.first_line
        if not 0 <= first < header.height:
            raise IndexError(f"scan line {line}")
        rows = min(step, header.height - first)
        packed = data[offset + 8 : offset + 8 + size]
        raw = _unpacked(packed, header.compression, length=rows * row_bytes)
        _place(raw, planes, slice(first, first + rows))
    return planes


def _place(raw: bytes, planes: dict[str, np.ndarray], rows: slice) -> None:
    """Fills `rows` of the planes; a scan line stores one channel after the other."""
    at = 0
    for row in range(rows.start, rows.stop):
        for plane in planes.values():
            width = plane.shape[1]
            plane[row] = np.frombuffer(raw, plane.dtype, count=width, offset=at)
            at += width * plane.itemsize


def _unpacked(packed: bytes, compression: str, *, length: int) -> bytes:
    """The bytes of a chunk; one that would have grown is stored uncompressed."""
    if len(packed) < length and compression != "NONE":
        unpack = _run_lengths if compression == "RLE" else zlib.decompress
        packed = _interleaved(unpack(packed))
    if len(packed) != length:
        raise IndexError(f"{len(packed)} bytes where {length} are due")
    return packed


def _run_lengths(packed: bytes) -> bytes:
    out, at = bytearray(), 0
    while at < len(packed):
        count = packed[at] - 256 if packed[at] > 127 else packed[at]
        if count < 0:
            out += packed[at + 1 : at + 1 - count]
            at += 1 - count
        else:
            out += packed[at + 1 : at + 2] * (count + 1)
            at += 2
    return bytes(out)


def _interleaved(coded: bytes) -> bytes:
    """Inverts the byte differences and the split into even and odd bytes."""
    steps = np.frombuffer(coded, np.uint8).astype(np.int64)
    steps[1:] -= 128
    flat = np.cumsum(steps).astype(np.uint8)  # modulo 256
    half = len(flat) // 2  # a pixel has 2 or 4 bytes
    out = np.empty_like(flat)
    out[::2], out[1::2] = flat[:half], flat[half:]
    return out.tobytes()
