"""Every side output of a self-supervised network, measured: "Better SSIM", Table 4.

A head at 1 / 2^i of the image is brought to the frame's size bilinearly, as disparity.
One with sub-pixel convolution has the network's full size by itself. Whether the paper
passes through the network's size on the way to the frame's is not said; here it is one
step, so that the finest head has the figures of the ordinary evaluation.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
from rich.table import Table

from amlr_jax.evaluate import presets, published
from amlr_jax.evaluate.measure_frames import as_json, measure_frames
from amlr_jax.evaluate.predictor import frame_predictor
from amlr_jax.evaluate.protocol import Evaluation, Protocol
from amlr_jax.models import depth
from amlr_jax.runtime.errors import InputError

RESULT = "resolutions.json"
# Key and the paper's heading.
_COLUMNS = (
    ("abs_rel", "Abs Rel ↓"),
    ("sq_rel", "Sq Rel ↓"),
    ("rmse", "RMS ↓"),
    ("rmse_log", "RMSlog ↓"),
    ("d1", "<1.25 ↑"),
    ("d2", "<1.25² ↑"),
    ("d3", "<1.25³ ↑"),
)


class Head(NamedTuple):
    """A side output: its level, and whether its map is smaller than the network's."""

    level: int  # 1 / 2**level of the image
    bilinear: bool  # brought to the network's size bilinearly; False: native

    @property
    def resolution(self) -> str:
        """As the paper writes it: 1/2, 1/4, ..."""
        return f"1/{2**self.level}" if self.level else "1"


class Measured(NamedTuple):
    """A side output and its figures."""

    head: Head
    result: Evaluation


class _OneHead(NamedTuple):
    """A depth network of one of its heads; what is only finer is not computed."""

    network: depth.DepthNetwork
    number: int

    def apply(self, variables: dict, image: jax.Array, *, train: bool) -> jax.Array:
        made = self.network.apply(variables, image, train=train, method="side_depths")
        return made[self.number]


def heads(network: depth.DepthNetwork) -> tuple[Head, ...]:
    """The side outputs, fine to coarse; InputError for a network without."""
    if presets.has_scale(network):
        raise InputError(
            "--resolutions measures the side outputs of self-supervised networks "
            "(model.name monodepth2 or five_level); this network has one depth"
        )
    size = network.seen_size(64, 64)
    image = jax.ShapeDtypeStruct((1, *size, 3), "float32")
    forward = partial(network.apply, train=False, method="disparities")
    maps = jax.eval_shape(forward, depth.variable_shapes(network), image)
    levels = network.decoder.scales
    return tuple(
        Head(level, bilinear=one.shape[1:] != size)
        for level, one in zip(levels, maps, strict=True)
    )


def measure(
    network: depth.DepthNetwork,
    variables: dict,
    data,
    protocol: Protocol,
    *,
    finest: Evaluation,
    config,
    mesh,
) -> list[Measured]:
    """Measures each head on all test frames; `finest` is what the first one gave."""
    made = [finest]
    for number in range(1, len(network.decoder.scales)):
        one = _OneHead(network, number)
        predict = frame_predictor(one, mesh, protocol, at_once=config.eval.at_once)
        found = measure_frames(
            partial(predict, variables), data, protocol, config=config
        )
        made.append(found[0])
    return [Measured(*pair) for pair in zip(heads(network), made, strict=True)]


def rows_json(rows: Sequence[Measured], protocol: Protocol, **more) -> dict:
    """What resolutions.json holds: as evaluation.json, by head in `resolutions`."""
    common = as_json(rows[0].result, protocol, **more)
    own = ("metrics", "median_ratio")
    each = [
        {"resolution": head.resolution, "bilinear": head.bilinear}
        | {k: v for k, v in as_json(result, protocol).items() if k in own}
        for head, result in rows
    ]
    shared = {k: v for k, v in common.items() if k not in own}
    return shared | {"resolutions": each}


def table(rows: Sequence[Measured], *, protocol: Protocol, title: str) -> Table:
    """The paper's Table 4 of this network, with the paper's rows where they fit."""
    made = Table("", "Resolution", "Bilinear", title=title, caption_justify="left")
    for _, heading in _COLUMNS:
        made.add_column(heading, justify="right", no_wrap=True)
    for head, result in rows:
        made.add_row("network", *_cells(head.resolution, head.bilinear, result.metrics))
    known = {head.resolution + "b" * head.bilinear for head, _ in rows}
    found, nothing = published.resolutions_beside(protocol)
    found = [row for row in found if row.resolution + "b" * row.bilinear in known]
    if found:
        made.add_section()
        nothing = "paper: Better SSIM, Table 4"
    for row in found:
        made.add_row("paper", *_cells(*row))
    made.caption = f"{protocol.line()}; {rows[0].result.frames} frames\n{nothing}"
    return made


def _cells(resolution: str, bilinear: bool, metrics: dict[str, float]) -> list[str]:
    figures = [f"{metrics[key]:.3f}" for key, _ in _COLUMNS]
    return [resolution, "✓" if bilinear else "native", *figures]
