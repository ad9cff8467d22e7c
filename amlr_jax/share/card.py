"""The model card of a shared network: README.md, as the Hugging Face hub shows it."""

from collections.abc import Iterator
from pathlib import Path

from amlr_jax.checkpoints import disk
from amlr_jax.config import of_each_set, of_record
from amlr_jax.evaluate.tables import HEADINGS
from amlr_jax.models import calibration, depth, pretrained
from amlr_jax.models.depth_network import has_scale
from amlr_jax.models.pretrained import Pretrained
from amlr_jax.report.gather import RunFiles, gather
from amlr_jax.runtime import workdir
from amlr_jax.runtime.errors import counted

USE = """## Use

```python
import amlr_jax  # pip install 'amlr_jax[train]'

network = amlr_jax.load("{name}")
depth = network("photo.jpg")  # float32 [height, width], {unit}
```

`model.safetensors` holds the float32 parameters by their path in the flax network,
`params/encoder/...` and `batch_stats/...`, channels last; `model.json` names the
network and its options.
"""
LIMITS = """## Limits

- The metrics hold for the data set named above. Other cameras, scenes, weather and
  times of day were not measured; measure on your own data with `amlr_jax.evaluate`.
- {scale}
- Do not use it where people rely on the depth for their safety, as to steer a vehicle,
  a robot or a blind person: an error of a single image has no bound and no warning.
"""
METRIC = """Metres hold for cameras like those of the training images, as regards focal
  length and height: one image has no scale, and the network has learned theirs."""
RELATIVE = """The depth is true up to one unknown factor, which `amlr_jax.calibrate`
  finds from a few known distances."""


def text(
    found: Pretrained, checkpoint: Path, folder: Path, *, licence: str | None, name: str
) -> str:
    """The card of the weights, which `name` names for `amlr_jax.load`.

    `folder` is that of the card: its calibration and picture are shown.
    """
    network = pretrained.network_of(found)
    run = _run(found, checkpoint)
    fit = calibration.load(folder, step=found.model.get("step"))
    metric = has_scale(network) or fit is not None
    parts = [*_head(found, licence, metric=metric)]
    if (folder / workdir.PANEL).is_file():
        parts.append(f"![Held-out images, truth and depth]({workdir.PANEL})\n")
    unit = "metres" if metric else "relative: metres up to one unknown factor"
    parts.append(USE.format(name=name, unit=unit))
    parts += [*_training(found, run), *_results(run)]
    if fit is not None:
        parts.append(f"## Calibration\n\n{fit.line()}, applied when it is loaded.\n")
    parts.append(LIMITS.format(scale=METRIC if metric else RELATIVE))
    return "\n".join(parts)


def _run(found: Pretrained, checkpoint: Path) -> RunFiles | None:
    """The files of the run that the weights are of; None for converted weights."""
    if not (found.folder / workdir.CHECKPOINTS).is_dir():
        return None
    step = found.model["step"]
    of_step = disk.place_of(checkpoint)[0].with_name(f"{found.folder.name}@{step}")
    return gather([of_step])[0]


def _head(found: Pretrained, licence: str | None, *, metric: bool) -> Iterator[str]:
    """The hub's own lines, the title and what the network does."""
    model, name = found.model, found.model["name"]
    lines = [f"license: {licence}"] if licence else []
    lines += ["library_name: amlr_jax", "pipeline_tag: depth-estimation"]
    yield "\n".join(["---", *lines, "tags: [monocular-depth, jax, flax]", "---", ""])
    count = depth.parameter_count(found.variables["params"])
    what = f"depth in metres, up to {model['options']['max_depth']:g} m"
    what = what if metric else "relative depth"
    at = f", after {counted(model['step'], 'step')}" if "step" in model else ""
    yield f"# {name}: depth from one image\n"
    size = counted(count, "parameter")
    yield f"A `{name}` network of {size}{at}. It gives {what}, of an RGB image.\n"
    stated = licence or "not stated; ask before you use them"
    yield f"Licence of the weights: {stated}.\n"


def _training(found: Pretrained, run: RunFiles | None) -> Iterator[str]:
    yield "## Training\n"
    if run is None or run.config is None:
        digests = found.model.get("sha256", {})
        yield f"Converted from weights of `{found.model['source']}`:\n"
        yield "\n".join(f"- `{name}`, SHA-256 {one}" for name, one in digests.items())
        yield ""
        return
    config = of_record(run.config)
    sets = run.facts.get("sets") or {config.data.name: run.facts.get("data")}
    for label, one in of_each_set(config).items():
        yield f"- data: {label}, split `{one.data.split}`"
        if known := sets.get(label):
            count = "{train} to train, {test} held out".format(**known)
            yield f"- frames: {count}"
    yield f"- {config.steps} steps of {config.batch_size}, seed {config.seed}"
    if config.objective == "supervised":
        weights = f", weighted by `{config.rebalance.rule}`"
        yield f"- losses: {', '.join(config.losses)}{weights}"
    else:
        yield f"- self-supervised on video: `{config.selfsup.kind}`"
    if start := config.init_from:
        yield f"- initial weights: `{Path(start).name}`"
    versions = run.facts.get("versions", {})
    yield f"- {', '.join(f'{k} {v}' for k, v in versions.items())}\n"


def _results(run: RunFiles | None) -> Iterator[str]:
    """Metrics beside those of the constant predictor, with their protocol."""
    yield "## Results\n"
    if run is None or not run.evaluation:
        yield "These weights have not been evaluated.\n"
        return
    found = run.evaluation
    keys = [key for key in HEADINGS if key in found["metrics"]]
    yield f"| | {' | '.join(HEADINGS[key] for key in keys)} |"
    yield f"|---|{'---|' * len(keys)}"
    for label in ("metrics", "constant"):
        values = " | ".join(
            f"{found[label].get(key, float('nan')):.3f}" for key in keys
        )
        yield f"| {'network' if label == 'metrics' else label} | {values} |"
    yield f"\nProtocol: {found.get('described', found['protocol'].get('name'))}; "
    yield f"{counted(found.get('frames', 0), 'frame')}, step {found.get('step')}.\n"
