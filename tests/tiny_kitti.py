"""A few small frames in KITTI's layout, with depth that a small network can learn."""

from pathlib import Path

import cv2
import numpy as np

from configs import kitti as kitti_config

DATE = "2011_09_26"
DRIVES = ("0001", "0002")
SIZE = (64, 192)  # height, width
CALIBRATION = "P_rect_02: 100 0 96 4.5 0 110 32 0.2 0 0 1 0.003\n"


def write(root: Path, *, frames: int = 6, size: tuple[int, int] = SIZE) -> Path:
    """Writes the layout under `root` and returns it."""
    date = root / "raw_data" / DATE
    for number in DRIVES:
        for frame in range(frames):
            write_frame(root, number, frame, size=size)
    (date / "calib_cam_to_cam.txt").write_text(CALIBRATION)
    return root


def write_frame(root: Path, number: str, frame: int, *, size=SIZE) -> None:
    """One image whose brightness tells depth, and sparse ground truth."""
    rng = np.random.default_rng([int(number), frame])
    depth = _ramp(size) * rng.uniform(0.7, 1.4)
    image = np.clip(
        255 * (1 - depth / 80)[..., None] + rng.normal(0, 4, (*size, 3)), 0, 255
    )
    code = np.where(rng.random(size) < 0.5, depth * 256, 0)
    paths = image_path(root, number, frame), depth_path(root, number, frame)
    for path, array in zip(
        paths, (image.astype(np.uint8), code.astype(np.uint16)), strict=True
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), array)


# Overrides of configs/kitti.py:tiny for a run of seconds on these frames.
OVERRIDES = {
    "data.split": "folder",
    "data.kb_crop": False,
    "data.crop": (64, 96),
    "eval.crop": "none",
    "eval.pictures": 2,
    "model.input_scale": 0.5,
    "batch_size": 2,
    "steps": 6,
    "optimizer.span": (0, 100),  # one compiled step for runs of any length
    "checkpoint.every_steps": 2,
}


def config(root: Path, *, cache: Path):
    """configs/kitti.py:tiny on the frames under `root`."""
    made = kitti_config.get_config("tiny")
    changes = OVERRIDES | {"data.root": str(root), "data.cache": str(cache)}
    with made.unlocked():
        made.update_from_flattened_dict(changes)
    return made


def flags(root: Path, *, cache: Path) -> list[str]:
    """The same for the command line."""
    changes = OVERRIDES | {"data.root": root, "data.cache": cache}
    return ["--config=configs/kitti.py:tiny"] + [
        f"--config.{name}={str(value).replace(' ', '')}"
        for name, value in changes.items()
    ]


def _ramp(size: tuple[int, int]) -> np.ndarray:
    """5 m at the bottom to 45 m at the top."""
    return np.broadcast_to(np.linspace(45, 5, size[0])[:, None], size)


def drive(number: str) -> str:
    return f"{DATE}_drive_{number}_sync"


def image_path(root: Path, number: str, frame: int) -> Path:
    folder = root / "raw_data" / DATE / drive(number) / "image_02" / "data"
    return folder / f"{frame:010d}.png"


def depth_path(root: Path, number: str, frame: int) -> Path:
    folder = root / "data_depth_annotated" / "train" / drive(number)
    return folder / "proj_depth" / "groundtruth" / "image_02" / f"{frame:010d}.png"
