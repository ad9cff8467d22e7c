"""What `predict` is given: an image, a folder, a pattern or a video, as names."""

import glob
from pathlib import Path
from typing import NamedTuple

from amlr_jax.runtime.errors import InputError, preview

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"}
VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".m4v", ".webm", ".mpg", ".mpeg"}


class Source(NamedTuple):
    """A file to predict."""

    path: Path
    name: str  # relative to where all of them lie, "kitchen/0001.jpg"

    @property
    def stem(self) -> str:
        """The name without its ending, which its results start with."""
        return Path(self.name).with_suffix("").as_posix()

    @property
    def is_video(self) -> bool:
        """Whether it is to be read as a video; anything else is an image."""
        return self.path.suffix.lower() in VIDEOS


def find(source: Path, *, target: Path, limit: int = 0) -> list[Source]:
    """The files that `source` stands for, in the order of their names.

    A file stands for itself whatever its ending, a folder for all images and videos in
    and below it, a pattern with * ? [ ] or ** for those that it matches. What lies in
    `target`, hidden files and other endings do not count. `limit` is how many at most,
    0 for all. InputError if there is none, two share a name but for the ending, or
    `target` is the folder that they are in.
    """
    root, files = _matches(source)
    place = target.resolve()
    if place == root.resolve():
        raise InputError(
            f"--output must not be the folder of the images, '{root}'; choose another"
        )
    if root.resolve() not in place.parents:
        place = None
    found = [
        Source(path, path.relative_to(root).as_posix())
        for path in sorted(files)
        if place is None or place not in path.resolve().parents
    ]
    if not found:
        known = ", ".join(sorted(IMAGES | VIDEOS))
        raise InputError(f"--input '{source}' holds no image and no video ({known})")
    found = found[:limit] if limit else found
    require_one_each(found, key=lambda s: s.stem, what="of one name but other endings")
    return found


def require_one_each(sources: list[Source], *, key, what: str) -> None:
    """Raises InputError naming the files of which two have the same `key`."""
    count: dict[str, int] = {}
    for source in sources:
        count[key(source)] = count.get(key(source), 0) + 1
    twice = [str(s.path) for s in sources if count[key(s)] > 1]
    if twice:
        raise InputError(f"images {what}: {preview(twice)}; rename or move one of them")


def _matches(source: Path) -> tuple[Path, list[Path]]:
    """The folder that names are relative to, and the files."""
    if source.is_file():
        return source.parent, [source]
    if source.is_dir():
        return source, [p for p in source.rglob("*") if _counts(p, source)]
    if not glob.has_magic(str(source)):
        raise InputError(f"--input '{source}' does not exist")
    fixed = [*source.parts]
    while glob.has_magic(str(Path(*fixed))):
        fixed.pop()
    root = Path(*fixed)
    files = map(Path, glob.iglob(str(source), recursive=True))
    return root, [path for path in files if _counts(path, root)]


def _counts(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return path.suffix.lower() in IMAGES | VIDEOS and not hidden and path.is_file()
