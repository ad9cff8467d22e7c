"""Evaluation of the side outputs of a self-supervised network ("Better SSIM", Table 4).

A head at 1 / 2^i of the image is resized to the frame bilinearly, as disparity. One
with sub-pixel convolution has the network's full size. The paper does not specify
whether a map is first resized to the network's size; here it is resized to the frame in
one step, so that the finest head has the metrics of the ordinary evaluation.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict
from rich.table import Table

from amlr_jax.evaluate import published, tables
from amlr_jax.evaluate.measure import Evaluation, evaluate_test_set
from amlr_jax.evaluate.predictor import in_frame, predictor
from amlr_jax.evaluate.protocols import Protocol
from amlr_jax.models import depth
from amlr_jax.models.depth_network import has_scale
from amlr_jax.runtime.errors import InputError, counted

# The columns of the paper's table.
COLUMNS = {k: v for k, v in tables.COLUMNS.items() if k not in ("log10", "silog")}


class Head(NamedTuple):
    """A side output: its level, and whether its map is smaller than the network's."""

    level: int  # 1 / 2**level of the image
    bilinear: bool  # resized to the network's size bilinearly; False: native

    @property
    def resolution(self) -> str:
        """In the paper's notation: 1/2, 1/4, ..."""
        return f"1/{2**self.level}" if self.level else "1"


class _OneHead(NamedTuple):
    """A depth network with one of its heads; finer levels are not computed."""

    network: depth.DepthNetwork
    number: int

    def apply(self, variables: dict, image: jax.Array, *, train: bool) -> jax.Array:
        made = self.network.apply(variables, image, train=train, method="side_depths")
        return made[self.number]  # type: ignore[return-value]  # flax: or variables


def heads(network: depth.DepthNetwork) -> tuple[Head, ...]:
    """The side outputs, fine to coarse; InputError for a network without."""
    if has_scale(network):
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
    data: Any,
    protocol: Protocol,
    *,
    finest: Evaluation,
    config: ConfigDict,
    mesh: Mesh,
) -> dict[Head, Evaluation]:
    """Evaluates each head on all test frames; `finest` is the result of the first."""
    first, *others = heads(network)
    found = {first: finest}
    options = {key: config.eval[key] for key in ("at_once", "batch_size")}
    for number, head in enumerate(others, start=1):
        one = _OneHead(network, number)
        made = predictor(one, mesh, mode=protocol.mode, **options)
        predict = in_frame(partial(made, variables), protocol)
        found[head] = evaluate_test_set(predict, data, protocol, config=config)
    return found


def as_json(rows: dict[Head, Evaluation], evaluation: dict) -> dict:
    """The content of resolutions.json: evaluation.json with metrics by head."""
    made = {k: v for k, v in evaluation.items() if k not in ("metrics", "median_ratio")}
    made["resolutions"] = []
    for head, result in rows.items():
        row = {"resolution": head.resolution, "bilinear": head.bilinear}
        ratio = {} if result.ratio is None else {"median_ratio": result.ratio}
        made["resolutions"].append({**row, "metrics": result.metrics, **ratio})
    return made


def table(rows: dict[Head, Evaluation], *, protocol: Protocol, title: str) -> Table:
    """Table 4 for this network, with the paper's rows where comparable."""
    made = Table("", "Resolution", "Bilinear", title=title, caption_justify="left")
    for heading in COLUMNS.values():
        made.add_column(heading, justify="right", no_wrap=True)
    for head, result in rows.items():
        made.add_row("network", *_cells(head.resolution, head.bilinear, result.metrics))
    known = {(head.resolution, head.bilinear) for head in rows}
    printed, caption = published.resolutions_beside(protocol)
    found = [row for row in printed if row[:2] in known]
    if found:
        made.add_section()
        caption = "paper: Better SSIM, Table 4"
    for row in found:
        made.add_row("paper", *_cells(*row))
    frames = next(iter(rows.values())).frames
    made.caption = f"{protocol.line()}; {counted(frames, 'frame')}\n{caption}"
    return made


def _cells(resolution: str, bilinear: bool, metrics: dict[str, float]) -> list[str]:
    values = [f"{metrics[key]:.3f}" for key in COLUMNS]
    return [resolution, "✓" if bilinear else "native", *values]
