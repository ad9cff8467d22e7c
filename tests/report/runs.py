"""Workdirs of our own making, as a run leaves them."""

import json
from pathlib import Path

import cv2
import numpy as np

from amlr_jax.config import base
from amlr_jax.report import keep

PROTOCOL = {
    "dataset": "kitti", "split": "folder", "crop": "garg", "min_depth": 0.001,
    "max_depth": 80.0, "kb_crop": True, "median_depth": 12.5, "median_scaling": False,
    "test_mode": "none", "windows": 16,
    "name": "kitti_eigen", "paste_back": False, "cap_target": True, "clamp": False,
}  # fmt: skip
NAMES = ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "d1", "d2", "d3", "silog")


def row(step: int, **more) -> dict:
    """One line of metrics.jsonl."""
    return {
        "step": step,
        "total": 1 / step,
        "losses": {"silog": 2 / step, "gradient": 0.25},
        "weights": {"silog": 0.5, "gradient": 0.75},
        "learning_rate": 1e-3,
        "grad_norm": 1.0,
    } | more


def evaluation(value: float = 0.2, **protocol) -> dict:
    """evaluation.json whose metrics are `value`, the constant's half a metre above."""
    return {
        "step": 30,
        "protocol": PROTOCOL | protocol,
        "described": "kitti_eigen on kitti folder: KB crop",
        "metrics": dict.fromkeys(NAMES, value),
        "constant": dict.fromkeys(NAMES, 0.5),
        "frames": 10,
        "frames_without_depth": 0,
    }


def frame(key: str = "drive/1", *, size=(48, 160), camera=(100.0, 110.0, 80.0, 24.0)):
    """A test frame of a ramp of depth, and its prediction, a tenth too far."""
    rng = np.random.default_rng(3)
    ramp = np.broadcast_to(np.linspace(40, 4, size[0])[:, None], size)
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    depth = np.where(rng.random(size) < 0.3, ramp, 0).astype(np.float32)
    example = {"image": cv2.blur(image, (9, 9)), "depth": depth, "key": key}
    return {**example, "intrinsics": np.array(camera)}, (1.1 * ramp).astype(np.float32)


def write(folder: Path, *, steps: int = 30, frames: int = 2, **config) -> Path:
    """A run that has ended; `config` overrides keys, as `rebalance.rule`."""
    folder.mkdir(parents=True)
    made = base()
    with made.unlocked():
        made.update_from_flattened_dict(config)
    (folder / "config.json").write_text(json.dumps(made.to_dict()))
    lines = (json.dumps(row(step)) + "\n" for step in range(1, steps + 1))
    (folder / "metrics.jsonl").write_text("".join(lines))
    (folder / "evaluation.json").write_text(json.dumps(evaluation()))
    if frames:
        pairs = [frame(f"drive/{number}") for number in range(frames)]
        save(folder, pairs)
    return folder


def save(folder: Path, pairs, *, scale: float = 1.0) -> None:
    """frames.npz of (frame, prediction)s."""
    frames = [{**f, "prediction": scale * p, "scale": scale} for f, p in pairs]
    keep.save_frames(folder, frames, max_depth=80.0, step=30)
