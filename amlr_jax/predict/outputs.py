"""What a predicted depth map is written as: 16-bit PNG, arrays, pictures, points.

KITTI's depth prediction benchmark takes a zip of 16-bit PNGs, 256 codes a metre,
0000000000.png to 0000000499.png at its root, each as large as its image, 1216 x 352.
"""

import io
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from amlr_jax.data import colors
from amlr_jax.data.cameras import Camera
from amlr_jax.models.decoders.disparity import disparity_from_depth
from amlr_jax.predict.inputs import InputFile
from amlr_jax.runtime import files, paths
from amlr_jax.runtime.errors import InputError, counted, preview

CODE_LIMIT = 2**16 - 1
CONFIDENCE = "confidence"
# Kind -> what is appended to the name of the image.
ENDINGS = {
    "png16": "_depth.png",
    "npy": "_depth.npy",
    "npz": "_depth.npz",
    "disparity": "_disparity.npy",
    CONFIDENCE: "_confidence.npy",
    "color": "_color.png",
    "side_by_side": "_side_by_side.png",
    "ply": "_points.ply",
}
KITTI = "kitti"  # also the folder of its PNGs
KINDS = (*ENDINGS, KITTI)
PICTURES = ("color", "side_by_side")

_FRAME = re.compile(r"^\d{6,}(?=_)")  # the number of a frame
KITTI_SCALE = 256  # codes a metre
MOST_METRES = CODE_LIMIT // KITTI_SCALE
KITTI_SIZE = 352, 1216  # height, width
KITTI_MOST_BYTES = 500_000_000  # the server refuses more
KITTI_NAMES = tuple(f"{number:010d}.png" for number in range(500))


class CannotWriteError(InputError):
    """A result cannot be written, so that going on makes no sense."""


class OutputStyle(NamedTuple):
    """What all results of a run share."""

    kinds: tuple[str, ...]  # of `KINDS`
    far: float  # metres: the darkest colour
    scale: int  # codes a metre of 16-bit PNGs
    unit: str = "m"  # "": true up to one factor
    stride: int = 1  # pixels from point to point
    # Smallest and largest depth of the network's disparity; None: it has none
    disparity_depths: tuple[float, float] | None = None


class Result(NamedTuple):
    """A depth map and what it was made from."""

    depth: np.ndarray  # [H, W], metres
    image: np.ndarray  # uint8 RGB [H, W, 3]
    camera: Camera | None = None
    near: float | None = None  # metres: the brightest colour; None: of this map
    spread: np.ndarray | None = None  # [H, W] of log depth over the views
    shown: np.ndarray | None = None  # [H, W] metres, of the pictures; None: `depth`


def write(
    result: Result, stem: str, target: Path, *, kinds: Iterable[str], style: OutputStyle
) -> list[str]:
    """Writes the kinds of result of one image; their names below `target`.

    Each file is whole or absent. CannotWriteError if one cannot be written.
    """
    names = {kind: file_of(kind, stem) for kind in kinds}
    for kind, name in names.items():
        write_whole(target / name, encoded(kind, result, style))
    return [*names.values()]


def file_of(kind: str, stem: str) -> str:
    """Where a kind of result of "kitchen/0001" is in the folder of results.

    >>> file_of("npy", "kitchen/0001")
    'kitchen/0001_depth.npy'
    >>> file_of("kitti", "image/0000000007")
    'kitti/0000000007.png'
    """
    if kind == KITTI:
        return f"{KITTI}/{Path(stem).name}.png"
    return stem + ENDINGS[kind]


def files_of(source: InputFile, kinds: Iterable[str]) -> list[str]:
    """All files that a source is written to, of a video those of its first frame."""
    if not source.is_video:
        return [file_of(kind, source.stem) for kind in kinds]
    return [
        video_of(kind, source.stem)
        if kind in PICTURES
        else file_of(kind, frame_of(source.stem, 0))
        for kind in kinds
    ]


def video_of(kind: str, stem: str) -> str:
    """Where the video of a kind of picture is."""
    return f"{stem}_{kind}.mp4"


def frame_of(stem: str, number: int) -> str:
    """The start of the names of the results of a video's frame."""
    return f"{stem}/{number:06d}"


def require_distinct(
    sources: Iterable[InputFile], kinds: Iterable[str], target: Path
) -> None:
    """Raises InputError if two sources share a result, or one would replace a source.

    Names that differ in case or Unicode form count as one if the file system of
    `target` says so.
    """
    sources, kinds = list(sources), list(kinds)
    films = {source.stem for source in sources if source.is_video}
    owners: dict[str, list[tuple[str, Path]]] = {}
    for source in sources:
        for name in files_of(source, kinds):
            folder, _, leaf = name.rpartition("/")
            if folder in films:  # any frame of it
                name = f"{folder}/{re.sub(_FRAME, '0' * 6, leaf)}"
            owners.setdefault(paths.folded(name), []).append((name, source.path))
    for same in owners.values():
        names = {name for name, _ in same}
        if len(same) > 1 and (len(names) == 1 or paths.are_one_file(names, target)):
            _, *others = same
            raise InputError(
                f"results of '{same[0][1]}' and {preview(p for _, p in others)} would "
                f"have one name, '{same[0][0]}'; rename or move one, or predict them "
                "into two folders"
            )
    place, inside = target.resolve(), set()
    for source in sources if place.is_dir() else ():
        if place in (real := source.path.resolve()).parents:
            inside.add(real.relative_to(place).as_posix())
    for name in inside and (n for s in sources for n in files_of(s, kinds)):
        if name in inside:
            raise InputError(
                f"the result '{target / name}' would replace one of the images; choose "
                "another --output"
            )


def write_whole(path: Path, data: bytes) -> None:
    """The file, whole or not at all; CannotWriteError if it cannot be written."""
    with files.refused(f"'{path}'", CannotWriteError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(path) as temporary:
            temporary.write_bytes(data)


def encoded(kind: str, result: Result, style: OutputStyle) -> bytes:
    """The bytes of the file of that kind."""
    metres = result.depth.astype(np.float32)
    if kind in ("png16", KITTI):
        scale = KITTI_SCALE if kind == KITTI else style.scale
        return png(codes(metres, scale=scale))
    if kind in PICTURES:
        return png(picture(kind, result, style)[..., ::-1])
    if kind == "ply":
        assert result.camera is not None, "ply needs a camera"
        vertices = points(metres, result.image, result.camera, stride=style.stride)
        unit = "metres" if style.unit else "true up to one factor"
        return as_ply(vertices, unit=unit)
    buffer = io.BytesIO()
    if kind == CONFIDENCE:
        assert result.spread is not None, "confidence needs several views"
        np.save(buffer, np.exp(-result.spread).astype(np.float32))
    elif kind == "disparity":
        assert style.disparity_depths is not None, "this network has no disparity"
        near, far = style.disparity_depths
        exact = result.depth.astype(np.float64)
        made = disparity_from_depth(exact, min_depth=near, max_depth=far)
        np.save(buffer, made.astype(np.float32))
    elif kind == "npy":
        np.save(buffer, metres)
    else:
        np.savez_compressed(buffer, depth=metres)
    return buffer.getvalue()


# ---------------------------------------------------------------- depth


def png_scale(max_depth: float) -> int:
    """Codes a metre of a 16-bit PNG: NYUv2's 1000 if they reach, else KITTI's 256.

    0 beyond MOST_METRES, which neither can hold.
    """
    fitting = (s for s in (1000, KITTI_SCALE) if max_depth * s <= CODE_LIMIT)
    return next(fitting, 0)


def codes(depth: np.ndarray, *, scale: int) -> np.ndarray:
    """Metres [H, W] as uint16 codes, rounded; at least 1, since 0 means no depth."""
    return np.clip(np.rint(depth * scale), 1, CODE_LIMIT).astype(np.uint16)


def png(array: np.ndarray) -> bytes:
    """The bytes of a PNG of BGR or grey pixels."""
    return cv2.imencode(".png", array)[1].tobytes()


def picture(kind: str, result: Result, style: OutputStyle) -> np.ndarray:
    """The picture "color", or "side_by_side" with the image left of it; uint8 RGB."""
    depth = result.depth if result.shown is None else result.shown
    near = result.near or colors.nearest(depth, far=style.far)
    limits = {"near": min(near, 0.999 * style.far), "far": style.far}
    shown = colors.colorize(depth, **limits)
    if kind == "side_by_side":
        shown = np.concatenate([result.image, shown], axis=1)
    return colors.with_scale(shown, unit=style.unit, **limits)


# ---------------------------------------------------------------- points

_VERTEX = np.dtype(
    [(axis, "<f4") for axis in "xyz"] + [(c, "u1") for c in ("red", "green", "blue")]
)


def points(
    depth: np.ndarray, image: np.ndarray, intrinsics: Camera, *, stride: int = 1
) -> np.ndarray:
    """The points that every `stride`-th pixel of every `stride`-th row sees.

        x = (u - cx) / fx z,   y = (v - cy) / fy z,   z = depth[v, u]

    Args:
      depth: [H, W] metres; where it is 0, negative or not finite there is no point.
      image: uint8 RGB [H, W, 3].
      intrinsics: fx, fy, cx, cy in pixels of the image, the centre of the first at 0.

    Returns:
      [N] with fields x, y, z (float32 metres: x right, y down, z forward) and red,
      green, blue (uint8).
    """
    fx, fy, cx, cy = (float(value) for value in intrinsics)
    v, u = np.mgrid[: depth.shape[0] : stride, : depth.shape[1] : stride]
    z = depth[::stride, ::stride].astype(np.float64)
    seen = np.isfinite(z) & (z > 0)
    u, v, z = u[seen], v[seen], z[seen]
    found = np.empty(z.size, _VERTEX)
    found["x"], found["y"], found["z"] = (u - cx) / fx * z, (v - cy) / fy * z, z
    for channel, name in enumerate(("red", "green", "blue")):
        found[name] = image[::stride, ::stride, channel][seen]
    return found


def as_ply(vertices: np.ndarray, *, unit: str = "metres") -> bytes:
    """The bytes of a PLY file, binary little endian, of what `points` gives."""
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment camera frame, x right, y down, z forward, {unit}",
        f"element vertex {len(vertices)}",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {colour}" for colour in ("red", "green", "blue")),
        "end_header\n",
    ]
    return "\n".join(header).encode("ascii") + vertices.astype(_VERTEX).tobytes()


# ---------------------------------------------------------------- KITTI's server


def archive(sizes: dict[str, tuple[int, int]], target: Path, failed: list[str]) -> str:
    """Writes `target`/kitti.zip of files in `target`/kitti; a line about it.

    `sizes` are (height, width) by file name. If something `failed` there is no archive
    and an old one is removed. CannotWriteError if it cannot be written.
    """
    path = target / f"{KITTI}.zip"
    if failed:
        path.unlink(missing_ok=True)
        return f"{path} is not written, because {len(failed)} failed"
    with (
        files.refused(f"'{path}'", CannotWriteError),
        files.replacing(path) as temporary,
        # PNGs are compressed already.
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as zipped,
    ):
        for name in sorted(sizes):
            zipped.write(target / KITTI / name, name)
    lacks = shortcomings(sizes, size_bytes=path.stat().st_size)
    if lacks:
        return f"{path}: KITTI's server will not take it ({'; '.join(lacks)})"
    return f"{path}: {counted(len(sizes), 'file')}, as KITTI's server takes them"


def shortcomings(sizes: dict[str, tuple[int, int]], *, size_bytes: int) -> list[str]:
    """Why the server would refuse it; `sizes` are (height, width) by file name."""
    height, width = KITTI_SIZE
    found = {
        "files missing": [name for name in KITTI_NAMES if name not in sizes],
        "files of other names": sorted(sizes.keys() - set(KITTI_NAMES)),
        f"files not of {width} x {height}": [
            name for name in sorted(sizes) if tuple(sizes[name]) != KITTI_SIZE
        ],
    }
    lines = [f"{len(n)} {what}, first {n[0]}" for what, n in found.items() if n]
    if size_bytes > KITTI_MOST_BYTES:
        most = KITTI_MOST_BYTES / 1e6
        lines.append(f"{size_bytes / 1e6:.0f} MB, at most {most:.0f}")
    return lines
