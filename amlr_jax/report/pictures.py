"""Held-out frames as pictures in the page: image, truth, predictions, errors."""

import base64
import json
from collections.abc import Sequence
from html import escape

import cv2
import numpy as np

from amlr_jax.data import colors
from amlr_jax.report import cloud
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
        for one in run.frames:
            by_key.setdefault(one.key, []).append((run.name, one))
    if not by_key:
        return '<p class="note">No run has left frames to show.</p>'
    for width in WIDTHS:
        samples = cloud.SAMPLES * width // WIDTHS[0]
        parts = [
            frame(key, shown, width=width, samples=samples)
            for key, shown in by_key.items()
        ]
        if sum(map(len, parts)) <= limit:
            break
    kept = max(int((np.cumsum(list(map(len, parts))) <= limit).sum()), 1)
    note = ""
    if kept < len(parts):
        left_out = counted(len(parts) - kept, "more frame") + " left out"
        note = f'<p class="note">{left_out} to bound this file\'s size.</p>'
    return "".join(parts[:kept]) + note


def frame(
    key: str,
    shown: list[tuple[str, Kept]],
    *,
    width: int = WIDTHS[0],
    near: float | None = None,
    unit: str = "m",
    samples: int = cloud.SAMPLES,
    facts: str = "",
) -> str:
    """The figure of a frame: (name, frame) of each run, `width` pixels wide at most.

    `near` is the depth of the brightest colour, None: the nearest that is known. Of the
    depth there are `samples` values to be read under the pointer. `facts` is the line
    below its name; by default the error of each run.
    """
    first = shown[0][1]
    measured = bool((first.depth > 0).any())
    far = first.max_depth
    near = near or colors.nearest(
        first.depth if measured else first.prediction, far=far
    )
    limits = {"near": min(near, 0.999 * far), "far": far}
    pictures = {"Image": first.image}
    if measured:
        pictures["Ground truth"] = colors.sparse(first.depth, **limits)
    for name, one in shown:
        of_run = f" of {name}" if len(shown) > 1 else ""
        pictures[f"Prediction{of_run}"] = colors.colorize(one.prediction, **limits)
        if measured:
            pictures[f"Error{of_run}"] = colors.errors(one.prediction, one.depth)
    panels = "".join(_panel(t, _narrow(p, width)) for t, p in pictures.items())
    maps = [cloud.depth_map(n, one, unit=unit, count=samples) for n, one in shown]
    height, full = first.depth.shape
    return (
        f'<figure class="frame" style="--ratio:{full}/{height}" '
        f'data-maps="{escape(json.dumps(maps))}">'
        f"<figcaption>{escape(key)}<small>{escape(facts) or _errors(shown)}</small>"
        "</figcaption>"
        f'<div class="panels">{panels}</div>'
        f"{_bars(**limits, unit=unit, errors=measured)}</figure>"
    )


def _errors(shown: list[tuple[str, Kept]]) -> str:
    texts = []
    for name, one in shown:
        measured = one.depth > 0
        error = np.abs(one.prediction - one.depth)[measured]
        text = "no ground truth"
        if measured.any():
            part = float((error / one.depth[measured]).mean())
            text = f"mean relative error {part:.3f} on {measured.mean():.0%} of pixels"
        if one.ratio != 1:
            text += f", prediction scaled by {one.ratio:.3g}"
        texts.append(f"{escape(name)}: {text}" if len(shown) > 1 else text)
    return "; ".join(texts)


def _panel(title: str, picture: np.ndarray) -> str:
    name = escape(title)
    return (
        f'<div class="panel {name.split()[0].lower()}"><p>{name}</p><div class="stage">'
        f'<img src="{jpeg(picture)}" alt="{name}"></div></div>'
    )


def _bars(*, near: float, far: float, unit: str, errors: bool) -> str:
    """The colour bars of depth and maybe of `errors`, with their ends in words."""
    part = np.linspace(0, 1, 9)
    depth = 1 / ((1 - part) / near + part / far)
    colours = colors.colorize(depth[None], near, far)[0]
    ends = f"{near:.1f} {unit}", f"{far:g} {unit}, by 1/depth"
    bars = [_bar(colours, *ends)]
    if errors:
        # Nine pixels apart, since an error covers its neighbours.
        wide = np.repeat(1 + part / 2, 9)[None]
        colours = colors.errors(wide, np.ones((1, 81)))[0, 4::9]
        bars.append(_bar(colours, "error 0", "50% of the depth or more"))
    return f'<div class="bars">{"".join(bars)}</div>'


def _bar(colours: np.ndarray, start: str, end: str) -> str:
    style = f'<i style="background:{_gradient(colours)}"></i>'
    return f"<span>{start} {style} {end}</span>"


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
