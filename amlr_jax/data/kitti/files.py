"""Where KITTI keeps its files, and which of them are there.

    ROOT/raw_data/<date>/calib_cam_to_cam.txt, calib_velo_to_cam.txt
    ROOT/raw_data/<date>/<drive>/image_0{2,3}/data/<frame>.{png,jpg}
    ROOT/raw_data/<date>/<drive>/velodyne_points/data/<frame>.bin
    ROOT/data_depth_annotated/{train,val}/<drive>/proj_depth/groundtruth/image_0{2,3}/<frame>.png

`data_depth_annotated/<drive>/...`, train and val merged, is read as well (BTS's way).
"""

import re
from functools import lru_cache
from pathlib import Path

import numpy as np

from amlr_jax.data import calibration
from amlr_jax.data.frames import Camera, Frame
from amlr_jax.runtime.errors import InputError

LEFT, RIGHT = "image_02", "image_03"
CAMERA_OF_SIDE = {"l": LEFT, "r": RIGHT}
# The accumulated depth leaves out this many frames at each end of a drive.
UNANNOTATED_ENDS = 5
PARTS = ("train", "val", "")  # of data_depth_annotated; "": merged
_DRIVE = re.compile(r"\d{4}_\d\d_\d\d_drive_\d{4}_sync")


def check_root(root: Path, *, depth: bool = True) -> None:
    """InputError with the expected layout unless `root` looks like KITTI."""
    parts = [root / "raw_data"] + [root / "data_depth_annotated"] * depth
    missing = [str(part) for part in parts if not part.is_dir()]
    if missing:
        expected = [f"{parts[0]}/<date>/<drive>/{LEFT}/data/<frame>.png"]
        expected += [
            f"{part}/{{train,val}}/<drive>/proj_depth/groundtruth/{LEFT}/<frame>.png"
            for part in parts[1:]
        ]
        raise InputError(
            f"no KITTI data at data.root='{root}' (missing: {', '.join(missing)}); "
            f"expected {' and '.join(expected)}"
        )


def is_drive(name: str) -> bool:
    """Whether a folder is a synchronised drive."""
    return bool(_DRIVE.fullmatch(name))


def date_folder(root: Path, drive: str) -> Path:
    """The folder of the drive's date, which holds the calibration."""
    return root / "raw_data" / drive[:10]


def drive_folder(root: Path, drive: str) -> Path:
    """The folder of a drive's raw recordings."""
    return date_folder(root, drive) / drive


def image_path(root: Path, drive: str, camera: str, frame: int) -> Path:
    """The image, PNG or JPEG; the name of the PNG if neither is there."""
    png = drive_folder(root, drive) / camera / "data" / f"{frame:010d}.png"
    jpg = png.with_suffix(".jpg")
    return jpg if not png.is_file() and jpg.is_file() else png


def scan_path(root: Path, drive: str, frame: int) -> Path:
    """The lidar scan of a frame."""
    folder = drive_folder(root, drive) / "velodyne_points" / "data"
    return folder / f"{frame:010d}.bin"


def image_files(root: Path, drive: str, camera: str) -> dict[int, Path]:
    """Frame number -> image."""
    folder = drive_folder(root, drive) / camera / "data"
    return numbered(folder, "jpg") | numbered(folder, "png")


def inner_frames(root: Path, drive: str) -> list[int]:
    """The left images between the ends of a drive; KITTI has depth for all of them."""
    numbers = sorted(image_files(root, drive, LEFT))[:-UNANNOTATED_ENDS]
    return [number for number in numbers if number >= UNANNOTATED_ENDS]


def numbered(folder: Path, ending: str) -> dict[int, Path]:
    """Number -> file, of the files that are called by a number."""
    found = (path for path in sorted(folder.glob(f"*.{ending}")))
    return {int(path.stem): path for path in found if path.stem.isdecimal()}


def drives(root: Path) -> list[str]:
    """The drives of raw_data, in order."""
    folders = (path for path in (root / "raw_data").glob("*/*_sync") if path.is_dir())
    return sorted(path.name for path in folders if is_drive(path.name))


def depth_files(
    root: Path, *, camera: str = LEFT, parts: tuple[str, ...] = PARTS
) -> dict[str, dict[int, Path]]:
    """Drive -> frame number -> annotated depth."""
    found: dict[str, dict[int, Path]] = {}
    for part in parts:
        folder = root / "data_depth_annotated" / part
        for place in sorted(folder.glob(f"*_sync/proj_depth/groundtruth/{camera}")):
            files = numbered(place, "png")
            found.setdefault(place.parts[-4], {}).update(files)
    return found


@lru_cache(maxsize=64)
def _camera(date: Path, camera: str, changed: int) -> Camera:
    del changed  # a calibration that was edited is read anew
    return calibration.read_intrinsics(date, camera=camera)


def intrinsics(root: Path, drive: str, camera: str) -> Camera:
    """The camera of a drive."""
    date = date_folder(root, drive)
    path = date / calibration.CAM_TO_CAM
    changed = path.stat().st_mtime_ns if path.is_file() else 0
    return _camera(date, camera, changed)


def annotated_frame(
    root: Path, drive: str, frame: int, depth: Path, *, camera: str = LEFT
) -> Frame:
    """A frame with annotated depth."""
    return Frame(
        key(drive, frame, camera),
        image_path(root, drive, camera, frame),
        depth,
        intrinsics(root, drive, camera),
    )


def scanned_frame(root: Path, drive: str, frame: int, *, camera: str = LEFT) -> Frame:
    """A frame whose depth is to be made from its lidar scan."""
    matrix = calibration.lidar_projection(date_folder(root, drive), camera=camera)
    depth = scan_path(root, drive, frame)
    made = annotated_frame(root, drive, frame, depth, camera=camera)
    return made._replace(projection=tuple(map(float, np.ravel(matrix))))


def key(drive: str, frame: int, camera: str) -> str:
    """The name of a frame; that of a right image ends in "r"."""
    return f"{drive}/{frame:010d}{'r' if camera == RIGHT else ''}"
