"""From a checkpoint and image files to depth files: what `predict` does."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from amlr_jax import parallel
from amlr_jax.console import bar, show
from amlr_jax.errors import InputError, preview
from amlr_jax.evaluation import outputs
from amlr_jax.evaluation.predict import predictor
from amlr_jax.training import pretrained

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}


def run(checkpoint: Path, source: Path, target: Path) -> list[str]:
    """Predicts every image of `source` into `target`; what went wrong, by file."""
    files = find_images(source)
    root = source if source.is_dir() else source.parent
    stems = _stems(files, root, target)
    network, variables, max_depth = pretrained.load_network(checkpoint)
    scale = outputs.png_scale(max_depth)
    predict = predictor(network, parallel.make_mesh())
    failed = []
    with bar("Predicting", len(files)) as report:
        for file, stem in zip(files, stems, strict=True):
            try:
                depth = predict(variables, read_image(file)[None])[0]
                outputs.write(depth, stem, max_depth=max_depth)
            except InputError as error:
                failed.append(str(error))
                show(f"[red]skipped[/red] {error}")
            report.advance(note=file.name)
    done = len(files) - len(failed)
    show(f"{done} of {len(files)} images in {target}; PNG: metres = code / {scale}")
    return failed


def find_images(source: Path) -> list[Path]:
    """The image itself, or all images in a folder and below; InputError if none."""
    if source.is_file():
        return [source]
    if not source.exists():
        raise InputError(f"--input '{source}' does not exist")
    found = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not found:
        known = ", ".join(sorted(SUFFIXES))
        raise InputError(f"--input '{source}' holds no image ({known})")
    return found


def read_image(path: Path) -> np.ndarray:
    """uint8 RGB [H, W, 3], upright; InputError if it is no image."""
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        text = f"'{path}' cannot be read as an image: {error}"
        raise InputError(" ".join(text.split())) from error


def _stems(files: list[Path], root: Path, target: Path) -> list[Path]:
    """Where each result goes; InputError if two images would share a name."""
    if target.exists() and not target.is_dir():
        raise InputError(f"--output '{target}' must be a folder, not a file")
    if target.resolve() == root.resolve():
        raise InputError(f"--output must not be the folder of the images, '{root}'")
    stems = [target / file.relative_to(root).with_suffix("") for file in files]
    twice = [str(f) for f, s in zip(files, stems, strict=True) if stems.count(s) > 1]
    if twice:
        raise InputError(f"images of one name but other endings: {preview(twice)}")
    return stems
