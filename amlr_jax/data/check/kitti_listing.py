"""KITTI's frames by name, whether their files are there or not."""

from collections.abc import Callable
from pathlib import Path

from amlr_jax.data import kitti, lists, splits
from amlr_jax.data.check.findings import FAULT, NOTE, Finding
from amlr_jax.data.frames import (
    UNKNOWN_CAMERA,
    Camera,
    Frame,
    Layout,
    by_group,
    hold_out_last_fifth,
)
from amlr_jax.data.kitti import files, listed
from amlr_jax.runtime.errors import InputError

_DEPTH_FOLDER = "data_depth_annotated"


def layout(data, findings: list[Finding], *, test_only: bool = False) -> Layout:
    """The frames that `config.data` asks for; adds what calibrations lack."""
    root = Path(data.root)
    files.check_root(root, depth=not test_only)
    build = _Builder(root)
    train, test, split = _chosen(data, build, findings)
    findings += build.findings()
    in_metres = any(frame.projection is not None for frame in test)
    made = Layout("kitti", split, kitti.DEPTH_SCALE, train, test, in_metres)
    return made._replace(train=(), test_only=True) if test_only else made


class _Builder:
    """Makes frames, and remembers which calibrations could not be read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._faults: dict[str, None] = {}  # a set in order
        self._depth: dict[str, dict[str, dict[int, Path]]] = {}
        self._cameras: dict[tuple[Path, str], tuple[Camera, str]] = {}

    def depth(self, camera: str = files.LEFT) -> dict[str, dict[int, Path]]:
        """`kitti.files.depth_files`, listed once."""
        if camera not in self._depth:
            self._depth[camera] = files.depth_files(self.root, camera=camera)
        return self._depth[camera]

    def frame(self, drive: str, number: int, *, camera: str = files.LEFT, scan=False):
        """A frame with the path that its depth has, or should have."""
        key = files.key(drive, number, camera)
        image = files.image_path(self.root, drive, camera, number)
        known, trouble = self._camera(drive, camera)
        frame = Frame(key, image, self._depth_path(drive, number, camera), known)
        if scan:
            frame = frame._replace(depth=files.scan_path(self.root, drive, number))
            try:
                frame = files.scanned_frame(self.root, drive, number, camera=camera)
            except InputError as error:
                trouble = str(error)
        # Without its images a whole date may be missing, which is told.
        if trouble and image.is_file():
            self._faults[trouble] = None
        return frame

    def _camera(self, drive: str, camera: str) -> tuple[Camera, str]:
        """The camera, or an unknown one and why."""
        place = files.date_folder(self.root, drive), camera
        if place not in self._cameras:
            try:
                made = files.intrinsics(self.root, drive, camera), ""
            except InputError as error:
                made = UNKNOWN_CAMERA, str(error)
            self._cameras[place] = made
        return self._cameras[place]

    def _depth_path(self, drive: str, number: int, camera: str) -> Path:
        known = self.depth(camera).get(drive, {})
        if number in known:
            return known[number]
        # Where its neighbours are; train of a drive that is not there at all.
        folder = self.root / _DEPTH_FOLDER / "train" / drive / "proj_depth"
        place = folder / "groundtruth" / camera
        if known:
            place = next(iter(known.values())).parent
        return place / f"{number:010d}.png"

    def findings(self) -> list[Finding]:
        """A fault for each calibration."""
        return [Finding("intrinsics", FAULT, text) for text in self._faults]


def _chosen(data, build: _Builder, findings: list[Finding]):
    """Training frames, test frames, and the name of the choice: `lists.choose`."""
    scans = data.split == kitti.LIDAR_SPLIT
    train = _listed(build, data.list, findings)
    test = _listed(build, data.test_list, findings, scans=scans)
    usual = _usual(build, data.split)
    if train is None and test is None:
        return *usual, data.split
    try:
        chosen = lists.choose(
            data.split, usual=_complete(usual, test), train=train, test=test
        )
    except InputError:  # frames of both parts, which the rule on leaks names
        test = usual[1] if test is None else test
        return train, test, "list"
    findings += [Finding("layout", NOTE, note) for note in chosen.notes]
    return chosen.train, chosen.test, chosen.split


def _complete(usual, test) -> Callable:
    """The frames of a split by name; without a test list all must be there."""

    def read():
        frames = usual[0] + usual[1]
        if test is None and not all(f.depth.is_file() for f in frames):
            raise InputError("files are missing")
        return usual

    return read


def _listed(
    build: _Builder, path: str, findings: list[Finding], *, scans: bool = False
) -> tuple[Frame, ...] | None:
    if not path:
        return None
    made, none = [], []
    rows = listed.named(path)
    for row in rows:
        there = row.frame in build.depth(row.camera).get(row.drive, {})
        if not scans and row.has_no_depth(found=there):
            none.append(row.key)
            continue
        made.append(build.frame(row.drive, row.frame, camera=row.camera, scan=scans))
    notes = lists.without_depth(Path(path), none, total=len(rows))
    findings += [Finding("layout", NOTE, note) for note in notes]
    return tuple(made)


def _usual(build: _Builder, split: str) -> tuple[tuple[Frame, ...], tuple[Frame, ...]]:
    if split == "folder":
        numbers = _numbers(build.root, build.depth())
        frames = (build.frame(d, n) for d, ns in numbers.items() for n in ns)
        return hold_out_last_fifth(by_group(frames))
    if split == "benchmark":
        return tuple(_benchmark(build, part) for part in ("train", "val"))
    both = splits.kitti_split(split)
    return tuple(
        tuple(
            build.frame(drive, number, scan=part and split == kitti.LIDAR_SPLIT)
            for drive in sorted(drives)
            for number in drives[drive]
        )
        for part, drives in enumerate(both)
    )


def _benchmark(build: _Builder, part: str) -> tuple[Frame, ...]:
    depth = files.depth_files(build.root, parts=(part,))
    numbers = _numbers(build.root, depth)
    return tuple(build.frame(drive, n) for drive in numbers for n in numbers[drive])


def _numbers(root: Path, depth: dict[str, dict[int, Path]]) -> dict[str, list[int]]:
    """The frames that a drive with depth should have: no gap between its ends."""
    return {
        drive: sorted({*depth[drive], *files.inner_frames(root, drive)})
        for drive in sorted(depth)
        if depth[drive]
    }
