"""Which files an option of `predict` stands for."""

import glob
from pathlib import Path
from typing import NamedTuple

from amlr_jax.data import images
from amlr_jax.data.video import VIDEOS
from amlr_jax.runtime import paths
from amlr_jax.runtime.errors import InputError


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


class Inputs(NamedTuple):
    """What an option stands for."""

    files: list[InputFile]
    lost: list[str]  # what cannot be found or read, a line each
    notes: list[str]  # what is passed over


def find(source: Path, *, target: Path, limit: int = 0) -> Inputs:
    """The files that `source` stands for, in natural order.

    A file stands for itself whatever its suffix, a folder for all images and videos in
    and below it, a pattern with * ? [ ] or ** for those that it matches (`paths.find`).
    Files in `target` and hidden files do not count, other suffixes are counted.
    `limit` is how many files at most, 0 for all. InputError if there is none, or if
    `target` is the folder of the images.
    """
    root, every, lost = _matches(source)
    place = target.resolve()
    if place == root.resolve():
        raise InputError(
            f"--output must not be the folder of the images, '{root}'; choose another"
        )
    folders = {folder: folder.resolve() for folder in {path.parent for path in every}}
    results = {f for f, real in folders.items() if place in (real, *real.parents)}
    every = [path for path in every if path.parent not in results]
    known = images.READABLE | VIDEOS
    found = [
        InputFile(path, paths.plain(path.relative_to(root).as_posix()))
        for path in every
        if path.suffix.lower() in known or path == source
    ]
    notes = paths.passed_over(root, {*every} - {file.path for file in found})
    if not found:
        if source != root and not every:
            raise InputError(f"--input '{source}' matches no file")
        why = "; ".join([*lost, *notes]) or ", ".join(sorted(known))
        raise InputError(f"--input '{source}' holds no image and no video ({why})")
    return Inputs(found[:limit] if limit else found, lost, notes)


def _matches(source: Path) -> tuple[Path, list[Path], list[str]]:
    """The folder that names are relative to, the files, and what cannot be found."""
    if source.is_file():
        return source.parent, [source], []
    root, pattern = source, list[str]()
    while not root.is_dir() and glob.has_magic(str(root)):
        pattern.insert(0, root.name)
        root = root.parent
    if not root.is_dir():
        raise InputError(f"--input '{source}' does not exist")
    return root, *paths.find(root, "/".join(pattern) or "**/*")
