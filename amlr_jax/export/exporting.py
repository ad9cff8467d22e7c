"""A trained network to one file of another format: what `amlr_jax.export` does.

The weights are inside, so the file is all that is needed to run the network. Beside it,
FILE.json says what goes in and comes out, how to load it, and how it was checked.
"""

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

from amlr_jax.export import exported_network
from amlr_jax.export import onnx as export_onnx
from amlr_jax.export import stablehlo as export_stablehlo
from amlr_jax.export.exported_network import ANY, Check, Export
from amlr_jax.models import pretrained
from amlr_jax.runtime import files
from amlr_jax.runtime.console import bar, show
from amlr_jax.runtime.errors import InputError

FORMATS = {"stablehlo": export_stablehlo, "onnx": export_onnx}
DYNAMIC = "dynamic"


def run(
    checkpoint: Path,
    output: Path,
    format_name: str,
    *,
    size: tuple[int, int],
    batch: str,
    platforms: list[str] | None,
) -> Path:
    """Exports the network of a folder of weights and checks the file; its path.

    `size` is height and width of the images. InputError for what a user can mend and
    for a file that is not equal to the network; then nothing is written.
    """
    writer = FORMATS[format_name]
    shape = (_batch(batch), *size, 3)
    platforms = writer.check_platforms(platforms)
    path = output_file(output, format_name)
    _check_libraries(format_name)
    with bar("Exporting", 3) as report:
        network, variables, max_depth = pretrained.load_network(checkpoint)
        network = exported_network.portable(network, float32=writer is export_onnx)
        export = Export(network, variables, writer, shape, platforms)
        exported_network.check_fit(export)
        report.advance(note="converting")
        data = writer.encoded(export.depth, shape, platforms)
        report.advance(note="checking")
        with _new_file(path, data) as written:
            check = exported_network.compare(export, written)
        facts = exported_network.describe(
            export, path, max_depth=max_depth, check=check
        )
        facts["format"] = writer.facts(data)
        files.write_json(_json_of(path), facts)
        report.advance(note="")
    _show(path, len(data), facts, check)
    return path


def _batch(text: str) -> int | str:
    if text == DYNAMIC:
        return ANY
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--batch must be {DYNAMIC} or at least 1, got '{text}'")
    return int(text)


def output_file(output: Path, format_name: str) -> Path:
    """The file to write; InputError if it is there or cannot be made."""
    ending = FORMATS[format_name].ENDING
    in_folder = output.is_dir() or not output.suffix
    path = output / f"depth{ending}" if in_folder else output
    for name, writer in FORMATS.items():
        if path.suffix == writer.ENDING != ending:
            raise InputError(
                f"--output '{path}' ends as a file of --format={name}, not of "
                f"--format={format_name}, which is {ending}"
            )
    for there in (path, _json_of(path)):
        if there.exists():
            raise InputError(f"--output '{there}' exists; choose another")
    above = next(p for p in path.absolute().parents if p.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"--output '{path}' cannot be written: no access to '{above}'")
    return path


def _json_of(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _check_libraries(format_name: str) -> None:
    writer = FORMATS[format_name]
    missing = [name for name in writer.NEEDS if not importlib.util.find_spec(name)]
    if missing:
        raise InputError(
            f"--format={format_name} needs {', '.join(missing)}, not installed here: "
            f"{writer.INSTALL}"
        )


@contextlib.contextmanager
def _new_file(path: Path, data: bytes) -> Iterator[Path]:
    """A file with `data` that becomes `path` if all goes well, and else goes."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    made = [p for p in path.absolute().parents if not p.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        why = error.strerror or error
        raise InputError(f"--output '{path}' cannot be written: {why}") from error
    finally:
        if temporary.parent.is_dir():
            temporary.unlink(missing_ok=True)
        for folder in made:  # innermost first
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def _show(path: Path, size: int, facts: dict, check: Check | None) -> None:
    shapes = " to ".join(str(tuple(facts[k]["shape"])) for k in ("input", "output"))
    show(f"{path}: {size / 1e6:.1f} MB, images {shapes}; how to load it: {path}.json")
    if check is None:
        platforms = ", ".join(facts["format"]["platforms"])
        show(f"[yellow]not checked[/yellow]: no {platforms} device here")
        return
    unit = "m" if facts["output"]["unit"] == "metres" else "units"
    show(
        f"equal to the network on {check.images} random images: largest difference "
        f"{check.difference:.1e} {unit}, {check.relative:.1e} of the depth"
    )
