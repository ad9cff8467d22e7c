"""KITTI's depth prediction benchmark: the archive that its server takes.

The development kit asks for 16-bit PNGs, 256 a metre, 0000000000.png to 0000000499.png
at the root of a zip, each as large as its image, 1216 x 352.
"""

import os
import zipfile
from pathlib import Path

from amlr_jax.predict.inputs import Source
from amlr_jax.runtime.errors import InputError

SCALE = 256  # codes per metre
COUNT = 500
SIZE = 352, 1216  # height, width
MOST_BYTES = 500_000_000  # "too large (>500 MB)", says the server
NAMES = tuple(f"{number:010d}.png" for number in range(COUNT))


ARCHIVE, FOLDER = "kitti.zip", "kitti"


def archive(sizes: dict[Source, tuple[int, int]], target: Path, failed: list) -> str:
    """Writes `target`/kitti.zip of the files in `target`/kitti; a line about it.

    `sizes` are (height, width) of what was predicted. If something `failed` there is
    no archive, and an old one goes.
    """
    path = target / ARCHIVE
    if failed:
        path.unlink(missing_ok=True)
        return f"{path} is not written, because {len(failed)} failed"
    by_name = {file_name(source.stem): size for source, size in sizes.items()}
    write_zip([target / FOLDER / name for name in by_name], path)
    lacks = shortcomings(by_name, size_bytes=path.stat().st_size)
    if lacks:
        return f"{path}: KITTI's server will not take it ({'; '.join(lacks)})"
    return f"{path}: {len(by_name)} files, as KITTI's server takes them"


def file_name(stem: str) -> str:
    """The name in the archive of "image/0000000007"."""
    return stem.rpartition("/")[2] + ".png"


def write_zip(files: list[Path], path: Path) -> None:
    """The files at the root of a zip at `path`, written whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        # PNGs are compressed already.
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(files, key=lambda file: file.name):
                archive.write(file, file.name)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"'{path}' cannot be written: {error.strerror}") from error


def shortcomings(sizes: dict[str, tuple[int, int]], *, size_bytes: int) -> list[str]:
    """Why the server would refuse it; `sizes` are (height, width) by file name."""
    found = []
    missing = [name for name in NAMES if name not in sizes]
    if missing:
        found.append(f"{len(missing)} of {COUNT} files missing, first {missing[0]}")
    unknown = sorted(sizes.keys() - set(NAMES))
    if unknown:
        found.append(f"{len(unknown)} files of other names, first {unknown[0]}")
    odd = {name: size for name, size in sizes.items() if tuple(size) != SIZE}
    if odd:
        name, size = min(odd.items())
        found.append(
            f"{len(odd)} files not of {SIZE[1]} x {SIZE[0]}, first {name} with "
            f"{size[1]} x {size[0]}"
        )
    if size_bytes > MOST_BYTES:
        found.append(f"{size_bytes / 1e6:.0f} MB, at most {MOST_BYTES / 1e6:.0f}")
    return found
