"""From a checkpoint and image files to depth files: what `predict` does."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import jax
from rich.markup import escape

from amlr_jax.evaluate import presets
from amlr_jax.evaluate.depth_stream import group
from amlr_jax.evaluate.predictor import predictor
from amlr_jax.models import pretrained
from amlr_jax.models.decoders.disparity import DisparityDecoder
from amlr_jax.predict import film as predict_film
from amlr_jax.predict import (
    host_image,
    inputs,
    kitti_server,
    outputs,
    prediction_record,
    video,
)
from amlr_jax.predict import image_files as predict_files
from amlr_jax.predict import options as predict_options
from amlr_jax.predict.inputs import Source
from amlr_jax.predict.options import DEFAULTS, Options
from amlr_jax.runtime import mesh as parallel
from amlr_jax.runtime.console import bar, show
from amlr_jax.runtime.errors import InputError, preview

THREADS = min(8, os.cpu_count() or 1)


def run(
    checkpoint: Path, source: Path, target: Path, options: Options = DEFAULTS
) -> list[str]:
    """Predicts every image of `source` into `target`; what went wrong, a line each.

    What is done already is left, see `prediction_record`. InputError for what stops
    everything: nothing to predict, no network, a folder that cannot be written.
    """
    camera = predict_options.check(options)
    _require_writable(target)
    sources = inputs.find(source, target=target, limit=options.limit)
    predict_options.check_for_server(sources, options)
    facts, failed = _look(sources)
    if not facts:
        raise InputError(preview(failed, limit=1))
    network, variables, max_depth = pretrained.load_network(checkpoint)
    style = _style(network, max_depth, options)
    record = _record(checkpoint, variables, target, style, options)
    if record.is_new and not options.overwrite:
        _require_unclaimed(target, facts, options.save)
    record.write(failed)
    left = {s: facts[s] for s in facts if not record.done(s, options.save)}
    for line in failed:
        show(f"[red]skipped[/red] {escape(line)}")
    with ThreadPoolExecutor(THREADS) as pool:
        work = predict_files.Work(
            _predict(network, variables, options),
            pool,
            record,
            target,
            options.save,
            style,
            camera,
            options.batch_size,
            options.limit,
        )
        _all(work, left, failed)
    _summary(sources, left, failed, target, style, options)
    if options.tile:
        _say_narrow([size for s, size in facts.items() if not s.is_video])
    if outputs.KITTI in options.save:
        line = kitti_server.archive(record.sizes(list(facts)), target, failed)
        show(escape(line))
    return failed


def _predict(network, variables: dict, options: Options):
    mesh = parallel.make_mesh()
    # Once, and not with every image.
    variables = jax.device_put(variables, parallel.replicated(mesh))
    return partial(predictor(network, mesh, mode=options.mode), variables)


def _all(work: predict_files.Work, facts: dict, failed: list[str]) -> None:
    """Predicts `facts`, appends to `failed`; the record is written in any case."""
    frames = [min(f.frames, work.limit or f.frames) for s, f in _videos(facts)]
    images = [source for source in facts if not source.is_video]
    try:
        with bar("Predicting", len(images) + sum(frames)) as report:
            groups = group(images, key=facts.get)
            failed += predict_files.images(work, groups, report)
            for source, about in _videos(facts):
                failed += predict_film.film(work, source, about, report)
    except BaseException:
        with suppress(InputError):
            work.record.write(failed)
        raise
    work.record.write(failed)


def _videos(facts: dict) -> list[tuple[Source, video.Facts]]:
    return [(source, about) for source, about in facts.items() if source.is_video]


def _look(sources: list[Source]) -> tuple[dict, list[str]]:
    """Height and width of images, `video.Facts` of videos; and what is neither."""
    facts: dict = {}
    failed = []
    for source in sources:
        look = video.facts if source.is_video else host_image.read_size
        try:
            facts[source] = look(source.path)
        except InputError as error:
            failed.append(str(error))
    return facts, failed


def _style(network, max_depth: float, options: Options) -> outputs.Style:
    try:
        scale = outputs.png_scale(max_depth)
    except ValueError as error:
        if {"png16", "kitti"} & set(options.save):
            raise InputError(f"--save: {error} Leave out png16 and kitti") from error
        scale = 0
    # Trained on video alone, or so we take it: nothing in the weights tells.
    relative = not presets.has_scale(network)
    far = options.max_depth or max_depth
    return outputs.Style(
        far,
        scale,
        unit="" if relative else "m",
        stride=options.ply_stride,
        disparity_depths=_disparity_depths(network, options),
    )


def _disparity_depths(network, options: Options) -> tuple[float, float] | None:
    decoder = getattr(network, "decoder", None)
    if isinstance(decoder, DisparityDecoder):
        return decoder.min_depth, decoder.max_depth
    if "disparity" in options.save:
        raise InputError(
            "--save=disparity is for networks that predict disparity (model.name "
            "monodepth2 or five_level); this one predicts metres: use npy"
        )
    return None


def _record(checkpoint: Path, variables, target: Path, style, options: Options):
    head = {
        "weights": str(checkpoint),
        "weights_crc32": prediction_record.weights_crc32(variables),
        "settings": options.settings() | {"max_depth": style.far},
        "unit": style.unit or "relative",
        "png16_codes_per_unit": style.scale,
    }
    if style.disparity_depths:
        head["disparity_depths"] = style.disparity_depths
    return prediction_record.Record(
        target, head, limit=options.limit, overwrite=options.overwrite
    )


def _require_writable(target: Path) -> None:
    """Before minutes of work; the folder is made when there is something for it."""
    if target.exists() and not target.is_dir():
        raise InputError(f"--output '{target}' must be a folder, not a file")
    above = next(p for p in (target, *target.absolute().parents) if p.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(
            f"--output '{target}' cannot be written: no access to '{above}'"
        )


def _require_unclaimed(target: Path, sources, kinds: tuple[str, ...]) -> None:
    """Raises InputError if results would replace files that we know nothing of."""
    names = [outputs.file_of(kind, s.stem) for s in sources for kind in kinds]
    there = [target / name for name in names if (target / name).exists()]
    if there:
        raise InputError(
            f"--output holds {preview(there)} and no {prediction_record.FILE} that "
            "says of what; choose another folder or give --overwrite"
        )


def _summary(sources, left, failed, target: Path, style, options: Options) -> None:
    done = len(sources) - len(failed)
    videos = sum(source.is_video for source in sources)
    what = "videos" if videos == len(sources) else "images and videos"
    parts = [f"{done} of {len(sources)} {what if videos else 'images'} in {target}"]
    before = len(sources) - len(left) - len(failed)
    if before > 0:
        parts.append(f"{before} of them from before")
    if "png16" in options.save:
        unit = "metres" if style.unit else "depth"
        parts.append(f"PNG: {unit} = code / {style.scale}")
    show(escape("; ".join(parts)))
    if not style.unit:
        show(
            "The depth of this network, trained on video, is true up to one factor: "
            "its unit is not the metre"
        )


def _say_narrow(sizes: list[tuple[int, int]]) -> None:
    narrow = sum(height >= width for height, width in sizes)
    if narrow:
        show(f"{narrow} images are not wider than high; --tile leaves them whole")
