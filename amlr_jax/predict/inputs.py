"""Which files an option of `predict` stands for."""

import glob
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from amlr_jax.data import images
from amlr_jax.runtime.errors import InputError, preview

VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".m4v", ".webm", ".mpg", ".mpeg"}


class InputFile(NamedTuple):
    """A file to predict."""

    path: Path
    name: str  # relative to the folder of all, "kitchen/0001.jpg"

    @property
    def stem(self) -> str:
        """The name without its suffix, with which the names of its results start."""
        return Path(self.name).with_suffix("").as_posix()

    @property
    def is_video(self) -> bool:
        """Whether it is read as a video; anything else is an image."""
        return self.path.suffix.lower() in VIDEOS


def find(source: Path, *, target: Path, limit: int = 0) -> list[InputFile]:
    """The files that `source` stands for, in the order of their names.

    A file stands for itself whatever its suffix, a folder for all images and videos in
    and below it, a pattern with * ? [ ] or ** for those that it matches. Files in
    `target`, hidden files and other suffixes do not count. `limit` is how many at most,
    0 for all. InputError if there is none, if two would have results of the same name,
    or if `target` is the folder of the images.
    """
    root, files = _matches(source)
    place = target.resolve()
    if place == root.resolve():
        raise InputError(
            f"--output must not be the folder of the images, '{root}'; choose another"
        )
    inside = root.resolve() in place.parents
    found = [
        InputFile(path, path.relative_to(root).as_posix())
        for path in sorted(files)
        if not inside or place not in path.resolve().parents
    ]
    if not found:
        known = ", ".join(sorted(images.READABLE | VIDEOS))
        raise InputError(f"--input '{source}' holds no image and no video ({known})")
    found = found[:limit] if limit else found
    require_unique(found, key=lambda s: s.stem, what="differ in their suffix only")
    return found


def require_unique(
    sources: list[InputFile], *, key: Callable[[InputFile], str], what: str
) -> None:
    """Raises InputError naming the files of which two have the same `key`."""
    count = Counter(map(key, sources))
    twice = [source.path for source in sources if count[key(source)] > 1]
    if twice:
        raise InputError(f"images that {what}: {preview(twice)}; rename or move one")


def _matches(source: Path) -> tuple[Path, list[Path]]:
    """The folder that names are relative to, and the files."""
    if source.is_file():
        return source.parent, [source]
    root, pattern = source, []
    while not root.is_dir() and glob.has_magic(str(root)):
        pattern.insert(0, root.name)
        root = root.parent
    if not root.is_dir():
        raise InputError(f"--input '{source}' does not exist")
    found = glob.iglob("/".join(pattern), root_dir=root, recursive=True)
    files = map(root.joinpath, found) if pattern else root.rglob("*")
    return root, [path for path in files if _counts(path, root)]


def _counts(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    known = path.suffix.lower() in images.READABLE | VIDEOS
    return known and not hidden and path.is_file()
