"""Names of files: how folders are walked, how names are ordered and compared.

All readers of folders use `find`, so that links, hidden files and unreadable folders
mean the same everywhere.
"""

import functools
import os
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from amlr_jax.runtime.errors import InputError, counted, preview

# Of a name: seconds with decimals since 1970, or a whole number.
_NUMBER = re.compile(r"(\d{9,}\.\d+|\d+)")


class Found(NamedTuple):
    """What `find` gives."""

    files: list[Path]  # in natural order of their names without ending
    lost: list[str]  # unreadable folders and links without a target, with the reason

    def all(self) -> list[Path]:
        """The files; InputError if something is lost."""
        if self.lost:
            raise InputError(f"{preview(self.lost)}; restore or remove it")
        return self.files


def expanded(name: str | Path) -> Path:
    """The path that a user gave, with `~` replaced by the home folder."""
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"'{name}' names the home folder of a user that does not exist; write "
            "the path in full"
        ) from error


def find(root: Path, pattern: str = "**/*", *, folders: bool = False) -> Found:
    """The files, or with `folders` the folders, below `root` that match `pattern`.

    Parts of `pattern` are separated by "/" and match as in a shell; a part that is the
    name of a file or folder means that one, and ** means any folders. Links are
    followed, but ** does not enter a folder again from inside. Hidden names match only
    a part that starts with a dot.
    """
    lost: dict[str, str] = {}
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if parts[-1] == "**":
        parts.append("*")
    found = set(_matching(root, parts, (), folders, lost)) if root.is_dir() else set()
    cut = len(os.path.join(root, "")) if root != Path() else 0
    names = {path: os.path.splitext(str(path)[cut:]) for path in found}
    files = sorted(found, key=lambda path: (natural(names[path][0]), names[path][1]))
    return Found(files, [f"'{name}' {why}" for name, why in sorted(lost.items())])


def passed_over(root: Path, files: Collection[Path]) -> list[str]:
    """The note that counts files by their endings, which are not read; none without."""
    count = Counter(path.suffix.lower() or "none" for path in files)
    if not count:
        return []
    kinds = ", ".join(f"{ending} {n}" for ending, n in count.most_common())
    names = preview(sorted((path.relative_to(root) for path in files), key=natural))
    number = counted(len(files), "file is|files are")
    return [f"{number} passed over in '{root}': {kinds} ({names})"]


def _matching(
    folder: Path, pattern: list[str], above: tuple, folders: bool, lost: dict[str, str]
) -> Iterator[Path]:
    first, rest = pattern[0], pattern[1:]
    try:
        status = os.stat(folder)
        with os.scandir(folder) as scan:
            entries = list(scan)
    except OSError as error:
        lost[str(folder)] = f"cannot be read: {error.strerror}"
        return
    if first == "**":
        here = status.st_dev, status.st_ino
        if here in above:
            return
        yield from _matching(folder, rest, (), folders, lost)
        above, rest = (*above, here), pattern
    is_name = any(entry.name == first for entry in entries)
    for entry in entries:
        path = folder / entry.name
        if not (entry.name == first if is_name else _fits(entry.name, first)):
            continue
        is_folder = os.path.isdir(path) if entry.is_symlink() else entry.is_dir()
        if rest and is_folder:
            yield from _matching(path, rest, above, folders, lost)
        elif entry.is_symlink() and not path.exists() and (not rest or not path.suffix):
            lost[str(path)] = "is a link to nothing"
        elif not rest and is_folder == folders:
            yield path


def _fits(name: str, part: str) -> bool:
    """Whether a part of a pattern matches a name."""
    return fnmatchcase(name, part) and (part[0] == "." or name[0] != ".")


def natural(name: str | Path) -> tuple:
    """A key that sorts numbers by value, folder by folder.

    >>> sorted(["frame_10", "frame_9", "frame_01"], key=natural)
    ['frame_01', 'frame_9', 'frame_10']
    """
    parts = tuple(map(_pieces, str(name).split("/")))
    return parts, str(name)


def _pieces(part: str) -> tuple:
    """Text and numbers of a name in turn, text first."""
    pieces = enumerate(_NUMBER.split(part))
    return tuple(_value(text) if odd % 2 else text for odd, text in pieces)


def _value(text: str) -> int | Decimal:
    return int(text) if len(text) < 300 and "." not in text else Decimal(text)


def last_number(name: str) -> tuple[str, Decimal] | None:
    """A name with # in place of its last number, and the number; None without one.

    >>> last_number("left_0012.v")
    ('left_#.v', Decimal('12'))
    """
    folder, slash, leaf = name.rpartition("/")
    found = [*_NUMBER.finditer(leaf)]
    if not found:
        return None
    start, end = found[-1].span()
    return f"{folder}{slash}{leaf[:start]}#{leaf[end:]}", Decimal(found[-1][0])


def plain(name: str | Path) -> str:
    """A name in Unicode's composed form; bytes that are no UTF-8 are taken as Latin-1.

    Names of one file on two systems, or typed and read, are equal then.
    """
    raw = str(name).encode("utf-8", "surrogateescape")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return unicodedata.normalize("NFC", text)


def on_disk(root: Path, name: str) -> Path:
    """`root`/`name`, in the spelling of the disk if that differs only as in `plain`."""
    path = root
    for part in name.split("/"):
        place, path = path, path / part
        if not path.exists():
            spelled = _spelled(place).get(plain(part), [])
            path = place / spelled[0] if len(spelled) == 1 else path
    return path


@functools.lru_cache(maxsize=1024)
def _spelled(folder: Path) -> dict[str, list[str]]:
    """`plain` names in a folder -> names on disk."""
    found: dict[str, list[str]] = {}
    if folder.is_dir():
        for name in os.listdir(folder):
            found.setdefault(plain(name), []).append(name)
    return found


def folded(name: str) -> str:
    """Equal for names that some file systems take for one."""
    return unicodedata.normalize("NFC", name).casefold()


def are_one_file(names: Iterable[str], folder: Path) -> bool:
    """Whether the file system of `folder`, which need not exist, takes them for one."""
    above = next(p for p in (folder, *folder.absolute().parents) if p.is_dir())
    first, *others = (name.replace("/", "_") for name in names)
    try:
        with tempfile.TemporaryDirectory(dir=above, prefix=".names.") as probe:
            Path(probe, first).touch()
            return any(Path(probe, other).exists() for other in others)
    except OSError:
        return False
