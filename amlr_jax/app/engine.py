"""The network behind the page: each request is what `predict` does with one file."""

import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import cv2
import jax
import numpy as np

from amlr_jax.checkpoints import disk
from amlr_jax.data import cameras, colors, images, video
from amlr_jax.data.cameras import Camera
from amlr_jax.data.intrinsics import camera_of, resize_intrinsics
from amlr_jax.data.prepared import cache_folder
from amlr_jax.evaluate import depth_stream
from amlr_jax.evaluate.predictor import predictor
from amlr_jax.models import depth as networks
from amlr_jax.models import pretrained
from amlr_jax.predict import images_to_depth, inputs, outputs, pipeline, record
from amlr_jax.predict.inputs import InputFile
from amlr_jax.report import gather, keep, page, pictures
from amlr_jax.runtime import compilation, paths, workdir
from amlr_jax.runtime import mesh as parallel
from amlr_jax.runtime.console import Bar
from amlr_jax.runtime.errors import InputError

AUGMENTATIONS = ("flip", "tile")  # options of `predict`
SAMPLES = 500_000  # of depth under the pointer; a frame of KITTI has 466,000 pixels
WIDTH = 1280  # of the pictures on the page, which KITTI's do not reach
EXAMPLES = 8
SIZES = 8  # compiled for each augmentation; the longest unused one goes


class Bounds(NamedTuple):
    """What one request may cost."""

    pixels: int = 2_100_000  # of an image, made smaller to it, and of a video's frame
    seconds: float = 60.0  # of a video


class Look(NamedTuple):
    """What a user chooses after the depth is known."""

    intrinsics: str = ""  # as --intrinsics of `predict`, for the image as it was given
    fov: float | None = None  # degrees, horizontal
    near: float | None = None  # of the brightest colour; None: of this image
    far: float | None = None  # of the darkest colour; None: the network's


class Answer(NamedTuple):
    """The depth of one image."""

    source: InputFile
    size: tuple[int, int]  # height and width of the file
    image: np.ndarray  # uint8 RGB [H, W, 3], as the network saw it
    depth: np.ndarray  # float32 [H, W]
    folder: TemporaryDirectory  # of its files; gone with the answer
    look: Look | None = None  # with which the page shows it


class _Progress(Bar):
    """Tells a page, in place of a terminal, how many frames are done."""

    def __init__(self, report: Callable[[int, int], None], total: int) -> None:
        self._report, self._total, self.done = report, total, 0

    def advance(self, steps: int = 1, *, note: str | None = None) -> None:
        del note
        self.done += steps
        self._report(self.done, max(self._total, self.done))


class Engine:
    """A loaded network, and the files and pages that it makes of images and videos."""

    def __init__(
        self, checkpoint: Path, folder: Path, bounds: Bounds | None = None
    ) -> None:
        """Loads the network; InputError as `pretrained.load_network`.

        Files are made in `folder`.
        """
        compilation.use_cache(cache_folder(""))
        self.checkpoint, self._folder = checkpoint, folder
        self.bounds = bounds or Bounds()
        self.network, variables, max_depth, *_ = pretrained.load_network(checkpoint)
        mesh = parallel.make_mesh()
        self._variables = jax.device_put(variables, parallel.replicated(mesh))
        options = [
            images_to_depth.Options(flip=flip, tile=tile)
            for flip in (False, True)
            for tile in (False, True)
        ]
        style = images_to_depth.style_of(self.network, max_depth, ("npy",), options[0])
        kinds = ("png16", "npy", "color") if style.scale else ("npy", "color")
        self.style, self.unit = style._replace(kinds=kinds), style.unit or "relative"
        self._predictors = {
            one.mode: predictor(self.network, mesh, mode=one.mode, most_sizes=SIZES)
            for one in options
        }

    def examples(self, source: str) -> list[Path]:
        """Images of `source`, as --input of `predict`, or held-out frames of the run.

        InputError if `source` holds none.
        """
        if source:
            place = paths.expanded(source)
            try:
                found = inputs.find(place, target=self._folder, limit=EXAMPLES)
            except InputError as error:
                text = str(error).replace("--input", "--examples")
                raise InputError(text) from error
            return [file.path for file in found.files if not file.is_video]
        path, made = disk.place_of(self.checkpoint)[0] / workdir.FRAMES, []
        with suppress(OSError, ValueError):  # a run without them, or damaged ones
            for number, frame in enumerate(keep.load_frames(path)):
                made.append(self._folder / f"example_{number}.png")
                outputs.write_whole(made[-1], outputs.png(frame.image[..., ::-1]))
        return made

    def prepare(self, sizes: Iterable[tuple[int, int]]) -> None:
        """Compiles the network for image files of these (height, width)."""
        for size in dict.fromkeys(_within(self.bounds.pixels, *s) for s in sizes):
            self._predict(())(np.zeros((1, *size, 3), np.uint8))

    def see(self, path: Path, augmentations: Iterable[str] = ()) -> Answer:
        """The depth of an image file; of one with too many pixels, made smaller.

        InputError for a file that is no image, and for one that cannot be predicted.
        """
        full = images.read_as_rgb(path)
        size = _within(self.bounds.pixels, *full.shape[:2])
        image = full
        if size != full.shape[:2]:
            image = cv2.resize(full, size[::-1], interpolation=cv2.INTER_AREA)
        predict = self._predict(augmentations)
        (depth,) = depth_stream.depths(predict, [image], batch=1)
        source = InputFile(path, path.name)
        return Answer(
            source, full.shape[:2], image, depth, TemporaryDirectory(dir=self._folder)
        )

    def show(self, answer: Answer, look: Look) -> tuple[str, list[Path]]:
        """The page of an answer, and its files as `predict` writes them.

        They are those of --save=png16,npy,color, and ply if the camera is given.
        InputError for a camera or a range of colours that cannot be.
        """
        style = self._style(look)
        camera = self._camera(answer, look)
        kinds = (*style.kinds, "ply") if camera is not None else style.kinds
        near = look.near or colors.nearest(answer.depth, far=style.far)
        result = outputs.Result(answer.depth, answer.image, camera, near)
        frame = keep.Kept(
            key=answer.source.path.name,
            image=answer.image,
            depth=np.zeros_like(answer.depth),
            prediction=answer.depth,
            intrinsics=np.full(4, np.nan) if camera is None else np.array(camera),
            ratio=1.0,
            max_depth=style.far,
            step=0,
        )
        stem, folder = answer.source.stem, Path(answer.folder.name)
        write = partial(outputs.write, result, stem, folder, kinds=kinds, style=style)
        with ThreadPoolExecutor(1) as pool:
            written = pool.submit(write)
            figure = pictures.frame(
                frame.key,
                [("", frame)],
                width=WIDTH,
                near=near,
                unit=self.unit,
                samples=SAMPLES,
                facts=self._facts(answer),
            )
            text = page.render_frame(frame, figure)
            return text, [folder / name for name in written.result()]

    def film(
        self, path: Path, report: Callable[[int, int], None]
    ) -> tuple[TemporaryDirectory, list[Path]]:
        """The videos "color" and "side_by_side" of a video, in a folder of their own.

        `report(done, total)` is called after every frame. InputError for a video that
        is damaged, too long or too large.
        """
        about = video.facts(path)
        (height, width), most = about.size, int(self.bounds.seconds * about.rate)
        progress = _Progress(report, about.frames)
        allowed = (
            f"'{path}' has {about.seconds:.0f} s or more of {width} x {height}; at "
            f"most {self.bounds.seconds:g} s of {self.bounds.pixels / 1e6:g} million "
            "pixels are allowed here"
        )
        if about.frames > most or height * width > self.bounds.pixels:
            raise InputError(allowed)
        made = TemporaryDirectory(dir=self._folder)
        folder, source = Path(made.name), InputFile(path, path.name)
        style = self.style._replace(kinds=outputs.PICTURES)
        with ThreadPoolExecutor(images_to_depth.THREADS) as pool:
            log = record.PredictionRecord(folder, {})
            shared = self._predict(()), pool, log, folder, style
            job = pipeline.Pipeline(*shared, limit=most + 1)
            failed = pipeline.film(job, source, about, progress)
        if failed or progress.done > most:  # more than its header promises
            raise InputError(failed[0] if failed else allowed)
        names = [outputs.video_of(kind, source.stem) for kind in style.kinds]
        return made, [folder / name for name in names]

    def card(self) -> tuple[list[str], str]:
        """Lines about the network; and the page of its run, "" of converted weights."""
        count = networks.parameter_count(self._variables["params"])
        lines = [
            f"Weights: {self.checkpoint.name}",
            f"Network: {count:,} parameters, computing in "
            f"{networks.precision_of(self.network)}",
            f"Depth: up to {self.style.far:g} {self.unit}"
            + ("" if self.style.unit else ", true up to one factor: not metres"),
        ]
        if calibration := getattr(self.network, "calibration", None):
            factor, shift = calibration
            lines.append(f"Calibration: {factor:.4g} x depth + {shift:.4g} m")
        try:
            return lines, page.render(gather.gather([self.checkpoint]))
        except InputError:
            return lines, ""

    def _predict(self, augmentations: Iterable[str]) -> partial:
        flip, tile = (name in [*augmentations] for name in AUGMENTATIONS)
        mode = images_to_depth.Options(flip=flip, tile=tile).mode
        return partial(self._predictors[mode], self._variables)

    def _style(self, look: Look) -> outputs.OutputStyle:
        """The style with the chosen far end; InputError for an impossible range."""
        far = self.style.far if look.far is None else look.far
        if not far > 0 or not (look.near is None or 0 < look.near < far):
            near = "automatic" if look.near is None else f"{look.near:g}"
            raise InputError(
                f"colours must range from a positive depth to a larger one; got {near} "
                f"to {far:g} {self.unit}"
            )
        return self.style._replace(far=far)

    def _camera(self, answer: Answer, look: Look) -> Camera | None:
        given = look.intrinsics.strip()
        if given and camera_of(given.split(",")) is None:  # nor a file of this machine
            raise InputError(
                "intrinsics are fx,fy,cx,cy in pixels, the first two positive; got "
                f"'{given}'"
            )
        read = cameras.reader(given, look.fov)
        if read is None:
            return None
        full, size = answer.size, answer.depth.shape
        camera = read(answer.source.path, answer.source.stem, full)
        return camera_of(resize_intrinsics(camera, before=full, after=size))

    def _facts(self, answer: Answer) -> str:
        depth, (height, width) = answer.depth, answer.depth.shape
        low, middle, high = depth.min(), np.median(depth), depth.max()
        parts = [f"{width} x {height} pixels"]
        if answer.size != depth.shape:
            full = "{1} x {0}".format(*answer.size)
            parts = [f"{parts[0]}, made smaller from {full} before the network"]
        parts += [f"depth {low:.3g} to {high:.3g}, median {middle:.3g} {self.unit}"]
        if self.style.scale:
            parts += [f"PNG: depth = code / {self.style.scale} {self.style.unit}"]
        if not self.style.unit:
            parts += ["relative: true up to one factor, not metres"]
        return "; ".join(parts)


def _within(pixels: int, height: int, width: int) -> tuple[int, int]:
    """The size, or that of the same shape with at most so many pixels."""
    factor = min(math.sqrt(pixels / (height * width)), 1.0)
    return max(int(height * factor), 1), max(int(width * factor), 1)
