"""What a predicted depth map is written as: 16-bit PNG, array, picture."""

from pathlib import Path

import cv2
import matplotlib
import numpy as np

CODE_LIMIT = 2**16 - 1


def png_scale(max_depth: float) -> int:
    """Code per metre of a 16-bit PNG: NYUv2's 1000 where it reaches, else KITTI's 256.

    ValueError beyond 255 m, which neither can hold.
    """
    for scale in (1000, 256):
        if max_depth * scale <= CODE_LIMIT:
            return scale
    raise ValueError(
        f"`max_depth` must be at most {CODE_LIMIT / 256:.0f} m for a 16-bit PNG, "
        f"got {max_depth:g}."
    )


def codes(depth: np.ndarray, *, scale: int) -> np.ndarray:
    """Metres [H, W] as uint16 codes, rounded; at least 1, since 0 means nothing."""
    return np.clip(np.rint(depth * scale), 1, CODE_LIMIT).astype(np.uint16)


def colors(depth: np.ndarray, *, far: float) -> np.ndarray:
    """Metres [H, W] as uint8 RGB [H, W, 3]: inverse depth, near is bright.

    The brightest is the nearest percent of the map, the darkest is `far`.
    """
    inverse = 1 / np.maximum(depth, 1e-6)
    low, high = 1 / far, np.percentile(inverse, 99)
    part = np.clip((inverse - low) / max(high - low, 1e-9), 0, 1)
    return (matplotlib.colormaps["magma"](part)[..., :3] * 255).round().astype(np.uint8)


def write(depth: np.ndarray, stem: Path, *, max_depth: float) -> None:
    """Writes STEM_depth.png (16-bit), STEM_depth.npy (metres) and STEM_color.png."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    coded = codes(depth, scale=png_scale(max_depth))
    _write_png(stem.with_name(f"{stem.name}_depth.png"), coded)
    np.save(stem.with_name(f"{stem.name}_depth.npy"), depth.astype(np.float32))
    picture = colors(depth, far=max_depth)
    _write_png(stem.with_name(f"{stem.name}_color.png"), picture[..., ::-1])


def _write_png(path: Path, array: np.ndarray) -> None:
    good, data = cv2.imencode(".png", array)
    if not good:
        raise OSError(f"OpenCV cannot encode '{path}'")
    path.write_bytes(data.tobytes())
