"""From a checkpoint and image files to depth files: what `predict` does."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from flax import linen as nn
from rich.markup import escape

from amlr_jax.data import cameras, images, video
from amlr_jax.data.prepared import cache_folder
from amlr_jax.evaluate import tiling
from amlr_jax.evaluate.predictor import with_weights
from amlr_jax.models import depth as networks
from amlr_jax.models import pretrained
from amlr_jax.models.decoders.disparity import DisparityDecoder
from amlr_jax.models.depth_network import has_scale, is_calibrated
from amlr_jax.predict import inputs, outputs, pipeline, record
from amlr_jax.predict.inputs import InputFile
from amlr_jax.predict.outputs import OutputStyle
from amlr_jax.runtime import compilation, files, workdir
from amlr_jax.runtime.cluster import cores
from amlr_jax.runtime.console import bar, show
from amlr_jax.runtime.errors import InputError, counted, preview

THREADS = min(8, cores())
# Options that make other results of the same image.
SETTINGS = ("tile", "flip", "intrinsics", "fov", "ply_stride", "max_depth")


class Options(NamedTuple):
    """What is asked for beside checkpoint, input and output."""

    save: tuple[str, ...] = ("png16", "npy", "color")  # of `outputs.KINDS`
    batch_size: int = 1  # images of one size
    tile: bool = False  # test-time augmentation: overlapping squares
    flip: bool = False  # test-time augmentation: the mirrored image
    intrinsics: str = ""  # see `cameras.reader`
    fov: float | None = None  # degrees, horizontal
    ply_stride: int = 1  # pixels from point to point
    max_depth: float | None = None  # metres, of the colours; None: the network's
    limit: int = 0  # images, and frames of a video; 0: all
    smooth: float = 0.0  # seconds, see `temporal.Smoothing`; 0: not
    overwrite: bool = False

    @property
    def mode(self) -> tiling.Mode:
        """The test-time augmentation; its squares reach the last column."""
        name = ("shifted" if self.tile else "") + ("_flip" if self.flip else "")
        return tiling.Mode(name.strip("_") or "none")


def run(
    checkpoint: Path, source: Path, target: Path, options: Options | None = None
) -> list[str]:
    """Predicts every image of `source` into `target`; what went wrong, a line each.

    What is done already is skipped, see `record`. InputError for what stops everything:
    nothing to predict, no network, a folder that cannot be written.
    """
    options = options or Options()
    kinds = tuple(dict.fromkeys(options.save))
    camera = _checked_camera(kinds, options)
    found = _found(source, target, kinds, options.limit)
    facts, failed = _facts(found.files)
    if not facts:
        raise InputError(preview(failed, limit=1))
    compilation.use_cache(cache_folder(""))
    if options.smooth and not any(source.is_video for source in found.files):
        raise InputError("--smooth is for the pictures of videos; --input has none")
    failed = found.lost + failed
    network, variables, max_depth, *_ = pretrained.load_network(checkpoint)
    style = style_of(network, max_depth, kinds, options)
    log = _record(checkpoint, network, variables, target, style, options)
    if log.is_new and not options.overwrite:
        _require_unclaimed(target, facts, kinds)
    log.write(failed)
    left = {s: facts[s] for s in facts if not log.done(s, kinds)}
    for line in failed:
        pipeline.show_problem("skipped", line)
    asked: dict = {"mode": options.mode, "with_spread": outputs.CONFIDENCE in kinds}
    predict = with_weights(network, variables, **asked)
    with ThreadPoolExecutor(THREADS) as pool:
        shared = predict, pool, log, target, style, camera
        numbers = options.batch_size, options.limit, options.smooth
        job = pipeline.Pipeline(*shared, *numbers)
        _predict_all(job, left, failed)
    _summary(found, left, failed, target, style)
    narrow = sum(f[0] >= f[1] for s, f in facts.items() if not s.is_video)
    if options.tile and narrow:
        are = counted(narrow, "image is|images are")
        show(f"{are} not wider than high; --tile has no effect there")
    if outputs.KITTI in kinds:
        sizes = {f"{Path(s.stem).name}.png": size for s, size in facts.items()}
        show(escape(outputs.archive(sizes, target, failed)))
    return failed


def _checked_camera(kinds: tuple[str, ...], options: Options) -> cameras.Reader | None:
    """The reader of cameras; InputError for options that do not go together."""
    if not kinds or set(kinds) - set(outputs.KINDS):
        raise InputError(
            f"--save is a list of {', '.join(outputs.KINDS)}; got '{','.join(kinds)}'"
        )
    if outputs.CONFIDENCE in kinds and not options.flip:
        raise InputError(
            "--save=confidence compares several views of an image: give --flip, or "
            "--flip --tile for 32 of them"
        )
    if options.max_depth is not None and not options.max_depth > 0:
        raise InputError(
            f"--max_depth must be positive, in metres; got {options.max_depth:g}"
        )
    camera = cameras.reader(options.intrinsics, options.fov)
    if "ply" not in kinds:
        return None
    if camera is None:
        raise InputError(
            "--save=ply needs the camera: give --intrinsics=fx,fy,cx,cy (pixels), "
            "--intrinsics=FILE.json or --fov=DEGREES (horizontal)"
        )
    return camera


def _found(
    source: Path, target: Path, kinds: tuple[str, ...], limit: int
) -> inputs.Inputs:
    """What to predict; InputError if there is none or `target` cannot be used."""
    if target.is_file():
        raise InputError(f"--output '{target}' must be a folder, not a file")
    files.check_writable(target, option="output")
    found = inputs.find(source, target=target, limit=limit)
    videos = [file.path for file in found.files if file.is_video]
    if outputs.KITTI in kinds and videos:
        raise InputError(f"--save=kitti takes images, not '{videos[0]}'")
    outputs.require_distinct(found.files, kinds, target)
    return found


def _facts(sources: list[InputFile]) -> tuple[dict, list[str]]:
    """Height and width of images, `video.VideoFacts` of videos; and what is neither."""
    facts: dict[InputFile, tuple] = {}
    failed = []
    for source in sources:
        read = video.facts if source.is_video else images.read_size
        try:
            facts[source] = read(source.path)
        except InputError as error:
            failed.append(str(error))
    return facts, failed


def _require_unclaimed(target: Path, sources: dict, kinds: tuple[str, ...]) -> None:
    """Raises InputError if results would replace files that no record names."""
    names = [name for s in sources for name in outputs.files_of(s, kinds)]
    there = [target / name for name in names if (target / name).exists()]
    if there:
        raise InputError(
            f"--output holds {preview(there)} and no {workdir.PREDICTIONS} that says "
            "what they are; choose another folder or give --overwrite"
        )


def style_of(
    network: nn.Module, max_depth: float, kinds: tuple[str, ...], options: Options
) -> OutputStyle:
    """What all results of the network share; InputError for kinds it cannot have."""
    if is_calibrated(network):  # of which the sky may be kilometres away
        max_depth = min(max_depth, outputs.MOST_METRES)
    scale, depths = outputs.png_scale(max_depth), None
    if not scale and {"png16", outputs.KITTI} & set(kinds):
        raise InputError(
            f"--save: 16-bit PNGs hold at most {outputs.MOST_METRES} m, got "
            f"max_depth {max_depth:g} of the network; leave out png16 and kitti"
        )
    decoder = getattr(network, "decoder", None)
    factor, shift = network.calibration if is_calibrated(network) else (1.0, 0.0)
    if isinstance(decoder, DisparityDecoder) and not shift:
        depths = factor * decoder.min_depth, factor * decoder.max_depth
    elif "disparity" in kinds:
        raise InputError(
            "--save=disparity is for networks that predict disparity (model.name "
            "monodepth2, five_level or a relative depth_anything_v2), not calibrated "
            "with a shift; this one predicts "
            "metres: use npy"
        )
    unit = "m" if has_scale(network) else ""
    far = options.max_depth or max_depth
    return OutputStyle(kinds, far, scale, unit, options.ply_stride, depths)


def _record(
    checkpoint: Path,
    network: networks.DepthNetwork,
    variables: dict,
    target: Path,
    style: OutputStyle,
    options: Options,
) -> record.PredictionRecord:
    settings = {name: getattr(options, name) for name in SETTINGS}
    if options.smooth:
        settings["smooth"] = options.smooth
    if is_calibrated(network):
        settings["calibration"] = network.calibration
    head = {
        "weights": str(checkpoint),
        "weights_crc32": record.weights_crc32(variables),
        "computed_in": networks.precision_of(network)._asdict(),
        "settings": settings | {"max_depth": style.far},
        "unit": style.unit or "relative",
        "png16_codes_per_unit": style.scale,
    }
    if style.disparity_depths:
        head["disparity_depths"] = style.disparity_depths
    return record.PredictionRecord(
        target, head, limit=options.limit, overwrite=options.overwrite
    )


def _predict_all(job: pipeline.Pipeline, facts: dict, failed: list[str]) -> None:
    """Predicts `facts`, appends to `failed`; the record is written in any case."""
    videos = {source: about for source, about in facts.items() if source.is_video}
    sizes = {source: size for source, size in facts.items() if not source.is_video}
    frames = [min(f.frames, job.limit or f.frames) for f in videos.values()]
    try:
        with bar("Predicting", len(sizes) + sum(frames)) as report:
            failed += pipeline.images(job, sizes, report)
            for source, about in videos.items():
                failed += pipeline.film(job, source, about, report)
    except BaseException:
        with suppress(InputError):
            job.record.write(failed)
        raise
    job.record.write(failed)


def _summary(
    found: inputs.Inputs,
    left: dict,
    failed: list[str],
    target: Path,
    style: OutputStyle,
) -> None:
    videos = sum(file.is_video for file in found.files)
    total = len(found.files) + len(found.lost)
    what = "images and videos" if videos else "images"
    what = "videos" if videos == total else what
    parts = [f"{total - len(failed)} of {total} {what} in {target}"]
    before = total - len(left) - len(failed)
    if before > 0:
        parts.append(f"{before} of them from before")
    if "png16" in style.kinds:
        unit = "metres" if style.unit else "depth"
        parts.append(f"PNG: {unit} = code / {style.scale}")
    show(escape("; ".join(parts)))
    for note in found.notes:
        show(escape(note))
    if not style.unit:
        show(
            "The depth of this network is true up to one factor: its unit is not the "
            "metre"
        )
