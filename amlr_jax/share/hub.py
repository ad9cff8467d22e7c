"""The folder of a shared network, and its upload to the Hugging Face hub."""

import shutil
from pathlib import Path
from typing import Any

from amlr_jax.checkpoints import arrays, disk
from amlr_jax.models import pretrained
from amlr_jax.models.pretrained import Pretrained
from amlr_jax.runtime import files, workdir
from amlr_jax.runtime.console import show
from amlr_jax.runtime.errors import InputError
from amlr_jax.share import card

# Keys of a config that name files of this machine.
PATHS = ("root", "cache", "list", "test_list", "intrinsics", "init_from")


def share(
    checkpoint: Path,
    output: Path,
    *,
    licence: str | None = None,
    repository: str | None = None,
) -> None:
    """Writes the weights, what they were trained with, and a model card to `output`.

    With a `repository` it uploads the folder, too, and then a `licence` is needed.
    Raises InputError for weights of an encoder alone, and for what cannot be written or
    uploaded; the folder is whole or not there.
    """
    if repository and not licence:
        raise InputError(
            "--push publishes the weights: name their --licence, as apache-2.0; the "
            "terms of the training data and of initial weights may restrict it"
        )
    api = _hub(repository) if repository else None
    pretrained.check_output(output)
    found = pretrained.load(checkpoint)
    if not found.model.get("complete"):
        raise InputError(f"'{checkpoint}' holds no whole depth network to share")
    with pretrained.new_folder(output) as new:
        _write(new, found, checkpoint)
        name = f"hf://{repository}" if repository else output.name
        text = card.text(found, checkpoint, new, licence=licence, name=name)
        files.write_text(new / "README.md", text)
    size = sum(file.stat().st_size for file in output.iterdir())
    names = ", ".join(sorted(file.name for file in output.iterdir()))
    show(
        f"{output}: {size / 1e6:.1f} MB, {names}; read README.md before you publish it"
    )
    if api:
        _upload(api, output, str(repository))


def _write(folder: Path, found: Pretrained, checkpoint: Path) -> None:
    """The files beside the card."""
    arrays.save_file(folder / pretrained.TENSORS, found.variables)
    files.write_json(folder / pretrained.MODEL, found.model)
    saved = disk.config_of(found.folder / workdir.CHECKPOINTS)
    config = workdir.config_of(found.folder, saved=saved)
    if config:
        files.write_json(folder / workdir.CONFIG, without_paths(config))
    kept = [workdir.CALIBRATION]
    if not disk.place_of(checkpoint)[1]:  # the picture is of the newest checkpoint
        kept.append(workdir.PANEL)
    for name in kept:
        if (found.folder / name).is_file():
            shutil.copyfile(found.folder / name, folder / name)


def without_paths(value: Any) -> Any:
    """A config without the keys that name files of one machine, at any depth."""
    if isinstance(value, dict):
        kept = {key: one for key, one in value.items() if key not in PATHS}
        return {key: without_paths(one) for key, one in kept.items()}
    return [without_paths(one) for one in value] if isinstance(value, list) else value


def _hub(repository: str) -> Any:
    """The hub, if a user is logged in; InputError otherwise."""
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.utils import validate_repo_id

        validate_repo_id(repository)
        HfApi().whoami()
        return HfApi()
    except ImportError as error:
        raise InputError(
            "--push needs huggingface_hub: pip install 'amlr_jax[hub]'"
        ) from error
    except Exception as error:  # of the net, of the token or of the name
        raise InputError(f"--push={repository}: {disk.reason(error)}") from error


def _upload(api: Any, folder: Path, repository: str) -> None:
    show(f"Uploading to {repository}")
    try:
        api.create_repo(repository, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder)
    except Exception as error:  # the libraries of the net have many kinds
        raise InputError(
            f"--push={repository} failed, and '{folder}' is complete: "
            f"{disk.reason(error)}"
        ) from error
    show(f"Uploaded; others read it with --checkpoint=hf://{repository}")
