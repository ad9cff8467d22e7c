"""Lists of KITTI frames: from lines in any known format to frames with their files."""

import re
from pathlib import Path
from typing import NamedTuple

from amlr_jax.data import lists
from amlr_jax.data.frames import Frame
from amlr_jax.data.kitti import files
from amlr_jax.runtime.errors import InputError

_DRIVE = r"(\d{4}_\d\d_\d\d_drive_\d{4}_sync)"
# Folders before the drive differ between lists and are not asked for: train and val
# may be merged, raw_data left out.
_IMAGE = re.compile(rf"(?:.*/)?{_DRIVE}/(image_0[23])/data/(\d{{10}})\.(?:png|jpg)")
_DEPTH = re.compile(
    rf"(?:.*/)?{_DRIVE}/proj_depth/groundtruth/(image_0[23])/(\d{{10}})\.png"
)
_FOLDER = re.compile(rf"(?:.*/)?{_DRIVE}")


class Named(NamedTuple):
    """The frame that a line names."""

    drive: str
    frame: int
    camera: str
    depth: bool | None  # None: the format does not say whether there is depth

    @property
    def key(self) -> str:
        """The name for messages, and of the frame."""
        return files.key(self.drive, self.frame, self.camera)

    def has_no_depth(self, *, found: bool) -> bool:
        """Whether it has none by the list, or where that says nothing, by the disk."""
        return not found if self.depth is None else not self.depth


def frames(
    root: Path, path: str, notes: list[str], *, scans: bool = False
) -> tuple[Frame, ...] | None:
    """The frames of the list `path` that have depth, None without a list.

    With `scans` the depth is that of the lidar scans, whatever the list says of it.
    What has no depth is left out and said in `notes`; a missing file is an InputError.
    """
    if not path:
        return None
    rows = named(path)
    annotated = {
        c: files.depth_files(root, camera=c) for c in (files.LEFT, files.RIGHT)
    }
    made, none, lost = [], [], []
    for row in rows:
        depth = annotated[row.camera].get(row.drive, {}).get(row.frame)
        if scans:
            depth = files.scan_path(root, row.drive, row.frame)
        if not scans and row.has_no_depth(found=depth is not None):
            none.append(row.key)
        elif depth is None or not depth.is_file() or not _image(root, row).is_file():
            lost.append(row.key)
        else:
            made.append(_frame(root, row, depth, scans=scans))
    lists.require_found(Path(path), lost, total=len(rows))
    notes.extend(lists.without_depth(Path(path), none, total=len(rows)))
    if not made:
        raise InputError(f"no frame of list '{path}' has depth: {', '.join(notes)}")
    return tuple(made)


def _image(root: Path, row: Named) -> Path:
    return files.image_path(root, row.drive, row.camera, row.frame)


def _frame(root: Path, row: Named, depth: Path, *, scans: bool) -> Frame:
    if scans:
        return files.scanned_frame(root, row.drive, row.frame, camera=row.camera)
    return files.annotated_frame(root, row.drive, row.frame, depth, camera=row.camera)


def named(path: str) -> list[Named]:
    """The frames that a list names, in its order."""
    listing = lists.read_list(path)
    if listing.kind == "odometry":
        raise InputError(
            f"list '{path}' names odometry sequences; depth needs lines "
            "'date/drive frame l|r', or images and depth"
        )
    read = _numbered if listing.kind == "monodepth2" else _paired
    return [read(path, row) for row in listing.rows]


def _numbered(path: str, row: lists.Numbered) -> Named:
    found = _FOLDER.fullmatch(row.folder)
    if not found:
        raise _unlike(path, row.line, row.folder, "<date>/<date>_drive_NNNN_sync")
    return Named(found[1], row.frame, files.CAMERA_OF_SIDE[row.side], None)


def _paired(path: str, row: lists.Pair) -> Named:
    image = _IMAGE.fullmatch(row.image)
    if not image:
        wanted = "<date>/<drive>_sync/image_02/data/<10 digits>.png"
        raise _unlike(path, row.line, row.image, wanted)
    drive, camera, frame = image.groups()
    if row.depth is not None:
        depth = _DEPTH.fullmatch(row.depth)
        if not depth:
            wanted = "<drive>_sync/proj_depth/groundtruth/image_02/<10 digits>.png"
            raise _unlike(path, row.line, row.depth, wanted)
        if depth.groups() != image.groups():
            raise InputError(
                f"list '{path}' line {row.line}: image and depth are of different "
                f"frames: '{row.image}', '{row.depth}'"
            )
    return Named(drive, int(frame), camera, row.depth is not None)


def _unlike(path: str, line: int, value: str, wanted: str) -> InputError:
    return InputError(
        f"list '{path}' line {line}: '{value[:80]}' is not KITTI's {wanted}"
    )
