"""Predictions as files, whoever made them, beside the ground truth of a test set.

A map is a 16-bit PNG, .npy, .npz, .exr or .tiff, and belongs to the frame whose image
(or ground truth, of a folder of these alone) ends with its name: "0000000005" or
"drive/data/0000000005" for "drive/data/0000000005.png". Marks of names do not count:
"7_depth.npy" or "7/depth.exr" is the prediction of "rgb_7.jpg". In a folder in which
some names are marked as depth, the others are passed over; of one name in several
formats the most exact one is used.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from amlr_jax import metrics
from amlr_jax.data import custom, depth_files, images
from amlr_jax.data.frames import UNKNOWN_CAMERA, Frame, Layout, refuse
from amlr_jax.data.prepared.depth_frames import CODES, depth_facts
from amlr_jax.data.storage import size_name
from amlr_jax.runtime import paths, workdir
from amlr_jax.runtime.console import bar
from amlr_jax.runtime.errors import InputError, counted, preview
from amlr_jax.runtime.threads import in_order, number_of_threads

# From exact to rounded.
_FORMATS = (".npy", ".npz", ".exr", ".tif", ".tiff", ".png")


class PredictionFiles:
    """Prediction files and their ground truth, in the place of a prepared data set.

    `test` is this sequence of examples: `image` is the prediction, float32 [H, W], and
    `depth` [H, W, 1] the stored ground truth. `median_depth` (metres) is that of this
    ground truth. InputError if a frame has no prediction, or no pixel is measured.

    Args:
      folder: of the predictions.
      layout: its test frames are measured.
      scale: stored value of a metre of the predictions; 0: what predictions.json says
        of PNGs, else 1000 in PNGs and 1 elsewhere.
      resize: whether a prediction may have another size than its ground truth; it is
        then resized bilinearly.
      mark: what marks the names of the predictions, depth or disparity.
      kb_crop: whether a prediction of 352 x 1216 pixels is of KITTI's benchmark crop.
    """

    def __init__(
        self,
        folder: Path,
        layout: Layout,
        *,
        scale: float = 0.0,
        resize: bool = False,
        mark: str = "depth",
        kb_crop: bool = False,
    ) -> None:
        found, self.notes = find(folder, option="predictions", mark=mark)
        self._paths, passed = matched(found, layout.test, folder)
        self.notes += passed
        self._layout, self._scale, self._resize = layout, scale, resize
        self._codes, self._kb_crop = _codes_of_record(folder), kb_crop
        self.name, self.split = layout.name, layout.split
        self.depth_scale = depth_files.stored_scale(layout)
        self.resized: set[tuple] = set()
        self.test, self.test_sizes, counts = self, {}, np.zeros(CODES, np.int64)
        with ThreadPoolExecutor(number_of_threads()) as pool:
            truths = in_order(pool, self._truth, range(len(self)), ahead=32)
            with bar("Reading the ground truth", len(self)) as progress:
                for frame, truth in zip(layout.test, truths, strict=True):
                    counts += np.bincount(truth.codes.ravel(), minlength=CODES)
                    self.test_sizes.setdefault(truth.codes.shape, frame.key)
                    progress.advance()
        if not counts[1:].any():
            raise InputError(
                f"no pixel of {counted(len(self), 'ground truth')} is measured; check "
                "its unit (--ground_truth_scale) and --config.data.depth_cap"
            )
        self.median_depth = depth_facts(counts)[0] / depth_files.count_scale(layout)

    def __len__(self) -> int:
        return len(self._layout.test)

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < len(self):
            raise IndexError(index)  # ends a `for` over the sequence
        frame, truth = self._layout.test[index], self._truth(index).stored
        return {
            "image": self._prediction(self._paths[index], truth.shape[:2]),
            "depth": truth,
            "intrinsics": np.asarray(frame.intrinsics, np.float32),
            "key": frame.key.encode(),
            "index": index,
        }

    def picture(self, index: int) -> np.ndarray | None:
        """The image of a frame, uint8 [H, W, 3]; None for ground truth alone."""
        frame = self._layout.test[index]
        return None if frame.image == frame.depth else images.read_as_rgb(frame.image)

    def _truth(self, index: int) -> depth_files.Depth:
        frame = self._layout.test[index]
        alone = frame.image == frame.depth
        size = None if alone else images.read_size(frame.image)
        return depth_files.read(frame, self._layout, size)

    def _prediction(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        is_png = path.suffix.lower() == ".png"
        scale = self._scale or (self._codes if is_png else 1.0)
        found = depth_files.read_prediction(path, scale=scale)
        if found.shape == size:
            return found
        if self._kb_crop and found.shape == metrics.KB_CROP_SHAPE:
            top, left = metrics.kb_crop_offsets(*size)
            whole = np.zeros(size, np.float32)
            whole[top : top + found.shape[0], left : left + found.shape[1]] = found
            return whole
        if not self._resize:
            raise InputError(
                f"prediction '{path}' is {size_name(found.shape)}, its ground truth "
                f"{size_name(size)}; --resize permits to resize predictions bilinearly"
            )
        self.resized.add((found.shape, size))
        return cv2.resize(found, size[::-1], interpolation=cv2.INTER_LINEAR)


def depth_folder(folder: Path, **units: Any) -> Layout:
    """A layout whose test frames are the depth maps in a folder, without images.

    `units` are those of `custom.units`.
    """
    found, notes = find(folder, option="ground_truth")
    names = sorted(found, key=paths.natural)
    frames = [Frame(name, found[name], found[name], UNKNOWN_CAMERA) for name in names]
    return Layout(
        "custom",
        "files",
        train=(),
        test=tuple(frames),
        notes=tuple(notes),
        test_only=True,
        **custom.units([*found.values()], refuse, **units),
    )


def find(
    folder: Path, *, option: str, mark: str = "depth"
) -> tuple[dict[str, Path], list[str]]:
    """The depth maps in a folder by plain name, and notes of what is passed over."""
    if not folder.is_dir():
        raise InputError(f"--{option} '{folder}' is no folder")
    every = paths.find(folder).all()
    maps = [path for path in every if path.suffix.lower() in _FORMATS]
    names = {path: path.relative_to(folder).with_suffix("").as_posix() for path in maps}
    marked = [p for p in maps if _unmarked(names[p], mark) != paths.plain(names[p])]
    named: dict[str, list[Path]] = {}
    for path in marked or maps:
        named.setdefault(plain_name(names[path]), []).append(path)
    if not named:
        raise InputError(
            f"--{option} '{folder}' holds no depth map ({', '.join(_FORMATS)})"
        )
    found = {}
    for name, same in named.items():
        found[name] = min(same, key=lambda path: _FORMATS.index(path.suffix.lower()))
        if len({path.with_suffix("") for path in same}) > 1:
            files = preview(f"'{path}'" for path in same)
            raise InputError(f"--{option}: {files} have one name; keep one of them")
    used = {*found.values(), folder / workdir.PREDICTIONS}
    return found, paths.passed_over(folder, set(every) - used)


def plain_name(name: str) -> str:
    """A name without the marks of depth, disparity and colour.

    >>> plain_name("a/rgb_7_depth"), plain_name("a/7/depth"), plain_name("a/7")
    ('a/7', 'a/7', 'a/7')
    """
    for role in ("depth", "disparity", "rgb"):
        name = _unmarked(name, role)
    return name


def _unmarked(name: str, role: str) -> str:
    """A plain name without the marks of a role, of its last part or all of that."""
    folder, _, leaf = paths.plain(name).rpartition("/")
    if folder and leaf.lower() == role:
        return folder
    return custom.bare(paths.plain(name), role) or paths.plain(name)


def matched(
    found: dict[str, Path], frames: Sequence[Frame], folder: Path
) -> tuple[list[Path], list[str]]:
    """The prediction of each frame, and a note of those that are of no frame.

    InputError for frames without a prediction, and predictions of two frames.
    """
    names = [_name_in(found, frame) for frame in frames]
    pairs = list(zip(frames, names, strict=True))
    lost = [frame.key for frame, name in pairs if name is None]
    if lost:
        raise InputError(
            f"{counted(len(lost), 'frame')} of {len(frames)} have no prediction in "
            f"'{folder}': {preview(lost)}; it holds {preview(found)}. A prediction has "
            "the name of its image or ground truth, with or without its folders"
        )
    owners: dict[str, list[str]] = {}
    for frame, name in pairs:
        owners.setdefault(str(name), []).append(frame.key)
    for name, keys in owners.items():
        if len(keys) > 1:
            raise InputError(
                f"prediction '{found[name]}' fits {len(keys)} frames, {preview(keys)}; "
                "put predictions into folders as their images are"
            )
    others = [name for name in found if name not in owners]
    note = f"{counted(len(others), 'prediction is|predictions are')} of no test frame"
    notes = [f"{note} and not measured: {preview(others)}"] if others else []
    return [found[name] for name in owners], notes


def _name_in(found: dict[str, Path], frame: Frame) -> str | None:
    """The longest end of the frame's path that is the name of a prediction."""
    parts = plain_name(frame.image.absolute().with_suffix("").as_posix()).split("/")
    ends = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((end for end in ends if end in found), None)


def _codes_of_record(folder: Path) -> float:
    """Codes of a metre of the PNGs, which `predict` writes beside them; else 1000."""
    try:
        record = json.loads((folder / workdir.PREDICTIONS).read_text())
        return float(record["png16_codes_per_unit"])
    except (OSError, ValueError, KeyError, TypeError):
        return custom.MILLIMETRES
