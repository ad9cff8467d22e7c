"""What a run leaves in its workdir so that its page can be made again later.

run.json says what was run and where; frames.npz holds a few held-out frames with their
predictions. Neither the data set nor jax is needed to read them.
"""

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import Any, NamedTuple

import cv2
import numpy as np

from amlr_jax import __version__
from amlr_jax.data.intrinsics import resize_intrinsics
from amlr_jax.runtime import files
from amlr_jax.runtime.workdir import FACTS, FRAMES

MAX_FRAMES = 6
MAX_SIDE = 1216  # pixels; larger frames are kept smaller
QUALITY = 92  # of the JPEG that an image is kept as
PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "numpy")


class Kept(NamedTuple):
    """A held-out frame: image, ground truth and prediction of one size."""

    key: str
    image: np.ndarray  # uint8 [H, W, 3]
    depth: np.ndarray  # float32 [H, W] metres, 0 = not measured
    prediction: np.ndarray  # float32 [H, W] metres, 0 = none
    intrinsics: np.ndarray  # float64 [4]: fx, fy, cx, cy in pixels, NaN = not known
    ratio: float  # by which the prediction was scaled, 1 where it has metres itself
    max_depth: float  # metres: the protocol's
    step: int


def save_facts(
    folder: Path,
    train_sets: Mapping[str, Any],
    test_sets: Mapping[str, Any],
    *,
    network: str,
    parameters: int,
    devices: str,
    computed_in: dict[str, str],
    protocol: dict,
    published: Iterable[tuple],
) -> None:
    """Writes run.json.

    The sets by their label in data.mix are the frames or views that the network learns
    from, and `Prepared` ones with the test frames; `computed_in` is its dtype and
    attention; `published` the rows that may stand beside values of `protocol`: (method,
    source, test mode, metrics).
    """
    data = {
        label: _of_set(train_sets[label], test) for label, test in test_sets.items()
    }
    facts = {
        "network": network,
        "parameters": parameters,
        "devices": devices,
        "computed_in": computed_in,
        "versions": versions(),
        "data": next(iter(data.values())),
        **({"sets": data} if len(data) > 1 else {}),
        "published": {"protocol": protocol, "rows": [list(r) for r in published]},
    }
    files.write_json(folder / FACTS, facts)


def _of_set(train: Any, test: Any) -> dict[str, Any]:
    median = test.median_depth
    return {
        "name": test.name,
        "split": test.split,
        "train": len(train.train),
        "test": len(test.test),
        "valid_share": test.valid_share or None,
        "median_depth": median if np.isfinite(median) else None,
    }


def versions() -> dict[str, str]:
    """Of Python, this package and the libraries that decide the results."""
    found = {"amlr_jax": __version__, "python": python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def save_frames(
    folder: Path, frames: Sequence[dict], *, max_depth: float, step: int
) -> None:
    """Writes frames.npz: JPEG images, float16 depth; `MAX_FRAMES` of `frames`.

    A frame is `loader.test_frame`'s with `prediction`, metres [H, W] as measured, and
    `scale`, the factor that is in it; `max_depth` is the protocol's, in metres.
    """
    chosen = np.linspace(0, len(frames) - 1, min(len(frames), MAX_FRAMES))
    arrays: dict = {"step": np.int64(step), "max_depth": np.float64(max_depth)}
    arrays["count"] = np.int64(len(chosen))
    for number, index in enumerate(chosen.round().astype(int)):
        for name, value in _packed(frames[index]).items():
            arrays[f"{name}{number}"] = value
    with files.replacing(folder / FRAMES) as temporary:
        np.savez_compressed(temporary, **arrays)


def _packed(frame: dict) -> dict[str, np.ndarray | np.generic]:
    height, width = frame["depth"].shape
    factor = min(1.0, MAX_SIDE / max(height, width))
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    unknown = np.full(4, np.nan)
    camera = resize_intrinsics(
        frame.get("intrinsics", unknown), before=(height, width), after=size[::-1]
    )
    image = cv2.resize(frame["image"], size, interpolation=cv2.INTER_AREA)
    return {
        "key": np.str_(frame["key"]),
        "image": encoded(image, quality=QUALITY),
        "depth": _half(frame["depth"], size),
        "prediction": _half(frame["prediction"], size),
        "intrinsics": camera,
        "ratio": np.float64(frame["scale"]),
    }


def encoded(image: np.ndarray, *, quality: int) -> np.ndarray:
    """uint8 RGB as JPEG, uint8 [bytes]."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    return cv2.imencode(".jpg", image[..., ::-1], options)[1].ravel()


def _half(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest pixels, since a mean would mix near and far; float16 up to 65 km."""
    small = cv2.resize(
        np.nan_to_num(depth).astype(np.float32), size, interpolation=cv2.INTER_NEAREST
    )
    return np.clip(small, 0, 65504).astype(np.float16)


def load_frames(path: Path) -> list[Kept]:
    """The frames of frames.npz; ValueError if it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return [_unpacked(file, number) for number in range(int(file["count"]))]
    except (OSError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(str(error)) from error


def _unpacked(file, number: int) -> Kept:
    image = cv2.imdecode(file[f"image{number}"], cv2.IMREAD_COLOR)
    depth = file[f"depth{number}"].astype(np.float32)
    prediction = file[f"prediction{number}"].astype(np.float32)
    if image is None or not image.shape[:2] == depth.shape == prediction.shape:
        raise ValueError(f"frame {number} has no image of the size of its depth")
    return Kept(
        str(file[f"key{number}"]),
        np.ascontiguousarray(image[..., ::-1]),
        depth,
        prediction,
        file[f"intrinsics{number}"],
        float(file[f"ratio{number}"]),
        float(file["max_depth"]),
        int(file["step"]),
    )
