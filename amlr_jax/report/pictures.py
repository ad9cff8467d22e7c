"""Held-out frames as pictures in the page: image, truth, predictions, errors."""

import base64
from collections.abc import Sequence
from html import escape

import cv2
import numpy as np

from amlr_jax.data import colors
from amlr_jax.report.gather import RunFiles
from amlr_jax.report.keep import Kept, encoded
from amlr_jax.runtime.errors import counted

WIDTHS = (1216, 832, 560)  # tried in turn, in pixels
LIMIT = 6_000_000  # characters of all pictures of a page
QUALITY = 86  # of JPEG


def html(runs: Sequence[RunFiles], *, limit: int = LIMIT) -> str:
    """The frames of all runs, by key; narrower and then fewer so as to fit `limit`."""
    by_key: dict[str, list[tuple[str, Kept]]] = {}
    for run in runs:
        for frame in run.frames:
            by_key.setdefault(frame.key, []).append((run.name, frame))
    if not by_key:
        return '<p class="note">No run has left frames to show.</p>'
    for width in WIDTHS:
        parts = [_frame(key, shown, width=width) for key, shown in by_key.items()]
        if sum(map(len, parts)) <= limit:
            break
    kept = max(int((np.cumsum(list(map(len, parts))) <= limit).sum()), 1)
    note = ""
    if kept < len(parts):
        left_out = counted(len(parts) - kept, "more frame") + " left out"
        note = f'<p class="note">{left_out} to bound this file\'s size.</p>'
    return "".join(parts[:kept]) + note


def _frame(key: str, shown: list[tuple[str, Kept]], *, width: int) -> str:
    first = shown[0][1]
    known = first.depth if (first.depth > 0).any() else first.prediction
    far = first.max_depth
    limits = {"near": colors.nearest(known, far=far), "far": far}
    truth = colors.sparse(first.depth, **limits)
    pictures = {"Image": first.image, "Ground truth": truth}
    for name, frame in shown:
        of_run = f" of {name}" if len(shown) > 1 else ""
        pictures[f"Prediction{of_run}"] = colors.colorize(frame.prediction, **limits)
        pictures[f"Error{of_run}"] = colors.errors(frame.prediction, frame.depth)
    panels = "".join(_panel(t, _narrow(p, width)) for t, p in pictures.items())
    height, full = first.depth.shape
    return (
        f'<figure class="frame" style="--ratio:{full}/{height}">'
        f"<figcaption>{escape(key)}{_facts(shown)}</figcaption>"
        f'<div class="panels">{panels}</div>{_bars(**limits)}</figure>'
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


def _panel(title: str, picture: np.ndarray) -> str:
    name = escape(title)
    return (
        f'<div class="panel {name.split()[0].lower()}"><p>{name}</p><div class="stage">'
        f'<img src="{jpeg(picture)}" alt="{name}"></div></div>'
    )


def _bars(*, near: float, far: float) -> str:
    """Two colour bars with their ends in words."""
    part = np.linspace(0, 1, 9)
    depth = 1 / ((1 - part) / near + part / far)
    colours = colors.colorize(depth[None], near, far)[0]
    # Nine pixels apart, since an error covers its neighbours.
    errors = colors.errors(np.repeat(1 + part / 2, 9)[None], np.ones((1, 81)))[0, 4::9]
    return (
        f'<div class="bars"><span>{near:.1f} m <i style="background:'
        f'{_gradient(colours)}"></i> {far:g} m, by 1/depth</span>'
        f'<span>error 0 <i style="background:{_gradient(errors)}"></i> '
        "50% of the depth or more</span></div>"
    )


def _gradient(rgb: np.ndarray) -> str:
    """Colours as a gradient of CSS."""
    return f"linear-gradient(90deg,{','.join(f'#{bytes(c).hex()}' for c in rgb)})"


def _narrow(picture: np.ndarray, width: int) -> np.ndarray:
    """Not wider than `width`."""
    height, full = picture.shape[:2]
    if full <= width:
        return picture
    size = width, max(round(height * width / full), 1)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def jpeg(image: np.ndarray) -> str:
    """uint8 RGB as a data URI."""
    code = base64.b64encode(encoded(image, quality=QUALITY).tobytes())
    return f"data:image/jpeg;base64,{code.decode()}"
