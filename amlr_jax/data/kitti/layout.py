"""KITTI with its annotated depth or its lidar scans: frames by split or by list.

`kitti.files` says where the files are. Splits are of the left colour camera, as in the
papers; lists may name the right one too.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from amlr_jax.data import lists, splits
from amlr_jax.data.frames import Frame, Layout, hold_out_last_fifth
from amlr_jax.data.kitti import files, listed
from amlr_jax.runtime.errors import InputError, preview

DEPTH_SCALE = 256.0  # metres = code / 256 (KITTI depth devkit)
LIDAR_SPLIT = "eigen_697"
SPLITS = ("eigen", LIDAR_SPLIT, "benchmark", "folder")


def read_layout(
    root: Path,
    *,
    split: str,
    train_list: str = "",
    test_list: str = "",
    test_only: bool = False,
) -> Layout:
    """The frames of `split` under `root`, or those of one or two lists.

    `eigen` is the published split, 23,158 and 652 frames with annotated depth, and
    wants every one of them; `eigen_697` has its training frames and all 697 test
    frames, with depth from their lidar scans (`depth_files.velodyne`); `benchmark` is
    data_depth_annotated/train and val; `folder` is any partial copy: every frame that
    has depth, the last fifth of each drive held out. Lists: `lists.choose`.
    With `test_only` no training frame is read, nor need its depth be there; then
    `eigen_697` needs no annotated depth. Raises InputError naming what is missing.
    """
    if split not in SPLITS:
        raise InputError(
            f"data.split must be one of {', '.join(SPLITS)}; got '{split}'"
        )
    scans = split == LIDAR_SPLIT
    files.check_root(root, depth=not (scans and test_only))
    usual = partial(_usual, root, split, test_only)
    notes: list[str] = []
    if train_list or test_list:
        train = () if test_only else listed.frames(root, train_list, notes)
        test = listed.frames(root, test_list, notes, scans=scans)
        if test_only:
            chosen = lists.Chosen((), test or usual()[1], f"{split}-list", ())
        else:
            chosen = lists.choose(split, usual=usual, train=train, test=test)
    else:
        chosen = lists.Chosen(*usual(), split, ())
    train, test, name, more = chosen
    in_metres = any(frame.projection is not None for frame in test)
    return Layout(
        "kitti",
        name,
        DEPTH_SCALE,
        train,
        test,
        in_metres,
        notes=(*notes, *more),
        test_only=test_only,
    )


def _usual(
    root: Path, split: str, test_only: bool
) -> tuple[tuple[Frame, ...], tuple[Frame, ...]]:
    read: Callable = {
        "folder": _folder_split,
        "benchmark": _benchmark_split,
        "eigen": _eigen_split,
        LIDAR_SPLIT: _eigen_697_split,
    }[split]
    train, test = read(root, test_only)
    if test_only:
        train = ()
    _require_images(train + test)
    return train, test


def _folder_split(root: Path, test_only: bool):
    del test_only  # which frames are the last fifth, all of them say
    depth = files.depth_files(root)
    if not any(depth.values()):
        raise InputError(
            f"no ground truth '{files.LEFT}/*.png' under data.root='{root}'"
        )
    for drive, found in depth.items():
        _check_no_gap(root, drive, found)
    return hold_out_last_fifth(
        {drive: _annotated(root, drive, found) for drive, found in depth.items()}
    )


def _benchmark_split(root: Path, test_only: bool):
    both: list[tuple[Frame, ...]] = [()] * test_only
    for part in ("val",) if test_only else ("train", "val"):
        depth = files.depth_files(root, parts=(part,))
        if not any(depth.values()):
            raise InputError(
                f"data.split=benchmark needs drives under "
                f"'{root / 'data_depth_annotated' / part}', found none; where train "
                "and val are merged use --config.data.split=eigen or folder"
            )
        both.append(
            tuple(f for d in sorted(depth) for f in _annotated(root, d, depth[d]))
        )
    return tuple(both)


def _eigen_split(root: Path, test_only: bool):
    depth = files.depth_files(root)
    trained, wanted = splits.kitti_split("eigen")
    parts = ({} if test_only else trained, wanted)
    return tuple(_wanted(root, depth, drives, "eigen") for drives in parts)


def _eigen_697_split(root: Path, test_only: bool):
    trained, wanted = splits.kitti_split(LIDAR_SPLIT)
    train: tuple[Frame, ...] = ()
    if not test_only:
        train = _wanted(root, files.depth_files(root), trained, LIDAR_SPLIT)
    named = [(drive, n) for drive in sorted(wanted) for n in wanted[drive]]
    lost = [f"{d}/{n}" for d, n in named if not files.scan_path(root, d, n).is_file()]
    if lost:
        raise InputError(
            f"missing lidar scans of {len(lost)} of {len(named)} test frames of "
            f"data.split={LIDAR_SPLIT} (velodyne_points/data/<frame>.bin) under "
            f"data.root='{root}': {preview(lost)}; data.split=eigen needs none"
        )
    return train, tuple(files.scanned_frame(root, d, n) for d, n in named)


def _check_no_gap(root: Path, drive: str, depth: dict[int, Path]) -> None:
    """An image in mid-drive without depth is a lost file, not KITTI's habit."""
    lost = [n for n in files.inner_frames(root, drive) if n not in depth]
    if lost and depth:
        place = next(iter(depth.values())).parent
        names = preview(place / f"{n:010d}.png" for n in lost)
        total = len(files.image_files(root, drive, files.LEFT))
        raise InputError(
            f"missing ground truth of {len(lost)} of {total} images of {drive}: "
            f"{names}; restore it, or remove those images"
        )


def _wanted(root, depth, drives: dict[str, list[int]], split: str) -> tuple:
    """The frames of a published split; all must be there."""
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
    return tuple(f for d in sorted(chosen) for f in _annotated(root, d, chosen[d]))


def _annotated(root: Path, drive: str, depth: dict[int, Path]) -> list[Frame]:
    found = sorted(depth.items())
    return [files.annotated_frame(root, drive, n, path) for n, path in found]


def _require_images(frames: tuple[Frame, ...]) -> None:
    lost = [frame.image for frame in frames if not frame.image.is_file()]
    if lost:
        raise InputError(
            f"missing image of {len(lost)} of {len(frames)} frames with ground truth: "
            f"{preview(lost)}"
        )
