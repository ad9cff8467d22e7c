"""KITTI in its original layout: raw drives and the annotated depth beside them.

    ROOT/raw_data/<date>/calib_cam_to_cam.txt
    ROOT/raw_data/<date>/<drive>/image_02/data/<frame>.png
    ROOT/data_depth_annotated/{train,val}/<drive>/proj_depth/groundtruth/image_02/<frame>.png

`data_depth_annotated/<drive>/...`, train and val merged, is read as well (BTS's way).
Only the left colour camera is used, as in the papers.
"""

from pathlib import Path

from amlr_jax.data import images, splits
from amlr_jax.data.frames import Frame, Layout, hold_out_last_fifth
from amlr_jax.errors import InputError, preview

DEPTH_SCALE = 256.0  # metres = code / 256 (KITTI depth devkit)
CAMERA = "image_02"
# The accumulated depth leaves out this many frames at each end of a drive.
UNANNOTATED_ENDS = 5


def read_layout(root: Path, *, split: str) -> Layout:
    """The frames of `split` under `root`.

    `eigen` is the published split and wants every one of its frames; `folder` is any
    partial copy: every frame that has depth, the last fifth of each drive held out.
    Raises InputError naming what is missing.
    """
    _check_root(root)
    depth = _depth_files(root)
    if split == "folder":
        train, test = _folder_split(root, depth)
    else:
        train, test = (
            _listed(root, depth, drives, split) for drives in splits.kitti_split(split)
        )
    _require_files(train + test)
    return Layout("kitti", split, DEPTH_SCALE, train, test)


def _check_root(root: Path) -> None:
    parts = root / "raw_data", root / "data_depth_annotated"
    missing = [str(part) for part in parts if not part.is_dir()]
    if missing:
        raise InputError(
            f"no KITTI data at data.root='{root}' (missing: {', '.join(missing)}); "
            f"expected {parts[0]}/<date>/<drive>/{CAMERA}/data/<frame>.png and "
            f"{parts[1]}/{{train,val}}/<drive>/proj_depth/groundtruth/{CAMERA}/"
            "<frame>.png"
        )


def _depth_files(root: Path) -> dict[str, dict[int, Path]]:
    """Drive -> frame number -> ground truth."""
    folder = root / "data_depth_annotated"
    found: dict[str, dict[int, Path]] = {}
    for drives in (folder / "train", folder / "val", folder):
        for place in sorted(drives.glob(f"*_sync/proj_depth/groundtruth/{CAMERA}")):
            files = {int(path.stem): path for path in sorted(place.glob("*.png"))}
            found.setdefault(place.parts[-4], {}).update(files)
    return found


def _folder_split(root: Path, depth: dict[str, dict[int, Path]]):
    if not any(depth.values()):
        raise InputError(f"no ground truth '{CAMERA}/*.png' under data.root='{root}'")
    for drive, files in depth.items():
        _check_no_gap(root, drive, files)
    return hold_out_last_fifth(
        {drive: _frames(root, drive, files) for drive, files in depth.items()}
    )


def _check_no_gap(root: Path, drive: str, depth: dict[int, Path]) -> None:
    """An image in mid-drive without depth is a lost file, not KITTI's habit."""
    present = sorted(
        int(path.stem) for path in _image_folder(root, drive).glob("*.png")
    )
    inner = present[:-UNANNOTATED_ENDS]
    lost = [n for n in inner if n not in depth and n >= UNANNOTATED_ENDS]
    if lost and depth:
        place = next(iter(depth.values())).parent
        names = preview(place / f"{n:010d}.png" for n in lost)
        raise InputError(
            f"missing ground truth of {len(lost)} of {len(present)} images of {drive}: "
            f"{names}; restore it, or remove those images"
        )


def _listed(root, depth, drives: dict[str, list[int]], split: str) -> tuple:
    """The listed frames; all must be there."""
    total = sum(map(len, drives.values()))
    lost = [(d, n) for d, ns in drives.items() for n in ns if n not in depth.get(d, ())]
    if lost:
        names = preview(f"{drive}/{n:010d}.png" for drive, n in lost)
        raise InputError(
            f"missing ground truth of {len(lost)} of {total} frames that "
            f"data.split={split} lists under data.root='{root}': {names}; "
            "for a partial copy use --config.data.split=folder"
        )
    chosen = {d: {n: depth[d][n] for n in ns} for d, ns in drives.items()}
    return tuple(f for d in sorted(chosen) for f in _frames(root, d, chosen[d]))


def _frames(root: Path, drive: str, depth: dict[int, Path]) -> list[Frame]:
    intrinsics = read_intrinsics(root / "raw_data" / drive[:10], camera=CAMERA)
    folder = _image_folder(root, drive)
    return [
        Frame(f"{drive}/{n:010d}", folder / f"{n:010d}.png", path, intrinsics)
        for n, path in sorted(depth.items())
    ]


def _image_folder(root: Path, drive: str) -> Path:
    return root / "raw_data" / drive[:10] / drive / CAMERA / "data"


def _require_files(frames: tuple[Frame, ...]) -> None:
    lost = [frame.image for frame in frames if not frame.image.is_file()]
    if lost:
        raise InputError(
            f"missing image of {len(lost)} of {len(frames)} frames with ground truth: "
            f"{preview(lost)}"
        )


def read_intrinsics(
    date_folder: Path, *, camera: str
) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy in pixels of the rectified camera, from P_rect of the date."""
    path = date_folder / "calib_cam_to_cam.txt"
    text = images.read(path, what="KITTI calibration").decode("ascii", "replace")
    key = f"P_rect_{camera[-2:]}"
    rows = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    try:
        p = [float(value) for value in rows[key].split()]
        return p[0], p[5], p[2], p[6]
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(
            f"KITTI calibration '{path}' must hold '{key}:' and 12 numbers"
        ) from error
