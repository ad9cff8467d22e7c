"""Published test sets on which a network is measured without training on them.

    diode_indoors, diode_outdoor   <any>/{indoors,outdoor}/<scan>/<name>.png, _depth.npy
                        (metres), _depth_mask.npy (0: no return)
    eth3d               <scene>/images/dslr_images/<name>.JPG, the distorted ones, and
                        <scene>/ground_truth_depth/dslr_images/<name>.JPG, float32
                        metres without a header, infinite where not measured
    ibims               rgb/<name>.png, depth/<name>.png (16 bits: 0 to 50 m),
                        mask_invalid/ and mask_transp/ (0: not valid, transparent),
                        edges/ (not 0: an edge of the depth)
    sintel              training/final/<scene>/<name>.png, training/depth/<scene>/
                        <name>.dpt (tag, width, height, float32 metres)
    ddad                ddad.json with its scenes as TRI's DGP writes them; the front
                        camera of the validation scenes, depth from the lidar

Sources: Vasiljevic et al. 2019 (arXiv:1908.00463); Schoeps et al., CVPR 2017; Koch et
al., ECCV workshops 2018; Butler et al., ECCV 2012; Guizilini et al., CVPR 2020. `cap`
is the greatest depth in evaluations: of MiDaS (Ranftl et al., TPAMI 2022) for ETH3D and
Sintel, of ZoeDepth (Bhat et al. 2023) for the others.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from amlr_jax.data import images
from amlr_jax.data.frames import (
    UNKNOWN_CAMERA,
    Frame,
    Layout,
    Report,
    refuse,
    report_missing,
)
from amlr_jax.data.intrinsics import KEYS, camera_of
from amlr_jax.data.storage import Size, size_name
from amlr_jax.runtime import paths
from amlr_jax.runtime.errors import InputError


class Benchmark(NamedTuple):
    """A test set: its images, and the files that belong to an image.

    `image` is a regular expression for the path below the root, and `depth` and `masks`
    are what `re.Match.expand` makes paths of.
    """

    image: str
    depth: str
    cap: float  # metres, beyond which nothing is evaluated
    masks: tuple[str, ...] = ()
    depth_scale: float = 1.0  # stored value of a metre
    in_metres: bool = True
    edges: str = ""  # annotated


_DIODE: dict[str, Any] = {"depth": r"\1_depth.npy", "masks": (r"\1_depth_mask.npy",)}
SETS = {
    "diode_indoors": Benchmark(r"((?:.*/)?indoors/.*)\.png", cap=10.0, **_DIODE),
    "diode_outdoor": Benchmark(r"((?:.*/)?outdoor/.*)\.png", cap=80.0, **_DIODE),
    "eth3d": Benchmark(
        r"(.*/)images/(dslr_images/.*)", r"\1ground_truth_depth/\2", cap=72.0
    ),
    "ibims": Benchmark(
        r"((?:.*/)?)rgb/(.*\.png)",
        r"\1depth/\2",
        cap=10.0,
        masks=(r"\1mask_invalid/\2", r"\1mask_transp/\2"),
        depth_scale=65535 / 50,
        in_metres=False,
        edges=r"\1edges/\2",
    ),
    "sintel": Benchmark(r"((?:.*/)?)final/(.*)\.png", r"\1depth/\2.dpt", cap=72.0),
    "ddad": Benchmark("", "", cap=80.0),  # its files name each other
}
_INDEX, _VALIDATION, _CAMERA, _LIDAR = "ddad.json", "1", "CAMERA_01", "LIDAR"


def read_layout(
    name: str, root: Path, *, depth_cap: float = 0.0, report: Report = refuse
) -> Layout:
    """The test frames of one of `SETS` under `root`; there are no training frames.

    Depth beyond `depth_cap` metres is no measurement; 0: the published cap.
    Missing ground truth is passed to `report`; InputError for a folder without frames.
    """
    made = SETS[name]
    frames = _ddad(root) if name == "ddad" else _matching(root, made)
    found = tuple(sorted(frames, key=lambda frame: paths.natural(frame.key)))
    if not found:
        raise InputError(
            f"no image of {name} at data.root='{root}'; amlr_jax/data/benchmarks.py "
            "describes the files"
        )
    report_missing(found, report, advice=f"{name} has depth for each image")
    return Layout(
        name,
        "test",
        train=(),
        test=found,
        depth_scale=made.depth_scale,
        in_metres=made.in_metres,
        depth_cap=depth_cap or made.cap,
        test_only=True,
    )


def annotated_edges(name: str, root: Path, key: str, size: Size) -> np.ndarray | None:
    """The annotated depth edges [H, W] of a frame of `size`; None if `name` has none.

    InputError for a file that is missing, damaged or of another size.
    """
    made = SETS.get(name)
    match = re.fullmatch(made.image, f"{key}.png") if made and made.edges else None
    if made is None or match is None:
        return None
    path = root / match.expand(made.edges)
    found = images.read_as_rgb(path)[..., 0] != 0
    if found.shape != size:
        raise InputError(
            f"edges '{path}' are {size_name(found.shape)} and the frame is "
            f"{size_name(size)}; leave out data.resize, or restore the file"
        )
    return found


def _matching(root: Path, made: Benchmark) -> Iterator[Frame]:
    for path in paths.find(root).files:
        name = path.relative_to(root).as_posix()
        match = re.fullmatch(made.image, name)
        if match and path.suffix.lower() in images.READABLE:
            masks = tuple(root / match.expand(mask) for mask in made.masks)
            depth = root / match.expand(made.depth)
            key = name.removesuffix(path.suffix)
            yield Frame(key, path, depth, UNKNOWN_CAMERA, masks=masks)


# ---------------------------------------------------------------- DDAD


def _ddad(root: Path) -> Iterator[Frame]:
    """The front camera's frames of the validation scenes."""
    index = _json(root / _INDEX)
    try:
        for scene in index["scene_splits"][_VALIDATION]["filenames"]:
            yield from _scene(root, root / scene)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"'{root / _INDEX}' or a scene of it is not as DGP writes it: {error!r}"
        ) from error


def _scene(root: Path, path: Path) -> Iterator[Frame]:
    scene, folder = _json(path), path.parent
    data = {one["key"]: one for one in scene["data"]}
    for sample in scene["samples"]:
        some = {data[key]["id"]["name"]: data[key] for key in sample["datum_keys"]}
        image = some[_CAMERA]["datum"]["image"]
        scan = some[_LIDAR]["datum"]["point_cloud"]
        calibration = _json(
            folder / "calibration" / f"{sample['calibration_key']}.json"
        )
        given = calibration["intrinsics"][calibration["names"].index(_CAMERA)]
        camera = camera_of([given[key] for key in KEYS])
        if camera is None:
            raise ValueError(f"the intrinsics of {_CAMERA} in {path.name}")
        seen = np.linalg.inv(_pose(image["pose"])) @ _pose(scan["pose"])
        fx, fy, cx, cy = camera
        projection = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]) @ seen[:3]
        file = folder / image["filename"]
        yield Frame(
            file.relative_to(root).with_suffix("").as_posix(),
            file,
            folder / scan["filename"],
            camera,
            tuple(projection.ravel().tolist()),
        )


def _pose(given: dict) -> np.ndarray:
    """The matrix [4, 4] of a quaternion and a translation; DGP leaves out zeros."""
    turn = [given["rotation"].get(key, 0.0) for key in ("qx", "qy", "qz", "qw")]
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat(turn).as_matrix()
    matrix[:3, 3] = [given.get("translation", {}).get(axis, 0.0) for axis in "xyz"]
    return matrix


def _json(path: Path) -> dict:
    return json.loads(images.read(path, what="description"))
