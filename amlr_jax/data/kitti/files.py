"""Paths of KITTI's files, which of them exist, and which a list names.

    ROOT/raw_data/<date>/calib_cam_to_cam.txt, calib_velo_to_cam.txt
    ROOT/raw_data/<date>/<drive>/image_0{2,3}/data/<frame>.{png,jpg}
    ROOT/raw_data/<date>/<drive>/velodyne_points/data/<frame>.bin
    ROOT/data_depth_annotated/{train,val}/<drive>/proj_depth/groundtruth/image_0{2,3}/<frame>.png

`data_depth_annotated/<drive>/...`, train and val merged, is supported too, as in BTS.
A drive is named <date>_drive_NNNN_sync here; its folders may lack the _sync, and the
numbers of frames may have any number of digits.
"""

import re
from pathlib import Path
from typing import NamedTuple

from amlr_jax.data import lists
from amlr_jax.runtime import paths
from amlr_jax.runtime.errors import InputError

LEFT, RIGHT = "image_02", "image_03"
CAMERA_OF_SIDE = {"l": LEFT, "r": RIGHT}
DEPTH_FOLDER = "data_depth_annotated"
PARTS = ("train", "val", "")  # of DEPTH_FOLDER; "": merged
# The accumulated depth leaves out this many frames at each end of a drive.
UNANNOTATED_ENDS = 5

_DRIVE = r"(\d{4}_\d\d_\d\d_drive_\d{4})(?:_sync)?"
# Folders before the drive differ between lists and are ignored: train and val may be
# merged, raw_data left out.
_LISTED_DRIVE = re.compile(rf"(?:.*/)?{_DRIVE}")
_LISTED_IMAGE = re.compile(
    rf"(?:.*/)?{_DRIVE}/(image_0[23])/data/(\d+)\.(?:png|jpe?g)", re.I
)
_LISTED_DEPTH = re.compile(
    rf"(?:.*/)?{_DRIVE}/proj_depth/groundtruth/(image_0[23])/(\d+)\.png", re.I
)


class DriveFrame(NamedTuple):
    """A frame of a drive, before its files are searched."""

    drive: str
    number: int
    camera: str = LEFT
    depth: bool | None = None  # by the list; None: not given

    @property
    def key(self) -> str:
        """The name of the frame; that of a right image ends in "r"."""
        side = "r" if self.camera == RIGHT else ""
        return f"{self.drive}/{self.number:010d}{side}"


def check_root(root: Path, *, depth: bool = True) -> None:
    """InputError with the expected layout unless `root` looks like KITTI."""
    parts = [root / "raw_data"] + [root / DEPTH_FOLDER] * depth
    missing = [str(part) for part in parts if not part.is_dir()]
    if missing:
        expected = [f"{parts[0]}/<date>/<drive>/{LEFT}/data/<frame>.png"]
        expected += [
            f"{part}/{{train,val}}/<drive>/proj_depth/groundtruth/{LEFT}/<frame>.png"
            for part in parts[1:]
        ]
        raise InputError(
            f"no KITTI data at data.root='{root}' (missing: {', '.join(missing)}); "
            f"expected {' and '.join(expected)}. For your own frames or videos use "
            "configs/custom_selfsup.py, with depth configs/custom.py"
        )


def drives(root: Path) -> list[str]:
    """The synchronised drives of raw_data, in order."""
    folders = paths.find(root / "raw_data", "*/*", folders=True).all()
    return sorted(set(filter(None, (_drive_of(path.name) for path in folders))))


def _drive_of(folder: str) -> str:
    """The name of the drive of a folder; empty if it is none."""
    found = re.fullmatch(_DRIVE, folder)
    return f"{found[1]}_sync" if found else ""


def date_folder(root: Path, drive: str) -> Path:
    """The folder of the drive's date, which holds the calibration."""
    return root / "raw_data" / drive[:10]


def drive_folder(root: Path, drive: str) -> Path:
    """The folder of a drive's raw recordings."""
    folder = date_folder(root, drive) / drive
    bare = folder.with_name(drive.removesuffix("_sync"))
    return bare if bare.is_dir() and not folder.is_dir() else folder


def image_path(root: Path, drive: str, camera: str, frame: int) -> Path:
    """The name that an image has in KITTI."""
    return drive_folder(root, drive) / camera / "data" / f"{frame:010d}.png"


def scan_path(root: Path, drive: str, frame: int) -> Path:
    """The name that the lidar scan of a frame has in KITTI."""
    folder = drive_folder(root, drive) / "velodyne_points" / "data"
    return folder / f"{frame:010d}.bin"


def scan_files(root: Path, drive: str) -> dict[int, Path]:
    """Frame number -> lidar scan."""
    return numbered(scan_path(root, drive, 0).parent, ".bin")


def image_files(root: Path, drive: str, camera: str) -> dict[int, Path]:
    """Frame number -> image."""
    return numbered_images(drive_folder(root, drive) / camera / "data")


def depth_files(
    root: Path, *, camera: str = LEFT, parts: tuple[str, ...] = PARTS
) -> dict[str, dict[int, Path]]:
    """Drive -> frame number -> annotated depth."""
    found: dict[str, dict[int, Path]] = {}
    pattern = f"*/proj_depth/groundtruth/{camera}"
    for part in parts:
        there = paths.find(root / DEPTH_FOLDER / part, pattern, folders=True)
        for place in there.all():
            drive = _drive_of(place.parts[-4])
            if drive:
                found.setdefault(drive, {}).update(numbered(place, ".png"))
    return {drive: files for drive, files in found.items() if files}


def inner_frames(root: Path, drive: str) -> list[int]:
    """The left images between the ends of a drive; KITTI has depth for all of them."""
    numbers = sorted(image_files(root, drive, LEFT))[:-UNANNOTATED_ENDS]
    return [number for number in numbers if number >= UNANNOTATED_ENDS]


def numbered_images(folder: Path) -> dict[int, Path]:
    """Number -> image, PNG before JPEG, of the files whose name is a number."""
    return numbered(folder, ".png", ".jpg", ".jpeg")


def numbered(folder: Path, *endings: str) -> dict[int, Path]:
    """Number -> file with one of the endings, the first of them if there are two."""
    found = [p for p in paths.find(folder, "*").files if p.suffix.lower() in endings]
    found.sort(key=lambda path: -endings.index(path.suffix.lower()))
    return {int(path.stem): path for path in found if path.stem.isdecimal()}


def read_list(path: str) -> list[DriveFrame]:
    """The frames that a list names, in its order; InputError for another line."""
    listing = lists.read_list(path)
    read = _numbered_row if listing.kind == "monodepth2" else _paired_row
    return [read(path, row) for row in listing.rows]


def _numbered_row(path: str, row: lists.Numbered) -> DriveFrame:
    wanted = "<date>/<date>_drive_NNNN_sync"
    (drive,) = _matched(_LISTED_DRIVE, row.folder, path, row.line, wanted)
    return DriveFrame(f"{drive}_sync", row.frame, CAMERA_OF_SIDE[row.side])


def _paired_row(path: str, row: lists.Pair) -> DriveFrame:
    wanted = "<date>/<drive>_sync/image_02/data/<10 digits>.png"
    image = _matched(_LISTED_IMAGE, row.image, path, row.line, wanted)
    if row.depth is not None:
        wanted = "<drive>_sync/proj_depth/groundtruth/image_02/<10 digits>.png"
        depth = _matched(_LISTED_DEPTH, row.depth, path, row.line, wanted)
        if (*depth[:2], int(depth[2])) != (*image[:2], int(image[2])):
            raise InputError(
                f"list '{path}' line {row.line}: image and depth are of different "
                f"frames: '{row.image}', '{row.depth}'"
            )
    drive, camera, number = image
    has_depth = row.depth is not None
    return DriveFrame(f"{drive}_sync", int(number), camera.lower(), has_depth)


def _matched(
    pattern: re.Pattern[str], value: str, path: str, line: int, wanted: str
) -> tuple[str, ...]:
    found = pattern.fullmatch(value)
    if not found:
        raise InputError(
            f"list '{path}' line {line}: '{value[:80]}' is not KITTI's {wanted}"
        )
    return found.groups()
