"""The parameters of a network under the names of its PyTorch original."""

from pathlib import Path

import numpy as np
from safetensors import numpy as safetensors

from amlr_jax.models import pretrained
from amlr_jax.models.from_torch import sources
from amlr_jax.models.from_torch.assign import unassign
from amlr_jax.models.from_torch.tables import TABLES
from amlr_jax.models.pretrained import Pretrained
from amlr_jax.runtime import files
from amlr_jax.runtime.console import show
from amlr_jax.runtime.errors import InputError

# The names of networks start so -> the source whose names their parameters get.
ORIGINALS = {"swin_v2": "mim_depth", "glpdepth": "glpdepth", "monodepth2": "monodepth2"}
ORIGINALS |= {"depth_anything_v2": "depth_anything_v2"}
SETTINGS = "settings.json"


def write(checkpoint: Path, output: Path) -> None:
    """Writes .safetensors files that the original network loads, to a new folder.

    Buffers, which the original computes anew, are left out: load with strict=False.
    settings.json says what no tensor tells: windows, activation, range of depth. Raises
    InputError for a network without an original.
    """
    pretrained.check_output(output)
    found = pretrained.load(checkpoint)
    source = _source(found)
    tensors = unassign(found.variables, TABLES[source])
    by_file: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in tensors.items():
        stem, colon, rest = name.partition(":")
        stem, rest = (stem, rest) if colon else ("model", name)
        by_file.setdefault(stem, {})[rest] = tensor
    with pretrained.new_folder(output) as new:
        for stem, part in by_file.items():
            safetensors.save_file(part, new / f"{stem}.safetensors", {"format": "pt"})
        settings = _settings(found, source)
        files.write_json(new / SETTINGS, settings)
    show(f"{output}: {len(tensors)} tensors of {sources.SOURCES[source].holds}")
    show(
        "In PyTorch: network.load_state_dict(safetensors.torch.load_file(FILE), "
        f"strict=False), with the options in {SETTINGS}"
    )
    if source == "mim_depth" and settings["options"]["decoder_activation"] != "relu":
        show(
            "The decoder has SiLU, as AMLR's paper says; MIM-Depth's code has ReLU: "
            "replace it there, or the depth is another"
        )


def _source(found: Pretrained) -> str:
    """The original of the network; InputError if there is none."""
    name = found.model["name"]
    source = next((s for start, s in ORIGINALS.items() if name.startswith(start)), None)
    if source is None or not found.model.get("complete"):
        raise InputError(
            f"--format=torch writes whole networks of {', '.join(ORIGINALS)}; "
            f"'{found.folder}' holds {', '.join(found.model['parts'])} of {name}"
        )
    return source


def _settings(found: Pretrained, source: str) -> dict:
    """What the original must be told, because no tensor does."""
    network = pretrained.network_of(found)
    options = dict(found.model["options"])
    if source == "mim_depth":
        encoder, activation = network.encoder, network.decoder.activation
        names = "convention", "window_size", "pretrained_window_size", "use_shift"
        options |= {name: getattr(encoder, name) for name in names}
        options["decoder_activation"] = activation.__name__
    return {"source": source, "network": found.model["name"], "options": options}
