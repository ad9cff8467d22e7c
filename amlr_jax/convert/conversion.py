"""Files of PyTorch weights to a folder of weights, with a table of the tensors."""

import re
from collections import Counter
from functools import partial
from pathlib import Path

from flax.traverse_util import flatten_dict
from rich.table import Table

from amlr_jax import __version__
from amlr_jax.models import depth, optical_flow, pose, pretrained
from amlr_jax.models.from_torch import files, sources
from amlr_jax.models.from_torch.assign import Report, assign
from amlr_jax.models.from_torch.tables import TABLES
from amlr_jax.runtime.console import bar, show
from amlr_jax.runtime.errors import InputError, preview

INDOORS = 20.0  # metres, the largest depth of Depth Anything V2's indoor networks


def convert(
    source_name: str, path: Path, output: Path, *, max_depth: float | None = None
) -> None:
    """Reads the weights, writes `output` and shows where each tensor went.

    `max_depth` in metres is that of a whole depth network, by default its source's. Of
    Depth Anything V2, weights with it are metric and others relative.
    Raises InputError for unusable input, and then writes nothing.
    """
    source = sources.find(source_name)
    pretrained.check_output(output)
    weights = _read(source, path)
    found = sources.recognise(source_name, weights)
    if source_name == "depth_anything_v2":
        found = _relative_or_metric(found, path, max_depth)
    options = found.options | _depth_option(source, max_depth)
    shapes = _shapes(found, options)
    with bar("Converting", len(found.tensors)) as progress:
        variables, report = assign(
            found.tensors,
            TABLES[source_name],
            shapes,
            parts=found.parts,
            may_miss=source.may_miss,
            advance=progress.advance,
        )
    model = {
        "source": source_name,
        "name": found.name,
        "options": options,
        "complete": "decoder" in found.parts,
        "parts": list(found.parts),
        "sha256": weights.sha256,
        "version": __version__,
    }
    pretrained.save(output, variables, model)
    _show(variables, report, model, output)


def _read(source: sources.Source, path: Path) -> files.Weights:
    read = files.read
    if source.stems:
        read = partial(
            files.read_folder, required=source.stems, optional=source.optional_stems
        )
    paths = path.glob("*.pth") if path.is_dir() else files.parts(path)
    total = sum(-(-p.stat().st_size // files.CHUNK) for p in paths if p.is_file())
    with bar("Reading", total) as progress:
        return read(path, advance=progress.advance)


def _relative_or_metric(
    found: sources.Recognised, path: Path, max_depth: float | None
) -> sources.Recognised:
    """The network of Depth Anything V2: no tensor tells whether its depth is metric.

    Raises InputError if the file's name, or the config.json beside it, says so and
    `max_depth` is not given.
    """
    if max_depth is not None:
        place = "indoor" if max_depth <= INDOORS else "outdoor"
        return found._replace(name=f"{found.name}_metric_{place}")
    beside = path.with_name("config.json")
    told = beside.read_text(errors="replace") if beside.is_file() else ""
    if "metric" in path.name.lower() or re.search(r'_type":\s*"metric"', told):
        raise InputError(
            f"input '{path}' is of a metric network by its name or config.json: give "
            "its --max_depth, 20 indoors (Hypersim) and 80 outdoors (Virtual KITTI)"
        )
    return found


def _depth_option(source: sources.Source, max_depth: float | None) -> dict[str, float]:
    if max_depth is not None and source.max_depth is None:
        raise InputError("max_depth is for whole depth networks; leave it out here")
    if max_depth is not None and not max_depth > 0:
        raise InputError(f"max_depth must be positive, in metres, got {max_depth}")
    value = source.max_depth if max_depth is None else max_depth
    return {} if value is None else {"max_depth": value}


def _shapes(found: sources.Recognised, options: dict) -> dict:
    """Variables of the depth network, and of the pose or flow network that is there."""
    network = depth.network(found.name, **{"max_depth": 1.0, **options})
    shapes = depth.variable_shapes(network)
    more = {}
    if "pose" in found.parts:
        more["pose"] = pose.variable_shapes(pose.PoseNetwork())
    if "flow" in found.parts:
        more["flow"] = optical_flow.variable_shapes(optical_flow.FlowNetwork())
    return {
        kind: parts | {name: one[kind] for name, one in more.items() if kind in one}
        for kind, parts in shapes.items()
    }


def _show(variables: dict, report: Report, model: dict, output: Path) -> None:
    title = f"{model['source']} to {model['name']}"
    table = Table("part", "tensors", "parameters", "status", title=title)
    counts, sizes = _groups(variables)
    for group, count in counts.items():
        table.add_row(group, f"{count}", f"{sizes[group]:,}", "converted")
    for group, count in _missing(report, model["parts"]).items():
        table.add_row(group, f"{count}", "", "not in the input: stays initial")
    if report.rebuilt:
        table.add_row("(buffers)", f"{len(report.rebuilt)}", "", "computed anew")
    if report.unused:
        names = preview(report.unused)
        table.add_row("(no use)", f"{len(report.unused)}", "", f"left out: {names}")
    total = sum(sizes.values())
    options = ", ".join(f"{key}={value}" for key, value in model["options"].items())
    show(table)
    show(f"{total:,} parameters in {output}; network: {model['name']} {options}")
    if model["source"] == "swinv2" and "pretrained_window_size" not in model["options"]:
        show(
            "The input has no table of positions and so does not tell the window of "
            "its pretraining, which is taken to be that of training. Of a network "
            "fine-tuned at another window, such as window12to24, set the first: "
            "--config.model.pretrained_window_size='(12,12,12,12)'"
        )
    whole = f", or predict with --checkpoint={output}" if model["complete"] else ""
    show(f"Start training from them with --config.init_from={output}{whole}")


def _groups(variables: dict) -> tuple[Counter, Counter]:
    """Tensors and parameters by the first two names, blocks of a stage together."""
    counts, sizes = Counter(), Counter()
    for path, leaf in flatten_dict(variables).items():
        group = re.sub(r"(?<=[_/]block)\d+", "s", "/".join(path[1:3]))
        counts[group] += 1
        sizes[group] += leaf.size if path[0] == "params" else 0
    return counts, sizes


def _missing(report: Report, parts: list[str]) -> Counter:
    """Numbers of missing tensors by group; a part that is missing whole is one."""
    paths = (path.split("/") for path in report.missing)
    return Counter("/".join(p[:2]) if p[0] in parts else p[0] for p in paths)
