"""Held-out frames as pictures inside the page: image, truth, predictions, errors."""

import base64
from collections.abc import Sequence
from functools import cache
from html import escape

import cv2
import matplotlib
import numpy as np

from amlr_jax.report.gather import Run
from amlr_jax.report.keep import Kept

ERROR_LIMIT = 0.5  # relative error that has the brightest colour
# Parts of the colour maps that stand out from the black behind them.
DEPTH_MAP, ERROR_MAP = ("magma", 0.12), ("cividis", 0.05)
WIDTHS = (1216, 832, 560)  # tried in turn, in pixels
LIMIT = 6_000_000  # characters of all pictures of a page
QUALITY = 86  # of JPEG


def html(runs: Sequence[Run], *, limit: int = LIMIT) -> str:
    """The frames of all runs, by key; narrower and then fewer so as to fit `limit`."""
    by_key = group(runs)
    if not by_key:
        return '<p class="note">No run has left frames to show.</p>'
    for width in WIDTHS:
        parts = [_frame(key, shown, width=width) for key, shown in by_key.items()]
        if sum(map(len, parts)) <= limit:
            break
    total, kept = np.cumsum([len(part) for part in parts]), 1
    kept = max(int((total <= limit).sum()), 1)
    note = ""
    if kept < len(parts):
        left_out = f"{len(parts) - kept} more frames left out to bound this file's size"
        note = f'<p class="note">{left_out}.</p>'
    return "".join(parts[:kept]) + note


def group(runs: Sequence[Run]) -> dict[str, list[tuple[str, Kept]]]:
    """For each frame the runs that show it, in the order of the first run's frames."""
    found: dict[str, list[tuple[str, Kept]]] = {}
    for run in runs:
        for frame in run.frames:
            found.setdefault(frame.key, []).append((run.name, frame))
    return found


def _frame(key: str, shown: list[tuple[str, Kept]], *, width: int) -> str:
    first = shown[0][1]
    near = _nearest(first.depth)
    limits = {"near": near, "far": first.max_depth}
    panels = [_panel("Image", jpeg(_narrow(first.image, width)), "image")]
    truth = _sparse(_inverse_part(first.depth, **limits), width, DEPTH_MAP)
    panels.append(_panel("Ground truth", truth, "truth"))
    for name, frame in shown:
        of_run = f" of {name}" if len(shown) > 1 else ""
        part = _inverse_part(frame.prediction, **limits)
        dense = _colours(_narrow(part, width), DEPTH_MAP)
        panels.append(_panel(f"Prediction{of_run}", jpeg(dense), "prediction"))
        wrong = _sparse(relative_error(frame), width, ERROR_MAP)
        panels.append(_panel(f"Error{of_run}", wrong, "error"))
    height, full = first.depth.shape
    return (
        f'<figure class="frame" style="--ratio:{full}/{height}">'
        f"<figcaption>{escape(key)}{_facts(shown)}</figcaption>"
        f'<div class="panels">{"".join(panels)}</div>{_bars(**limits)}</figure>'
    )


def _facts(shown: list[tuple[str, Kept]]) -> str:
    texts = []
    for name, frame in shown:
        measured = frame.depth > 0
        error = np.abs(frame.prediction - frame.depth)[measured]
        text = "no ground truth"
        if measured.any():
            part = float((error / frame.depth[measured]).mean())
            text = f"mean relative error {part:.3f} on {measured.mean():.0%} of pixels"
        if frame.ratio != 1:
            text += f", prediction scaled by {frame.ratio:.3g}"
        texts.append(f"{escape(name)}: {text}" if len(shown) > 1 else text)
    return f"<small>{'; '.join(texts)}</small>"


def _panel(title: str, source: str, css: str) -> str:
    name = escape(title)
    return (
        f'<div class="panel {css}"><p>{name}</p><div class="stage">'
        f'<img src="{source}" alt="{name}"></div></div>'
    )


def _bars(*, near: float, far: float) -> str:
    """Two colour bars with their ends in words."""
    return (
        f'<div class="bars"><span>{near:.1f} m <i style="background:'
        f'{gradient(DEPTH_MAP, reverse=True)}"></i> {far:g} m, by 1/depth</span>'
        f'<span>error 0 <i style="background:{gradient(ERROR_MAP)}"></i> '
        f"{ERROR_LIMIT:.0%} of the depth or more</span></div>"
    )


def gradient(scale: tuple[str, float], *, reverse: bool = False) -> str:
    """A colour map as CSS."""
    rgb = _table(scale)[:: -32 if reverse else 32]
    return f"linear-gradient(90deg,{','.join(f'#{bytes(c).hex()}' for c in rgb)})"


def relative_error(frame: Kept) -> np.ndarray:
    """|prediction - truth| / truth as a part of `ERROR_LIMIT`, NaN where no truth."""
    truth = np.where(frame.depth > 0, frame.depth, np.nan)
    return np.clip(np.abs(frame.prediction - truth) / truth / ERROR_LIMIT, 0, 1)


def _nearest(depth: np.ndarray) -> float:
    valid = depth[depth > 0]
    return float(np.percentile(valid, 1)) if valid.size else 1.0


def _inverse_part(depth: np.ndarray, *, near: float, far: float) -> np.ndarray:
    """Where 1/depth lies from 1/far to 1/near, in [0, 1]; NaN where there is none."""
    inverse = 1 / np.where(depth > 0, depth, np.nan)
    low, high = 1 / far, 1 / near
    return np.clip((inverse - low) / max(high - low, 1e-9), 0, 1)


def _narrow(values: np.ndarray, width: int) -> np.ndarray:
    """Not wider than `width`."""
    height, full = values.shape[:2]
    if full <= width:
        return values
    size = width, max(round(height * width / full), 1)
    return cv2.resize(values, size, interpolation=cv2.INTER_AREA)


def _sparse(part: np.ndarray, width: int, scale: tuple[str, float]) -> str:
    """A map with holes as PNG: single pixels widened, or they would not be seen."""
    step = max(-(-part.shape[1] // width), 1)
    code = np.where(np.isnan(part), 0, 1 + np.nan_to_num(part) * 254)
    if np.isnan(part).mean() > 0.5:
        code = cv2.dilate(code, np.ones((2 * step + 1, 2 * step + 1), np.uint8))
    code = code[::step, ::step].round().astype(np.uint8)
    return _png(np.where(code[..., None] > 0, _table(scale)[code], 0).astype(np.uint8))


def _colours(part: np.ndarray, scale: tuple[str, float]) -> np.ndarray:
    code = np.where(np.isnan(part), 0, 1 + np.nan_to_num(part) * 254).round()
    code = code.astype(np.uint8)
    return np.where(code[..., None] > 0, _table(scale)[code], 0).astype(np.uint8)


@cache
def _table(scale: tuple[str, float]) -> np.ndarray:
    """uint8 [256, 3] of a colour map without its darkest part."""
    name, start = scale
    colours = matplotlib.colormaps[name](np.linspace(start, 1, 256))
    return (colours[:, :3] * 255).round().astype(np.uint8)


def jpeg(image: np.ndarray) -> str:
    """uint8 RGB as a data URI."""
    return _uri(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def _png(image: np.ndarray) -> str:
    return _uri(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _uri(ending: str, image: np.ndarray, options: list[int]) -> str:
    good, code = cv2.imencode(ending, image[..., ::-1], options)
    if not good:
        raise OSError(f"OpenCV cannot encode a picture as {ending}")
    kind = {".jpg": "jpeg", ".png": "png"}[ending]
    return f"data:image/{kind};base64,{base64.b64encode(code.tobytes()).decode()}"
