"""KITTI with its annotated depth or its lidar scans: frames by split or by list.

`kitti.files` has the paths. Splits are of the left colour camera, as in the papers;
lists may name the right one too.
"""

from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path

import numpy as np

from amlr_jax.data import calibration, lists, splits
from amlr_jax.data.frames import (
    UNKNOWN_CAMERA,
    Frame,
    Layout,
    Problem,
    Report,
    hold_out_last_fifth,
    refuse,
    report_missing,
)
from amlr_jax.data.kitti import files
from amlr_jax.data.kitti.files import DriveFrame
from amlr_jax.runtime.errors import InputError

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
    report: Report = refuse,
) -> Layout:
    """The frames of `split` under `root`, or those of one or two lists.

    `eigen` is the published split, 23,158 and 652 frames with annotated depth, and
    requires all of them; `eigen_697` has its training frames and all 697 test
    frames, with depth from their lidar scans (`depth_files.lidar_depth`); `benchmark`
    is data_depth_annotated/train and val; `folder` is any partial copy: every frame
    that has depth, the last fifth of each drive held out. Lists: `lists.choose`.
    With `test_only` no training frame is read, and training depth may be missing; then
    `eigen_697` needs no annotated depth. Missing files and unreadable calibrations are
    passed to `report`; InputError where no frame can be named.
    """
    if split not in SPLITS:
        raise InputError(
            f"data.split must be one of {', '.join(SPLITS)}; got '{split}'"
        )
    scans = split == LIDAR_SPLIT
    files.check_root(root, depth=not (scans and test_only))
    usual = partial(_usual, root, split, test_only)
    reader = _Reader(root, report)
    notes: list[str] = []
    train = None if test_only else reader.listed(train_list, notes)
    test = reader.listed(test_list, notes, scans=scans)
    if test_only and test is not None:
        chosen = lists.Chosen((), test, f"{split}-list", ())
    else:
        chosen = lists.choose(split, usual=usual, train=train, test=test, report=report)
    train, test, name, more = chosen
    return Layout(
        "kitti",
        name,
        DEPTH_SCALE,
        train,
        test,
        in_metres=any(frame.depth.suffix == ".bin" for frame in test),
        notes=(*notes, *more),
        test_only=test_only,
    )


def _usual(root: Path, split: str, test_only: bool, report: Report) -> lists.Parts:
    """Training and test frames of a split by name; with `test_only` only the latter."""
    reader = _Reader(root, report)
    train: Iterable[DriveFrame]
    test: Iterable[DriveFrame]
    if split == "folder":
        train, test = hold_out_last_fifth(_with_depth(root, gaps=True))
        if not test and not train:
            text = f"no ground truth '{files.LEFT}/*.png' under data.root='{root}'"
            raise InputError(text)
        advice = "restore them, or remove these frames"
    elif split == "benchmark":
        train, test = (
            _of_part(root, part, report) if part == "val" or not test_only else ()
            for part in ("train", "val")
        )
        advice = "restore them"
    else:
        train, test = (
            [DriveFrame(drive, n) for drive in sorted(part) for n in part[drive]]
            for part in splits.kitti_split(split)
        )
        advice = "for a partial copy use --config.data.split=folder"
    frames = f"frames of data.split={split} under data.root='{root}'"
    train = () if test_only else train
    read = reader.frames(train, of=f"training {frames}", advice=advice)
    scans = split == LIDAR_SPLIT
    if scans:
        advice = "data.split=eigen needs no lidar scans"
    return read, reader.frames(test, of=f"test {frames}", advice=advice, scans=scans)


def _with_depth(
    root: Path, *, parts: tuple[str, ...] = files.PARTS, gaps: bool = False
) -> tuple[DriveFrame, ...]:
    """The frames with annotated depth; with `gaps` also those that should have it.

    KITTI has depth for all images in mid-drive: one without it lacks a file.
    """
    found = []
    for drive, depth in sorted(files.depth_files(root, parts=parts).items()):
        numbers = {*depth, *(files.inner_frames(root, drive) if gaps else ())}
        found += [DriveFrame(drive, number) for number in sorted(numbers)]
    return tuple(found)


def _of_part(root: Path, part: str, report: Report) -> tuple[DriveFrame, ...]:
    """The frames of data_depth_annotated/<part>."""
    found = _with_depth(root, parts=(part,))
    if not found:
        text = (
            f"data.split=benchmark needs drives under "
            f"'{root / files.DEPTH_FOLDER / part}', found none"
        )
        advice = "where train and val are merged use --config.data.split=eigen"
        report(Problem(text, advice=f"{advice} or folder"))
    return found


class _Reader:
    """Makes frames; caches the listing of depth folders and the calibrations."""

    def __init__(self, root: Path, report: Report) -> None:
        self._root, self._report = root, report
        self._depth = cache(partial(files.depth_files, root))
        self._images = cache(partial(files.image_files, root))
        self._scans = cache(partial(files.scan_files, root))
        self._camera = cache(self._read_camera)

    def frames(
        self, wanted: Iterable[DriveFrame], *, of: str, advice: str, scans: bool = False
    ) -> tuple[Frame, ...]:
        """The frames in the order of `wanted`; with `scans`, depth of lidar scans."""
        bare = [self._bare(frame, scans=scans) for frame in wanted]
        report_missing(bare, self._report, of=of, advice=advice)
        return tuple(self._with_camera(frame) for frame in bare)

    def listed(
        self, path: str, notes: list[str], *, scans: bool = False
    ) -> tuple[Frame, ...] | None:
        """The frames of the list `path` that have depth, None without a list.

        With `scans` the depth is that of the lidar scans, and depth in the list is
        ignored. Frames without depth are left out and counted in `notes`.
        """
        if not path:
            return None
        rows = files.read_list(path)
        kept = [row for row in rows if scans or self._has_depth(row)]
        none = [row.key for row in rows if not (scans or self._has_depth(row))]
        notes.extend(lists.without_depth(path, none, total=len(rows)))
        if not kept:
            raise InputError(f"no frame of list '{path}' has depth: {', '.join(notes)}")
        return self.frames(
            kept, of=f"frames of list '{path}'", advice=lists.ADVICE, scans=scans
        )

    def _has_depth(self, row: DriveFrame) -> bool:
        """By the list, or if it does not give depth, by the files."""
        if row.depth is not None:
            return row.depth
        return row.number in self._depth(camera=row.camera).get(row.drive, ())

    def _bare(self, frame: DriveFrame, *, scans: bool) -> Frame:
        """A frame without its camera."""
        drive, number, camera, _ = frame
        image = self._images(drive, camera).get(number) or files.image_path(
            self._root, drive, camera, number
        )
        depth = self._depth_path(drive, number, camera)
        if scans:
            depth = self._scans(drive).get(number) or files.scan_path(
                self._root, drive, number
            )
        return Frame(frame.key, image, depth, UNKNOWN_CAMERA)

    def _depth_path(self, drive: str, number: int, camera: str) -> Path:
        known = self._depth(camera=camera).get(drive, {})
        if number in known:
            return known[number]
        # In the folder of its neighbours; in train if the drive has none.
        folder = self._root / files.DEPTH_FOLDER / "train" / drive / "proj_depth"
        place = folder / "groundtruth" / camera
        if known:
            place = next(iter(known.values())).parent
        return place / f"{number:010d}.png"

    def _with_camera(self, frame: Frame) -> Frame:
        if not frame.image.is_file():  # reported; its whole date may be missing
            return frame
        date, camera = frame.image.parents[3], frame.image.parts[-3]
        known, projection = self._camera(date, camera, frame.depth.suffix == ".bin")
        return frame._replace(intrinsics=known, projection=projection)

    def _read_camera(self, date: Path, camera: str, scans: bool):
        try:
            known = calibration.read_intrinsics(date, camera=camera)
            if not scans:
                return known, None
            matrix = calibration.lidar_projection(date, camera=camera)
            return known, tuple(map(float, np.ravel(matrix)))
        except InputError as error:
            self._report(Problem(str(error)))
            return UNKNOWN_CAMERA, None
